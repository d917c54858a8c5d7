"""Batches and ballots: the small values that everything rests on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.paxos import BOTTOM, Ballot, Batch, MalformedBatch
from consensusllm.paxos.quorum import Fence, is_quorum, majority

ballots = st.builds(Ballot, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))


@given(st.integers(0, 2**63), st.lists(st.binary(max_size=50), max_size=20))
def test_a_batch_gives_back_what_was_packed(time_ms: int, commands: list[bytes]) -> None:
    batch = Batch.pack(time_ms, commands)
    assert Batch.checked(batch.payload).unpack() == (time_ms, tuple(commands))


@given(st.binary(max_size=100))
def test_bytes_that_are_no_batch_are_refused(payload: bytes) -> None:
    try:
        batch = Batch.checked(payload)
    except MalformedBatch:
        return
    batch.unpack()


@given(st.lists(st.binary(max_size=50), min_size=1), st.data())
def test_a_cut_batch_is_refused(commands: list[bytes], data: st.DataObject) -> None:
    payload = Batch.pack(1, commands).payload
    end = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(MalformedBatch):
        Batch.checked(payload[:end])


def test_a_no_op_holds_nothing() -> None:
    assert Batch.noop(7).is_noop
    assert Batch.noop(7).unpack() == (7, ())
    assert not Batch.pack(7, []).is_noop


@given(ballots, ballots)
def test_ballots_are_ordered_by_number_then_proposer_and_not_by_slot(a: Ballot, b: Ballot) -> None:
    assert (a < b) == ((a.seq_num, a.pid) < (b.seq_num, b.pid))
    assert (a == b) == ((a.seq_num, a.pid) == (b.seq_num, b.pid))
    assert a.at(9) == a


@given(ballots, st.integers(1, 9))
def test_the_next_ballot_is_above_and_is_its_owners(ballot: Ballot, pid: int) -> None:
    assert ballot.above(pid) > ballot >= BOTTOM
    assert ballot.above(pid).pid == pid


@given(st.integers(1, 9), st.data())
def test_any_two_quorums_meet(size: int, data: st.DataObject) -> None:
    members = range(1, size + 1)
    subsets = st.sets(st.sampled_from(list(members)), min_size=majority(size))
    first, second = data.draw(subsets), data.draw(subsets)
    assert is_quorum(first, members)
    assert first & second


def test_strangers_and_repetitions_do_not_make_a_quorum() -> None:
    assert not is_quorum([1, 1, 1], (1, 2, 3))
    assert not is_quorum([1, 8, 9], (1, 2, 3))
    assert is_quorum([1, 3], (1, 2, 3))


def test_a_fence_only_rises() -> None:
    fence = Fence(((2, 5),))
    assert not fence.raise_to(((2, 4),))
    assert not fence.admits(2, 4)
    assert fence.raise_to(((2, 6), (3, 1)))
    assert not fence.admits(2, 5)
    assert fence.admits(1, 0)
    assert fence.pairs() == ((2, 6), (3, 1))
