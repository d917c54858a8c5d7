"""Flow control between real processes: a follower that does not read costs the others nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from real_cluster import RealCluster, eventually

MESSAGE_BYTES = 2 << 20
QUEUE_BYTES = 2 * MESSAGE_BYTES
VALUE = bytes(16 << 10)
WRITES = 800
"""Of 16 KiB: three times what may wait for one peer."""

SMALL = {
    "limits": {
        "question_bytes": 256 << 10,
        "answer_bytes": 256 << 10,
        "value_bytes": 256 << 10,
        "message_bytes": MESSAGE_BYTES,
    }
}


def process_of(cluster: RealCluster, node: int) -> int:
    """The process id of ``node``."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                of_node = ("node", str(node)) in pairwise(words)
                if of_node and str(cluster.directory) in " ".join(words):
                    return int(entry.name)
    raise AssertionError(f"no process of node {node}")


@contextlib.contextmanager
def stopped(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "orchestrated"])
async def test_a_stopped_follower_holds_up_nobody_fills_no_memory_and_catches_up(
    tmp_path: Path, direct: bool
) -> None:
    async with RealCluster(tmp_path, direct=direct, **SMALL) as cluster:
        client = cluster.client()
        await client.put("ready", b"")
        leader = await cluster.leader()
        victim = next(node for node in cluster.addresses if node != leader)
        numbers = iter(range(WRITES))
        queued: list[int] = []

        async def write() -> None:
            for number in numbers:
                await client.put(f"k{number:04d}", VALUE)

        async def look() -> None:
            while True:
                status = await cluster.status(leader)
                if status is not None:
                    queued.extend(m.queued_bytes for m in status.members if m.node == victim)
                await asyncio.sleep(0.02)

        with stopped(process_of(cluster, victim)):
            looking = asyncio.create_task(look())
            await asyncio.gather(*(write() for _ in range(32)))

            async def looked() -> bool:
                return bool(queued)

            await eventually(looked, "the leader's queue was looked at")
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            assert await cluster.leader() == leader
        assert max(queued) <= QUEUE_BYTES
        assert len(await client.keys("k")) == WRITES
        await cluster.agreement()


async def test_a_slow_link_to_a_follower_holds_up_nobody(tmp_path: Path) -> None:
    async with RealCluster(tmp_path, **SMALL) as cluster:
        client = cluster.client()
        await client.put("ready", b"")
        leader = await cluster.leader()
        slow = next(node for node in cluster.addresses if node != leader)
        hour_ms = 3_600_000
        await cluster.faults.delay(leader, slow, hour_ms)
        numbers = iter(range(WRITES // 4))

        async def write() -> None:
            for number in numbers:
                await client.put(f"k{number:04d}", VALUE)

        await asyncio.gather(*(write() for _ in range(32)))
        await cluster.faults.delay(leader, slow, 0)
        await cluster.agreement()
