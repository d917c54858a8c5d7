"""etcd as its distribution packages it: three members, defaults, driven by unary calls over gRPC.

Calls go to the leader, which is the best place for them: a follower would have to forward.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
import time
from pathlib import Path

import grpc
import grpc.aio

from .etcd_api import Member
from .processes import BenchError, Children, free_ports
from .system import NODES, Networked, until

PROGRAM = "etcd"
TUNED = ("--heartbeat-interval", "50", "--election-timeout", "250")
TRY_S = 0.2
"""What a member gets for a try when writes have to outlive a leader: etcd holds a write that found
no leader for seconds, and a program that is in a hurry asks another member."""
PAUSE_S = 0.01


def missing() -> str | None:
    """Why it cannot be measured here; None where it can."""
    if shutil.which(PROGRAM) is None:
        return "etcd is not installed: apt-get install etcd-server, or your system's like"
    return None


def version() -> str:
    """The first line of what it says of itself."""
    said = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=False)
    return said.stdout.partition("\n")[0].removeprefix("etcd Version: ").strip()


class Etcd(Networked):
    """``tuned`` makes it notice a dead leader sooner than by default; only that is measured."""

    def __init__(self, *, tuned: bool = False) -> None:
        super().__init__()
        self.name = "etcd-tuned" if tuned else "etcd"
        self.workloads = frozenset({"failover"} if tuned else {"puts", "reads"})
        if not tuned:
            self.workloads |= {"connections", "failover", "memory", "catch-up"}
        self._settings = TUNED if tuned else ()

    async def start(self, directory: Path) -> None:
        self.children = Children(directory)
        self._directory = directory
        ports = free_ports(2 * len(NODES))
        self._ports = dict(zip(NODES, zip(ports[::2], ports[1::2], strict=True), strict=True))
        self._observers = {node: self.observer(node) for node in NODES}
        for node in NODES:
            await self.begin(node)
        await until(self._all_up, "etcd's members are not all up", self.children)

    async def stop(self) -> None:
        await asyncio.gather(*(one.close() for one in self._observers.values()))
        await super().stop()

    def address(self, node: int) -> str:
        return f"127.0.0.1:{self._ports[node][0]}"

    def observer(self, node: int) -> Member:
        return Member(self.address(node))

    async def begin(self, node: int) -> None:
        peers = {each: f"http://127.0.0.1:{self._ports[each][1]}" for each in NODES}
        clients = f"http://{self.address(node)}"
        arguments = {
            "--name": f"node-{node}",
            "--data-dir": str(self._directory / "data" / f"node-{node}"),
            "--listen-client-urls": clients,
            "--advertise-client-urls": clients,
            "--listen-peer-urls": peers[node],
            "--initial-advertise-peer-urls": peers[node],
            "--initial-cluster": ",".join(f"node-{each}={url}" for each, url in peers.items()),
            "--initial-cluster-state": "new",
        }
        words = itertools.chain(*arguments.items(), self._settings)
        await self.children.start(f"node-{node}", [PROGRAM, *words])

    async def leader(self) -> int:
        async def leading() -> int | None:
            for node in NODES:
                if await self._leads(node):
                    return node
            return None

        return int(await until(leading, "no member of etcd leads", self.children))

    async def _leads(self, node: int) -> bool | None:
        """None: it does not answer."""
        try:
            return await self._observers[node].leads(1.0)
        except grpc.aio.AioRpcError:
            return None

    async def _all_up(self) -> bool:
        answers = [await self._leads(node) for node in NODES]
        return True in answers and None not in answers

    async def restart(self, node: int) -> None:
        await self.begin(node)
        await until(self._all_up, "etcd's members are not all up", self.children)

    async def connect(self, count: int) -> list[Member]:
        address = self.address(await self.leader())
        members = [Member(address) for _ in range(count)]
        await asyncio.gather(*(one.get("bench/ready") for one in members))
        return members

    async def persistent_writer(self) -> Persistent:
        leader = await self.leader()
        order = sorted(NODES, key=lambda node: node != leader)
        return Persistent([Member(self.address(node)) for node in order])


class Persistent:
    """Tries a put on one member after the other until it is acknowledged."""

    def __init__(self, members: list[Member]) -> None:
        self._members = members
        self._current = 0

    async def put(self, key: str, value: bytes) -> None:
        deadline = time.monotonic() + 60.0
        while True:
            current = self._current
            try:
                await self._members[current].put(key, value, TRY_S)
                return
            except grpc.aio.AioRpcError as error:
                if time.monotonic() > deadline:
                    raise BenchError(f"etcd takes no writes: {error.details()}") from None
                if current == self._current:
                    self._current = (current + 1) % len(self._members)
                await asyncio.sleep(PAUSE_S)

    async def get(self, key: str) -> bytes | None:
        return await self._members[self._current].get(key)

    async def close(self) -> None:
        await asyncio.gather(*(one.close() for one in self._members))
