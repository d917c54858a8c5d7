"""Members that change under load, on real processes: nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest
from real_cluster import PATIENCE_S, RealCluster, eventually
from test_real_cluster import Counter

from consensusllm.bench.processes import free_ports
from consensusllm.client import ChangeRefused, Client, OutcomeUnknown, Status
from consensusllm.orchestrator.client import FaultRefused


async def add(cluster: RealCluster, client: Client, node: int) -> None:
    """Have the launcher start the node, and make it a member."""
    cluster.addresses[node] = f"127.0.0.1:{free_ports(1)[0]}"
    await cluster.faults.install_node(node, cluster.addresses[node])
    await client.add_node(node, cluster.addresses[node])
    cluster.size += 1


async def remove(cluster: RealCluster, client: Client, node: int) -> None:
    await client.remove_node(node)
    await cluster.faults.retire_node(node)
    del cluster.addresses[node]
    cluster.size -= 1


@pytest.mark.parametrize("direct", [False, True], ids=["orchestrated", "direct"])
async def test_a_node_is_added_and_the_old_leader_killed_and_removed_under_load(
    tmp_path: Path, direct: bool
) -> None:
    async with RealCluster(tmp_path, direct=direct) as cluster:
        client = cluster.client()
        counters = [Counter(client, f"w{number}") for number in range(4)]
        stop = asyncio.Event()
        writers = [asyncio.create_task(counter.run(stop)) for counter in counters]
        await add(cluster, client, 4)
        old = await cluster.leader()
        await cluster.faults.fail_node(old)
        new = await cluster.leader(tuple(node for node in cluster.addresses if node != old))
        await remove(cluster, client, old)
        before = sum(counter.next for counter in counters)

        async def written() -> bool:
            return sum(counter.next for counter in counters) > before + 20

        await eventually(written, "writes after the change")
        stop.set()
        await asyncio.gather(*writers)
        for counter in counters:
            await counter.check()
        status = await cluster.agreement()
        assert {member.node for member in status.members} == set(cluster.addresses)
        assert all(member.voting for member in status.members)
        assert new in cluster.addresses


async def test_the_leader_hands_over_where_it_is_told_and_leaves(tmp_path: Path) -> None:
    async with RealCluster(tmp_path) as cluster:
        client = cluster.client()
        await client.put("k", b"v")
        leader = await cluster.leader()
        successor = leader % 3 + 1
        await client.transfer_leader(successor)
        assert await cluster.leader() == successor
        await remove(cluster, client, successor)
        assert await client.get("k") == b"v"
        await client.create("c1")
        verified = await client.verify("c1")  # of the members, though it knows the removed one too
        assert {copy.node for copy in verified.copies} == {1, 2, 3} - {successor}
        with pytest.raises(ChangeRefused, match="never used again"):
            await client.add_node(successor, "127.0.0.1:1")
        with pytest.raises(ChangeRefused, match="node 9 is no member"):
            await client.remove_node(9)
        with pytest.raises(ChangeRefused, match="node 9 is no member"):
            await client.transfer_leader(9)


async def test_a_client_outlives_every_node_that_it_was_told_of(tmp_path: Path) -> None:
    async with RealCluster(tmp_path) as cluster, Client([cluster.addresses[1]]) as client:
        await client.put("k", b"v")
        await add(cluster, client, 4)
        await remove(cluster, client, 1)
        await client.put("k", b"w")
        for _ in range(2):  # whoever leads, and is spoken to
            leader = await cluster.leader()
            await cluster.faults.fail_node(leader)
            await client.put("k", f"without {leader}".encode(), timeout_s=PATIENCE_S)
            await cluster.faults.fix_node(leader)
        assert await client.get("k") == f"without {leader}".encode()
        assert (await client.status()).node in cluster.addresses


async def test_who_joined_and_who_left_is_known_after_everything_was_killed(
    tmp_path: Path,
) -> None:
    async with RealCluster(tmp_path) as cluster:
        client = cluster.client()
        await client.put("k", b"v")
        await add(cluster, client, 4)
        await remove(cluster, client, 1)
        await cluster.kill_everything()
        await cluster.start()
        status = await cluster.agreement()
        assert {member.node for member in status.members} == {2, 3, 4}
        fresh = cluster.client()
        assert await fresh.get("k") == b"v"
        with pytest.raises(FaultRefused, match="no node 1"):
            await cluster.faults.isolate(1)
        await cluster.faults.fail_node(2)
        await fresh.put("k", b"w")  # two of the three that there are now


async def test_a_node_that_nobody_started_is_waited_for(tmp_path: Path) -> None:
    async with RealCluster(tmp_path) as cluster:
        client = cluster.client()
        with pytest.raises(OutcomeUnknown, match="node 4 to be heard"):
            await client.add_node(4, "127.0.0.1:1", timeout_s=2.0)
        with pytest.raises(ChangeRefused, match="node 4 is joining"):
            await client.remove_node(3)
        await client.put("k", b"v")  # it costs the others nothing
        await client.remove_node(4)


async def test_a_node_that_was_refused_while_another_joined_is_added_later(tmp_path: Path) -> None:
    async with RealCluster(tmp_path) as cluster:
        client = cluster.client()
        with pytest.raises(OutcomeUnknown, match="node 4 to be heard"):
            await client.add_node(4, "127.0.0.1:1", timeout_s=2.0)
        with pytest.raises(ChangeRefused, match="node 4 is joining"):
            await add(cluster, client, 5)
        await cluster.faults.retire_node(5, reusable=True)
        await client.remove_node(4)
        await cluster.kill_everything()
        del cluster.addresses[5]
        await cluster.start()
        client = cluster.client()
        await add(cluster, client, 5)  # on the data that it had
        status = await cluster.agreement()
        assert {member.node for member in status.members if member.voting} == {1, 2, 3, 5}


async def test_a_node_that_was_added_at_an_address_where_it_is_not_says_so(tmp_path: Path) -> None:
    async with RealCluster(tmp_path) as cluster:
        here, there = (f"127.0.0.1:{port}" for port in free_ports(2))
        await cluster.faults.install_node(4, here)
        await cluster.client().add_node(4, there)

        async def told() -> bool:
            return "the cluster has another address for this node" in cluster.log()

        await eventually(told, "the warning of node 4")
        warning = next(line for line in cluster.log().splitlines() if "another address" in line)
        assert f"listens={here}" in warning
        assert f"cluster={there}" in warning


async def test_a_file_with_other_nodes_does_not_change_who_counts(tmp_path: Path) -> None:
    async with RealCluster(tmp_path) as cluster:
        await cluster.client().put("k", b"v")
        await cluster.agreement()
    document = json.loads(cluster.config_path.read_text())
    document["data_dir"] = str(cluster.data_dir)
    document["nodes"].append({"id": 4, "address": f"127.0.0.1:{free_ports(1)[0]}"})
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(document))
    node = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "consensusllm_cli.main", "node", "1", "--config", str(edited)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert node.stderr is not None
    try:
        while b"nodes are not the cluster's" not in (
            line := await asyncio.wait_for(node.stderr.readline(), PATIENCE_S)
        ):
            assert line, "it ended without a word"
        assert b"members=1,2,3" in line
        assert b"configuration=1,2,3,4" in line
    finally:
        node.terminate()
        await node.communicate()


@pytest.mark.parametrize("direct", [False, True], ids=["orchestrated", "direct"])
async def test_who_was_away_for_a_replacement_learns_of_it_from_the_one_that_came(
    tmp_path: Path, direct: bool
) -> None:
    """Nobody else is left who knows of it, and nobody can lead before the other does."""
    async with RealCluster(tmp_path, direct=direct) as cluster:
        client = cluster.client()
        away = await cluster.leader() % 3 + 1
        await cluster.faults.fail_node(away)
        dead, replaced = (node for node in (1, 2, 3) if node != away)
        await add(cluster, client, 4)
        await remove(cluster, client, replaced)
        await client.put("k", b"v")
        await cluster.faults.fail_node(dead)
        await cluster.faults.fix_node(away)
        survivors = cluster.client(away, 4)
        assert await survivors.get("k", timeout_s=PATIENCE_S) == b"v"
        await survivors.put("k", b"w", timeout_s=PATIENCE_S)


@pytest.mark.parametrize("direct", [False, True], ids=["orchestrated", "direct"])
async def test_the_first_node_of_a_cluster_that_has_grown_comes_back_without_its_disk(
    tmp_path: Path, direct: bool
) -> None:
    """Its configuration lists no other, and it is told by the launcher that there are."""
    async with RealCluster(tmp_path, size=1, direct=direct) as cluster:
        client = cluster.client()
        for node in (2, 3):
            await add(cluster, client, node)
        await client.put("k", b"v")
        await cluster.faults.fail_node(1)
        shutil.rmtree(cluster.data_dir / "node-1")
        await cluster.faults.fix_node(1)

        async def votes() -> bool:
            known = (await client.statuses())[cluster.addresses[1]]
            return isinstance(known, Status) and known.role in ("following", "leading")

        await eventually(votes, "the vote of node 1")
        await cluster.faults.fail_node(2)
        await client.put("k", b"w", timeout_s=PATIENCE_S)
        assert await cluster.client(1).get("k", timeout_s=PATIENCE_S) == b"w"
