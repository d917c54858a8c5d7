"""Messages of before that come again."""

from __future__ import annotations

from random import Random

import pytest

from consensusllm.paxos import Ballot
from consensusllm.paxos.messages import CatchUp, Commit, Message, Rejoin
from consensusllm.simulation import Scenario, parse_kinds, run
from consensusllm.simulation.cluster import Cluster
from consensusllm.simulation.faults import Fault
from consensusllm.simulation.late import REMEMBERED, Past
from consensusllm.simulation.run import discard
from consensusllm.simulation.trace import Trace
from consensusllm.simulation.virtual_loop import VirtualLoop


def commits(past: Past, dst: int, count: int) -> list[int]:
    """Send ``count`` of them, of which each says its number; what is then remembered of them."""
    for number in range(1, count + 1):
        past.sent(dst, Commit(1, Ballot(1, 1, 0), number))
    return remembered(past, dst)


def remembered(past: Past, dst: int) -> list[int]:
    """The numbers of all commits that are."""
    found: set[int] = set()
    for seed in range(60):
        late = past.some(dst, Random(seed))
        numbers = [each.chosen_through for each in late if isinstance(each, Commit)]
        assert numbers == sorted(set(numbers)), "each once, in the order in which they were sent"
        found.update(numbers)
    return sorted(found)


def test_the_last_messages_are_remembered_and_some_of_any_age() -> None:
    kept = commits(Past(Random(1)), 2, 10_000)
    assert len(kept) <= REMEMBERED
    assert kept[-REMEMBERED // 2 :] == list(range(10_000 - REMEMBERED // 2 + 1, 10_001))
    older = kept[: -REMEMBERED // 2]
    assert len(older) > REMEMBERED // 4
    assert older[0] < 2_000
    assert older[-1] > 8_000


def test_what_is_sent_often_leaves_room_for_what_is_rare() -> None:
    past = Past(Random(1))
    rejoin = Rejoin(3, 7, 0)
    past.sent(2, rejoin)
    commits(past, 2, 1_000)
    assert any(rejoin in past.some(2, Random(seed)) for seed in range(20))


def test_each_node_gets_what_was_sent_to_it() -> None:
    past = Past(Random(1))
    questions: list[Message] = [CatchUp(1, 1), CatchUp(1, 2)]
    for dst, question in enumerate(questions, 2):
        past.sent(dst, question)
    for dst, question in enumerate(questions, 2):
        assert {each for seed in range(20) for each in past.some(dst, Random(seed))} == {question}
    assert past.some(4, Random(1)) == []


def test_who_dies_of_a_late_message_gets_no_more() -> None:
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 3, Trace(loop.time, whole=False))
    cluster.start()
    life = cluster.life(2)
    assert life is not None
    cluster.deliver_late(2, life, CatchUp(1, 1))
    cluster.nodes[2].crash()
    cluster.deliver_late(2, life, CatchUp(1, 1))
    cluster.nodes[2].start()
    cluster.deliver_late(2, life, CatchUp(1, 1))
    assert cluster.figures["messages replayed"] == 1
    discard(loop)


def test_old_messages_come_again_and_break_nothing() -> None:
    faults = (
        Fault(1, 1.0, "echo", 0, (), 20.0, 0.1),
        Fault(1, 3.0, "lost disk", 2, (), 1.0, 0.5),
        Fault(1, 9.0, "crash all", 1, (), 1.0, 0.5),
    )
    result = run(Scenario(1, seconds=25.0, kinds=parse_kinds("echo"), faults=faults))
    assert not result.broken, result.reason
    assert result.figures["fault: echo"] == 1
    assert result.figures["messages replayed"] > 1_000


@pytest.mark.parametrize(
    ("detail", "late"),
    [("to", {(1, 2), (2, 3)}), ("from", {(2, 1), (2, 3)}), ("both", {(2, 3)})],
)
@pytest.mark.parametrize("replayed", [False, True])
def test_what_runs_into_a_lasting_cut_does_not_come_late_either(
    detail: str, late: set[tuple[int, int]], replayed: bool
) -> None:
    """Links are (to, from) here. A node that the others are to do without would vote all the same,
    now and then, and an operator could take one of the others away."""
    loop = VirtualLoop()
    cluster = Cluster(loop, "1", 3, Trace(loop.time, whole=False))
    cluster.start()
    if replayed:
        cluster.inflict(Fault(1, 0.0, "replay", 1, (), 5.0))

    def sent(number: int) -> set[tuple[int, int]]:
        """The links over which what is sent now may come late."""
        links = ((2, 1), (1, 2), (3, 2))
        for src, dst in links:
            cluster.post(src, dst, Commit(src, Ballot(1, 1, 0), number))
        kept = cluster.replay._kept if cluster.replay is not None else cluster.past._kept
        return {
            (key[0], each.sender)
            for key, messages in kept.items()
            for each in (entry[1] if isinstance(entry, tuple) else entry for entry in messages)
            if isinstance(each, Commit) and each.chosen_through == number
        }

    assert sent(1) == {(1, 2), (2, 1), (2, 3)}
    assert cluster.cut_lastingly(1, detail)
    assert sent(2) == late
    cluster.reconnect()
    assert sent(3) == {(1, 2), (2, 1), (2, 3)}
    discard(loop)
