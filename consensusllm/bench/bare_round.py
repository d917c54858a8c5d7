"""The least of a replicated log: a leader and followers who commit what comes, and nothing else.

No ballots, no state machine, no sessions, no checks, nothing that could take over: what gRPC,
SQLite and the machine take for one durable write on a majority of three, in processes that sleep
and wake as a cluster's do. As a program it is one of the three, until it is killed::

    python -m consensusllm.bench.bare_round ADDRESS DATABASE [FOLLOWER FOLLOWER]

With the addresses of two followers it leads.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio

from .echo import METHOD, OPTIONS, Stream, run, serve


class Log:
    """A table in the mode in which a node's disk is; a write is one transaction and one sync."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE log (slot INTEGER PRIMARY KEY, data BLOB)",
        ):
            self._database.execute(statement).fetchall()

    def write(self, data: bytes) -> None:
        self._database.execute("INSERT INTO log (data) VALUES (?)", (data,))


def follower(log: Log) -> Stream:
    """Answers each message, once it is on the disk, with its slot."""

    async def follow(messages: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        slot = 0
        async for message in messages:
            slot += 1
            log.write(message)
            yield b"%d" % slot

    return follow


def leader(log: Log, followers: list[str]) -> Stream:
    """Sends each message back once two of three have it on the disk."""

    async def lead(messages: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        calls: list[Any] = []
        slot = 0
        voted = asyncio.Event()

        async def count(call: Any) -> None:
            while (vote := await call.read()) is not grpc.aio.EOF:
                if int(vote) == slot:
                    voted.set()

        for address in followers:
            channel = grpc.aio.insecure_channel(address, options=OPTIONS)
            calls.append(channel.stream_stream(METHOD)(wait_for_ready=True))
        counts = [asyncio.create_task(count(call)) for call in calls]
        async for message in messages:
            slot += 1
            voted.clear()
            for call in calls:
                await call.write(message)
            log.write(message)
            await voted.wait()
            yield message
        for task in counts:
            task.cancel()

    return lead


def main(address: str, database: str, *followers: str) -> None:
    log = Log(Path(database))
    run(serve(address, leader(log, list(followers)) if followers else follower(log)))


if __name__ == "__main__":
    main(*sys.argv[1:])
