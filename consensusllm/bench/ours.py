"""Our own cluster: its nodes as processes of their own, driven by the Python client.

Without the launcher, whose looking after the nodes would cost a little of what is measured.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from consensusllm.client import Client, Status
from consensusllm.config import Config

from .plan import FLOOR, OWN_CLUSTER, STARTING, WORKLOADS
from .processes import BenchError, Children, free_ports
from .system import NODES, Networked, until
from .work import Work

ANSWERS = 3
PATIENCE_S = 30.0


class Ours(Networked):
    """``program`` is the command line that ``node`` and ``orchestrator`` are added to."""

    def __init__(self, program: Sequence[str], *, direct: bool) -> None:
        super().__init__()
        self.name = "direct" if direct else "orchestrated"
        self.workloads = frozenset(WORKLOADS) - {FLOOR, STARTING}
        if not direct:
            self.workloads -= set(OWN_CLUSTER)
        self.script: dict[str, object] = {}
        """The options of the scripted models, where it is started."""
        self.concurrency = 4
        """How many candidates a node answers at once."""
        self._direct = direct
        self._program = tuple(program)
        self._conversations = 0
        self.steps_s: dict[str, list[float]] = defaultdict(list)
        """How long each call of the conversations took, since it was last emptied."""

    async def start(self, directory: Path) -> None:
        self.children = Children(directory)
        ports = free_ports(len(NODES) + 1)
        self._addresses = {node: f"127.0.0.1:{ports[node]}" for node in NODES}
        document = {
            "cluster_id": "bench",
            "network": "direct" if self._direct else "orchestrated",
            "data_dir": str(directory / "data"),
            "orchestrator": {"address": f"127.0.0.1:{ports[0]}"},
            "nodes": [
                {
                    "id": node,
                    "address": address,
                    "models": [{"provider": "scripted", "options": self.script}],
                }
                for node, address in self._addresses.items()
            ],
            "answering": {"concurrency": self.concurrency},
        }
        Config.from_document(document, source="the bench's configuration")
        self._config_path = directory / "cluster.json"
        self._config_path.write_text(json.dumps(document), encoding="utf-8")
        if not self._direct:
            await self._start("orchestrator", "orchestrator")
        for node in NODES:
            await self._start(f"node-{node}", "node", str(node), "--bootstrap")
        await self._all_up()

    async def _start(self, name: str, *command: str) -> None:
        arguments = [*self._program, *command, "--config", str(self._config_path)]
        await self.children.start(name, arguments)

    @property
    def addresses(self) -> list[str]:
        """The nodes', in the order of their ids."""
        return list(self._addresses.values())

    def address(self, node: int) -> str:
        return self._addresses[node]

    def observer(self, node: int) -> _Observer:
        return _Observer(self._addresses[node])

    async def elections(self) -> int:
        """How many elections its nodes have begun since they were started."""

        def counted(statuses: list[Status]) -> tuple[int] | None:
            everyone = len(statuses) == len(NODES)
            return (sum(one.elections for one in statuses),) if everyone else None

        (count,) = await self._statuses(counted, "not all of our nodes answer")
        return int(count)

    def client(self, *, first: int | None = None, timeout_s: float = PATIENCE_S) -> Client:
        """A client of all nodes, which asks the node ``first`` first."""
        nodes = sorted(NODES, key=lambda node: node != first)
        return Client([self._addresses[node] for node in nodes], timeout_s=timeout_s)

    async def connect(self, count: int) -> list[Client]:
        leader = await self.leader()
        clients = [self.client(first=leader) for _ in range(count)]
        await asyncio.gather(*(one.put("bench/ready", b"") for one in clients))
        return clients

    async def persistent_writer(self) -> Client:
        [client] = await self.connect(1)
        return client

    async def leader(self) -> int:
        def leader_of(statuses: list[Status]) -> int | None:
            return next((one.node for one in statuses if one.role == "leading"), None)

        return int(await self._statuses(leader_of, "no node of ours leads"))

    async def begin(self, node: int) -> None:
        await self._start(f"node-{node}", "node", str(node))

    async def restart(self, node: int) -> None:
        await self.begin(node)
        await self._all_up()

    async def _all_up(self) -> None:
        """Wait until one node leads, the others follow it, and all have applied the same."""

        def up(statuses: list[Status]) -> bool:
            roles = sorted(status.role for status in statuses)
            through = {status.applied_slot for status in statuses}
            return roles == ["following", "following", "leading"] and len(through) == 1

        await self._statuses(up, "our nodes are not all up")

    async def _statuses(self, condition: Callable[[list[Status]], Any], what: str) -> Any:
        async with self.client(timeout_s=2.0) as client:

            async def ask() -> Any:
                found = (await client.statuses(timeout_s=1.0)).values()
                return condition([one for one in found if isinstance(one, Status)])

            return await until(ask, what, self.children)

    # Conversations ----------------------------------------------------------------------------

    def operation(
        self, work: Work, connections: Sequence[Any]
    ) -> Callable[[int, int], Awaitable[None]]:
        if work.kind != "turn":
            return super().operation(work, connections)
        self._conversations += 1
        prefix = f"bench-{self._conversations}"

        async def turn(worker: int, number: int) -> None:
            await self._turn(connections[worker % len(connections)], f"{prefix}-{number}")

        return turn

    async def _turn(self, client: Client, conversation: str) -> None:
        """One user's turn: create, query until all have answered, choose, and view."""
        before = time.perf_counter()

        def step(name: str) -> None:
            nonlocal before
            now = time.perf_counter()
            self.steps_s[name].append(now - before)
            before = now

        await client.create(conversation)
        step("create")
        asked = await client.query(conversation, "What is consensus?")
        step("query")
        answered = [one.number for one in asked.candidates if one.text]
        if len(answered) != ANSWERS:
            raise BenchError(f"{len(answered)} of {ANSWERS} nodes answered {conversation}")
        await client.choose(conversation, answered[0])
        step("choose")
        viewed = await client.view(conversation)
        step("view")
        if viewed.turns[0].choice != answered[0]:
            raise BenchError(f"{conversation} does not show the choice that was made")


class _Observer:
    """Asks one node, over a connection of its own, how far it is."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client = Client([address], timeout_s=PATIENCE_S)

    async def applied(self, timeout_s: float) -> int:
        return (await self._client.status(self._address, timeout_s=timeout_s)).applied_slot

    async def close(self) -> None:
        await self._client.close()
