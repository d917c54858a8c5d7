"""Leader leases: who is bound by them and for how long, and which reads they carry."""

from __future__ import annotations

import pytest
from core_cluster import CoreCluster
from core_driver import Driver, only, settled_leader

from consensusllm.paxos import BOTTOM, Ballot, PaxosConfig, Recovered, Role
from consensusllm.paxos.lease import Lease
from consensusllm.paxos.messages import (
    Heartbeat,
    HeartbeatReply,
    Prepare,
    PreVote,
    PreVoteReply,
    Promise,
)

LEASE_S = 0.3
DRIFT = 0.2
HELD_S = LEASE_S * (1 - DRIFT) / (1 + DRIFT)
SETTINGS = {"leader_lease_s": LEASE_S, "clock_drift": DRIFT}
B5 = Ballot(5, 2)


def leased_leader() -> tuple[Driver, Ballot]:
    """A leader whose ballot has committed, with a lease granted by node 2 at ``now``."""
    leader = Driver(**SETTINGS)
    leader.pass_time(LEASE_S)
    ballot = leader.elect(2)
    leader.vote(2, ballot, 1)
    leader.sync()
    heartbeat = only(Heartbeat, leader.pass_time(leader.config.heartbeat_s))[0]
    assert heartbeat.lease_ms == round(LEASE_S * 1000)
    leader.receive(HeartbeatReply(2, ballot, heartbeat.round, 1, leased=True))
    return leader, ballot


def test_a_read_under_a_lease_needs_no_round() -> None:
    leader, _ = leased_leader()
    leader.core.read(7, leader.now)
    assert only(Heartbeat, leader.ready()) == []
    assert leader.reads == [(7, 1)]


def test_a_lease_ends_as_much_earlier_as_clocks_may_differ() -> None:
    leader, _ = leased_leader()
    leader.now += HELD_S * 0.99
    leader.core.read(1, leader.now)
    leader.ready()
    assert leader.reads == [(1, 1)]
    leader.now += HELD_S * 0.02
    leader.core.read(2, leader.now)
    assert only(Heartbeat, leader.ready()) != []
    assert leader.reads == [(1, 1)]


def test_a_lease_counts_from_the_sending_of_the_heartbeat_that_was_granted() -> None:
    leader, ballot = leased_leader()
    heartbeat = only(Heartbeat, leader.pass_time(leader.config.heartbeat_s))[0]
    sent_at = leader.now
    leader.now += HELD_S
    leader.receive(HeartbeatReply(2, ballot, heartbeat.round, 1, leased=True))
    assert leader.now >= sent_at + HELD_S
    leader.core.read(1, leader.now)
    leader.ready()
    assert leader.reads == []


def test_an_answer_without_a_grant_gives_no_lease() -> None:
    leader, ballot = settled_leader()
    heartbeat = only(Heartbeat, leader.pass_time(leader.config.heartbeat_s))[0]
    assert heartbeat.lease_ms == 0
    leader.receive(HeartbeatReply(2, ballot, heartbeat.round, 1))
    leader.core.read(1, leader.now)
    assert only(Heartbeat, leader.ready()) != []
    assert leader.reads == []


def test_a_new_leader_uses_no_lease_before_its_ballot_has_committed() -> None:
    leader = Driver(**SETTINGS)
    leader.pass_time(LEASE_S)
    ballot = leader.elect(2)
    heartbeat = only(Heartbeat, leader.pass_time(leader.config.heartbeat_s))[0]
    leader.receive(HeartbeatReply(2, ballot, heartbeat.round, 0, leased=True))
    leader.core.read(1, leader.now)
    leader.ready()
    assert leader.reads == []


def test_a_lease_ends_with_the_leadership() -> None:
    leader, ballot = leased_leader()
    leader.receive(Prepare(3, Ballot(99, 3, 1), ()))
    assert leader.core.role is Role.FOLLOWING
    again = leader.elect(2)
    assert again > ballot
    leader.core.read(1, leader.now)
    leader.ready()
    assert leader.reads == []


# Acceptors --------------------------------------------------------------------------------------


def bound_follower() -> Driver:
    follower = Driver(**SETTINGS)
    follower.pass_time(LEASE_S)
    sent = follower.receive(Heartbeat(2, B5, 0, 1, (1, 2), lease_ms=round(LEASE_S * 1000)))
    assert only(HeartbeatReply, sent)[0].leased
    return follower


def test_an_acceptor_promises_nothing_to_others_while_its_grant_runs() -> None:
    follower = bound_follower()
    follower.core.peer_gone(2, follower.now)  # not even when the holder seems to be dead
    follower.now += LEASE_S * 0.99
    follower.receive(Prepare(3, Ballot(9, 3, 1), ()))
    assert only(Promise, follower.sync()) == []
    sent = follower.receive(PreVote(3, Ballot(9, 3)))
    assert [reply.granted for reply in only(PreVoteReply, sent)] == [False]
    follower.now += LEASE_S * 0.02
    sent = follower.receive(PreVote(3, Ballot(9, 3)))
    assert [reply.granted for reply in only(PreVoteReply, sent)] == [True]
    follower.receive(Prepare(3, Ballot(9, 3, 1), ()))
    assert only(Promise, follower.sync()) != []


def test_an_acceptor_does_not_stand_itself_while_its_grant_runs() -> None:
    follower = bound_follower()
    follower.core.peer_gone(2, follower.now)
    assert only(PreVote, follower.pass_time(LEASE_S * 0.99)) == []
    assert only(PreVote, follower.pass_time(LEASE_S)) != []


def test_the_holder_itself_may_be_promised_another_ballot() -> None:
    follower = bound_follower()
    follower.receive(Prepare(2, Ballot(9, 2, 1), ()))
    assert only(Promise, follower.sync()) != []


def test_a_start_waits_for_what_the_life_before_it_may_have_granted() -> None:
    started = Driver(recovered=Recovered(incarnation=1, voting=True, promised=B5), **SETTINGS)
    for candidate in (2, 3):
        sent = started.receive(PreVote(candidate, Ballot(9, candidate)))
        assert [reply.granted for reply in only(PreVoteReply, sent)] == [False]
        started.receive(Prepare(candidate, Ballot(9, candidate, 1), ()))
        assert only(Promise, started.sync()) == []
    started.now += LEASE_S
    started.receive(Prepare(3, Ballot(9, 3, 1), ()))
    assert only(Promise, started.sync()) != []


def test_a_late_heartbeat_of_a_deposed_leader_takes_no_grant_away() -> None:
    follower = bound_follower()
    late = Heartbeat(3, Ballot(4, 3), 0, 9, (1, 3), lease_ms=round(LEASE_S * 1000))
    assert not only(HeartbeatReply, follower.receive(late))[0].leased
    follower.receive(Prepare(3, Ballot(9, 3, 1), ()))
    assert only(Promise, follower.sync()) == []
    follower.now += LEASE_S
    assert only(HeartbeatReply, follower.receive(late))[0].leased


def test_the_grant_of_one_ballot_passes_to_a_higher_one() -> None:
    follower = bound_follower()
    newer = Heartbeat(3, Ballot(6, 3), 0, 1, (1, 3), lease_ms=round(LEASE_S * 1000))
    assert only(HeartbeatReply, follower.receive(newer))[0].leased
    follower.receive(Prepare(2, Ballot(9, 2, 1), ()))
    assert only(Promise, follower.sync()) == []
    follower.receive(Prepare(3, Ballot(9, 3, 1), ()))
    assert only(Promise, follower.sync()) != []


def test_what_a_start_waits_for_is_not_shortened_by_whom_it_hears() -> None:
    """The life before may have granted a lease in a ballot that it had not promised."""
    started = Driver(recovered=Recovered(incarnation=1, voting=True, promised=B5), **SETTINGS)
    started.receive(Heartbeat(2, B5, 0, 9, (1, 2), lease_ms=round(LEASE_S * 1000)))
    started.now += LEASE_S * 0.99
    started.receive(Prepare(2, Ballot(9, 2, 1), ()))
    assert only(Promise, started.sync()) == []
    started.now += LEASE_S * 0.02
    started.receive(Prepare(2, Ballot(9, 2, 1), ()))
    assert only(Promise, started.sync()) != []


def test_nothing_longer_is_granted_than_a_start_would_wait_for() -> None:
    cautious = Driver()
    sent = cautious.receive(Heartbeat(2, B5, 0, 1, (1, 2), lease_ms=1))
    assert not only(HeartbeatReply, sent)[0].leased
    sent = cautious.receive(PreVote(3, Ballot(9, 3)))
    cautious.receive(Prepare(3, Ballot(9, 3, 1), ()))
    assert only(Promise, cautious.sync()) != []


def test_without_leases_a_start_waits_for_nothing() -> None:
    started = Driver()
    started.receive(Prepare(3, Ballot(9, 3, 1), ()))
    assert [promise.ballot for promise in only(Promise, started.sync())] == [Ballot(9, 3, 1)]
    assert started.core.ballot > BOTTOM


@pytest.mark.parametrize("seed", range(3))
def test_a_cluster_with_leases_reads_without_rounds_and_fails_over(seed: int) -> None:
    cluster = CoreCluster(3, seed, leader_lease_s=LEASE_S, clock_drift=0.01)
    leader = cluster.leader()
    cluster.propose_somewhere(b"first")
    cluster.run(1.0)
    for token in range(20):
        cluster.core(leader).read(token, cluster.now)
        cluster.pump(leader)
        assert token in cluster.members[leader].reads
        cluster.run(0.02)
    cluster.crash(leader)
    for node in cluster.ids:
        if node != leader:
            cluster.core(node).peer_gone(leader, cluster.now)
            cluster.pump(node)
    cluster.leader()
    cluster.propose_somewhere(b"second")
    cluster.start(leader)
    cluster.settle()


@pytest.mark.parametrize("drift", [0.0, 0.0001, DRIFT])
def test_no_lease_is_longer_than_what_is_asked_for(drift: float) -> None:
    """Of lengths in whole milliseconds some are a little less once they are in seconds."""
    for length_ms in range(1, 2000):
        length_s = length_ms / 1000
        settings = {"leader_lease_s": length_s, "election_timeout_s": 2.0, "clock_drift": drift}
        lease = Lease(PaxosConfig(node=1, members=(1, 2, 3), **settings))
        assert lease.asked_ms == length_ms
        lease.granted(0.0)
        assert not lease.holds(lease.asked_ms / 1000 * (1 - drift) / (1 + drift))
