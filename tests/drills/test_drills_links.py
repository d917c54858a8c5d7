"""Faults of links in a drill: one that is not there, or that no message met, is found out."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consensusllm.drills.cluster import DrillError, LocalCluster
from consensusllm.drills.links import Links
from consensusllm.orchestrator.client import FaultList
from consensusllm.orchestrator.faults import FaultTable

COMMANDS: dict[str, tuple[str, Callable[[Links], Any]]] = {
    "failLink 1 2": ("cut", lambda links: links.fail(1, 2, False)),
    "failLink 1 2 --one-way": ("cut", lambda links: links.fail(1, 2, True)),
    "partition 1,2": ("cut", lambda links: links.partition([[1, 2]])),
    "partition 1 2,3 4,5": ("cut", lambda links: links.partition([[1], [2, 3], [4, 5]])),
    "isolate 1": ("cut", lambda links: links.isolate(1)),
    "delay 1 2 20 15": ("held", lambda links: links.shape("delay", [(1, 2)], 20, 15)),
    "delay all 20": ("held", lambda links: links.shape("delay", [(1, 2), (1, 3)], 20)),
    "drop 1 2 5.5": ("dropped", lambda links: links.shape("drop", [(1, 2)], 5.5)),
    "duplicate 1 2 20": ("duplicated", lambda links: links.shape("duplicate", [(1, 2)], 20)),
    "reorder 1 2 20": ("held", lambda links: links.shape("reorder", [(1, 2)], 20)),
}


class Orchestrator:
    """Answers every command, and does what it says unless it is ``idle``."""

    def __init__(self, nodes: tuple[int, ...]) -> None:
        self._table = FaultTable(nodes, random.Random(0))
        self.idle = False
        self.fates: Counter[str] = Counter()

    def __getattr__(self, word: str) -> Any:
        async def command(*arguments: Any, **options: Any) -> str:
            if self.idle:
                return "done, it says"
            answer: str = getattr(self._table, word)(*arguments, **options)
            return answer

        return command

    async def faults(self) -> FaultList:
        return FaultList(self._table.describe(), [], [], self._table.cut, self.fates)


class Drill:
    def __init__(self) -> None:
        nodes = (1, 2, 3, 4, 5)
        self.orchestrator = Orchestrator(nodes)
        self.problems: list[str] = []
        cluster = SimpleNamespace(nodes=nodes, faults=self.orchestrator)
        self.links = Links(cast(LocalCluster, cluster), self.problems.append)


@pytest.fixture
def drill() -> Drill:
    return Drill()


@pytest.mark.parametrize("words", COMMANDS)
async def test_a_fault_that_the_orchestrator_does_not_list_ends_the_drill(
    drill: Drill, words: str
) -> None:
    drill.orchestrator.idle = True
    with pytest.raises(DrillError, match='answered "done, it says" and lists no fault: see its'):
        await COMMANDS[words][1](drill.links)


@pytest.mark.parametrize("words", COMMANDS)
async def test_a_fault_that_no_message_met_is_a_problem(drill: Drill, words: str) -> None:
    fate, command = COMMANDS[words]
    await command(drill.links)
    drill.orchestrator.fates["delivered"] += 1
    await drill.links.heal()
    [problem] = drill.problems
    assert problem.startswith(f"{words}: no message was {fate} before it was lifted: ")
    await drill.links.heal()
    assert len(drill.problems) == 1


@pytest.mark.parametrize("words", COMMANDS)
async def test_a_fault_that_a_message_met_is_none(drill: Drill, words: str) -> None:
    fate, command = COMMANDS[words]
    drill.orchestrator.fates[fate] = 7
    await command(drill.links)
    drill.orchestrator.fates[fate] += 1
    await drill.links.heal()
    assert drill.problems == []


@pytest.mark.parametrize(
    "lift",
    [
        lambda links: links.fix(1, 2, False),
        lambda links: links.fix(1, 2, True),
        lambda links: links.heal(),
    ],
)
async def test_a_fault_that_is_there_after_it_was_lifted_ends_the_drill(
    drill: Drill, lift: Callable[[Links], Any]
) -> None:
    await drill.links.fail(1, 2, False)
    drill.orchestrator.idle = True
    drill.orchestrator.fates["cut"] += 1
    with pytest.raises(DrillError, match="and lists failLink 1 2: see its log"):
        await lift(drill.links)


async def test_what_is_replaced_or_mended_apart_is_judged_apart(drill: Drill) -> None:
    links = drill.links
    await links.partition([[1], [2, 3]])
    await links.partition([[1, 2]])
    assert [each.split(":")[0] for each in drill.problems] == ["partition 1 2,3"]
    await links.shape("drop", [(3, 4)], 10)
    await links.shape("drop", [(3, 4)], 0)
    assert [each.split(":")[0] for each in drill.problems][1:] == ["drop 3 4 10"]
    drill.orchestrator.fates["cut"] += 1
    await links.fix(1, 3, False)
    await links.forget()
    assert len(drill.problems) == 2


async def test_nodes_without_a_majority_are_cut_off_until_they_are_linked_again(
    drill: Drill,
) -> None:
    links = drill.links
    await links.fail(1, 2, False)
    assert links.cut_off == set()
    await links.partition([[1, 4]])
    assert links.cut_off == {1, 4}
    await links.partition([[1, 2], [3, 4]])
    assert links.cut_off == {1, 2, 3, 4, 5}
    await links.heal()
    assert links.cut_off == set()
    await links.isolate(3)
    assert links.cut_off == {3}
    await links.forget()
    assert links.cut_off == set()
