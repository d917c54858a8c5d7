"""Histories that others recorded, with the verdicts that they found."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from consensusllm.linearizability import Verdict, check, explain, read_history

FOLDER = Path(__file__).parents[3] / "shared" / "histories"


@pytest.fixture(scope="module")
def expected() -> dict[str, bool]:
    """Whether each file is linearizable."""
    path = FOLDER / "EXPECTED.json"
    if not path.exists():
        pytest.skip(f"the recorded histories are not at {FOLDER}")
    verdicts: dict[str, bool] = json.loads(path.read_text(encoding="utf-8"))
    return verdicts


def test_every_verdict_is_the_one_that_others_found(expected: dict[str, bool]) -> None:
    found = {}
    for name in expected:
        history = read_history((FOLDER / name).read_bytes())
        verdict = check(history, time.monotonic, time_limit_s=60.0).verdict
        assert verdict is not Verdict.UNDECIDED, name
        found[name] = verdict is Verdict.LINEARIZABLE
    assert found == expected


def test_every_failure_is_shown_by_a_few_operations(expected: dict[str, bool]) -> None:
    for name in (name for name, linearizable in expected.items() if not linearizable):
        history = read_history((FOLDER / name).read_bytes())
        explanation = explain(history, check(history, time.monotonic), time.monotonic, 60.0)
        assert explanation is not None
        shown = (*explanation.steps, *explanation.stuck, *explanation.open)
        assert len(shown) <= 12, name
