"""A real cluster for tests: `consensusllm up` in a child process, on free ports and a real disk."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from consensusllm.bench.processes import free_ports
from consensusllm.client import Client, Status
from consensusllm.client.errors import ConsensusError
from consensusllm.orchestrator.client import FaultsClient

PATIENCE_S = 60.0
"""How long a condition may take on a busy machine before the test gives it up."""


async def eventually(
    condition: Callable[[], Awaitable[Any]], what: str, patience_s: float = PATIENCE_S
) -> Any:
    """Wait until ``condition`` returns something true; that is the result."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience_s
    while True:
        found = await condition()
        if found:
            return found
        assert loop.time() < end, f"not within {patience_s} s: {what}"
        await asyncio.sleep(0.05)


class RealCluster:
    """``settings`` overrides keys of the configuration; ``models`` the models of every node."""

    def __init__(
        self,
        directory: Path,
        size: int = 3,
        *,
        direct: bool = False,
        models: list[dict[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        self.directory = directory
        self.size = size
        ports = free_ports(size + 1)
        self.addresses = {i: f"127.0.0.1:{ports[i]}" for i in range(1, size + 1)}
        self.orchestrator = f"127.0.0.1:{ports[0]}"
        config = {
            "cluster_id": "test",
            "network": "direct" if direct else "orchestrated",
            "nodes": [
                {"id": i, "address": address, "models": models or [{"provider": "builtin"}]}
                for i, address in self.addresses.items()
            ],
            "orchestrator": {"address": self.orchestrator},
            **settings,
        }
        directory.mkdir(parents=True, exist_ok=True)
        self.config_path = directory / "cluster.conf.json"
        self.config_path.write_text(json.dumps(config))
        self.data_dir = directory / "data"
        self.process: asyncio.subprocess.Process | None = None
        self.clients: list[Client] = []
        self.faults: FaultsClient

    async def __aenter__(self) -> RealCluster:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            await client.close()
        await self.stop()

    async def start(self) -> None:
        """Start everything and wait for the line that says that it is ready."""
        with open(self.directory / "up.log", "ab") as log:  # noqa: ASYNC230 (tests)
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "consensusllm_cli.main", "up"),
                *("--config", str(self.config_path), "--data-dir", str(self.data_dir)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE_S)
        assert line.startswith(b"ready:"), (line, self.log())
        self.faults = FaultsClient(self.orchestrator)

    async def stop(self) -> None:
        """End the launcher as Ctrl-C does; its children end with it."""
        await self.faults.close()
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(self.process.wait(), PATIENCE_S)
            except asyncio.TimeoutError:
                os.killpg(self.process.pid, signal.SIGKILL)
                raise
        await self.process.communicate()

    async def kill_everything(self) -> None:
        """kill -9 of launcher, orchestrator and all nodes at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.communicate()
        await self.faults.close()

    def log(self) -> str:
        logs = sorted((self.data_dir / "logs").glob("*.log"))
        return "\n".join(
            f"== {path.name}\n{path.read_text()[-3000:]}"
            for path in [self.directory / "up.log", *logs]
            if path.exists()
        )

    def client(self, *nodes: int, pinned: bool = False, timeout_s: float = 30.0) -> Client:
        """A client of all nodes, or of ``nodes``; closed with the cluster."""
        addresses = [self.addresses[node] for node in nodes or self.addresses]
        client = Client(addresses, pinned=pinned, timeout_s=timeout_s)
        self.clients.append(client)
        return client

    async def status(self, node: int) -> Status | None:
        """What ``node`` says of itself; None where it does not answer."""
        try:
            async with Client([self.addresses[node]], pinned=True, timeout_s=2.0) as client:
                return await client.status()
        except ConsensusError:
            return None

    async def leader(self, among: tuple[int, ...] | None = None) -> int:
        """Wait for one of ``among`` (all) to lead, and who."""

        async def leads() -> int | None:
            for node in among or self.addresses:
                status = await self.status(node)
                if status is not None and status.role == "leading":
                    return node
            return None

        found: int = await eventually(leads, "somebody leads")
        return found

    async def all_up(self) -> None:
        """Wait until every node answers and follows or leads."""

        async def up() -> bool:
            statuses = [await self.status(node) for node in self.addresses]
            return all(
                status is not None and status.role in ("leading", "following")
                for status in statuses
            )

        await eventually(up, "every node is up")

    async def everybody_is_live(self) -> None:
        """Wait until every node knows that the leader hears all: a query then asks them all."""

        async def live() -> bool:
            statuses = [await self.status(node) for node in self.addresses]
            return all(
                status is not None and all(member.live for member in status.members)
                for status in statuses
            )

        await eventually(live, "the leader hears every node, and they know")

    async def all_registered(self) -> None:
        """Wait until every node has told the others of the models that it serves."""

        async def registered() -> bool:
            statuses = [await self.status(node) for node in self.addresses]
            return all(
                status is not None
                and {each.name for each in status.models if each.served}
                == {each.served.name for node, each in status.registry if node == status.node}
                for status in statuses
            )

        await eventually(registered, "every node has told of its models")

    async def agreement(self) -> Status:
        """Wait until all nodes have applied the same slot; their hashes must be equal then."""

        async def agree() -> list[Status] | None:
            statuses = [await self.status(node) for node in self.addresses]
            known = [status for status in statuses if status is not None]
            slots = {status.applied_slot for status in known}
            return known if len(known) == self.size and len(slots) == 1 else None

        statuses = await eventually(agree, "all nodes have applied the same slot")
        assert len({status.state_hash for status in statuses}) == 1, statuses
        agreed: Status = statuses[0]
        return agreed
