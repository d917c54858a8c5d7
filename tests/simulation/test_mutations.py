"""The simulator finds every planted bug within a stated number of seeds.

A search that cannot find a bug that is there proves nothing where it finds none. The same seeds
without the bug are clean.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from planted_bugs import BUGS, Bug, Patch

from consensusllm.simulation import Result, run

run_once = cache(run)


@cache
def search(bug: Bug) -> Result:
    """Of the first seed that finds the bug, or of the last that may be needed."""
    with Patch.context() as patch:
        bug.plant(patch)
        for seed in range(1, bug.within + 1):
            result = run(bug.scenario(seed))
            if result.broken:
                break
    return result


def marked(bug: Bug) -> object:
    marks = [pytest.mark.full] if bug.full else []
    return pytest.param(bug, id=bug.name, marks=[*marks, pytest.mark.timeout(1800)])


@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in BUGS])
def test_a_planted_bug_takes_what_it_replaces_takes(bug: Bug) -> None:
    with Patch.context() as patch:
        bug.plant(patch)


@pytest.mark.parametrize("bug", [marked(bug) for bug in BUGS])
def test_the_planted_bug_is_found(bug: Bug) -> None:
    result = search(bug)
    assert result.broken, f"not found within {bug.within} seeds"
    assert result.reason.startswith(bug.caught_by), f"seed {result.scenario.seed}: {result.reason}"


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in BUGS])
def test_without_the_bug_the_same_seeds_are_clean(bug: Bug) -> None:
    for seed in range(1, search(bug).scenario.seed + 1):
        result = run_once(bug.scenario(seed))
        assert not result.broken, f"seed {seed}: {result.reason}"


def test_each_rule_has_a_planted_bug_and_the_document_names_all_of_them() -> None:
    text = (Path(__file__).parents[2] / "docs" / "TESTING.md").read_text()
    rows = dict(
        re.findall(
            r"^\| (\d+|members|councils|turns|budgets) \| ([a-z, ]+) \|$", text, re.MULTILINE
        )
    )
    assert set(rows) == {*map(str, range(1, 18)), "members", "councils", "turns", "budgets"}
    named = [name for row in rows.values() for name in row.split(", ")]
    assert sorted(named) == sorted(bug.name for bug in BUGS)
