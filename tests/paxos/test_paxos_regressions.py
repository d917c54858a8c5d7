"""Schedules that once broke the core, each told as it happened."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_driver import MEMBERS, A, B, Driver, only, promise_of

from consensusllm.paxos import BOTTOM, Ballot, Batch, Overloaded, Recovered, Role, first_members
from consensusllm.paxos.messages import (
    Accept,
    CatchUp,
    CatchUpReply,
    Commit,
    Compacted,
    Entry,
    Heartbeat,
    HeartbeatReply,
    Prepare,
    Promise,
    Rejoin,
    Rejoined,
    SnapshotChunk,
    SnapshotRequest,
)


def test_a_fence_that_was_heard_of_during_phase_one_is_not_carried_by_that_ballot() -> None:
    # Node 5 lost its disk. This candidate hears so from one promiser only, after the other had
    # promised: whoever promised without the fence would still count node 5's old promise.
    candidate = Driver(size=5)
    ballot = candidate.prepare(2, 3)
    candidate.receive(promise_of(3, ballot))
    candidate.receive(promise_of(2, ballot, incarnations=((5, 2),)))
    assert candidate.core.role is Role.LEADING
    candidate.sync()
    for peer in (2, 3):
        candidate.vote(peer, ballot, 1)
    sent = candidate.asked_for_a_vote(5, 2, 2, 3)
    assert only(Rejoined, sent) == []
    prepares = only(Prepare, sent)
    assert prepares[0].ballot > ballot
    assert prepares[0].incarnations == ((5, 2),)


def test_a_learner_confirms_nobodys_leadership() -> None:
    # It has forgotten what it promised, so its word that it promised nothing higher is void.
    node = Driver(node=3, recovered=Recovered(incarnation=2, voting=False))
    sent = node.receive(Heartbeat(1, Ballot(5, 1, 1), 0, 1, (1, 3)))
    assert only(HeartbeatReply, sent) == []


def test_slots_that_a_leader_learns_from_a_peer_leave_its_window() -> None:
    leader = Driver(pipeline_slots=2, max_batch_commands=1)
    ballot = leader.elect(2)
    leader.core.propose(b"x", leader.now)
    leader.sync()
    held = {entry.slot: entry for persist in leader.persists for entry in persist.entries}
    leader.receive(CatchUpReply(2, (held[1], held[2]), 2))  # asked for before it led
    assert leader.core.chosen_through == 2
    for number in range(2):
        leader.core.propose(b"%d" % number, leader.now)
    slots = {
        accept.ballot.op_num + index
        for accept in only(Accept, leader.sync())
        for index in range(len(accept.batches))
    }
    assert slots == {3, 4}
    assert ballot == leader.core.ballot


def test_a_snapshot_that_entries_have_overtaken_is_waited_for_no_longer() -> None:
    node = Driver()
    node.receive(Compacted(2, 9))  # somebody's log begins above what is missing here
    entries = tuple(Entry(slot, Ballot(6, 3, slot), A) for slot in range(1, 11))
    node.receive(CatchUpReply(3, entries, 10))  # and somebody else's reaches back
    assert node.core.chosen_through == 10
    assert not node.core.installing
    node.receive(Commit(3, Ballot(6, 3), 11))
    sent = node.pass_time(node.config.heartbeat_s)
    assert [request.first_slot for request in only(CatchUp, sent)] == [11]


def test_a_snapshot_that_nobody_has_any_more_does_not_keep_a_node_from_the_log() -> None:
    node = Driver()
    node.receive(Compacted(2, 9))  # and then that peer lost its disk
    asked: set[int] = set()
    for _ in range(20):
        sent = node.pass_time(node.config.resend_s)
        assert only(SnapshotRequest, sent) != []
        asked |= {dst for dst, message in sent if isinstance(message, CatchUp)}
    assert asked == {2, 3}


def test_a_node_whose_list_of_members_is_of_yesterday_asks_whoever_leads() -> None:
    node = Driver(recovered=Recovered(incarnation=2, voting=False))  # its disk was lost
    leader = Ballot(9, 7, 900)  # all others were replaced since
    node.receive(Commit(7, leader, 905))
    asked: list[int] = []
    for _ in range(40):
        sent = node.pass_time(node.config.resend_s)
        asked += [dst for dst, message in sent if isinstance(message, CatchUp)]
    assert set(asked[2:]) == {2, 3, 7}


def test_a_voter_whose_peers_were_all_replaced_learns_so_from_the_leader_it_does_not_know() -> None:
    node = Driver()  # it knows of 2 and 3, which are gone; 7 and 8 came in their places
    leader = Ballot(9, 7, 900)
    sent = node.receive(Heartbeat(7, leader, 3, 1, (1, 7, 8), 0, 0))
    assert sent == []  # a stranger gets no promise, no vote and no confirmation
    asked = node.pass_time(node.config.heartbeat_s)
    assert [(dst, m.first_slot) for dst, m in asked if isinstance(m, CatchUp)] == [(7, 1)]
    members = replace(first_members((1, 7, 8)), version=1)
    entries = (
        Entry(1, Ballot(1, 2, 1), A),
        Entry(2, Ballot(1, 2, 2), Batch.change(0, members)),
        Entry(3, Ballot(9, 7, 3), B),
    )
    node.receive(CatchUpReply(7, entries, 3))
    assert node.core.chosen_through == 3
    assert node.core.membership.voters == (1, 7, 8)
    sent = node.receive(Heartbeat(7, leader, 3, 2, (1, 7, 8), 0, 0))
    assert [reply.ballot for reply in only(HeartbeatReply, sent)] == [leader]


def test_a_snapshot_of_the_same_slot_in_other_bytes_is_begun_anew() -> None:
    node = Driver()
    node.receive(Compacted(2, 9))
    node.receive(SnapshotChunk(2, 9, 0, 10, b"one", b"01234"))
    for _ in range(4):
        node.pass_time(node.config.resend_s)  # whoever had it has fallen silent
    node.receive(SnapshotChunk(3, 9, 5, 12, b"two", b"56789ab"))
    sent = node.pass_time(node.config.resend_s)
    assert {(m.slot, m.offset) for m in only(SnapshotRequest, sent)} == {(0, 0)}
    node.receive(SnapshotChunk(3, 9, 0, 12, b"two", b"0123456789ab"))
    assert [(install.slot, install.last) for install in node.installs] == [(9, True)]


def test_a_newer_snapshot_of_another_peer_does_not_begin_a_transfer_anew() -> None:
    node = Driver()
    node.receive(Compacted(2, 9))
    node.receive(SnapshotChunk(2, 9, 0, 10, b"one", b"01234"))
    node.pass_time(node.config.resend_s)  # a slow link: somebody else is asked as well
    node.receive(SnapshotChunk(3, 11, 0, 12, b"two", b"01"))
    (request,) = only(SnapshotRequest, node.receive(SnapshotChunk(2, 9, 5, 10, b"one", b"567")))
    assert (request.slot, request.offset) == (9, 8)
    (request,) = only(SnapshotRequest, node.receive(SnapshotChunk(2, 12, 0, 6, b"new", b"01")))
    assert (request.slot, request.offset) == (12, 2)  # it has no other any more


def test_a_leader_over_the_bound_of_its_log_takes_nothing_more_and_lives() -> None:
    leader = Driver(max_log_bytes=6000, max_pending_bytes=3000, max_batch_bytes=3000)
    ballot = leader.elect(2)
    taken = 0
    for _ in range(20):
        try:
            leader.core.propose(b"x" * 1000, leader.now)
            taken += 1
        except Overloaded:
            break
        leader.sync()
    assert 3 <= taken < 20
    for slot in range(1, taken + 2):
        leader.vote(2, ballot, slot)
    assert leader.core.chosen_through == taken + 1


def test_the_first_admission_of_a_ballot_is_kept() -> None:
    node = Driver(node=3, recovered=Recovered(incarnation=2, voting=False))
    node.receive(Rejoined(1, Ballot(9, 1, 2), 2, ((3, 2),), MEMBERS))
    node.receive(Rejoined(1, Ballot(9, 1, 50), 2, ((3, 2),), MEMBERS))  # the leader has gone on
    node.receive(CatchUpReply(1, (Entry(1, Ballot(9, 1, 1), B),), 49))
    assert node.core.role is Role.FOLLOWING


def test_a_life_below_the_fence_never_gets_the_fences_own_number() -> None:
    """Life 7 of node 3 was admitted, and has perhaps voted where this leader has not heard it."""
    leader = Driver(recovered=Recovered(incarnation=1, voting=True, incarnations=((3, 7),)))
    ballot = leader.elect(2)
    leader.vote(2, ballot, 1)
    [answer] = only(Rejoined, leader.receive(Rejoin(3, 5, 0)))  # its clock was set back
    assert answer.ballot == BOTTOM
    assert answer.incarnation == 7, "it takes a number above that"
    prepares = only(Prepare, leader.asked_for_a_vote(3, 8, 2))
    assert leader.core.role is Role.PREPARING
    assert prepares[0].incarnations == ((3, 8),)


def test_two_lives_that_are_told_the_same_number_do_not_take_the_same() -> None:
    """What was said to the life before, and comes late, must not give this one its number."""
    taken = set()
    for seed in range(20):
        life = Driver(node=3, recovered=Recovered(incarnation=2, voting=False), seed=seed)
        life.receive(Rejoined(1, BOTTOM, 7, ((3, 7),), MEMBERS))
        taken.add(life.core.incarnation)
    assert min(taken) > 7
    assert len(taken) == 20


@pytest.mark.parametrize("role", [Role.FOLLOWING, Role.PREPARING, Role.LEADING])
def test_a_life_that_is_fenced_while_it_lives_begins_another_and_asks_for_its_vote(
    role: Role,
) -> None:
    """Its leader heard, late, of a life before it, which had a higher number and never a vote."""
    node = Driver(recovered=Recovered(incarnation=5, voting=True))
    if role is not Role.FOLLOWING:
        node.prepare(2, 3) if role is Role.PREPARING else node.elect(2)
    assert node.core.role is role
    promised = node.core.ballot
    fencing = Ballot(promised.seq_num + 5, 3, 1)
    sent = node.receive(Prepare(3, fencing, ((1, 9),))) + node.sync()
    assert only(Promise, sent) == [], "its vote counts no more"
    assert node.core.role is Role.LEARNING
    assert node.core.incarnation > 9
    assert node.persists[-1].voting is False
    assert node.core.ballot == promised, "what it promised is kept"
    life = node.core.incarnation
    assert {each.incarnation for each in only(Rejoin, node.pass_time(1.0))} == {life}
    node.receive(Rejoined(3, fencing.at(1), life, ((1, life),), MEMBERS))
    node.sync()
    assert node.core.role is Role.FOLLOWING
    assert node.persists[-1].voting is True


def test_a_candidate_that_learns_of_its_own_fence_from_a_promise_stands_no_more() -> None:
    candidate = Driver(recovered=Recovered(incarnation=5, voting=True))
    ballot = candidate.prepare(2, 3)
    candidate.receive(promise_of(2, ballot, incarnations=((1, 9),)))
    assert candidate.core.role is Role.LEARNING
    assert candidate.core.incarnation > 9


def test_a_start_with_the_vote_of_a_fenced_life_is_a_life_without_one() -> None:
    node = Driver(recovered=Recovered(incarnation=5, voting=True, incarnations=((1, 9),)))
    assert node.core.role is Role.LEARNING
    assert node.core.incarnation > 9
    node.sync()
    assert (node.persists[-1].incarnation, node.persists[-1].voting) == (
        node.core.incarnation,
        False,
    )


def test_an_answer_for_a_number_that_was_refused_since_admits_nobody() -> None:
    node = Driver(node=3, recovered=Recovered(incarnation=2, voting=False))
    node.receive(Rejoined(1, Ballot(9, 1, 2), 2, ((3, 2),), MEMBERS))
    node.receive(Rejoined(2, BOTTOM, 4, ((3, 4),), MEMBERS))
    node.receive(CatchUpReply(1, (Entry(1, Ballot(9, 1, 1), B),), 49))
    assert node.core.role is Role.LEARNING


def test_a_new_life_whose_promise_names_its_own_fence_is_counted() -> None:
    candidate = Driver(node=5, size=5)
    ballot = candidate.prepare(2, 3)
    candidate.receive(promise_of(1, ballot, incarnation=9, incarnations=((1, 9),)))
    candidate.receive(promise_of(2, ballot))
    assert candidate.core.role is Role.LEADING


def test_a_leader_takes_no_more_than_those_with_as_much_in_their_logs_will_vote_for() -> None:
    leader = Driver(
        max_log_bytes=4000, max_pending_bytes=4000, max_batch_bytes=1000, pipeline_slots=1
    )
    leader.elect(2)

    def propose_for_ever() -> None:
        for _ in range(20):
            leader.core.propose(b"x" * 500, leader.now)
            leader.sync()

    with pytest.raises(Overloaded):
        propose_for_ever()
    assert leader.core.pending > 0
    assert leader.core.log_size_bytes + 500 * leader.core.pending <= 4000


SMALL_LOG = {
    "max_log_bytes": 4000,
    "max_pending_bytes": 4000,
    "max_batch_bytes": 1000,
    "log_retain_bytes": 0,
    "chunk_bytes": 1000,
}


def test_a_follower_whose_snapshot_is_slow_fetches_no_more_than_its_log_holds() -> None:
    """Its disk writes what comes, and has not ended the snapshot that would make room."""
    follower = Driver(node=3, **SMALL_LOG)
    ballot = Ballot(5, 1, 1)
    entries = [Entry(slot, ballot.at(slot), Batch.pack(1, [bytes(500)])) for slot in range(1, 101)]
    follower.receive(Commit(1, ballot, 100))
    for entry in entries:
        if entry.slot != follower.core.chosen_through + 1:
            break
        if not only(CatchUp, follower.receive(CatchUpReply(1, (entry,), 100))):
            break
        follower.sync()
    assert 4000 < follower.core.log_size_bytes < 5000
    follower.core.compact(follower.core.chosen_through)
    assert only(CatchUp, follower.pass_time(1.0)), "there is room again"


def test_a_log_full_of_what_is_not_known_to_be_chosen_still_fetches_what_is_missing() -> None:
    """No snapshot can make room there: only what stands beneath it can."""
    follower = Driver(node=3, **SMALL_LOG)
    ballot = Ballot(5, 1, 2)
    for slot in range(2, 12):
        follower.receive(Accept(1, ballot.at(slot), (Batch.pack(1, [bytes(500)]),), 0))
        follower.sync()
    assert follower.core.log_size_bytes > 4000
    follower.receive(Commit(1, ballot, 8))
    assert only(CatchUp, follower.pass_time(1.0))
