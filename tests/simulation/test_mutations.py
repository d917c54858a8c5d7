"""The simulator finds every planted bug within a stated number of seeds.

A search that cannot find a bug that is there proves nothing where it finds none. The same seeds
without the bug are clean.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from planted_bugs import BUGS, SECONDS, Bug

from consensusllm.simulation import Result, Scenario, parse_kinds, run

SEEDS_OF_THE_SHORT_ONES = 2


def simulate(bug: Bug, seed: int) -> Result:
    return run(Scenario(seed, bug.nodes, SECONDS, parse_kinds(bug.faults)))


def marked(bug: Bug) -> object:
    marks = [] if bug.seeds <= SEEDS_OF_THE_SHORT_ONES else [pytest.mark.full]
    return pytest.param(bug, id=bug.name, marks=[*marks, pytest.mark.timeout(1800)])


@pytest.mark.parametrize("bug", [marked(bug) for bug in BUGS])
def test_the_planted_bug_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    for seed in range(1, bug.seeds + 1):
        result = simulate(bug, seed)
        if result.broken:
            assert result.broken in bug.caught_by, result.reason
            return
    pytest.fail(f"not found within {bug.seeds} seeds")


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in BUGS])
def test_without_the_bug_the_same_seeds_are_clean(bug: Bug) -> None:
    for seed in range(1, bug.seeds + 1):
        result = simulate(bug, seed)
        assert not result.broken, f"seed {seed}: {result.reason}"


def test_each_rule_has_a_planted_bug_and_the_document_names_all_of_them() -> None:
    text = (Path(__file__).parents[2] / "docs" / "TESTING.md").read_text()
    rows = dict(re.findall(r"^\| (\d+|turns) \| ([a-z, ]+) \|$", text, re.MULTILINE))
    assert set(rows) == {*map(str, range(1, 18)), "turns"}
    named = [name for row in rows.values() for name in row.split(", ")]
    assert sorted(named) == sorted(bug.name for bug in BUGS)
