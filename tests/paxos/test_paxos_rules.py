"""One test (at least) for each rule of docs/PROTOCOL.md, named after it: rules 1 to 8, of safety.

They feed single messages to one core and look at what comes out: each fails when its rule is
broken. Whole clusters under faults are in test_paxos_cluster.py.
"""

from __future__ import annotations

import pytest
from core_driver import A, B, Driver, only, promise_of, settled_leader

from consensusllm.paxos import (
    BOTTOM,
    Ballot,
    NotLeader,
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
    SnapshotRequest,
)

# 1. Durable before visible ------------------------------------------------------------------------


def test_rule_01_a_promise_is_durable_before_it_is_sent() -> None:
    acceptor = Driver()
    sent = acceptor.receive(Prepare(2, Ballot(5, 2, 1), ()))
    assert only(Promise, sent) == []
    assert acceptor.persists[-1].promised == Ballot(5, 2)
    assert [promise.ballot for promise in only(Promise, acceptor.sync())] == [Ballot(5, 2)]


def test_rule_01_a_vote_is_durable_before_it_is_sent() -> None:
    acceptor = Driver()
    sent = acceptor.receive(Accept(2, Ballot(5, 2, 1), (A,), 0))
    assert only(Accepted, sent) == []
    assert [entry.batch for entry in acceptor.persists[-1].entries] == [A]
    assert len(only(Accepted, acceptor.sync())) == 1


def test_rule_01_a_repeated_prepare_does_not_reveal_a_promise_that_is_not_durable_yet() -> None:
    acceptor = Driver()
    prepare = Prepare(2, Ballot(5, 2, 1), ())
    assert only(Promise, acceptor.receive(prepare)) == []
    assert only(Promise, acceptor.receive(prepare)) == []
    assert len(only(Promise, acceptor.sync())) == 1


@pytest.mark.parametrize(
    "refused",
    [Accept(3, Ballot(1, 3, 1), (A,), 0), Prepare(3, Ballot(1, 3, 1), ())],
    ids=lambda message: type(message).__name__,
)
def test_rule_01_a_refusal_does_not_reveal_a_promise_that_is_not_durable_yet(
    refused: Message,
) -> None:
    acceptor = Driver()
    acceptor.receive(Prepare(2, Ballot(5, 2, 1), ()))
    assert only(Nack, acceptor.receive(refused)) == []
    assert [nack.promised for nack in only(Nack, acceptor.sync())] == [Ballot(5, 2)]


def test_rule_01_the_leaders_own_vote_counts_only_when_it_is_durable() -> None:
    leader = Driver()
    ballot = leader.elect(2)
    leader.core.propose(b"x", leader.now)
    leader.ready()
    leader.vote(2, ballot, 1, count=2)
    assert [slot for slot, _ in leader.chosen] == [1]  # the no-op, which was durable in elect()
    leader.sync()
    assert [slot for slot, _ in leader.chosen] == [1, 2]


def test_rule_01_the_candidates_own_promise_counts_only_when_it_is_durable() -> None:
    candidate = Driver(size=1)
    candidate.pass_time(0.0)
    assert candidate.core.role is Role.PREPARING
    candidate.sync()
    assert candidate.core.role is Role.LEADING


# 2. Recovery ----------------------------------------------------------------------------------


def test_rule_02_the_value_of_the_highest_ballot_is_proposed_again() -> None:
    candidate = Driver(size=5)
    ballot = candidate.prepare(2, 3)
    candidate.core.receive(promise_of(2, ballot, Entry(1, Ballot(1, 4, 1), A)), candidate.now)
    candidate.core.receive(promise_of(3, ballot, Entry(1, Ballot(1, 5, 1), B)), candidate.now)
    accepts = only(Accept, candidate.ready())
    assert accepts[0].ballot.op_num == 1
    assert accepts[0].batches[0] == B


def test_rule_02_holes_are_filled_with_no_ops_before_anything_new() -> None:
    candidate = Driver()
    ballot = candidate.prepare(2)
    candidate.core.receive(promise_of(2, ballot, Entry(3, Ballot(1, 2, 3), A)), candidate.now)
    batches = only(Accept, candidate.ready())[0].batches
    assert [batch.is_noop for batch in batches] == [True, True, False, True]
    assert batches[2] == A


def test_rule_02_nothing_beyond_a_hole_is_applied() -> None:
    leader = Driver()
    ballot = leader.elect(2)
    leader.core.propose(b"x", leader.now)
    leader.sync()
    leader.vote(2, ballot, 2)
    assert leader.chosen == []
    leader.vote(2, ballot, 1)
    assert [slot for slot, _ in leader.chosen] == [1, 2]


def test_rule_02_a_promise_that_comes_in_chunks_counts_only_when_it_is_whole() -> None:
    candidate = Driver()
    ballot = candidate.prepare(2)
    first = promise_of(2, ballot, Entry(1, Ballot(1, 2, 1), A), next_slot=2)
    sent = candidate.receive(first)
    assert candidate.core.role is Role.PREPARING
    assert [prepare.ballot.op_num for prepare in only(Prepare, sent)] == [2]
    candidate.receive(promise_of(2, ballot.at(2), Entry(2, Ballot(1, 2, 2), B)))
    assert candidate.core.role is Role.LEADING


# 3. Ballots -----------------------------------------------------------------------------------


def test_rule_03_a_ballot_is_above_any_that_was_seen() -> None:
    candidate = Driver()
    candidate.receive(Nack(3, Ballot(1, 1), Ballot(41, 3)))
    assert candidate.prepare(2) > Ballot(41, 3)


def test_rule_03_a_ballot_is_durable_before_it_is_used() -> None:
    candidate = Driver()
    sent = candidate.pass_time(1.0)
    ballot = only(PreVote, sent)[0].ballot
    sent = candidate.receive(PreVoteReply(2, ballot, True, BOTTOM))
    assert only(Prepare, sent) == []
    assert candidate.persists[-1].promised == ballot
    assert len(only(Prepare, candidate.sync())) == 2


def test_rule_03_a_ballot_is_not_used_again_after_a_restart() -> None:
    first = Driver()
    ballot = first.prepare(2)
    promised = first.persists[-1].promised
    assert promised is not None
    second = Driver(recovered=Recovered(incarnation=1, voting=True, promised=promised))
    assert second.prepare(2) > ballot


# 4. Votes -------------------------------------------------------------------------------------


def test_rule_04_a_repeated_vote_counts_once() -> None:
    leader = Driver(size=5)
    ballot = leader.elect(2, 3)
    for _ in range(3):
        leader.vote(2, ballot, 1)
    assert leader.chosen == []
    leader.vote(3, ballot, 1)
    assert [slot for slot, _ in leader.chosen] == [1]


def test_rule_04_a_vote_of_another_ballot_does_not_count() -> None:
    leader = Driver()
    ballot = leader.elect(2)
    leader.vote(2, Ballot(ballot.seq_num - 1, ballot.pid), 1)
    leader.vote(2, Ballot(ballot.seq_num, 3), 1)
    assert leader.chosen == []


def test_rule_04_a_stranger_has_no_vote() -> None:
    leader = Driver()
    ballot = leader.elect(2)
    leader.vote(7, ballot, 1)
    assert leader.chosen == []


def test_rule_04_a_stranger_is_not_answered() -> None:
    acceptor = Driver()
    sent = acceptor.receive(Prepare(7, Ballot(5, 7, 1), ())) + acceptor.sync()
    assert sent == []
    assert acceptor.persists == []


def test_rule_04_a_promise_of_another_ballot_does_not_count() -> None:
    candidate = Driver()
    ballot = candidate.prepare(2)
    candidate.receive(promise_of(2, Ballot(ballot.seq_num - 1, ballot.pid, ballot.op_num)))
    assert candidate.core.role is Role.PREPARING
    candidate.receive(promise_of(2, ballot))
    assert candidate.core.role is Role.LEADING


def test_rule_04_a_repeated_promise_counts_once() -> None:
    candidate = Driver(size=5)
    ballot = candidate.prepare(2, 3)
    for _ in range(3):
        candidate.receive(promise_of(2, ballot))
    assert candidate.core.role is Role.PREPARING


@pytest.mark.parametrize("size", range(2, 10))
def test_rule_04_a_majority_is_computed_from_the_membership(size: int) -> None:
    leader = Driver(size=size)
    needed = size // 2  # beside the leader itself
    ballot = leader.elect(*range(2, 2 + needed))
    for peer in range(2, 1 + needed):
        leader.vote(peer, ballot, 1)
    assert leader.chosen == []
    leader.vote(1 + needed, ballot, 1)
    assert len(leader.chosen) == 1


# 5. Promises and refusals -------------------------------------------------------------------------


def test_rule_05_accepting_raises_the_promise() -> None:
    acceptor = Driver()
    acceptor.receive(Accept(2, Ballot(5, 2, 1), (A,), 0))
    assert acceptor.persists[-1].promised == Ballot(5, 2)
    acceptor.sync()
    sent = acceptor.receive(Prepare(3, Ballot(4, 3, 1), ()))
    assert [nack.promised for nack in only(Nack, sent)] == [Ballot(5, 2)]


@pytest.mark.parametrize(
    "message",
    [
        Prepare(3, Ballot(4, 3, 1), ()),
        Accept(3, Ballot(4, 3, 1), (A,), 0),
        Heartbeat(3, Ballot(4, 3, 1), 0, 1, (3,)),
        Commit(3, Ballot(4, 3), 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_rule_05_what_is_below_the_promise_is_refused_with_it(message: Message) -> None:
    acceptor = Driver()
    acceptor.receive(Prepare(2, Ballot(5, 2, 1), ()))
    acceptor.sync()
    before = len(acceptor.persists)
    sent = acceptor.receive(message)
    assert [(nack.ballot, nack.promised) for nack in only(Nack, sent)] == [
        (message.ballot, Ballot(5, 2))
    ]
    assert len(acceptor.persists) == before


# 6. What a commit index proves --------------------------------------------------------------------


def test_rule_06_a_commit_index_covers_what_was_accepted_at_its_ballot() -> None:
    follower = Driver()
    follower.receive(Accept(2, Ballot(5, 2, 1), (A,), 0))
    follower.receive(Commit(2, Ballot(5, 2), 1))
    assert follower.chosen == [(1, A)]


def test_rule_06_a_commit_index_of_another_ballot_proves_nothing_and_the_value_is_fetched() -> None:
    follower = Driver()
    follower.receive(Accept(2, Ballot(5, 2, 1), (A,), 0))
    follower.receive(Commit(3, Ballot(6, 3), 1))
    assert follower.chosen == []
    sent = follower.pass_time(follower.config.heartbeat_s)
    assert [(dst, m.first_slot) for dst, m in sent if isinstance(m, CatchUp)] == [(3, 1)]
    follower.receive(CatchUpReply(3, (Entry(1, Ballot(6, 3, 1), B),), 1))
    assert follower.chosen == [(1, B)]


def test_rule_06_what_was_learned_is_reported_by_later_promises() -> None:
    follower = Driver()
    follower.receive(CatchUpReply(3, (Entry(1, Ballot(6, 3, 1), B),), 1))
    follower.receive(Prepare(2, Ballot(7, 2, 1), ()))
    promise = only(Promise, follower.sync())[0]
    assert promise.entries == (Entry(1, Ballot(6, 3, 1), B),)
    assert promise.chosen_through == 1


def test_rule_06_an_older_leader_cannot_overwrite_what_was_learned() -> None:
    follower = Driver()
    follower.receive(CatchUpReply(3, (Entry(1, Ballot(6, 3, 1), B),), 1))
    sent = follower.receive(Accept(2, Ballot(5, 2, 1), (A,), 0)) + follower.sync()
    assert only(Accepted, sent) == []
    assert [nack.promised for nack in only(Nack, sent)] == [Ballot(6, 3)]


# 7. Compaction ----------------------------------------------------------------------------------


def compacted(through: int) -> Recovered:
    return Recovered(
        incarnation=1,
        voting=True,
        chosen_through=through,
        compacted_through=through,
        snapshot_slot=through,
    )


def test_rule_07_a_prepare_below_the_snapshot_is_answered_with_install_it_first() -> None:
    acceptor = Driver(recovered=compacted(9))
    sent = acceptor.receive(Prepare(2, Ballot(5, 2, 9), ())) + acceptor.sync()
    assert only(Promise, sent) == []
    assert [answer.slot for answer in only(Compacted, sent)] == [9]
    acceptor.receive(Prepare(2, Ballot(5, 2, 10), ()))
    assert len(only(Promise, acceptor.sync())) == 1


def test_rule_07_a_candidate_below_a_peers_log_stands_down_and_fetches_the_snapshot() -> None:
    candidate = Driver()
    candidate.prepare(2)
    sent = candidate.receive(Compacted(2, 9))
    assert candidate.core.role is Role.FOLLOWING
    assert [(dst, m.slot) for dst, m in sent if isinstance(m, SnapshotRequest)] == [(2, 0)]


# 8. Reads -------------------------------------------------------------------------------------


def test_rule_08_a_read_waits_for_a_quorum_round_that_began_after_it() -> None:
    leader, ballot = settled_leader()
    old_round = only(Heartbeat, leader.pass_time(leader.config.heartbeat_s))[0].round
    leader.core.read(77, leader.now)
    round_of_read = only(Heartbeat, leader.ready())[0].round
    leader.receive(HeartbeatReply(2, ballot, old_round, 1))
    assert leader.reads == []
    leader.receive(HeartbeatReply(2, ballot, round_of_read, 1))
    assert leader.reads == [(77, 1)]


def test_rule_08_reads_share_a_round() -> None:
    leader, ballot = settled_leader()
    for token in range(100):
        leader.core.read(token, leader.now)
    heartbeats = only(Heartbeat, leader.ready())
    assert len(heartbeats) == 2  # one to each peer
    leader.receive(HeartbeatReply(3, ballot, heartbeats[0].round, 1))
    assert [token for token, _ in leader.reads] == list(range(100))


def test_rule_08_a_new_leader_serves_no_read_before_its_ballot_has_committed() -> None:
    leader = Driver()
    ballot = leader.elect(2)
    leader.core.read(1, leader.now)
    for heartbeat in only(Heartbeat, leader.ready()):
        leader.receive(HeartbeatReply(2, ballot, heartbeat.round, 0))
    assert leader.reads == [(1, 1)]  # to be served when the ballot's own no-op is applied
    assert leader.chosen == []


def test_rule_08_reads_fail_when_leadership_is_lost() -> None:
    leader, _ = settled_leader()
    leader.core.read(5, leader.now)
    leader.receive(Heartbeat(3, Ballot(99, 3), 1, 1, (3,)))
    assert leader.failed_reads == [5]
    with pytest.raises(NotLeader) as refusal:
        leader.core.read(6, leader.now)
    assert refusal.value.leader == 3
