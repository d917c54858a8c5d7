"""Whole clusters of cores under faults; the harness checks every applied slot as it goes.

Invariants, whatever happens: one value a slot, no hole applied, no promise that goes back. And when
the faults stop: somebody leads, everybody has the same log, and new commands are chosen.
"""

from __future__ import annotations

from random import Random

import pytest
from core_cluster import CoreCluster
from hypothesis import given, settings
from hypothesis import strategies as st

from consensusllm.paxos import Role
from consensusllm.paxos.messages import Accept, Prepare, SnapshotChunk


@pytest.mark.parametrize("size", range(1, 10))
def test_a_cluster_of_any_size_agrees_on_the_order_of_commands(size: int) -> None:
    cluster = CoreCluster(size, seed=size)
    commands = [b"%d" % number for number in range(50)]
    for command in commands:
        cluster.propose_somewhere(command)
    cluster.run_until(lambda: all(cluster.commands(node) == commands for node in cluster.ids))


@pytest.mark.parametrize("size", range(1, 10))
def test_it_goes_on_with_a_majority_and_stops_without_one(size: int) -> None:
    cluster = CoreCluster(size, seed=size)
    cluster.propose_somewhere(b"before")
    cluster.settle()
    for node in cluster.ids[: (size - 1) // 2]:
        cluster.crash(node)
    cluster.propose_somewhere(b"with a majority")
    survivor = cluster.ids[-1]
    cluster.run_until(lambda: cluster.commands(survivor)[-1:] == [b"with a majority"])
    if size == 1:
        return
    cluster.crash(cluster.ids[(size - 1) // 2])
    applied = len(cluster.commands(survivor))
    cluster.run(5.0)
    assert cluster.leaders() == []
    assert len(cluster.commands(survivor)) == applied


def test_without_faults_the_first_leader_stays() -> None:
    cluster = CoreCluster(5, seed=3)
    leader = cluster.leader()
    ballot = cluster.core(leader).ballot
    cluster.run(120.0)
    assert cluster.leaders() == [leader]
    assert cluster.core(leader).ballot == ballot


def test_phase_one_is_run_once_for_all_slots() -> None:
    cluster = CoreCluster(3, seed=4)
    cluster.leader()
    cluster.settle()
    prepares = sum(isinstance(message, Prepare) for _, _, message in cluster.trace)
    for number in range(100):
        cluster.propose_somewhere(b"%d" % number)
        cluster.run(0.01)
    assert sum(isinstance(message, Prepare) for _, _, message in cluster.trace) == prepares


def test_commands_that_wait_share_a_slot() -> None:
    cluster = CoreCluster(3, seed=5, pipeline_slots=1)
    leader = cluster.leader()
    core = cluster.core(leader)
    for number in range(500):
        core.propose(b"%d" % number, cluster.now)
    cluster.pump(leader)
    cluster.run_until(lambda: len(cluster.commands(leader)) == 500)
    accepts = {
        message.ballot.op_num for _, _, message in cluster.trace if isinstance(message, Accept)
    }
    assert len(accepts) <= 5


@pytest.mark.parametrize("minutes_apart", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("size", [3, 5])
def test_a_majority_that_was_apart_has_a_leader_soon_after_it_is_joined_again(
    size: int, minutes_apart: float
) -> None:
    for seed in range(10):
        cluster = CoreCluster(size, seed)
        cluster.leader()
        if size == 3:
            cluster.crash(3)
        groups = [{1}, {2}] if size == 3 else [{1, 2}, {3, 4}, {5}]
        cluster.cut = {
            (src, dst)
            for src in cluster.ids
            for dst in cluster.ids
            if not any({src, dst} <= group for group in groups)
        }
        cluster.run(60 * minutes_apart)
        assert cluster.leaders() == []
        cluster.heal()
        # The longest back-off, two election timeouts, and the way of the messages.
        cluster.run_until(lambda cluster=cluster: bool(cluster.leaders()), 0.8)  # type: ignore[misc]


@pytest.mark.parametrize("size", [3, 5, 9])
def test_a_leader_is_found_where_a_round_trip_takes_far_longer_than_the_election_timeout(
    size: int,
) -> None:
    for seed in range(10):
        cluster = CoreCluster(size, seed, delay_s=1.5)
        cluster.run_until(lambda cluster=cluster: bool(cluster.leaders()), 10.0)  # type: ignore[misc]


def test_the_old_leader_of_a_minority_chooses_nothing_and_catches_up_when_healed() -> None:
    cluster = CoreCluster(3, seed=6)
    old = cluster.leader()
    cluster.settle()
    cluster.isolate(old)
    assert cluster.propose(old, b"lost")
    others = tuple(node for node in cluster.ids if node != old)
    new = cluster.leader(among=others)
    assert cluster.propose(new, b"kept")
    cluster.run_until(lambda: cluster.core(old).role is Role.FOLLOWING)
    assert cluster.commands(old) == []
    cluster.heal()
    cluster.run_until(lambda: all(b"kept" in cluster.commands(node) for node in cluster.ids))
    assert all(b"lost" not in cluster.commands(node) for node in cluster.ids)


@pytest.mark.parametrize("direction", ["cannot speak", "cannot hear"])
def test_a_one_way_cut_costs_the_leadership_only_of_one_who_cannot_lead(direction: str) -> None:
    cluster = CoreCluster(3, seed=7)
    leader = cluster.leader()
    cluster.settle()
    for peer in cluster.ids:
        if peer != leader:
            cluster.cut.add((leader, peer) if direction == "cannot speak" else (peer, leader))
    others = tuple(node for node in cluster.ids if node != leader)
    new = cluster.leader(among=others)
    assert cluster.propose(new, b"x")
    cluster.run_until(lambda: b"x" in cluster.commands(new))
    cluster.heal()
    cluster.run_until(lambda: b"x" in cluster.commands(leader))


def test_a_follower_that_cannot_hear_the_leader_does_not_depose_it_and_learns_all_the_same() -> (
    None
):
    cluster = CoreCluster(3, seed=8)
    leader = cluster.leader()
    cluster.settle()
    ballot = cluster.core(leader).ballot
    deaf = next(node for node in cluster.ids if node != leader)
    cluster.cut |= {(leader, deaf), (deaf, leader)}
    cluster.run(2.0)
    assert cluster.propose(leader, b"x")
    cluster.run_until(lambda: b"x" in cluster.commands(deaf))
    assert cluster.core(leader).ballot == ballot


def test_a_node_that_missed_more_than_the_log_holds_catches_up_by_snapshot() -> None:
    cluster = CoreCluster(3, seed=9, log_retain_bytes=0)
    leader = cluster.leader()
    late = next(node for node in cluster.ids if node != leader)
    cluster.crash(late)
    for number in range(100):
        cluster.propose_somewhere(b"%d" % number)
        cluster.run(0.01)
    for node in cluster.ids:
        if node != late:
            cluster.snapshot(node)
            assert cluster.core(node).log_first_slot > 50
    cluster.start(late)
    cluster.settle()
    assert any(isinstance(message, SnapshotChunk) for _, _, message in cluster.trace)
    assert len(cluster.commands(late)) == 100


def test_a_snapshot_transfer_goes_on_after_a_cut_where_it_stopped() -> None:
    cluster = CoreCluster(3, seed=10, log_retain_bytes=0)
    leader = cluster.leader()
    late = next(node for node in cluster.ids if node != leader)
    cluster.crash(late)
    for number in range(1200):  # a snapshot of a four-digit slot: four chunks in this harness
        cluster.propose_somewhere(b"%d" % number)
        cluster.run(0.01)
    slot = cluster.snapshot(leader)
    assert slot >= 1000
    cluster.cut |= {(late, other) for other in cluster.ids if other not in (late, leader)}
    cluster.cut |= {(other, late) for late, other in list(cluster.cut)}
    cluster.start(late)

    def offsets() -> list[int]:
        chunks = [m for _, dst, m in cluster.trace if isinstance(m, SnapshotChunk) and dst == late]
        return [chunk.offset for chunk in chunks]

    cluster.run_until(lambda: 2 in offsets())
    cluster.isolate(late)
    cluster.run(0.25)
    before = len(offsets())
    cluster.heal()
    cluster.run_until(lambda: len(cluster.members[late].applied) >= slot)
    assert 0 not in offsets()[before:]


def test_everything_that_was_chosen_survives_a_restart_of_all() -> None:
    cluster = CoreCluster(5, seed=11)
    for number in range(30):
        cluster.propose_somewhere(b"%d" % number)
    leader = cluster.leader()
    cluster.run_until(lambda: len(cluster.commands(leader)) == 30)
    for node in cluster.ids:
        cluster.crash(node)
    for node in cluster.ids:
        cluster.start(node)
    cluster.run_until(lambda: all(len(cluster.commands(node)) == 30 for node in cluster.ids))


def test_a_node_that_lost_its_disk_comes_back_and_votes() -> None:
    cluster = CoreCluster(3, seed=12)
    for number in range(10):
        cluster.propose_somewhere(b"%d" % number)
        cluster.run(0.01)
    cluster.settle()
    leader = cluster.leader()
    lost = next(node for node in cluster.ids if node != leader)
    cluster.lose_disk(lost)
    cluster.run_until(lambda: cluster.core(lost).role is Role.FOLLOWING)
    cluster.settle()
    assert len(cluster.commands(lost)) == 10
    other = next(node for node in cluster.ids if node not in (leader, lost))
    cluster.crash(other)  # now its vote is needed
    cluster.propose_somewhere(b"needs the vote")
    cluster.run_until(lambda: b"needs the vote" in cluster.commands(lost))


def storm(seed: int) -> CoreCluster:
    """A random cluster under random faults, which then stop."""
    choose = Random(seed)
    size = choose.randint(2, 7)
    cluster = CoreCluster(
        size,
        seed=seed,
        loss=choose.choice((0.0, 0.05, 0.2)),
        repeat=choose.choice((0.0, 0.1)),
        late=choose.choice((0.0, 0.05)),
        delay_s=choose.choice((0.002, 0.02, 0.1)),
        disk_s=choose.choice((0.0005, 0.005, 0.05)),
        log_retain_bytes=300,
        chunk_bytes=200,
        max_batch_bytes=1000,
    )
    number = 0
    for _ in range(60):
        down = [node for node in cluster.ids if cluster.members[node].core is None]
        up = [node for node in cluster.ids if node not in down]
        fault = choose.random()
        if fault < 0.15 and len(down) < (size - 1) // 2:
            cluster.crash(choose.choice(up))
        elif fault < 0.3 and down:
            cluster.start(choose.choice(down))
        elif fault < 0.4:
            cluster.isolate(choose.choice(cluster.ids))
        elif fault < 0.5:
            cluster.cut.add((choose.choice(cluster.ids), choose.choice(cluster.ids)))
        elif fault < 0.6:
            cluster.heal()
        elif fault < 0.7:
            node = choose.choice(up)
            if cluster.members[node].applied:
                cluster.snapshot(node)
        elif fault < 0.75 and size > 2 and not down:
            # One lost disk at a time: two at once may be more than the others can vouch for.
            learning = [node for node in up if cluster.core(node).role is Role.LEARNING]
            cluster.lose_disk(choose.choice(learning or up))
        for leader in cluster.leaders():
            for _ in range(5):
                cluster.propose(leader, b"%d" % number)
                number += 1
        cluster.run(choose.random())
    cluster.heal()
    cluster.loss = 0.0
    for node in cluster.ids:
        if cluster.members[node].core is None:
            cluster.start(node)
    cluster.settle()
    last = b"the faults are over"
    for _ in range(20):  # a command is lost when its leader is deposed: clients send it again
        cluster.propose_somewhere(last)
        cluster.run(3.0)
        if all(last in cluster.commands(node) for node in cluster.ids):
            break
    cluster.settle()
    assert last in cluster.commands(1)
    return cluster


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32))
def test_under_any_faults_nothing_chosen_is_lost_and_the_cluster_recovers(seed: int) -> None:
    cluster = storm(seed)
    logs = {tuple(cluster.members[node].applied) for node in cluster.ids}
    assert len(logs) == 1


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = storm(4711), storm(4711)
    assert first.now == second.now
    assert first.trace == second.trace
