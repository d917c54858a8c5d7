"""Members that change, with state and disk: snapshots, restarts, and what a client was told."""

from __future__ import annotations

from typing import Any

import pytest
from replica_cluster import ReplicaCluster

from consensusllm.conversations import MalformedSnapshot, restore
from consensusllm.conversations.commands import Put
from consensusllm.conversations.replies import Done
from consensusllm.paxos import (
    AddNode,
    Change,
    ChangeProgress,
    ChangeRefused,
    NotLeader,
    RemoveNode,
    Role,
    TransferLeader,
    first_members,
)
from consensusllm.replica.jobs import snapshot_chunks
from consensusllm.replica.members import from_extra, to_extra
from consensusllm.replica.outcomes import Failure
from consensusllm.service.changes import step
from consensusllm.wire.generated import client_pb2 as pb


def done(cluster: ReplicaCluster, change: Change, seconds: float = 10.0) -> None:
    """Ask the leader for ``change`` until it is done."""
    end = cluster.now + seconds
    while cluster.now < end:
        try:
            if not cluster.replicas[cluster.leader()].change(change, cluster.now).waits_for:
                return
        except NotLeader:
            pass
        cluster.settle()
        cluster.run(0.05)
    raise AssertionError(f"{change} is not done")


def write(cluster: ReplicaCluster, count: int, first: int = 1) -> None:
    for number in range(first, first + count):
        cluster.run(0.02)
        assert cluster.submit(cluster.leader(), Put(f"k{number}", b"v"), number) == [Done()]


def test_a_node_that_joins_by_a_snapshot_counts_as_one_that_applied_the_log() -> None:
    cluster = ReplicaCluster(snapshot_every_slots=5, paxos={"log_retain_bytes": 0})
    cluster.open_session()
    write(cluster, 20)
    cluster.install(4)
    done(cluster, AddNode(4, "h:4"))
    cluster.run(0.5)
    joined = cluster.replicas[4]
    assert joined.snapshot_slot > 0
    assert joined.role is Role.FOLLOWING
    assert joined.members == cluster.replicas[1].members
    assert joined.members.voters == (1, 2, 3, 4)
    assert joined.machine.get("k20") == b"v"


def test_members_survive_a_restart_from_log_and_from_snapshot() -> None:
    cluster = ReplicaCluster(snapshot_every_slots=1000)
    cluster.open_session()
    cluster.install(4)
    done(cluster, AddNode(4, "h:4"))
    done(cluster, RemoveNode(1))
    leader = cluster.leader()
    for take in (False, True):
        cluster.run(1.0)
        if take:
            cluster.replicas[leader].take_snapshot()
            cluster.settle()
        cluster.crash(leader)
        cluster.start(leader)
        assert cluster.replicas[leader].paxos.membership.voters == (2, 3, 4)
        assert cluster.replicas[leader].paxos.membership.removed == (1,)


def test_a_snapshot_has_the_members_of_its_own_slot() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    cluster.install(4)
    done(cluster, AddNode(4, "h:4"))
    replica = cluster.replicas[cluster.leader()]
    replica.take_snapshot()
    cluster.settle()
    disk = cluster.disks[replica.node]
    held = restore(snapshot_chunks(disk, replica.snapshot_slot), replica.config.limits)
    assert from_extra(held.extra) == (replica.members, replica.members_since)
    assert 0 < replica.members_since <= replica.snapshot_slot


@pytest.mark.parametrize(
    "extra", [{}, {"membership": 1, "since": 0}, {"membership": "x", "since": 0}]
)
def test_a_snapshot_without_members_is_malformed(extra: dict[str, object]) -> None:
    with pytest.raises(MalformedSnapshot):
        from_extra(extra)
    assert from_extra(to_extra(first_members((1, 2)), 7)) == (first_members((1, 2)), 7)


def test_commands_that_wait_at_a_leader_that_hands_over_are_answered_once() -> None:
    cluster = ReplicaCluster(paxos={"pipeline_slots": 1})
    cluster.open_session()
    cluster.run(0.2)
    old = cluster.leader()
    target = cluster.follower()
    outcomes = []
    replica = cluster.replicas[old]
    for number in range(1, 6):
        command, decoded = cluster.packed(Put("k", b"%d" % number), number)
        replica.submit(command, decoded, cluster.now + 5, outcomes.append, cluster.now)
    replica.pump()  # the first is in a slot, the others wait for one
    replica.change(TransferLeader(target), cluster.now)
    cluster.run(0.5)
    assert cluster.leader() == target
    assert outcomes == [Done()] * 5
    assert cluster.replicas[target].machine.get("k") == b"5"


def test_a_dead_node_can_be_replaced_while_only_a_majority_is_left() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    cluster.leader()
    dead = 3 if cluster.leader() != 3 else 1
    cluster.crash(dead)
    cluster.run(1.5)
    cluster.install(4)
    done(cluster, AddNode(4, "h:4"))
    with pytest.raises(ChangeRefused):
        cluster.replicas[cluster.leader()].change(AddNode(5, "h:4"), cluster.now)
    done(cluster, RemoveNode(dead))
    write(cluster, 3)
    assert cluster.replicas[4].machine.get("k3") == b"v"


class Asked:
    """What `changes.step` needs of a node's runtime, driven by the cluster's time."""

    def __init__(self, cluster: ReplicaCluster, node: int) -> None:
        self._cluster = cluster
        self._node = node
        self.replica = cluster.replicas[node]

    def change(self, change: Change) -> ChangeProgress:
        return self.replica.change(change, self._cluster.now)

    async def barrier(self, timeout_s: float) -> Failure | None:
        outcomes = self._cluster.read(self._node, timeout_s=timeout_s)
        while not outcomes:
            self._cluster.run(0.01)
        return outcomes[0]

    async def answer(self, request: pb.ChangeRequest) -> pb.ChangeReply:
        runtime: Any = self
        return await step(runtime, request, {1: "h:1", 2: "h:2", 3: "h:3"})


@pytest.mark.parametrize("asked_for", ["the deposed one", "the one that leads"])
async def test_a_deposed_leader_calls_no_change_done_or_refused(asked_for: str) -> None:
    cluster = ReplicaCluster()
    old = cluster.leader()
    cluster.run(1.0)
    cluster.isolate(old)
    while (new := cluster.leader()) == old:
        cluster.run(0.01)
    assert cluster.replicas[old].role is Role.LEADING, "it has not noticed"
    wanted = pb.TransferLeader(node=old if asked_for == "the deposed one" else new)
    reply = await Asked(cluster, old).answer(pb.ChangeRequest(transfer=wanted))
    assert reply.outcome == pb.ChangeReply.NOT_LEADER
    asking = Asked(cluster, new)
    request = pb.ChangeRequest(transfer=pb.TransferLeader(node=new))
    while (reply := await asking.answer(request)).outcome == pb.ChangeReply.UNDER_WAY:
        cluster.run(0.05)
    assert reply.outcome == pb.ChangeReply.DONE


async def test_a_leader_far_away_from_the_others_calls_a_change_done_all_the_same() -> None:
    cluster = ReplicaCluster()
    leader = cluster.leader()
    cluster.run(1.0)
    waited: list[float] = []

    class Slow(Asked):
        async def barrier(self, timeout_s: float) -> Failure | None:
            waited.append(timeout_s)
            return await super().barrier(timeout_s)

    request = pb.ChangeRequest(transfer=pb.TransferLeader(node=leader))
    reply = await Slow(cluster, leader).answer(request)
    assert reply.outcome == pb.ChangeReply.DONE
    assert waited == [cluster.replicas[leader].paxos.patience_s]
    cluster.replicas[leader].paxos._timing.told_round_trip(3000)
    await Slow(cluster, leader).answer(request)
    assert waited[1] > 3.0


async def test_the_leader_is_told_which_asking_a_step_is_of() -> None:
    cluster = ReplicaCluster()
    leader = Asked(cluster, cluster.leader())
    waits = []
    for asked in (1, 2, 1):
        request = pb.ChangeRequest(remove=pb.RemoveNode(node=cluster.follower(), asked=asked))
        waits.append((await leader.answer(request)).message)
    assert waits[:2] == ["the members to vote"] * 2
    assert waits[2].startswith("a vote of node")


async def test_a_change_that_is_no_change_is_refused_by_any_node() -> None:
    cluster = ReplicaCluster()
    request = pb.ChangeRequest(remove=pb.RemoveNode(node=0))
    reply = await Asked(cluster, cluster.follower()).answer(request)
    assert reply.outcome == pb.ChangeReply.REFUSED
    assert "give one from 1 on" in reply.message
