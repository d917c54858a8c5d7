"""Changes of members and of the leader, in whole clusters of bare cores."""

from __future__ import annotations

import contextlib

import pytest
from core_cluster import CoreCluster

from consensusllm.paxos import ChangeRefused, NotLeader, RemoveNode, TransferLeader


@pytest.mark.parametrize("seed", range(5))
def test_a_planned_hand_over_takes_one_round_of_prepare(seed: int) -> None:
    delay_s = 0.05
    cluster = CoreCluster(3, seed, delay_s=delay_s, disk_s=0.001)
    leader = cluster.leader()
    cluster.propose(leader, b"x")
    cluster.settle()
    cluster.run(1.0)
    target = leader % 3 + 1
    began, elections = cluster.now, cluster.core(target).elections
    cluster.core(leader).change(TransferLeader(target), cluster.now)
    cluster.pump(leader)
    cluster.run_until(lambda: cluster.leaders() == [target])
    # The word to take over, Prepare and Promise: three ways, of at most 1.5 delays each.
    assert cluster.now - began < 3 * 1.5 * delay_s + 0.01
    assert cluster.core(target).elections == elections + 1


@pytest.mark.parametrize("seed", range(5))
def test_a_chain_of_removals_leaves_one_that_goes_on(seed: int) -> None:
    cluster = CoreCluster(5, seed, loss=0.05, repeat=0.05)
    for expected in (4, 3, 2, 1):
        done = False
        victim = None
        while not done:
            leader = cluster.leader()
            core = cluster.core(leader)
            if victim is None:
                victim = max(core.membership.voters)
            with contextlib.suppress(NotLeader, ChangeRefused):
                done = core.change(RemoveNode(victim), cluster.now).waits_for == ""
            cluster.pump(leader)
            cluster.run(0.05)
        assert len(cluster.core(cluster.leader()).membership.voters) == expected
        assert victim is not None
        cluster.crash(victim)
    cluster.propose_somewhere(b"last")
    cluster.run(0.5)
    assert b"last" in cluster.commands(1)
