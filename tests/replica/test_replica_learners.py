"""A node that learns is given a vote only where its disk writes: the others may need that vote."""

from __future__ import annotations

from typing import Any

import pytest
from replica_cluster import ReplicaCluster

from consensusllm.conversations.commands import Put
from consensusllm.conversations.replies import Done
from consensusllm.paxos import AddNode, NotLeader, Role
from consensusllm.replica.replica import Replica


class Hanging(ReplicaCluster):
    """The disks of ``hang`` end no write."""

    hang: frozenset[int] = frozenset()

    def _next_job(self, replica: Replica) -> Any:
        return None if replica.node in self.hang else super()._next_job(replica)


def add(cluster: Hanging, node: int) -> str:
    """Ask for it for five seconds; what it then waits for."""
    waits = "a leader"
    for _ in range(100):
        for replica in [*cluster.replicas.values()]:
            if replica.role is Role.LEADING:
                try:
                    waits = replica.change(AddNode(node, f"node-{node}:1"), cluster.now).waits_for
                except NotLeader:
                    waits = "a leader"
        cluster.run(0.05)
    return waits


def one_of_three_is_dead() -> tuple[Hanging, int]:
    """A cluster that writes on, and one of those that live, before another node is added."""
    cluster = Hanging()
    cluster.open_session()
    leader = cluster.leader()
    cluster.crash(next(node for node in cluster.ids if node != leader))
    assert cluster.submit(leader, Put("a", b"1"), 1) == [Done()]
    cluster.install(4)
    return cluster, leader


@pytest.mark.parametrize("hangs", [False, True])
def test_a_learner_whose_disk_hangs_is_given_no_vote(hangs: bool) -> None:
    cluster, living = one_of_three_is_dead()
    cluster.hang = frozenset({4} if hangs else ())
    assert (add(cluster, 4) == "") == (not hangs)
    voters = cluster.replicas[living].paxos.membership.voters
    assert voters == ((1, 2, 3) if hangs else (1, 2, 3, 4))
    outcomes = cluster.submit(living, Put("a", b"2"), 2, timeout_s=20.0)
    cluster.run(20.0)
    assert outcomes == [Done()]


def test_a_learner_whose_disk_hung_is_given_a_vote_with_another_disk() -> None:
    cluster, living = one_of_three_is_dead()
    cluster.hang = frozenset({4})
    add(cluster, 4)
    cluster.crash(4)
    cluster.hang = frozenset()
    cluster.platters[4].lose()
    cluster.platters[4].format(incarnation=1 << 61, voting=False)
    cluster.start(4)
    assert add(cluster, 4) == ""
    assert cluster.replicas[living].paxos.membership.voters == (1, 2, 3, 4)
