"""One test (at least) for each rule of docs/PROTOCOL.md, named after it.

They feed single messages to one core and look at what comes out: each fails when its rule is
broken. Whole clusters under faults are in test_paxos_cluster.py.
"""

from __future__ import annotations

from random import Random

import pytest

from consensusllm.paxos import (
    BOTTOM,
    Ballot,
    Batch,
    NotLeader,
    Overloaded,
    PaxosConfig,
    PaxosNode,
    Persist,
    Recovered,
    Role,
    first_members,
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

A, B = Batch.pack(1, [b"a"]), Batch.pack(2, [b"b"])
MEMBERS = first_members((1, 2, 3))


class Driver:
    """One core of a cluster, its time, and everything that it has sent and stored."""

    def __init__(
        self, node: int = 1, size: int = 3, recovered: Recovered | None = None, **settings
    ):
        settings.setdefault("linger_s", 0.0)  # each proposal gets a slot of its own, at once
        self.config = PaxosConfig(node=node, members=tuple(range(1, size + 1)), **settings)
        self.recovered = recovered or Recovered(incarnation=1, voting=True)
        self.now = 0.0
        self.core = PaxosNode(self.config, self.recovered, Random(1), self.now)
        self.batch = 0
        self.persists: list[Persist] = []
        self.chosen: list[tuple[int, Batch]] = []
        self.reads: list[tuple[int, int]] = []
        self.failed_reads: list[int] = []

    def ready(self) -> list[tuple[int, Message]]:
        """Take everything that is ready, without reporting anything as durable."""
        sent: list[tuple[int, Message]] = []
        while True:
            ready = self.core.take_ready()
            sent.extend(ready.send)
            if ready.persist is not None:
                self.batch = ready.batch
                self.persists.append(ready.persist)
            self.chosen.extend(ready.chosen)
            if ready.chosen:
                self.core.applied(ready.chosen[-1][0])
            self.reads.extend(ready.reads)
            self.failed_reads.extend(ready.failed_reads)
            self.installs = ready.install
            if not self.core.has_ready():
                return sent

    def sync(self) -> list[tuple[int, Message]]:
        """Report everything as durable, and take what that sets free."""
        sent = self.ready()
        self.core.persisted(self.batch)
        return sent + self.ready()

    def receive(self, message: Message) -> list[tuple[int, Message]]:
        self.core.receive(message, self.now)
        return self.ready()

    def pass_time(self, seconds: float) -> list[tuple[int, Message]]:
        """Tick whenever the core asks for it, as an owner does that is never held up."""
        sent: list[tuple[int, Message]] = []
        end = self.now + seconds
        while True:
            self.core.tick(self.now)
            sent += self.ready()
            if self.now >= end:
                return sent
            self.now = min(end, max(self.core.deadline(), self.now + 1e-4))

    def elect(self, *supporters: int, promises: dict[int, Promise] | None = None) -> Ballot:
        """Make this core lead with the promises of ``supporters``."""
        ballot = self.prepare(*supporters)
        for peer in supporters:
            promise = (promises or {}).get(peer) or promise_of(peer, ballot)
            self.core.receive(promise, self.now)
        self.sync()
        assert self.core.role is Role.LEADING
        return ballot

    def prepare(self, *supporters: int) -> Ballot:
        """Win the pre-vote and send Prepare."""
        ballots: list[Ballot] = []
        while not ballots:
            sent = self.pass_time(self.config.heartbeat_s / 5)
            ballots = [message.ballot for message in only(PreVote, sent)]
        for peer in supporters:
            self.core.receive(PreVoteReply(peer, ballots[0], True, BOTTOM), self.now)
        prepares = only(Prepare, self.sync())
        assert prepares
        assert self.core.role is Role.PREPARING
        return prepares[0].ballot

    def vote(self, peer: int, ballot: Ballot, slot: int, count: int = 1) -> None:
        self.receive(Accepted(peer, ballot.at(slot), count, 0, 1))


def promise_of(
    peer: int,
    ballot: Ballot,
    *entries: Entry,
    chosen_through: int = 0,
    next_slot: int | None = None,
    incarnation: int = 1,
    incarnations: tuple[tuple[int, int], ...] = (),
) -> Promise:
    return Promise(peer, ballot, entries, chosen_through, next_slot, incarnation, incarnations)


def only(kind: type, sent: list[tuple[int, Message]]) -> list:
    return [message for _, message in sent if isinstance(message, kind)]


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
    assert len(only(Promise, acceptor.sync())) == 2


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


def settled_leader() -> tuple[Driver, Ballot]:
    leader = Driver()
    ballot = leader.elect(2)
    leader.vote(2, ballot, 1)
    return leader, ballot


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
    leader.receive(Rejoin(3, 2, 0))
    assert leader.core.role is Role.PREPARING
    prepares = only(Prepare, leader.sync())
    assert prepares[0].ballot > old
    assert prepares[0].incarnations == ((3, 2),)


def test_rule_14_a_promise_of_the_lost_life_does_not_count() -> None:
    leader, _ = settled_leader()
    leader.receive(Rejoin(3, 2, 0))
    ballot = only(Prepare, leader.sync())[0].ballot
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
    candidate.receive(promise_of(4, ballot))
    assert candidate.core.role is Role.LEADING


def test_rule_14_a_vote_of_the_lost_life_does_not_count() -> None:
    leader, _ = settled_leader()
    leader.receive(Rejoin(3, 2, 0))
    ballot = only(Prepare, leader.sync())[0].ballot
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
    assert {rejoin.incarnation for rejoin in only(Rejoin, sent)} == {8}
    assert node.persists[-1].incarnation == 8


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


def test_rule_16_a_log_over_its_bound_votes_for_nothing_more() -> None:
    acceptor = Driver(max_log_bytes=2000, max_pending_bytes=2000, max_batch_bytes=2000)
    big = Batch.pack(1, [b"x" * 1500])
    ballot = Ballot(5, 2)
    for slot in (2, 3, 4):  # slot 1 is missing: nothing of this can be chosen or compacted yet
        acceptor.receive(Accept(2, ballot.at(slot), (big,), 0))
    assert [vote.ballot.op_num for vote in only(Accepted, acceptor.sync())] == [2, 3]
