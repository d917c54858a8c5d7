"""What the commands show that look at the cluster: status, nodes, log and trace."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensusllm.client import (
    ModelStatus,
)
from consensusllm.orchestrator.client import TraceEvent
from consensusllm_cli.options import NOBODY
from consensusllm_cli.repl.render import agreement
from consensusllm_cli.repl.session import Outcome
from consensusllm_cli.standing import NO_LEADER
from tests.cli.desk import Desk
from tests.cli.repl_fakes import NODES, status


async def test_status_shows_every_node_and_that_they_agree(desk: Desk) -> None:
    lines = (await desk.done("status")).splitlines()
    assert lines[0] == "node\trole\tballot\tchosen\tapplied\tstate\tlog\tmodels"
    assert lines[2] == "2\tleading\t5.2\t57\t57\t1f2e3d4c5b6a\t1-57\textract"
    assert lines[4] == "all 3 nodes agree at slot 57: hash 1f2e3d4c5b6a"


async def test_status_of_a_dead_node_says_so(desk: Desk) -> None:
    desk.cluster.by_node[1] = status(1, models=(ModelStatus(1, "builtin", "", "offline"),))
    desk.cluster.by_node[3] = None
    out = await desk.done("status")
    assert "1\tfollowing\t5.2\t57\t57\t1f2e3d4c5b6a\t1-57\tbuiltin\n" in out
    assert "3\tdoes not answer\t-\t-\t-\t-\t-\t-\n" in out
    assert out.endswith("at slot 57: nodes 1, 2; node 3 does not answer\n")


async def test_status_without_a_leader_is_a_failure_whatever_agrees(desk: Desk) -> None:
    desk.cluster.by_node = {node: status(node, role="following") for node in NODES}
    assert await desk.failed("status") == f"status: {NO_LEADER}"
    assert desk.out.endswith("all 3 nodes agree at slot 57: hash 1f2e3d4c5b6a\n")


async def test_two_that_lead_other_members_each_are_no_cluster_that_lags(desk: Desk) -> None:
    alone = status(3, role="leading", applied_slot=56)
    desk.cluster.by_node[3] = alone
    assert "node 3 lags by 1 slot\n" in await desk.done("status")  # it was deposed
    desk.cluster.by_node[3] = replace(alone, members=alone.members[2:])
    said = await desk.failed("status")
    assert said.startswith("status: nodes 2 and 3 both lead, each with other members: ")
    assert "lags" not in desk.out


async def test_other_states_at_one_slot_are_a_failure(desk: Desk) -> None:
    desk.cluster.by_node[3] = status(3, state_hash="other", applied_slot=50)
    await desk.done("status")
    desk.cluster.by_node[1] = status(1, applied_slot=50)
    assert (await desk.failed("status")).startswith("status: nodes DIFFER at slot 50: ")
    assert "nodes DIFFER at slot 50: node 1 1f2e3d4c5b6a, node 3 other; node 1 lags" in desk.out


@pytest.mark.parametrize("line", ["status", "nodes", "models", "log"])
async def test_a_cluster_that_does_not_answer_is_a_failure(desk: Desk, line: str) -> None:
    desk.cluster.by_node = dict.fromkeys(NODES)
    assert await desk.failed(line) == f"{line}: {NOBODY}"
    assert "no node answers" not in desk.out


def test_a_node_whose_hash_is_still_being_made_neither_agrees_nor_differs() -> None:
    some = {node: status(node) for node in (1, 2, 3)}
    some[3] = status(3, state_hash="")
    assert agreement(some) == "at slot 57: nodes 1, 2, 3; node 3 hashes its state still"
    assert agreement({3: some[3]}) == "at slot 57: node 3; node 3 hashes its state still"


def test_agreement_is_claimed_only_where_it_was_seen() -> None:
    same = {node: status(node) for node in NODES}
    assert agreement({**same, 3: status(3, applied_slot=50, state_hash="other")}) == (
        "at slot 57: nodes 1, 2; node 3 lags by 7 slots"
    )
    differing = agreement({**same, 3: status(3, state_hash="other")})
    assert differing.startswith("nodes DIFFER at slot 57: ")
    assert "agree" not in differing
    assert agreement({1: None}) == "no node answers"
    assert agreement({1: status(1)}) == "node 1 is at slot 57: hash 1f2e3d4c5b6a"


async def test_nodes_and_log_show_what_the_nodes_say(desk: Desk) -> None:
    nodes = await desk.done("nodes")
    assert "2\t127.0.0.1:5102\tleading\t1,3\t-\torchestrated\t1:02:03\t0.1.0\n" in nodes
    assert "1\t1\t57\t57\t-\t4096\t0\t1\t7\n" in await desk.done("log")


def links(table: str) -> list[list[str]]:
    """Of each node: itself, its role, whom it is linked to, and whom it is cut off from."""
    return [[row[0], *row[2:5]] for row in (line.split("\t") for line in table.splitlines()[1:])]


async def test_nodes_names_the_links_that_are_cut_and_the_nodes_that_failed(desk: Desk) -> None:
    assert desk.cluster.fake_faults is not None
    desk.cluster.fake_faults.cut = [(1, 2), (2, 1), (1, 3)]
    assert links(await desk.done("nodes")) == [
        ["1", "following", "-", "2,→3"],
        ["2", "leading", "3", "1"],
        ["3", "following", "2", "←1"],
    ]
    desk.cluster.fake_faults.cut = []
    desk.cluster.fake_faults.down = [1]
    desk.cluster.by_node[1] = None
    assert links(await desk.done("nodes")) == [
        ["1", "failed", "-", "-"],
        ["2", "leading", "3", "-"],
        ["3", "following", "2", "-"],
    ]


async def test_a_node_that_is_not_attached_is_linked_to_nobody(desk: Desk) -> None:
    assert desk.cluster.fake_faults is not None
    desk.cluster.fake_faults.attached = [1, 2]
    desk.cluster.by_node[3] = None
    assert links(await desk.done("nodes")) == [
        ["1", "following", "2", "-"],
        ["2", "leading", "1", "-"],
        ["3", "does not answer", "-", "-"],
    ]


async def test_nodes_says_where_the_cut_links_are_not_known(desk: Desk) -> None:
    assert desk.cluster.fake_faults is not None
    desk.cluster.fake_faults.refusal = "the token is wrong"
    out = await desk.done("nodes")
    assert out.endswith("\nwhich links are cut is not known: the token is wrong\n")
    desk.cluster.by_node = {1: status(1, transport="direct", orchestrator_address="")}
    assert "not known" not in await desk.done("nodes")


def event(kind: str, summary: str = "", **fields: int) -> TraceEvent:
    times = {"time_ms": 1_700_000_000_123, "src": 1, "dst": 2, "size_bytes": 80, "skipped": 0}
    return TraceEvent(kind=kind, fate="delivered", summary=summary, **{**times, **fields})


async def test_trace_shows_messages_of_the_kinds_up_to_the_count(desk: Desk) -> None:
    assert desk.cluster.fake_faults is not None
    desk.cluster.fake_faults.events = [
        event("prepare", "5.1"),
        event("heartbeat"),
        event("Prepare".lower(), skipped=4),
        event("prepare"),
    ]
    out = await desk.done("trace PREPARE --count 2")
    assert out == (
        "22:13:20.123  1 → 2  prepare           delivered   80 B  5.1\n"
        "… 4 more came too fast to show\n"
        "22:13:20.123  1 → 2  prepare           delivered   80 B  \n"
    )
    assert desk.cluster.fake_faults.calls == [("trace", ["prepare"])]


async def test_trace_of_a_conversation_shows_the_messages_that_name_it(desk: Desk) -> None:
    assert desk.cluster.fake_faults is not None
    desk.cluster.fake_faults.events = [event("stream", "c1 turn 2"), event("stream", "c11 turn 2")]
    assert (await desk.done("trace c1")).count("\n") == 1


async def test_trace_of_what_is_neither_kind_nor_conversation_is_misuse(desk: Desk) -> None:
    assert await desk.run("trace acept") is Outcome.MISUSE
    assert desk.err.startswith("trace: 'acept' is no conversation and no kind: kinds are pre_vote,")
