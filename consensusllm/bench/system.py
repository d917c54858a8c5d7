"""The port between the measurements and the systems that are measured, and what those that are
driven over a network share: the loops.

A system is started afresh for each run of the bench, on free ports of loopback, with its data below
the directory that it is given, and ends with everything that it started.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from . import gaps
from .processes import BenchError, Children
from .work import Timings, Work, closed_loop, key, value

NODES = (1, 2, 3)
READY_S = 60.0
GAP_S = 30.0
"""How long writes may stay away after a kill before that is given up."""
GAP_WRITERS = 16
POLL_S = 0.02

Say = Callable[[str], None]
"""Tells a person how far a long measurement is."""


class Connection(Protocol):
    """One connection to a system, by which calls go to its leader."""

    async def put(self, key: str, value: bytes) -> None: ...

    async def get(self, key: str) -> bytes | None:
        """A linearizable read."""
        ...

    async def close(self) -> None: ...


class Observer(Protocol):
    """One connection to one node, by which it is asked about itself."""

    async def applied(self, timeout_s: float) -> int:
        """The number of the last log entry that it has applied. Raises the client's own errors."""
        ...

    async def close(self) -> None: ...


class System(ABC):
    """One cluster of three nodes. Methods raise BenchError, and `closed_loop` the client's own."""

    name: str
    workloads: frozenset[str]
    """What it is measured with."""
    notes: tuple[str, ...] = ()
    """What a reader of its figures must know."""

    def __init__(self) -> None:
        self.children: Children

    @property
    def processes(self) -> dict[str, int]:
        """Its processes by their names: ``node-1`` and so on, and others."""
        return self.children.pids

    @abstractmethod
    async def start(self, directory: Path) -> None:
        """Start it, and wait until it has a leader and all its nodes."""

    @abstractmethod
    async def leader(self) -> int:
        """Wait for a leader, and who."""

    @abstractmethod
    async def closed_loop(self, work: Work) -> Timings:
        """Do the work, from this process where the system allows."""

    @abstractmethod
    async def writes(self, kill_at: float, kill: Callable[[], Awaitable[None]]) -> list[float]:
        """Write in a closed loop, call ``kill`` at ``kill_at``, and go on until writes have
        settled (see `gaps`). Returns when each was acknowledged, on the monotonic clock."""

    @abstractmethod
    async def restart(self, node: int) -> None:
        """Start a node that was killed, and wait until it takes part again."""

    async def kill(self, node: int) -> None:
        """kill -9."""
        await self.children.kill(f"node-{node}")

    async def stop(self) -> None:
        await self.children.stop()


class Networked(System):
    """A system whose clients are of this process, and reach it over gRPC."""

    @abstractmethod
    async def connect(self, count: int) -> Sequence[Connection]:
        """``count`` separate connections to the leader; to be closed by the caller."""

    @abstractmethod
    def address(self, node: int) -> str:
        """Where clients reach a node."""

    @abstractmethod
    def observer(self, node: int) -> Observer:
        """Asks this node; to be closed by the caller."""

    @abstractmethod
    async def begin(self, node: int) -> None:
        """Start the process of a node that was killed, and return at once."""

    @abstractmethod
    async def persistent_writer(self) -> Connection:
        """A client whose ``put`` outlives the death of a leader, as a user would want it."""

    async def closed_loop(self, work: Work) -> Timings:
        connections = await self.connect(work.connections or 1)
        try:
            return await closed_loop(self.operation(work, connections), work)
        finally:
            await asyncio.gather(*(one.close() for one in connections))

    def operation(
        self, work: Work, connections: Sequence[Any]
    ) -> Callable[[int, int], Awaitable[None]]:
        """The call that the loop makes."""
        count = len(connections)

        async def put(worker: int, number: int) -> None:
            await connections[worker % count].put(key(number), value(number))

        async def get(worker: int, number: int) -> None:
            if await connections[worker % count].get(key(number)) is None:
                raise BenchError(f"{self.name} has lost the key {key(number)}")

        return {"put": put, "get": get}[work.kind]

    async def writes(self, kill_at: float, kill: Callable[[], Awaitable[None]]) -> list[float]:
        completions: list[float] = []
        writer = await self.persistent_writer()

        async def write(number: int) -> None:
            while True:
                await writer.put(key(number), value(number))
                completions.append(time.monotonic())

        tasks = [asyncio.ensure_future(write(number)) for number in range(GAP_WRITERS)]
        try:
            await asyncio.sleep(max(0.0, kill_at - time.monotonic()))
            await kill()
            while not gaps.settled(completions, kill_at, time.monotonic()):
                for task in tasks:
                    if task.done():
                        task.result()
                if time.monotonic() > kill_at + GAP_S:
                    raise BenchError(f"writes did not come back within {GAP_S:g} s")
                await asyncio.sleep(POLL_S)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await writer.close()
        return completions


async def until(
    condition: Callable[[], Awaitable[Any]],
    what: str,
    children: Children,
    within_s: float = READY_S,
) -> Any:
    """Wait until ``condition`` returns something true; that is the result. Raises BenchError when
    it does not in time, or when a child ends by itself meanwhile."""
    deadline = time.monotonic() + within_s
    while True:
        found = await condition()
        if found:
            return found
        children.check()
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {within_s:g} s")
        await asyncio.sleep(POLL_S)
