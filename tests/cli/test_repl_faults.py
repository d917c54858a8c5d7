"""Fault commands of the REPL, and how it learns of the nodes that they name."""

from __future__ import annotations

import pytest

from consensusllm_cli.repl.session import Outcome
from tests.cli.desk import Desk


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("failNode 1", ("fail_node", 1)),
        ("fixNode 1", ("fix_node", 1)),
        ("failLink 1 2", ("fail_link", 1, 2, False)),
        ("failLink 1 2 --one-way", ("fail_link", 1, 2, True)),
        ("fixLink 2 1", ("fix_link", 2, 1, False)),
        ("partition 1,2 3", ("partition", ((1, 2), (3,)))),
        ("heal", ("heal",)),
        ("delay 1 2 80", ("delay", 1, 2, 80.0, 0.0)),
        ("delay 1 2 80 20", ("delay", 1, 2, 80.0, 20.0)),
        ("drop 1 2 30", ("drop", 1, 2, 30.0)),
        ("duplicate 1 2 30", ("duplicate", 1, 2, 30.0)),
        ("reorder 1 2 30", ("reorder", 1, 2, 30.0)),
        ("isolate 3", ("isolate", 3)),
    ],
)
async def test_a_fault_is_told_to_the_orchestrator(
    desk: Desk, line: str, call: tuple[object, ...]
) -> None:
    assert await desk.done(line) == f"did {call[0]}\n"
    assert desk.cluster.fake_faults is not None
    assert desk.cluster.fake_faults.calls == [call]


async def test_faults_lists_what_is_injected(desk: Desk) -> None:
    assert await desk.done("faults") == "no faults\n"
    assert desk.cluster.fake_faults is not None
    desk.cluster.fake_faults.injected = ["failLink 1 2", "drop 1 3 20"]
    assert await desk.done("faults") == "failLink 1 2\ndrop 1 3 20\n"


async def test_a_refused_fault_says_why(desk: Desk) -> None:
    assert desk.cluster.fake_faults is not None
    desk.cluster.fake_faults.refusal = "no orchestrator answers at 127.0.0.1:5100"
    assert await desk.failed("heal") == "heal: no orchestrator answers at 127.0.0.1:5100"


async def test_a_fault_without_an_orchestrator_says_so(desk: Desk) -> None:
    desk.cluster.fake_faults = None
    assert (await desk.failed("heal")).startswith("heal: no orchestrator is known")


async def test_a_link_from_a_node_to_itself_is_misuse(desk: Desk) -> None:
    assert await desk.run("failLink 1 1") is Outcome.MISUSE
    assert desk.err == "failLink: a link is between two nodes: give another one than 1 twice\n"


async def test_the_nodes_are_learnt_before_one_is_judged(desk: Desk) -> None:
    desk.session.known.nodes.clear()
    assert await desk.run("failNode 4") is Outcome.MISUSE
    assert desk.err == "failNode: '4' is not a node: give one of 1, 2, 3\n"


async def test_a_node_that_joined_since_is_learnt_when_it_is_named(desk: Desk) -> None:
    desk.session.known.nodes[:] = [1, 2]
    assert await desk.done("failNode 3") == "did fail_node\n"
