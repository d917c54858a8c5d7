"""A replica's snapshots: when they are taken, how they are sent and installed, what damage does."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from replica_cluster import ReplicaCluster

from consensusllm.conversations import Limits, Machine, MalformedSnapshot
from consensusllm.conversations.commands import Put
from consensusllm.conversations.replies import Done
from consensusllm.paxos.messages import CatchUp, Compacted, SnapshotChunk
from consensusllm.replica import jobs
from consensusllm.replica.fetchers import PATIENCE_S, Fetchers
from consensusllm.replica.jobs import StageSnapshot, TakeSnapshot
from consensusllm.replica.pace import SLOT_BYTES, Pace
from consensusllm.replica.progress import Progress
from consensusllm.storage.port import Damaged, StorageError


def left_behind(cluster: ReplicaCluster, value_bytes: int = 1) -> int:
    """A follower that is down, and has missed more than the leader's log holds."""
    rng = Random(1)
    cluster.open_session()
    late = cluster.follower()
    cluster.crash(late)
    for number in range(1, 61):
        value = b"v" if value_bytes == 1 else rng.randbytes(value_bytes)
        cluster.submit(cluster.leader(), Put(f"k{number}", value), number)
    return late


def test_a_snapshot_is_taken_when_enough_was_applied_and_the_log_is_compacted_behind_it() -> None:
    cluster = ReplicaCluster(snapshot_every_slots=20, paxos={"log_retain_bytes": 0})
    cluster.open_session()
    for number in range(1, 61):
        cluster.submit(1, Put(f"k{number}", b"v"), number)
    for replica in cluster.replicas.values():
        assert replica.snapshot_slot >= 40
        assert replica.paxos.log_first_slot > 40


def test_rule_15_a_restart_from_snapshot_and_log_gives_the_same_state_sessions_included() -> None:
    cluster = ReplicaCluster(snapshot_every_slots=20)
    cluster.open_session()
    for number in range(1, 51):
        cluster.submit(1, Put(f"k{number}", b"v"), number)
    before = {node: replica.machine.state_hash() for node, replica in cluster.replicas.items()}
    for node in cluster.ids:
        cluster.crash(node)
    for node in cluster.ids:
        cluster.start(node)
    cluster.leader()
    cluster.run(1.0)
    for replica in cluster.replicas.values():
        assert replica.snapshot_slot > 0
    # Number 50 is remembered: sent again it is answered again and does not happen again.
    assert cluster.submit(1, Put("k50", b"other"), 50) == [Done()]
    assert {replica.machine.get("k50") for replica in cluster.replicas.values()} == {b"v"}
    assert len(set(before.values())) == 1


def test_rule_15_an_installed_snapshot_replaces_state_and_disk_together() -> None:
    cluster = ReplicaCluster(
        snapshot_every_slots=20, paxos={"log_retain_bytes": 0, "chunk_bytes": 64}
    )
    late = left_behind(cluster)
    cluster.start(late)
    cluster.run(3.0)
    chunks = [m for _, dst, m in cluster.sent if isinstance(m, SnapshotChunk) and dst == late]
    assert len(chunks) > 3
    replica = cluster.replicas[late]
    assert replica.machine.applied_slot == cluster.replicas[cluster.leader()].machine.applied_slot
    assert replica.machine.get("k1") == b"v"
    cluster.crash(late)
    cluster.start(late)  # from its own disk alone
    assert cluster.replicas[late].machine.get("k1") == b"v"


def test_a_snapshot_that_does_not_verify_is_not_installed_and_is_fetched_again() -> None:
    cluster = ReplicaCluster(snapshot_every_slots=20, paxos={"log_retain_bytes": 0})
    late = left_behind(cluster)
    cluster.start(late)
    real, spoiled = cluster.disks[late].stage_snapshot, []

    def spoil(slot: int, offset: int, data: bytes) -> None:
        if not spoiled:
            spoiled.append(slot)
            data = bytes(len(data))
        real(slot, offset, data)

    cluster.disks[late].stage_snapshot = spoil  # type: ignore[method-assign]
    cluster.run(3.0)
    assert spoiled
    assert cluster.replicas[late].machine.get("k60") == b"v"


def test_a_snapshot_is_sent_no_faster_than_told_and_its_progress_is_known() -> None:
    cluster = ReplicaCluster(
        snapshot_every_slots=20,
        snapshot_bytes_per_s=640,
        paxos={"log_retain_bytes": 0, "chunk_bytes": 64},
    )
    late = left_behind(cluster)
    cluster.start(late)
    begin = cluster.now
    seen: list[Progress] = []
    while cluster.replicas[late].snapshot_slot == 0:
        cluster.run(0.05)
        seen.append(cluster.replicas[late].progress)
        assert cluster.now < begin + 60.0
    chunks = [m for _, dst, m in cluster.sent if isinstance(m, SnapshotChunk) and dst == late]
    sent_bytes = sum(len(chunk.data) for chunk in chunks)
    # Two peers may each serve, and one chunk each is free.
    assert cluster.now - begin >= (sent_bytes - 2 * 64) / (2 * 640)
    received = [one.bytes_received for one in seen if one.bytes]
    assert received == sorted(received)
    assert len(set(received)) > 3
    assert all(one.known_slot >= 60 for one in seen if one.bytes)
    assert cluster.replicas[late].progress.bytes == 0, "it is over"


def test_a_transfer_that_takes_longer_than_a_snapshot_apart_is_not_begun_anew() -> None:
    cluster = ReplicaCluster(
        snapshot_every_slots=20,
        snapshot_bytes_per_s=640,
        paxos={"log_retain_bytes": 0, "chunk_bytes": 64},
    )
    late = left_behind(cluster, value_bytes=100)
    cluster.start(late)
    number = 60
    while cluster.replicas[late].snapshot_slot == 0:
        cluster.run(0.05)
        cluster.submit(cluster.leader(), Put(f"k{number % 60}", b"w"), number := number + 1)
        assert number < 500, "it does not come to an end"
    assert number > 60 + 2 * 20, "several snapshots would have been due meanwhile"
    begun = {m.slot for _, dst, m in cluster.sent if isinstance(m, SnapshotChunk) and dst == late}
    assert len(begun) == 1
    cluster.run(1.0)
    held = [replica.machine.applied_slot for replica in cluster.replicas.values()]
    assert len(set(held)) == 1
    last = cluster.replicas[cluster.leader()].snapshot_slot
    for _ in range(25):
        cluster.submit(cluster.leader(), Put("k", b"w"), number := number + 1)
    assert cluster.replicas[cluster.leader()].snapshot_slot > last, "it has arrived"


def test_who_fetches_a_snapshot_counts_until_it_has_the_log_behind_it_or_gives_up() -> None:
    fetchers = Fetchers()
    assert 2 not in fetchers, "slow as it may be, it needs no snapshot"
    fetchers.asked_for_snapshot(2, now=0.0)
    fetchers.asked_for_log(2, last=False, now=PATIENCE_S - 1)
    assert fetchers.any(2 * PATIENCE_S - 2)
    fetchers.asked_for_log(2, last=True, now=2 * PATIENCE_S - 2)
    assert not fetchers.any(2 * PATIENCE_S - 2)
    fetchers.asked_for_snapshot(2, now=50.0)
    assert fetchers.any(50.0 + PATIENCE_S - 1)
    assert not fetchers.any(50.0 + PATIENCE_S)


def test_a_snapshot_that_cannot_be_read_stops_its_node_before_it_stands_for_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = ReplicaCluster(snapshot_every_slots=20, paxos={"log_retain_bytes": 0})
    late = left_behind(cluster)
    cluster.start(late)

    def refuse(chunks: Iterator[bytes], limits: Limits) -> Machine:
        assert b"".join(chunks)
        raise MalformedSnapshot("written by another release")

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "restore", refuse)
        with pytest.raises(StorageError, match="run the same version on all nodes"):
            cluster.run(3.0)
    cluster.crash(late)
    cluster.start(late)  # its disk is as it was
    assert cluster.replicas[late].snapshot_slot == 0
    cluster.run(3.0)
    assert cluster.replicas[late].machine.get("k60") == b"v"


def test_a_snapshot_that_is_being_taken_says_how_far_it_is() -> None:
    cluster = ReplicaCluster(size=1, snapshot_every_slots=10_000)
    cluster.open_session()
    for number in range(1, 1_001):
        cluster.submit(1, Put(f"k{number}", b"%100d" % number), number)
    replica = cluster.replicas[1]
    assert replica.progress.records == 0
    replica.take_snapshot()
    done = []
    while (job := replica.next_job()) is not None:
        job.run(cluster.disks[1])
        done.append((replica.progress.records_encoded, replica.progress.records))
        job.done()
    assert done == sorted(done)
    assert len(done) > 5
    assert done[-1][0] == done[-1][1] == 1_002
    assert replica.progress.records == 0


def test_a_damaged_snapshot_is_not_served_but_stops_its_node() -> None:
    cluster = ReplicaCluster(snapshot_every_slots=20, paxos={"log_retain_bytes": 0})
    late = left_behind(cluster)
    for node in cluster.replicas:
        cluster.platters[node].rot_snapshot()
    cluster.start(late)
    with pytest.raises(Damaged):
        cluster.run(3.0)


def test_snapshots_of_a_large_state_are_as_far_apart_as_it_is_large() -> None:
    cluster = ReplicaCluster(size=1, snapshot_every_slots=20)
    cluster.open_session()
    replica = cluster.replicas[1]
    sequence = 0

    def slots_to_the_next() -> int:
        nonlocal sequence
        last = replica.snapshot_slot
        while replica.snapshot_slot == last:
            sequence += 1
            cluster.submit(1, Put("small", b""), sequence)
        return replica.snapshot_slot - last

    assert slots_to_the_next() == 20
    cluster.submit(1, Put("large", bytes(50 * SLOT_BYTES)), sequence := sequence + 1)
    first, second = slots_to_the_next(), slots_to_the_next()
    assert first == 20, "how large the state has become is known by encoding it"
    assert 50 < second < 100, "its lines are a little longer than its values"
    cluster.submit(1, Put("large", b""), sequence := sequence + 1)
    assert slots_to_the_next() > 50
    assert slots_to_the_next() == 20


def test_bytes_count_as_slots_do_towards_the_next_snapshot() -> None:
    pace = Pace(every_bytes=10_000, every_slots=100, log_bytes=1 << 30)
    pace.applied(9_999)
    assert not pace.due(99, fetched=False)
    assert pace.due(100, fetched=False)
    pace.applied(1)
    assert pace.due(1, fetched=False)
    pace.begun()
    pace.taken(100_000)
    pace.applied(100_000 - 5 * SLOT_BYTES - 1)
    assert not pace.due(5, fetched=False)
    pace.applied(1)
    assert pace.due(5, fetched=False)


def test_a_state_that_is_larger_than_the_log_may_be_is_taken_before_the_log_is_full() -> None:
    pace = Pace(every_bytes=10_000, every_slots=100, log_bytes=4_000_000)
    pace.taken(1 << 30)
    pace.applied(999_999)
    assert not pace.due(1_000, fetched=False)
    pace.applied(1)
    assert pace.due(1_000, fetched=False)


def test_a_setting_above_what_the_log_may_hold_does_not_fill_it() -> None:
    pace = Pace(every_bytes=1 << 40, every_slots=1_000_000, log_bytes=4_000_000)
    pace.applied(999_999)
    assert not pace.due(1, fetched=False)
    pace.applied(1)
    assert pace.due(1, fetched=False)


def test_while_somebody_fetches_the_last_one_the_next_waits_for_half_of_the_log() -> None:
    pace = Pace(every_bytes=10_000, every_slots=100, log_bytes=4_000_000)
    pace.applied(1_999_999)
    assert pace.due(1_000, fetched=False)
    assert not pace.due(1_000, fetched=True)
    pace.applied(1)
    assert pace.due(1_000, fetched=True)


def test_a_state_that_is_larger_than_the_log_may_be_goes_on_taking_commands() -> None:
    cluster = ReplicaCluster(
        size=1,
        snapshot_every_slots=5,
        paxos={
            "log_retain_bytes": 0,
            "max_log_bytes": 256 << 10,
            "max_pending_bytes": 64 << 10,
            "max_batch_bytes": 64 << 10,
        },
    )
    cluster.open_session()
    for number in range(1, 201):  # 4 MB of state
        assert cluster.submit(1, Put(f"k{number}", bytes(20_000)), number) == [Done()]
    assert cluster.replicas[1].snapshot_slot > 150


def test_a_log_that_fills_while_a_snapshot_is_taken_is_compacted_by_the_next_one() -> None:
    """Nothing is applied any more where a log is full, so that cannot be what asks for it."""
    log = {"max_log_bytes": 40_000, "max_pending_bytes": 8_000, "max_batch_bytes": 4_000}
    cluster = ReplicaCluster(3, snapshot_every_slots=8, paxos={**log, "log_retain_bytes": 10_000})
    cluster.held_up = TakeSnapshot
    cluster.open_session()
    sequence = 0

    def put() -> object:
        nonlocal sequence
        sequence += 1
        outcomes = cluster.submit(cluster.leader(), Put(f"k{sequence % 8}", b"x" * 1000), sequence)
        cluster.run(0.02)
        return outcomes[0] if outcomes else None

    while put() == Done():
        assert sequence < 200, "a log has a bound"
    assert all(replica._taking is not None for replica in cluster.replicas.values())
    cluster.held_up = None
    cluster.run(1.0)
    assert put() == Done()


def test_a_log_that_went_on_while_a_snapshot_was_installed_is_compacted_behind_it() -> None:
    cluster = ReplicaCluster(snapshot_every_slots=20)
    late = left_behind(cluster)
    leader = cluster.leader()
    cluster.paxos["log_retain_bytes"] = 0
    cluster.start(late)
    cluster.isolate(late)
    cluster.held_up = StageSnapshot
    replica = cluster.replicas[late]
    replica.receive(Compacted(leader, 1 + replica.paxos.chosen_through), cluster.now)
    cluster.cut.clear()
    cluster.settle()
    assert replica.paxos.receiving[0] > 0
    first = 1 + replica.paxos.chosen_through
    cluster.replicas[leader].receive(CatchUp(late, first), cluster.now)
    cluster.settle()
    assert replica.paxos.chosen_through == cluster.replicas[leader].paxos.chosen_through
    cluster.held_up = None
    cluster.settle()
    assert replica.snapshot_slot >= 40
    assert replica.paxos.log_first_slot == replica.snapshot_slot + 1
    cluster.run(1.0)
    hashes = {each.machine.state_hash() for each in cluster.replicas.values()}
    assert len(hashes) == 1
