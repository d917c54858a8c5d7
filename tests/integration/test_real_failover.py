"""Failover of real processes: a leader that dies, nodes far apart, no election without cause."""

from __future__ import annotations

import asyncio
from itertools import combinations
from pathlib import Path

import pytest
from real_cluster import RealCluster, eventually

FAR_MS = 150
"""One way, as over a wide-area link."""


async def ballot_of(cluster: RealCluster, node: int) -> int:
    status = await cluster.status(node)
    assert status is not None
    return status.ballot_seq_num


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "orchestrated"])
async def test_a_leader_that_dies_is_replaced_long_before_it_would_be_given_up(
    tmp_path: Path, direct: bool
) -> None:
    patient = {"election_timeout_ms": 6_000}
    async with RealCluster(tmp_path, direct=direct, paxos=patient) as cluster:
        client = cluster.client()
        await client.put("k", b"before")
        leader = await cluster.leader()
        loop = asyncio.get_running_loop()
        killed_at = loop.time()
        await cluster.faults.fail_node(leader)
        await client.put("k", b"after")
        assert loop.time() - killed_at < patient["election_timeout_ms"] / 1000
        assert await client.get("k") == b"after"


async def test_nodes_far_apart_serve_without_elections_and_fail_over(tmp_path: Path) -> None:
    async with RealCluster(tmp_path) as cluster:
        client = cluster.client()
        await client.put("k", b"near")
        for a, b in combinations(cluster.addresses, 2):
            await cluster.faults.delay(a, b, FAR_MS)
        await client.put("k", b"far")
        leader = await cluster.leader()
        before = await ballot_of(cluster, leader)
        for number in range(8):
            await client.put("k", b"%d" % number)
            assert await client.get("k") == b"%d" % number
        assert await cluster.leader() == leader
        assert await ballot_of(cluster, leader) == before
        await cluster.faults.fail_node(leader)
        await client.put("k", b"after")
        assert await client.get("k") == b"after"
        others = tuple(node for node in cluster.addresses if node != leader)
        assert await cluster.leader(among=others) != leader
        await cluster.faults.fix_node(leader)
        await cluster.agreement()


async def test_a_cluster_under_load_holds_no_election(tmp_path: Path) -> None:
    async with RealCluster(tmp_path) as cluster:
        client = cluster.client()
        leader = await cluster.leader()
        before = await ballot_of(cluster, leader)
        stop = asyncio.Event()
        written = 0

        async def write(name: str) -> None:
            nonlocal written
            while not stop.is_set():
                await client.put(name, bytes(256))
                written += 1

        writers = [asyncio.create_task(write(f"w{number}")) for number in range(128)]

        async def enough() -> bool:
            return written >= 20_000

        await eventually(enough, "20,000 writes")
        stop.set()
        await asyncio.gather(*writers)
        assert await cluster.leader() == leader
        assert await ballot_of(cluster, leader) == before
