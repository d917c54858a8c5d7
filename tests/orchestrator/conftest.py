"""A cluster's network on loopback: an orchestrator, nodes that only record, a fault client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from consensusllm.orchestrator import (
    FaultsClient,
    RunningServer,
    TraceEvent,
    serve_orchestrator,
)
from consensusllm.transport import MAX_MESSAGE_BYTES, Envelope, RelayedTransport

MEMBERS = (1, 2, 3)
TOKEN = "sesame"


async def until(condition: Callable[[], bool], what: str = "", timeout_s: float = 10.0) -> None:
    """Wait until ``condition`` holds; fails after ``timeout_s``."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"never came: {what or condition}"
        await asyncio.sleep(0.005)


class Node:
    """One attached node: ``inbox`` is what arrived, in order."""

    def __init__(self, server: RunningServer, node: int, cluster_id: str = "c") -> None:
        self.transport = RelayedTransport(server.address, cluster_id, node, MEMBERS)
        self.inbox: list[Envelope] = []

    async def start(self) -> None:
        await self.transport.start(self.inbox.append)

    def bodies(self) -> list[bytes]:
        return [envelope.body for envelope in self.inbox if envelope.kind == "test"]


class Cluster:
    """``events`` is the trace of everything since the cluster was up."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.nodes = {node: Node(server, node) for node in MEMBERS}
        self.client = FaultsClient(server.address, TOKEN)
        self.events: list[TraceEvent] = []
        self._tracer: asyncio.Task[None] | None = None
        self._probes = 0

    async def start(self) -> None:
        for node in self.nodes.values():
            await node.start()
        await self.connected()

    async def connected(self) -> None:
        await until(lambda: all(n.transport.connected() for n in self.nodes.values()), "attached")

    def send(self, src: int, dst: int, body: bytes, kind: str = "test") -> None:
        self.nodes[src].transport.send(dst, kind, body)

    async def settled(self, src: int) -> None:
        """Until the orchestrator has dealt with all that ``src`` sent (its stream is in order)."""
        await self.fates([(src, dst) for dst in MEMBERS if dst != src])

    async def fates(self, pairs: list[tuple[int, int]]) -> dict[tuple[int, int], str]:
        """Send one message over each of ``pairs`` and tell what became of it."""
        await self.trace()
        self._probes += 1
        kind = f"probe {self._probes}"
        for src, dst in pairs:
            self.send(src, dst, b"", kind)
        seen: dict[tuple[int, int], str] = {}

        def all_seen() -> bool:
            seen.update({(e.src, e.dst): e.fate for e in self.events if e.kind == kind})
            return len(seen) == len(pairs)

        await until(all_seen, f"fates of {pairs}")
        return seen

    async def trace(self) -> None:
        """Record the trace from now on."""
        if self._tracer is not None:
            return

        async def collect() -> None:
            async for event in self.client.trace():
                self.events.append(event)

        self._tracer = asyncio.ensure_future(collect())

        def seen() -> bool:
            self.send(1, 2, b"", "ping")
            return bool(self.events)

        await until(seen, "the trace")

    async def stop(self) -> None:
        if self._tracer is not None:
            self._tracer.cancel()
            await asyncio.gather(self._tracer, return_exceptions=True)
        await self.client.close()
        for node in self.nodes.values():
            await node.transport.close()
        await self.server.stop()


@pytest.fixture
async def cluster(request) -> AsyncIterator[Cluster]:
    bound = getattr(request, "param", MAX_MESSAGE_BYTES)
    running = Cluster(
        await serve_orchestrator("127.0.0.1:0", "c", MEMBERS, TOKEN, max_message_bytes=bound)
    )
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    running = await serve_orchestrator(
        "127.0.0.1:0", "c", MEMBERS, TOKEN, max_message_bytes=64 * 1024
    )
    yield running
    await running.stop()


@pytest.fixture
def wait_until() -> Callable[..., object]:
    return until


@pytest.fixture
async def make_node() -> AsyncIterator[Callable[..., Node]]:
    async with contextlib.AsyncExitStack() as stack:

        def make(server: RunningServer, node: int, cluster_id: str = "c") -> Node:
            made = Node(server, node, cluster_id)
            stack.push_async_callback(made.transport.close)
            return made

        yield make
