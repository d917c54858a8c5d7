"""How long a node waits for others: what it measured, and what it was itself held up for."""

from __future__ import annotations

from random import Random

import pytest
from core_cluster import CoreCluster
from core_driver import Driver, only

from consensusllm.paxos import Ballot, PaxosConfig, Role
from consensusllm.paxos.messages import Heartbeat, HeartbeatReply, PreVote, PreVoteReply
from consensusllm.paxos.timing import LONGEST, Timing

CONFIG = PaxosConfig(node=1, members=(1, 2, 3))
FAR_S = 0.15
"""One way, over a wide-area link."""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.timing = Timing(CONFIG, self.now)

    def steps(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.01)):
            self.now += 0.01
            self.timing.advance(self.now)


# The estimators ---------------------------------------------------------------------------------


def test_without_measurements_the_configured_times_hold() -> None:
    timing = Timing(CONFIG, 0.0)
    assert timing.timeout_s == CONFIG.election_timeout_s
    assert timing.resend_s == CONFIG.resend_s
    assert timing.round_trip_s == 0.0


def test_time_in_which_the_node_did_not_run_counts_as_one_step() -> None:
    clock = Clock()
    begin = clock.timing.time
    clock.steps(1.0)
    assert clock.timing.time - begin == pytest.approx(1.0)
    clock.timing.advance(clock.now + 30.0)
    assert clock.timing.time - begin == pytest.approx(1.0 + CONFIG.heartbeat_s)


def test_what_is_due_is_looked_at_in_steps_and_never_at_a_time_that_rounds_to_now() -> None:
    clock = Clock()
    timing = clock.timing
    assert timing.when(timing.time + 10.0) == pytest.approx(clock.now + CONFIG.heartbeat_s)
    assert timing.when(timing.time + 0.02) == pytest.approx(clock.now + 0.02)
    assert timing.when(timing.time) == clock.now
    assert timing.when(timing.time + 1e-14) > clock.now


def test_round_trips_are_estimated_with_their_deviation() -> None:
    rng = Random(1)
    timing = Timing(CONFIG, 0.0)
    samples = [0.3 + rng.uniform(-0.02, 0.02) for _ in range(200)]
    for sample in samples:
        timing.measured_round_trip(sample)
    assert max(samples) < timing.round_trip_s < 0.45
    assert timing.resend_s == timing.round_trip_s
    assert timing.patience_s > CONFIG.election_timeout_s + 0.3


def test_a_question_that_was_asked_for_long_counts_until_something_is_measured() -> None:
    timing = Timing(CONFIG, 0.0)
    for _ in range(20):
        timing.measured_round_trip(0.02)
    timing.guessed_round_trip(60.0)
    assert timing.round_trip_s == LONGEST * CONFIG.election_timeout_s
    timing.measured_round_trip(0.02)
    assert timing.round_trip_s == pytest.approx(0.06)


def test_what_follows_a_long_cut_is_as_quick_as_before() -> None:
    node = Driver(size=3)
    node.pass_time(60.0)
    node.elect(2)
    for _ in range(2):
        for heartbeat in only(Heartbeat, node.pass_time(node.config.heartbeat_s)):
            node.now += 0.001
            node.receive(HeartbeatReply(2, heartbeat.ballot, heartbeat.round, 0))
    told = only(Heartbeat, node.pass_time(node.config.heartbeat_s))
    assert told[0].round_trip_ms < 100


def test_a_leaders_lateness_lengthens_the_timeout_and_is_forgotten_slowly() -> None:
    clock = Clock()
    clock.timing.measured_silence(CONFIG.election_timeout_s)
    late = clock.timing.timeout_s
    assert late > 1.5 * CONFIG.election_timeout_s
    clock.steps(30.0)
    assert CONFIG.election_timeout_s < clock.timing.timeout_s < late
    clock.steps(600.0)
    assert clock.timing.timeout_s == CONFIG.election_timeout_s


def test_regular_heartbeats_and_long_cuts_change_nothing() -> None:
    timing = Timing(CONFIG, 0.0)
    timing.measured_silence(CONFIG.heartbeat_s)
    timing.measured_silence(60.0)
    assert timing.timeout_s == CONFIG.election_timeout_s


def test_no_measurement_makes_a_wait_endless() -> None:
    timing = Timing(CONFIG, 0.0)
    timing.told_round_trip(4_000_000_000)
    for _ in range(100):
        timing.measured_silence(2 * timing.timeout_s)
    assert timing.round_trip_s <= LONGEST * CONFIG.election_timeout_s
    assert timing.timeout_s <= LONGEST * CONFIG.election_timeout_s


# One core ---------------------------------------------------------------------------------------


def follower() -> Driver:
    driver = Driver()
    driver.receive(Heartbeat(2, Ballot(5, 2), 0, 1, (1, 2, 3)))
    return driver


def test_a_node_that_was_held_up_does_not_blame_the_leader() -> None:
    held_up = follower()
    held_up.now += 20 * held_up.config.election_timeout_s
    held_up.core.tick(held_up.now)
    assert only(PreVote, held_up.ready()) == []
    assert held_up.core.leader == 2
    assert only(PreVote, held_up.pass_time(2 * held_up.config.election_timeout_s)) != []


def test_a_leader_that_was_held_up_does_not_give_up() -> None:
    leader = Driver()
    leader.elect(2)
    leader.now += 20 * leader.config.election_timeout_s
    leader.core.tick(leader.now)
    assert leader.core.role is Role.LEADING
    leader.pass_time(3 * leader.config.election_timeout_s)
    assert leader.core.role is Role.FOLLOWING


def test_the_end_of_the_leaders_connection_begins_a_pre_vote_at_once() -> None:
    driver = follower()
    driver.core.peer_gone(2, driver.now)
    assert driver.core.role is Role.FOLLOWING
    sent = driver.receive(PreVote(3, Ballot(9, 3)))
    assert only(PreVoteReply, sent)[0].granted
    assert only(PreVote, driver.pass_time(driver.config.heartbeat_s)) != []


def test_a_leader_that_is_heard_after_its_connection_ended_is_followed_as_before() -> None:
    driver = follower()
    driver.core.peer_gone(2, driver.now)
    driver.receive(Heartbeat(2, Ballot(5, 2), 0, 2, (1, 2, 3)))
    assert only(PreVote, driver.pass_time(0.9 * driver.config.election_timeout_s)) == []
    assert driver.core.leader == 2


def test_the_end_of_another_connection_means_nothing() -> None:
    driver = follower()
    driver.core.peer_gone(3, driver.now)
    assert only(PreVote, driver.pass_time(0.9 * driver.config.election_timeout_s)) == []


def test_after_a_false_end_of_a_connection_tries_are_soon_as_far_apart_as_any() -> None:
    """The others still hear the leader, and refuse: they must not be asked every few ms."""
    driver = follower()
    driver.core.peer_gone(2, driver.now)
    asked = 0
    for _ in range(100):
        for request in only(PreVote, driver.pass_time(0.1))[:1]:
            asked += 1
            driver.receive(PreVoteReply(3, request.ballot, False, Ballot(5, 2)))
    assert 2 <= asked <= 4 + 10.0 / driver.config.election_timeout_s
    assert driver.persists == []
    assert driver.core.role is Role.FOLLOWING


# Clusters ---------------------------------------------------------------------------------------


def far_apart(seed: int) -> CoreCluster:
    return CoreCluster(3, seed, delay_s=FAR_S)


@pytest.mark.parametrize("seed", range(5))
def test_far_apart_there_is_no_election_while_nothing_fails(seed: int) -> None:
    cluster = far_apart(seed)
    leader = cluster.leader()
    cluster.propose_somewhere(b"first")
    cluster.run(5.0)
    ballot = cluster.core(leader).ballot
    cluster.run(120.0)
    assert cluster.leaders() == [leader]
    assert cluster.core(leader).ballot == ballot


@pytest.mark.parametrize("told", [True, False], ids=["its process died", "it fell silent"])
@pytest.mark.parametrize("seed", range(5))
def test_far_apart_another_leads_within_bounded_time(seed: int, told: bool) -> None:
    cluster = far_apart(seed)
    old = cluster.leader()
    cluster.propose_somewhere(b"first")
    cluster.run(5.0)
    cluster.crash(old)
    if told:
        cluster.run(2 * FAR_S)  # behind everything that it sent
        for node in cluster.ids:
            if node != old:
                cluster.core(node).peer_gone(old, cluster.now)
                cluster.pump(node)
    begin = cluster.now
    cluster.leader()
    took_s = cluster.now - begin
    # Pre-vote and phase 1 take two round trips; the rest is the silence that is waited for.
    assert took_s < (8 if told else 12) * FAR_S + (0 if told else 1.0)
    cluster.propose_somewhere(b"second")
    cluster.settle()


def test_far_apart_what_is_on_its_way_is_not_sent_again() -> None:
    cluster = far_apart(1)
    leader = cluster.leader()
    cluster.run(10.0)
    cluster.trace.clear()
    cluster.propose(leader, b"once")
    cluster.run(3.0)
    accepts = [dst for _, dst, message in cluster.trace if type(message).__name__ == "Accept"]
    assert sorted(accepts) == sorted(node for node in cluster.ids if node != leader)
