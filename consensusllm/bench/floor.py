"""The floor: what the disk, gRPC and the event loop cost by themselves on this machine, right now.

No replicated write can be quicker than `put_us`: the client's message to the leader and back, the
leader's to a follower and back, and one sync of the disk, as leader and follower sync at once. That
is by parts, each in a tight loop; `bare_us` is all of it at once, in processes that take turns on
the machine's cores (see `bare_round`).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc.aio
from async_timeout import timeout

from .echo import METHOD, OPTIONS
from .processes import BenchError, Children, free_ports
from .work import value

NAMES = {
    "fdatasync_us": "fdatasync of a 256-byte append",
    "commit_us": "one-row SQLite commit (WAL, synchronous=FULL)",
    "ping_us": "grpc.aio stream ping-pong of 256 bytes",
    "ping_64_us": "the same, 64 times as many bytes",
    "hop_us": "hop to an executor thread and back",
    "put_us": "floor of a put: two ping-pongs and one fdatasync",
    "bare_us": "a bare put: leader, two followers, a SQLite commit each, and nothing else",
}
CONNECT_S = 10.0


async def measure(directory: Path, count: int) -> dict[str, float]:
    """The medians of ``count`` of each, in microseconds, by the names of `NAMES`."""
    children = Children(directory)
    try:
        figures = {
            "fdatasync_us": _fdatasync(directory, count),
            "commit_us": _commit(directory, count),
            **await _ping(children, count),
            "hop_us": await _hop(count),
            "bare_us": await _bare(children, directory, count),
        }
    finally:
        await children.stop()
    return figures | {"put_us": put_us(figures)}


def put_us(figures: Mapping[str, float]) -> float:
    """The least that a replicated, durable put can take."""
    return 2 * figures["ping_us"] + figures["fdatasync_us"]


def _median_us(action: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(count):
        before = time.perf_counter()
        action()
        times.append(time.perf_counter() - before)
    return statistics.median(times) * 1e6


def _fdatasync(directory: Path, count: int) -> float:
    descriptor = os.open(directory / "appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append() -> None:
        os.write(descriptor, value(0))
        os.fdatasync(descriptor)

    try:
        return _median_us(append, count)
    finally:
        os.close(descriptor)


def _commit(directory: Path, count: int) -> float:
    connection = sqlite3.connect(directory / "floor.db", isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE log (slot INTEGER PRIMARY KEY, data BLOB)")
        row = (value(0),)
        return _median_us(
            lambda: connection.execute("INSERT INTO log (data) VALUES (?)", row), count
        )
    finally:
        connection.close()


async def _hop(count: int) -> float:
    loop = asyncio.get_running_loop()
    times = []
    for _ in range(count):
        before = time.perf_counter()
        await loop.run_in_executor(None, time.perf_counter)
        times.append(time.perf_counter() - before)
    return statistics.median(times) * 1e6


async def _ping(children: Children, count: int) -> dict[str, float]:
    """With a server in a process of its own, as the nodes are."""
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    await children.start("echo", [sys.executable, "-m", f"{__package__}.echo", address])
    return {
        "ping_us": await _median_round_us(children, "echo", address, value(0), count),
        "ping_64_us": await _median_round_us(children, "echo", address, value(0) * 64, count),
    }


async def _bare(children: Children, directory: Path, count: int) -> float:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    program = [sys.executable, "-m", f"{__package__}.bare_round"]
    for number, address in enumerate(addresses):
        database = str(directory / f"bare-{number}.db")
        followers = addresses[1:] if number == 0 else []
        await children.start(f"bare-{number}", [*program, address, database, *followers])
    return await _median_round_us(children, "bare-0", addresses[0], value(0), count)


async def _median_round_us(
    children: Children, name: str, address: str, message: bytes, count: int
) -> float:
    """From the sending of ``message`` to the child ``name`` until its answer is here."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        call: Any = channel.stream_stream(METHOD)(wait_for_ready=True, timeout=600.0)

        async def ask() -> float:
            before = time.perf_counter()
            await call.write(message)
            if await call.read() is grpc.aio.EOF:
                raise BenchError(f"{name} ended the stream")
            return time.perf_counter() - before

        try:
            async with timeout(CONNECT_S):
                await ask()
            return statistics.median([await ask() for _ in range(count)]) * 1e6
        except (grpc.aio.AioRpcError, asyncio.TimeoutError):
            raise BenchError(f"{name}: {children.last_words(name)}") from None
        finally:
            call.cancel()
