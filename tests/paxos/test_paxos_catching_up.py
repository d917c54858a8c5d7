"""Catching up: whom a learner asks, when it asks again, and when it has what there is."""

from __future__ import annotations

from random import Random

import pytest
from core_driver import A, Driver, only

from consensusllm.paxos import Ballot, Batch, Recovered
from consensusllm.paxos.messages import (
    Accept,
    CatchUp,
    CatchUpReply,
    Commit,
    Compacted,
    Entry,
    SnapshotChunk,
)

CHUNK = Batch.pack(1, [bytes(1000)])
SMALL_CHUNKS = {"chunk_bytes": 1000}


def answered(node: Driver, *slots: int, batch: Batch = CHUNK) -> list[CatchUp]:
    """What it asks when the entries of ``slots`` come, and go to its disk."""
    entries = tuple(Entry(slot, Ballot(5, 2, slot), batch) for slot in slots)
    asked = only(CatchUp, node.receive(CatchUpReply(2, entries, 500)))
    return asked + only(CatchUp, node.sync())


def test_what_one_message_brings_to_the_end_is_told_apart_from_more_and_from_what_is_gone() -> None:
    big = Batch.pack(1, [b"x" * 1000])
    entries = tuple(Entry(slot, Ballot(1, 2, slot), big) for slot in range(1, 11))
    recovered = Recovered(1, True, Ballot(1, 2), entries=entries, chosen_through=10)
    node = Driver(recovered=recovered, chunk_bytes=2500, log_retain_bytes=0)
    node.ready()
    assert [slot for slot in range(1, 12) if node.core.ends_with_a_chunk(slot)] == [9, 10, 11]
    node.core.compact(9)
    assert [slot for slot in range(1, 12) if node.core.ends_with_a_chunk(slot)] == [10, 11]


@pytest.mark.parametrize("seed", range(6))
def test_the_log_behind_a_snapshot_is_asked_of_whoever_sent_it(seed: int) -> None:
    """It kept that log meanwhile; others may have dropped it, and would send another snapshot."""
    node = Driver(size=5, seed=seed)
    node.receive(Compacted(2, 9))
    node.receive(Commit(4, Ballot(5, 4), 20))
    node.receive(SnapshotChunk(3, 9, 0, 4, b"digest", b"0123"))
    assert [install.last for install in node.installs] == [True]
    node.core.snapshot_staged()
    node.core.snapshot_installed(9)
    asked = [dst for dst, message in node.ready() if isinstance(message, CatchUp)]
    assert asked == [3]


@pytest.mark.parametrize("seed", range(6))
def test_every_second_time_whoever_holds_more_is_asked(seed: int) -> None:
    """All others may have left, though this node, which lost its disk, knows nothing of that."""
    node = Driver(size=5, seed=seed)
    node.receive(Commit(9, Ballot(5, 9), 500))
    asked: list[int] = []
    while len(asked) < 20:
        sent = node.pass_time(node.config.resend_s)
        asked += [dst for dst, message in sent if isinstance(message, CatchUp)]
    assert {*asked[::2]} == {9}
    assert 9 not in asked[1::2]
    assert len({*asked[1::2]}) > 1


@pytest.mark.parametrize("small", [False, True])
def test_who_is_answered_slowly_asks_again_later(small: bool) -> None:
    """As over a link that takes so long for a chunk: what is asked again meanwhile delays it. What
    is small comes soon all the same, and says nothing of a chunk."""
    node = Driver(**SMALL_CHUNKS)
    node.receive(Commit(2, Ballot(5, 2), 500))
    repeats = []
    for slot in range(1, 10, 2):
        repeats.append(len(only(CatchUp, node.pass_time(0.45))))
        assert len(answered(node, slot)) == 1
        assert len(answered(node, slot + 1, batch=A if small else CHUNK)) == 1
        if not small:
            break
    if not small:  # at once: it is no slow link
        assert len(only(CatchUp, node.pass_time(2.5 * node.config.resend_s))) == 2
        return
    assert repeats[0] > 3, "nothing is known of the link yet"
    assert repeats[1:] == [0] * 4


@pytest.mark.parametrize("seed", range(4))
def test_what_is_lost_makes_nobody_wait_longer(seed: int) -> None:
    """As over a link that loses every other question, or its answer."""
    node, rng = Driver(**SMALL_CHUNKS), Random(seed)
    node.receive(Commit(2, Ballot(5, 2), 500))
    asked = only(CatchUp, node.pass_time(node.config.heartbeat_s))
    while node.core.chosen_through < 400:
        if asked and rng.random() < 0.5:
            asked = answered(node, node.core.chosen_through + 1)
        else:
            asked = only(CatchUp, node.pass_time(node.config.resend_s))
    assert node.now < 400 * 2 * node.config.resend_s


def test_a_long_cut_makes_nobody_wait_longer_after_it() -> None:
    node = Driver(**SMALL_CHUNKS)
    node.receive(Commit(2, Ballot(5, 2), 500))
    node.pass_time(60.0)
    assert len(answered(node, 1)) == 1
    assert len(only(CatchUp, node.pass_time(5 * node.config.resend_s))) >= 4


def test_what_came_by_another_way_is_no_answer_that_took_long() -> None:
    node, ballot = Driver(**SMALL_CHUNKS), Ballot(5, 2)
    node.receive(Commit(2, ballot, 1))
    for slot in range(1, 20):
        node.receive(Accept(2, ballot.at(slot), (CHUNK,), slot))
        node.sync()
        node.receive(Commit(2, ballot, slot + 1))
        node.pass_time(node.config.resend_s)
    assert len(answered(node, 20, 21)) == 1
    assert len(only(CatchUp, node.pass_time(5 * node.config.resend_s))) >= 4


@pytest.mark.parametrize("held_up_s", [0.01, 0.3])
def test_who_was_held_up_by_its_own_install_asks_nobody_else_for_the_log(held_up_s: float) -> None:
    node = Driver(size=5, seed=3)
    node.receive(Compacted(2, 9))
    node.receive(Commit(3, Ballot(5, 3), 30))
    node.receive(SnapshotChunk(3, 9, 0, 4, b"digest", b"0123"))
    node.core.snapshot_staged()
    node.core.snapshot_installed(9)
    node.now += held_up_s  # as where an old state is freed
    sent = node.ready()
    node.core.tick(node.now)
    sent += node.ready()
    assert [message.sender for message in only(CatchUp, sent)] == [1]
    later = node.pass_time(10 * node.config.resend_s)
    assert only(CatchUp, later), "nobody answers at all"
