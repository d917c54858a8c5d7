"""How soon a follower that was killed is back: kill -9, writes that it misses, and its start.

Time runs from the start of its process. It *serves* when it answers on its port, and is *back* when
it has applied what the leader had applied when it was started.
"""

from __future__ import annotations

import asyncio
import time

import grpc.aio

from consensusllm.client import ConsensusError

from .processes import BenchError
from .system import NODES, Networked, Observer
from .work import Work

OUTSTANDING = 256
WITHIN_S = 120.0
POLL_S = 0.005
ANSWER_S = 1.0


async def measure(system: Networked, missed_puts: int) -> dict[str, float]:
    leader = await system.leader()
    follower = next(node for node in NODES if node != leader)
    await system.kill(follower)
    await system.closed_loop(Work("put", OUTSTANDING, count=missed_puts))
    observer = system.observer(leader)
    try:
        wanted = await observer.applied(ANSWER_S)
    finally:
        await observer.close()
    begin = time.perf_counter()
    await system.begin(follower)
    await _until_it_listens(system, follower, begin)
    observer = system.observer(follower)
    try:
        serving_ms = 0.0
        while True:
            applied = await _applied(observer)
            if applied is not None and not serving_ms:
                serving_ms = (time.perf_counter() - begin) * 1e3
            if applied is not None and applied >= wanted:
                back_ms = (time.perf_counter() - begin) * 1e3
                return {"serving_ms": serving_ms, "back_ms": back_ms}
            _check(system, begin)
            await asyncio.sleep(POLL_S)
    finally:
        await observer.close()


async def _applied(observer: Observer) -> int | None:
    """None: it does not answer yet."""
    try:
        return await observer.applied(ANSWER_S)
    except (ConsensusError, grpc.aio.AioRpcError):
        return None


async def _until_it_listens(system: Networked, node: int, begin: float) -> None:
    """Without gRPC, whose connections wait longer and longer before they try again."""
    host, _, port = system.address(node).rpartition(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            _check(system, begin)
            await asyncio.sleep(POLL_S)
        else:
            writer.close()
            return


def _check(system: Networked, begin: float) -> None:
    system.children.check()
    if time.perf_counter() > begin + WITHIN_S:
        raise BenchError(f"a follower that was started again is not back within {WITHIN_S:g} s")
