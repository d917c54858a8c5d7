"""What each fault does to a simulated cluster, and whom it meets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest

from consensusllm.paxos import Change, RemoveNode, TransferLeader
from consensusllm.simulation.cluster import Cluster
from consensusllm.simulation.faults import LEADER, Fault
from consensusllm.simulation.run import discard
from consensusllm.simulation.trace import Trace
from consensusllm.simulation.virtual_loop import VirtualLoop
from consensusllm.simulation.workload import Workload


def runs_until(loop: VirtualLoop, condition: Callable[[], bool]) -> None:
    async def poll() -> None:
        while not condition():  # noqa: ASYNC110 (a simulated clock)
            await asyncio.sleep(0.01)

    loop.run_until_complete(asyncio.wait_for(poll(), 60.0))


@pytest.mark.parametrize("kind", ["linger", "depose", "tear", "relapse"])
def test_leaders_are_harmed_though_the_machine_of_the_fault_is_gone(kind: str) -> None:
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 3, Trace(loop.time, whole=False))
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    cluster.start()
    cluster.retire(3)
    cluster.inflict(Fault(1, 0.0, kind, 2, (), 5.0, 0.5, ""))
    cluster.retire(2)
    runs_until(loop, lambda: cluster.figures["messages cut off"] > 0)
    cluster.heal()
    sent = cluster.sent
    runs_until(loop, lambda: cluster.sent > sent + 3)  # what was on its way arrived, or was cut
    cut_off = cluster.figures["messages cut off"]
    runs_until(loop, lambda: cluster.sent > sent + 9)
    assert cluster.figures["messages cut off"] == cut_off
    assert failures == []
    discard(loop)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(1, 0.0, "cut", 1, (1,), 5.0, 0.5, "both"),
        Fault(1, 0.0, "cut", 1, (4,), 5.0, 0.5, "both"),
        Fault(1, 0.0, "flap", 1, (1,), 5.0, 0.5, "to"),
        Fault(1, 0.0, "partition", 0, (1, 2, 3), 5.0),
        Fault(1, 0.0, "partition", 0, (4,), 5.0),
        Fault(1, 0.0, "crash", 3, (), 5.0),
    ],
    ids=str,
)
def test_what_meets_nothing_is_spared_and_not_counted(fault: Fault) -> None:
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 3, Trace(loop.time, whole=False))
    cluster.start()
    cluster.nodes[3].crash()
    cluster.inflict(fault)
    assert not any(name.startswith("fault: ") for name in cluster.figures)
    discard(loop)


@pytest.mark.parametrize("kind", ["jump", "set clock"])
def test_a_clock_that_is_set_is_seen_at_once_in_half_of_the_cases(kind: str) -> None:
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 3, Trace(loop.time, whole=False))
    cluster.start()
    for at in range(100):
        cluster.inflict(Fault(1, float(at), kind, 1, (), 0.01, 0.5))
        runs_until(loop, lambda: cluster.life(1) is not None)
    assert cluster.figures[f"fault: {kind}"] == 100
    assert 30 < cluster.figures["crashes"] < 70
    discard(loop)


def test_a_fault_that_was_healed_does_not_end_a_later_one() -> None:
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 3, Trace(loop.time, whole=False))
    cluster.start()
    cluster.inflict(Fault(1, 0.0, "crash", 2, (), 0.5))
    cluster.heal()
    cluster.inflict(Fault(2, 0.0, "crash", 2, (), 5.0))
    runs_until(loop, lambda: loop.time() > 4.9)
    assert cluster.life(2) is None
    runs_until(loop, lambda: loop.time() > 5.1)
    assert cluster.life(2) is not None
    discard(loop)


def test_a_crash_that_lasts_outlives_the_healing_and_only_one_that_the_rest_can_bear() -> None:
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 3, Trace(loop.time, whole=False))
    cluster.start()
    cluster.inflict(Fault(1, 0.0, "lasting crash", 2))
    cluster.inflict(Fault(1, 0.0, "lasting crash", 3))
    cluster.inflict(Fault(1, 0.0, "crash", 2, (), 0.5))
    assert cluster.figures["fault: lasting crash"] == 1
    runs_until(loop, lambda: loop.time() > 1.0 and cluster.leader() is not None)
    cluster.heal()
    assert (cluster.life(2), cluster.life(3) is None) == (None, False)
    cluster.reconnect()
    assert cluster.life(2) is not None
    assert cluster.harmed() == set()
    discard(loop)


@pytest.mark.parametrize("kind", ["remove node", "replace node", "transfer"])
@pytest.mark.parametrize("node", [LEADER, 1, 2, 3])
def test_an_operator_wants_what_the_fault_says_of_the_node_that_it_names(
    kind: str, node: int
) -> None:
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 3, Trace(loop.time, whole=False))
    cluster.start()
    runs_until(loop, lambda: cluster.leader() is not None)
    named = cluster.leader() if node == LEADER else node
    asked: list[Change] = []

    async def ask(change: Change) -> None:
        asked.append(change)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster.operator, "_ask", ask)
        patch.setattr(cluster.operator, "_add", lambda _: asyncio.sleep(0))
        cluster.inflict(Fault(1, 0.0, kind, node, (), 5.0))
        runs_until(loop, lambda: bool(asked))
    assert asked[0] in (TransferLeader(named or 0), RemoveNode(named or 0, asked=1))
    discard(loop)


def test_a_newcomer_whose_disk_hangs_is_added_while_another_node_is_down_and_gets_no_vote() -> None:
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 3, Trace(loop.time, whole=False))
    cluster.start()
    runs_until(loop, lambda: cluster.leader() is not None)
    dead = next(node for node in cluster.members if node != cluster.leader())
    cluster.inflict(Fault(1, 0.0, "hanging newcomer", dead, (), 5.0, 0.5))
    assert (cluster.life(dead), cluster.harmed()) == (None, {dead})
    asked_at = loop.time()
    runs_until(loop, lambda: (lead := cluster.leading()) and lead.replica.members.learner == 4)
    runs_until(loop, lambda: loop.time() > asked_at + 20.0)
    assert cluster.voters() == (1, 2, 3)
    assert not cluster.nodes[4].disk.intact
    assert cluster.leader() is not None
    cluster.heal()
    cluster.reconnect()
    assert (cluster.nodes[4].disk.hanging, cluster.life(dead) is None) == (False, False)
    discard(loop)


def test_a_mistaken_removal_may_meet_any_of_the_others() -> None:
    met = set()
    for rate in (0.0, 0.3, 0.6, 1.0):
        loop = VirtualLoop()
        cluster = Cluster(loop, "1", 4, Trace(loop.time, whole=False))
        cluster.start()
        wanted: list[Fault] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster.operator, "begin", wanted.append)
            cluster.inflict(Fault(1, 0.0, "mistaken removal", 2, (), 5.0, rate))
        met |= {fault.node for fault in wanted}
        discard(loop)
    assert met == {1, 3, 4}


def test_a_mistaken_removal_is_of_none_whose_removal_is_under_way() -> None:
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 3, Trace(loop.time, whole=False))
    cluster.start()
    for node in (2, 3):
        loop.run_until_complete(cluster.operator._ask(RemoveNode(node)))
    cluster.inflict(Fault(1, 0.0, "mistaken removal", 1, (), 5.0, 0.5))
    assert cluster.life(1) is not None
    runs_until(loop, lambda: not cluster.operator.removes(2) and not cluster.operator.removes(3))
    cluster.inflict(Fault(1, 0.0, "mistaken removal", 1, (), 5.0, 0.5))
    assert cluster.life(1) is None
    runs_until(loop, lambda: cluster.operator.removes(2) or cluster.operator.removes(3))
    discard(loop)


def test_an_operator_who_removes_a_live_node_as_another_dies_is_refused() -> None:
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 3, Trace(loop.time, whole=False))
    cluster.start()
    runs_until(loop, lambda: cluster.leader() is not None)
    dead = next(node for node in cluster.members if node != cluster.leader())
    cluster.inflict(Fault(1, 0.0, "mistaken removal", dead, (), 5.0, 0.5))
    assert cluster.life(dead) is None
    runs_until(loop, lambda: cluster.figures["changes refused"] > 0)
    assert cluster.voters() == (1, 2, 3)
    assert cluster.leader() is not None
    discard(loop)


def test_nobody_is_removed_where_a_lost_disk_and_a_dead_node_are_all_that_the_rest_can_bear() -> (
    None
):
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 5, Trace(loop.time, whole=False))
    cluster.start()
    runs_until(loop, lambda: cluster.leader() is not None)
    lost, dead, *_ = (node for node in cluster.members if node != cluster.leader())
    cluster.inflict(Fault(1, 0.0, "lost disk", lost, (), 5.0))
    assert cluster.damaged() == {lost}
    cluster.inflict(Fault(1, 0.0, "mistaken removal", dead, (), 5.0, 0.5))
    assert cluster.life(dead) is not None
    cluster.inflict(Fault(1, 0.0, "lasting crash", dead))
    cluster.inflict(Fault(1, 0.0, "remove node", dead, (), 5.0))
    assert cluster.operator.restored
    discard(loop)


@pytest.mark.parametrize("detail", ["to", "from", "both"])
def test_a_node_that_is_cut_off_is_cut_off_from_new_nodes_too(detail: str) -> None:
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 3, Trace(loop.time, whole=False))
    cluster.start()
    arrived: list[tuple[int, int]] = []

    def all_that_arrive(*links: tuple[int, int]) -> set[tuple[int, int]]:
        arrived.clear()
        for a, b in links:
            cluster.network.post(a, b, partial(arrived.append, (a, b)))
        now = loop.time()
        runs_until(loop, lambda: loop.time() > now + 1.0)
        return {*arrived}

    assert cluster.cut_lastingly(1, detail)
    cluster.install(4)
    passes = {"to": (4, 1), "from": (1, 4)}.get(detail)
    assert all_that_arrive((1, 4), (4, 1), (4, 2)) - {(4, 2)} == ({passes} if passes else set())
    cluster.reconnect()
    assert all_that_arrive((1, 4), (4, 1), (4, 2)) == {(1, 4), (4, 1), (4, 2)}
    discard(loop)


def test_who_thinks_for_long_is_served_soon_after_the_faults_all_the_same() -> None:
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 3, Trace(loop.time, whole=False))
    cluster.start()
    workload = Workload(cluster, Random(1), 1, 6, think_s=1000.0)
    runs_until(loop, lambda: loop.time() > 5.0)
    starved = workload.served()
    runs_until(loop, lambda: not starved())
    assert loop.time() < 15.0
    discard(loop)


def test_a_machine_that_was_just_taken_away_is_not_begun_anew() -> None:
    """It seemed to be one that was begun in vain: its removal was chosen, and not told yet."""
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 3, Trace(loop.time, whole=False))
    cluster.start()
    operator = cluster.operator

    async def meanwhile() -> None:
        operator._gone.append(3)
        cluster.retire(3)

    operator._try_a_used_id = meanwhile  # type: ignore[method-assign]
    loop.run_until_complete(operator._add(3))
    assert cluster.members == (1, 2)
    discard(loop)
