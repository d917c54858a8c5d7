"""The same for the rules from 10 on: who leads, who may vote again, what is bounded."""

from __future__ import annotations

import pytest
from core_driver import MEMBERS, A, B, Driver, only, promise_of, settled_leader

from consensusllm.paxos import (
    BOTTOM,
    Ballot,
    Batch,
    NotLeader,
    Overloaded,
    Recovered,
    Role,
)
from consensusllm.paxos.messages import (
    Accept,
    Accepted,
    CatchUp,
    CatchUpReply,
    Commit,
    Compacted,
    Entry,
    Heartbeat,
    HeartbeatReply,
    Message,
    Nack,
    Prepare,
    PreVote,
    PreVoteReply,
    Promise,
    Rejoin,
    Rejoined,
    SnapshotChunk,
    SnapshotRequest,
)
from consensusllm.paxos.timing import DISK_PATIENCE

# 10. Stepping down ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        Prepare(3, Ballot(99, 3, 1), ()),
        Accept(3, Ballot(99, 3, 1), (A,), 0),
        Heartbeat(3, Ballot(99, 3), 0, 1, (3,)),
        Commit(3, Ballot(99, 3), 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_rule_10_a_leader_that_sees_a_higher_ballot_steps_down(message: Message) -> None:
    leader = Driver()
    leader.elect(2)
    leader.receive(message)
    assert leader.core.role is Role.FOLLOWING
    with pytest.raises(NotLeader):
        leader.core.propose(b"x", leader.now)


def test_rule_10_a_leader_that_is_refused_steps_down() -> None:
    leader = Driver()
    ballot = leader.elect(2)
    leader.receive(Nack(3, ballot, Ballot(99, 3)))
    assert leader.core.role is Role.FOLLOWING


def test_rule_10_a_leader_that_hears_no_quorum_steps_down() -> None:
    leader, ballot = settled_leader()
    for _ in range(20):
        sent = leader.pass_time(leader.config.election_timeout_s / 4)
        for heartbeat in only(Heartbeat, sent)[:1]:
            leader.receive(HeartbeatReply(2, ballot, heartbeat.round, 1))
    assert leader.core.role is Role.LEADING
    for _ in range(7):
        leader.pass_time(leader.config.election_timeout_s / 4)
    assert leader.core.role is Role.LEADING  # more patient than followers are with a leader
    for _ in range(3):
        leader.pass_time(leader.config.election_timeout_s / 4)
    assert leader.core.role is Role.FOLLOWING


def test_rule_10_a_leader_whose_disk_ends_no_write_steps_down() -> None:
    leader, ballot = settled_leader()
    leader.core.propose(b"x", leader.now)

    def serve_for(seconds: float) -> None:
        """Nothing that is written from now on becomes durable; node 2 hears and votes."""
        end = leader.now + seconds
        while leader.now < end:
            for message in only(Heartbeat, leader.pass_time(leader.config.heartbeat_s))[:1]:
                leader.receive(HeartbeatReply(2, ballot, message.round, 1))

    patience_s = DISK_PATIENCE * leader.config.election_timeout_s
    serve_for(patience_s * 0.9)
    leader.sync()
    serve_for(patience_s * 0.5)
    leader.core.propose(b"y", leader.now)
    serve_for(patience_s * 0.9)
    assert leader.core.role is Role.LEADING
    serve_for(patience_s * 0.2)
    assert leader.core.role is Role.FOLLOWING


# 11. Elections ------------------------------------------------------------------------------------


def test_rule_11_a_nack_triggers_no_immediate_prepare() -> None:
    candidate = Driver()
    ballot = candidate.prepare(2)
    candidate.receive(Nack(3, ballot, Ballot(99, 3)))
    assert candidate.core.role is Role.FOLLOWING
    quiet = candidate.config.election_timeout_s * 0.99
    assert only(PreVote, candidate.pass_time(quiet)) == []
    assert only(PreVote, candidate.pass_time(candidate.config.election_timeout_s * 1.02)) != []


def test_rule_11_a_node_that_hears_a_leader_refuses_a_pre_vote() -> None:
    follower = Driver()
    follower.receive(Heartbeat(2, Ballot(5, 2), 0, 1, (2,)))
    sent = follower.receive(PreVote(3, Ballot(9, 3)))
    assert [reply.granted for reply in only(PreVoteReply, sent)] == [False]
    follower.pass_time(follower.config.election_timeout_s)
    sent = follower.receive(PreVote(3, Ballot(9, 3)))
    assert [reply.granted for reply in only(PreVoteReply, sent)] == [True]


def test_rule_11_a_leader_refuses_a_pre_vote() -> None:
    leader = Driver()
    leader.elect(2)
    sent = leader.receive(PreVote(3, Ballot(99, 3)))
    assert [reply.granted for reply in only(PreVoteReply, sent)] == [False]


def test_rule_11_a_node_that_hears_nobody_never_prepares() -> None:
    deaf = Driver()
    for _ in range(50):
        assert only(Prepare, deaf.pass_time(1.0)) == []
    assert deaf.persists == []


def test_rule_11_pre_votes_of_an_older_round_do_not_count() -> None:
    candidate = Driver(size=5)
    first = only(PreVote, candidate.pass_time(1.0))[0].ballot
    candidate.receive(PreVoteReply(5, first, False, Ballot(7, 5)))
    second = only(PreVote, candidate.pass_time(2.0))[0].ballot
    assert second > first
    candidate.receive(PreVoteReply(2, first, True, BOTTOM))
    candidate.receive(PreVoteReply(3, first, True, BOTTOM))
    assert candidate.core.role is Role.FOLLOWING


# 12. Idempotence ------------------------------------------------------------------------------


def test_rule_12_a_repeated_accept_is_voted_for_again_and_stored_once() -> None:
    acceptor = Driver()
    accept = Accept(2, Ballot(5, 2, 1), (A,), 0)
    acceptor.receive(accept)
    acceptor.sync()
    stored = len(acceptor.persists)
    assert len(only(Accepted, acceptor.receive(accept))) == 1
    assert len(acceptor.persists) == stored


def test_rule_12_lost_proposals_are_sent_again_to_those_who_did_not_vote() -> None:
    leader = Driver()
    leader.elect(2)
    leader.core.propose(b"x", leader.now)
    leader.sync()
    sent = leader.pass_time(leader.config.resend_s)
    assert {(dst, m.ballot.op_num) for dst, m in sent if isinstance(m, Accept)} == {
        (2, 1),
        (3, 1),
        (2, 2),
        (3, 2),
    }


def test_rule_12_lost_prepares_are_sent_again() -> None:
    candidate = Driver()
    candidate.prepare(2)
    sent = candidate.pass_time(candidate.config.resend_s)
    assert {dst for dst, m in sent if isinstance(m, Prepare)} == {2, 3}


def test_rule_12_a_commit_that_overtakes_its_accept_is_made_up_for() -> None:
    follower = Driver()
    follower.receive(Commit(2, Ballot(5, 2), 1))
    follower.receive(Accept(2, Ballot(5, 2, 1), (A,), 1))
    assert follower.chosen == [(1, A)]
    assert only(CatchUp, follower.pass_time(follower.config.heartbeat_s)) == []


def test_rule_12_old_messages_of_every_kind_change_nothing() -> None:
    leader, ballot = settled_leader()
    older = Ballot(ballot.seq_num, 0)
    state = (leader.core.role, leader.core.ballot, leader.core.chosen_through)
    for message in (
        PreVoteReply(2, older, True, BOTTOM),
        promise_of(2, older.at(1), Entry(1, older, B)),
        promise_of(2, ballot.at(1), Entry(1, older, B)),
        Nack(2, older, older),
        Accepted(2, older.at(1), 5, 0, 1),
        Accepted(2, ballot.at(1), 1, 0, 1),
        HeartbeatReply(2, older, 1, 0),
        CatchUpReply(2, (), 0),
        Compacted(2, 0),
        SnapshotChunk(2, 1, 0, 10, b"", b"x"),
        Rejoined(2, ballot, 1, (), MEMBERS),
    ):
        leader.receive(message)
    assert (leader.core.role, leader.core.ballot, leader.core.chosen_through) == state


# 14. A lost disk ------------------------------------------------------------------------------


def learner() -> Driver:
    return Driver(node=3, recovered=Recovered(incarnation=2, voting=False))


def test_rule_14_a_node_that_lost_its_disk_neither_promises_nor_votes_nor_stands() -> None:
    node = learner()
    sent = node.receive(PreVote(1, Ballot(9, 1)))
    sent += node.receive(Prepare(1, Ballot(9, 1, 1), ()))
    sent += node.receive(Accept(1, Ballot(9, 1, 1), (A,), 0))
    node.pass_time(10.0)
    sent += node.sync()
    assert only(PreVoteReply, sent) + only(Promise, sent) + only(Accepted, sent) == []
    assert only(PreVote, sent) + only(Prepare, sent) == []


def test_rule_14_the_leader_fences_the_lost_life_in_a_new_ballot() -> None:
    leader, old = settled_leader()
    for _ in range(3):  # late copies, perhaps
        assert only(Prepare, leader.receive(Rejoin(3, 2, 1)) + leader.sync()) == []
    leader.vote(2, old, 2)
    sent = leader.receive(Rejoin(3, 2, 2)) + leader.sync()
    assert leader.core.role is Role.PREPARING
    prepares = only(Prepare, sent)
    assert prepares[0].ballot > old
    assert prepares[0].incarnations == ((3, 2),)


def test_rule_14_a_promise_of_the_lost_life_does_not_count() -> None:
    leader, _ = settled_leader()
    ballot = only(Prepare, leader.asked_for_a_vote(3, 2, 2))[0].ballot
    leader.receive(promise_of(3, ballot, incarnation=1))
    assert leader.core.role is Role.PREPARING
    leader.receive(promise_of(2, ballot))
    assert leader.core.role is Role.LEADING


def test_rule_14_a_promise_that_was_counted_before_the_fence_was_known_is_dropped() -> None:
    candidate = Driver(size=5)
    ballot = candidate.prepare(2, 3)
    candidate.receive(promise_of(3, ballot, incarnation=1))
    candidate.receive(promise_of(2, ballot, incarnations=((3, 2),)))
    assert candidate.core.role is Role.PREPARING
    sent = candidate.pass_time(candidate.config.resend_s) + candidate.sync()
    assert 3 in {dst for dst, message in sent if isinstance(message, Prepare)}, "it is asked anew"
    candidate.receive(promise_of(3, ballot, incarnation=1))
    assert candidate.core.role is Role.PREPARING
    candidate.receive(promise_of(3, ballot, incarnation=2))
    assert candidate.core.role is Role.LEADING


def test_rule_14_a_vote_of_the_lost_life_does_not_count() -> None:
    leader, _ = settled_leader()
    ballot = only(Prepare, leader.asked_for_a_vote(3, 2, 2))[0].ballot
    leader.receive(promise_of(2, ballot))
    leader.sync()
    slot = leader.core.chosen_through + 1
    leader.receive(Accepted(3, ballot.at(slot), 1, 0, 1))
    assert leader.core.chosen_through < slot
    leader.receive(Accepted(3, ballot.at(slot), 1, 0, 2))
    assert leader.core.chosen_through == slot


def test_rule_14_it_votes_again_only_when_it_has_learned_all_that_it_could_have_voted_on() -> None:
    node = learner()
    node.receive(Rejoined(1, Ballot(9, 1, 3), 2, ((3, 2),), MEMBERS))
    node.receive(CatchUpReply(1, (Entry(1, Ballot(9, 1, 1), A),), 1))
    assert node.core.role is Role.LEARNING
    node.receive(CatchUpReply(1, (Entry(2, Ballot(9, 1, 2), B),), 2))
    assert node.core.role is Role.FOLLOWING
    assert node.persists[-1].voting is True
    assert node.persists[-1].promised == Ballot(9, 1)
    node.receive(Prepare(2, Ballot(8, 2, 3), ()))
    assert only(Promise, node.sync()) == []


def test_rule_14_an_answer_for_another_life_does_not_admit() -> None:
    node = learner()
    node.receive(Rejoined(1, Ballot(9, 1, 1), 1, ((3, 1),), MEMBERS))
    assert node.core.role is Role.LEARNING


def test_rule_14_a_life_below_the_fence_takes_a_higher_number() -> None:
    node = learner()
    node.receive(Rejoined(1, BOTTOM, 7, ((3, 7),), MEMBERS))
    node.sync()
    sent = node.pass_time(1.0)
    [life] = {rejoin.incarnation for rejoin in only(Rejoin, sent)}
    assert life > 7
    assert node.persists[-1].incarnation == life


# 16. Bounds -----------------------------------------------------------------------------------


def test_rule_16_a_full_queue_refuses_early_and_keeps_what_it_has() -> None:
    leader = Driver(max_pending_commands=10, pipeline_slots=1, max_batch_commands=10)
    leader.elect(2)
    for number in range(10):
        leader.core.propose(b"%d" % number, leader.now)
    with pytest.raises(Overloaded):
        leader.core.propose(b"one too many", leader.now)
    assert leader.core.pending == 10


def test_rule_16_the_queue_is_bounded_in_bytes_too() -> None:
    leader = Driver(max_batch_bytes=100, max_pending_bytes=100)
    leader.elect(2)
    leader.core.propose(b"x" * 60, leader.now)
    with pytest.raises(Overloaded):
        leader.core.propose(b"x" * 60, leader.now)


def test_rule_16_the_window_of_open_slots_is_bounded() -> None:
    leader = Driver(pipeline_slots=3, max_batch_commands=1)
    leader.elect(2)
    for number in range(20):
        leader.core.propose(b"%d" % number, leader.now)
    slots = {
        accept.ballot.op_num + index
        for accept in only(Accept, leader.sync())
        for index in range(len(accept.batches))
    }
    assert slots == {2, 3}  # beside the ballot's no-op, in slot 1


def test_rule_16_promises_are_chunked() -> None:
    big = Batch.pack(1, [b"x" * 1000])
    entries = tuple(Entry(slot, Ballot(1, 2, slot), big) for slot in range(1, 11))
    acceptor = Driver(recovered=Recovered(1, True, Ballot(1, 2), entries=entries), chunk_bytes=2500)
    ballot, got, slot = Ballot(5, 2), [], 1
    while slot is not None:
        sent = acceptor.receive(Prepare(2, ballot.at(slot), ())) + acceptor.sync()
        promise = only(Promise, sent)[0]
        assert sum(entry.batch.size_bytes for entry in promise.entries) <= 2500
        got += promise.entries
        slot = promise.next_slot
    assert tuple(got) == entries


def test_rule_16_catch_up_is_chunked() -> None:
    big = Batch.pack(1, [b"x" * 1000])
    entries = tuple(Entry(slot, Ballot(1, 2, slot), big) for slot in range(1, 11))
    node = Driver(
        recovered=Recovered(1, True, Ballot(1, 2), entries=entries, chosen_through=10),
        chunk_bytes=2500,
    )
    reply = only(CatchUpReply, node.receive(CatchUp(2, 1)))[0]
    assert [entry.slot for entry in reply.entries] == [1, 2]
    assert reply.chosen_through == 10


def test_rule_16_nothing_is_fetched_past_what_waits_for_the_disk() -> None:
    node = Driver(chunk_bytes=2500)
    big = Batch.pack(1, [b"x" * 2000])
    node.receive(Commit(2, Ballot(5, 2), 100))
    asked = only(CatchUp, node.pass_time(node.config.heartbeat_s))
    while asked:
        slot = asked[-1].first_slot
        assert slot < 15, "it fetches on while its disk hangs"
        entry = Entry(slot, Ballot(5, 2, slot), big)
        asked = only(CatchUp, node.receive(CatchUpReply(2, (entry,), 100)))
    assert only(CatchUp, node.pass_time(5 * node.config.resend_s)) == []
    node.sync()
    asked = only(CatchUp, node.pass_time(2 * node.config.resend_s))
    assert {request.first_slot for request in asked} == {slot + 1}


def test_rule_16_who_hears_no_leader_fetches_nothing_past_what_waits_for_the_disk_either() -> None:
    node = Driver(chunk_bytes=2500)
    big = Batch.pack(1, [b"x" * 2000])
    for _ in range(50):
        (sent,) = {each.ballot for each in only(PreVote, node.pass_time(20.0))} or {None}
        if sent is None:
            continue
        refusal = PreVoteReply(2, sent, False, Ballot(5, 3))
        for request in only(CatchUp, node.receive(refusal)):
            slot = request.first_slot
            assert slot < 15, "it fetches on while its disk hangs"
            node.receive(CatchUpReply(2, (Entry(slot, Ballot(5, 2, slot), big),), slot))
    assert slot > 5


def test_rule_16_no_more_of_a_snapshot_is_asked_for_than_the_disk_takes() -> None:
    node = Driver()
    node.receive(Compacted(2, 9))
    data = bytes(20)
    asked, handed_out = [0], 0
    while asked:
        chunk = SnapshotChunk(2, 9, asked[-1], len(data), b"digest", data[asked[-1] :][:1])
        asked = [request.offset for request in only(SnapshotRequest, node.receive(chunk))]
        handed_out += len(node.installs)
    assert handed_out == 4
    assert only(SnapshotRequest, node.pass_time(5 * node.config.resend_s)) == []
    node.core.snapshot_staged()
    assert [request.offset for request in only(SnapshotRequest, node.ready())] == [4]


def test_rule_16_one_ready_hands_out_a_bounded_number_of_commands() -> None:
    node = Driver()
    small = Batch.pack(1, [b"x"] * 400)
    entries = tuple(Entry(slot, Ballot(5, 2, slot), small) for slot in range(1, 11))
    node.core.receive(CatchUpReply(2, entries, 10), node.now)
    delivered = []
    while True:
        ready = node.core.take_ready()
        delivered.append(len(ready.chosen))
        if not node.core.has_ready():
            break
    assert delivered == [3, 3, 3, 1]


def test_rule_16_a_log_over_its_bound_votes_for_nothing_more() -> None:
    acceptor = Driver(max_log_bytes=2000, max_pending_bytes=2000, max_batch_bytes=2000)
    big = Batch.pack(1, [b"x" * 1500])
    ballot = Ballot(5, 2)
    for slot in (2, 3, 4):  # slot 1 is missing: nothing of this can be chosen or compacted yet
        acceptor.receive(Accept(2, ballot.at(slot), (big,), 0))
    assert [vote.ballot.op_num for vote in only(Accepted, acceptor.sync())] == [2, 3]


def test_a_log_over_its_bound_votes_again_for_what_it_holds() -> None:
    """Two nodes may hold alike what a leader proposed that died before it counted their votes."""
    acceptor = Driver(max_log_bytes=2000, max_pending_bytes=2000, max_batch_bytes=2000)
    one, two = Batch.pack(1, [b"x" * 1500]), Batch.pack(2, [b"y" * 1500])
    old, new = Ballot(5, 2), Ballot(6, 3)
    acceptor.receive(Accept(2, old.at(2), (one, two), 0))
    assert len(only(Accepted, acceptor.sync())) == 1
    acceptor.receive(Accept(3, new.at(2), (one, two), 0))
    acceptor.receive(Accept(3, new.at(2), (one,), 0))
    for other in (Accept(3, new.at(3), (one,), 0), Accept(3, new.at(3), (two, one), 0)):
        acceptor.receive(other)
    votes = [(vote.ballot, vote.count) for vote in only(Accepted, acceptor.sync())]
    assert votes == [(new.at(2), 2), (new.at(2), 1)]
