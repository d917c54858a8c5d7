"""PySyncObj, a Raft in Python that is a library: its client is inside a node (`pysyncobj_node`).

It keeps everything in memory, so its figures are without any disk. Batching is off: with it, which
is the default, a write waits for a tick of 100 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from async_timeout import timeout

from .processes import BenchError, Children, free_ports
from .system import GAP_S, NODES, READY_S, System, until
from .work import Timings, Work

LIBRARY = "pysyncobj"
SLOWEST_PER_SECOND = 200


def missing() -> str | None:
    """Why it cannot be measured here; None where it can."""
    if importlib.util.find_spec(LIBRARY) is None:
        return "PySyncObj is not installed: pip install pysyncobj"
    return None


def version() -> str:
    return importlib.metadata.version(LIBRARY)


class PySyncObj(System):
    """The loops run in the leader's process, those of a failover in a follower's."""

    name = "PySyncObj"
    workloads = frozenset({"puts", "failover", "memory"})
    notes = (
        "PySyncObj keeps nothing on disk, runs its client inside a node, and has no linearizable "
        "read; its batching is off.",
    )

    async def start(self, directory: Path) -> None:
        self.children = Children(directory)
        ports = free_ports(len(NODES))
        self._addresses = [f"127.0.0.1:{port}" for port in ports]
        self._pipes: dict[int, asyncio.subprocess.Process] = {}
        self._numbers = itertools.count()
        for node in NODES:
            await self._start(node)
        await until(self._all_up, "PySyncObj's nodes are not all up", self.children)

    async def _start(self, node: int) -> None:
        own = self._addresses[node - 1]
        others = [address for address in self._addresses if address != own]
        arguments = [sys.executable, "-m", f"{__package__}.pysyncobj_node", own, *others]
        self._pipes[node] = await self.children.start(f"node-{node}", arguments, talks=True)

    async def _ask(self, node: int, within_s: float = READY_S, **request: Any) -> Any:
        """The answer of a node's process to one request."""
        number = next(self._numbers)
        line = json.dumps({"number": number, **request}).encode()
        self.children.say(f"node-{node}", line)
        answer = None
        with contextlib.suppress(asyncio.TimeoutError):
            async with timeout(within_s):
                answer = await self._answer(node, number)
        if answer is None:
            words = self.children.last_words(f"node-{node}")
            raise BenchError(f"PySyncObj's node {node} does not answer: {words}")
        if "error" in answer:
            raise BenchError(f"PySyncObj: {answer['error']}")
        return answer["result"]

    async def _answer(self, node: int, number: int) -> dict[str, Any] | None:
        """The answer to this request, behind those to requests that were given up; None: it ended
        without."""
        stdout = self._pipes[node].stdout
        assert stdout is not None
        while line := await stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            if answer["number"] == number:
                return answer
        return None

    async def _all_up(self) -> bool:
        """Whether all nodes agree on a leader and are linked with each other."""
        states = [await self._ask(node, do="state") for node in self._pipes]
        leaders = {state["leader"] for state in states}
        linked = all(state["linked"] == len(NODES) - 1 for state in states)
        return linked and len(leaders) == 1 and None not in leaders

    async def leader(self) -> int:
        async def leading() -> int | None:
            for node in self._pipes:
                state = await self._ask(node, do="state")
                if state["leader"] == self._addresses[node - 1]:
                    return node
            return None

        return int(await until(leading, "no node of PySyncObj leads", self.children))

    async def closed_loop(self, work: Work) -> Timings:
        leader = await self.leader()
        patience_s = READY_S + work.warm_s + work.seconds + work.count / SLOWEST_PER_SECOND
        return Timings(**await self._ask(leader, patience_s, do="puts", work=work.document()))

    async def values(self, keys: list[str]) -> dict[str, bytes]:
        """What the leader's own copy has of each key."""
        found = await self._ask(await self.leader(), do="values", keys=keys)
        return {name: bytes.fromhex(text) for name, text in found.items()}

    async def writes(self, kill_at: float, kill: Callable[[], Awaitable[None]]) -> list[float]:
        leader = await self.leader()
        follower = next(node for node in self._pipes if node != leader)
        asking = asyncio.ensure_future(
            self._ask(follower, GAP_S + READY_S, do="writes", kill_at=kill_at)
        )
        try:
            await asyncio.sleep(max(0.0, kill_at - time.monotonic()))
            await kill()
            completions: list[float] = await asking
            return completions
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def kill(self, node: int) -> None:
        del self._pipes[node]
        await super().kill(node)

    async def restart(self, node: int) -> None:
        await self._start(node)
        await until(self._all_up, "PySyncObj's nodes are not all up", self.children)
