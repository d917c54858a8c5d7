"""Owns the real cluster of a drill: `consensusllm up` as a child process, and all that it started.

The launcher hangs on a lifeline that only this process holds, and its children on one of its own:
however a drill ends, kill -9 included, all of them end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from async_timeout import timeout

from consensusllm.client import Client, ConsensusError, Status
from consensusllm.orchestrator.client import FaultsClient
from consensusllm.storage.identity import DATABASE

from . import processes
from .scenario import CLUSTER_ID, Scenario

READY_S = 60.0
STOP_S = 20.0
PORT_TRIES = 5
REPLACED_MAX = 4
"""Nodes that one drill may replace: their ports are kept free."""
PORTS = range(10_000, 32_000)
"""Below those that the kernel takes for outgoing connections."""


class DrillError(Exception):
    """The drill could not go on. One line that says why."""


class LocalCluster:
    """The cluster of ``scenario`` in ``directory``, where its data, logs and configuration are.

    ``program`` is the command line that ``up`` and its arguments are added to.
    """

    def __init__(self, scenario: Scenario, directory: Path, program: Sequence[str]) -> None:
        self.nodes = tuple(range(1, scenario.nodes + 1))
        self._replaced = 0
        self._scenario = scenario
        self._program = tuple(program)
        self._data_dir = directory / "data"
        self._log_path = directory / "up.log"
        self._config_path = directory / "cluster.json"
        self._base_port = 0
        self._launcher: asyncio.subprocess.Process | None = None
        self._faults: FaultsClient | None = None
        self._observer: Client | None = None
        self._observers: list[Client] = []  # the former ones too: one may be asking still
        self._paused: dict[int, int] = {}
        self._lifeline, self._held_open = os.pipe()

    @property
    def running(self) -> bool:
        return self._launcher is not None

    @property
    def faults(self) -> FaultsClient:
        """Raises DrillError where nothing runs."""
        if self._faults is None:
            raise DrillError("nothing runs that a fault could be injected into: startAll first")
        return self._faults

    def address(self, node: int) -> str:
        return f"127.0.0.1:{self._base_port + node}"

    def node_dir(self, node: int) -> Path:
        return self._data_dir / f"node-{node}"

    def files(self, node: int) -> list[Path]:
        """The node's database and its journal, those that are there."""
        both = [self.node_dir(node) / name for name in (DATABASE, f"{DATABASE}-wal")]
        return [path for path in both if path.exists()]

    def client(self, node: int | None, start: int, timeout_s: float) -> Client:
        """A client that is pinned to ``node``, or else roams and begins at the ``start``-th."""
        if node is not None:
            return Client([self.address(node)], pinned=True, timeout_s=timeout_s)
        addresses = [self.address(one) for one in self.nodes]
        first = start % len(addresses)
        return Client(addresses[first:] + addresses[:first], timeout_s=timeout_s)

    async def statuses(self, timeout_s: float = 1.0) -> dict[int, Status | None]:
        """What each node says of itself; None where it does not within ``timeout_s``."""
        if self._observer is None:
            self._observer = self.client(None, 0, timeout_s)
            self._observers.append(self._observer)
        nodes = self.nodes  # one may be replaced meanwhile
        found = await self._observer.statuses(timeout_s=timeout_s)
        answers = {node: found[self.address(node)] for node in nodes}
        return {
            node: answer if isinstance(answer, Status) else None for node, answer in answers.items()
        }

    async def status(self, node: int, timeout_s: float = 1.0) -> Status | None:
        """What the node says of itself, a member or not; None where it does not in time."""
        async with self.client(node, 0, timeout_s) as client:
            found = await client.statuses(timeout_s=timeout_s)
        answer = found[self.address(node)]
        return answer if isinstance(answer, Status) else None

    # Processes --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything, on the same ports and data as before, and wait until it is ready.

        Raises DrillError.
        """
        first = self._base_port == 0
        for attempt in range(PORT_TRIES):
            if first:
                self._base_port = _free_ports(len(self.nodes) + 1 + REPLACED_MAX)
                document = self._scenario.document(self._base_port, self._data_dir)
                self._config_path.write_text(json.dumps(document, indent=2), encoding="utf-8")
            try:
                await self._start()
                return
            except _PortTaken:
                if not first or attempt == PORT_TRIES - 1:
                    raise

    async def _start(self) -> None:
        arguments = ["--lifeline", str(self._lifeline), "up"]
        arguments += ["--config", str(self._config_path), "--data-dir", str(self._data_dir)]
        with self._log_path.open("ab") as log:
            launcher = await asyncio.create_subprocess_exec(
                *self._program,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                pass_fds=(self._lifeline,),
                start_new_session=True,
            )
        self._launcher = launcher
        assert launcher.stdout is not None
        try:
            async with timeout(READY_S):
                line = await launcher.stdout.readline()
        except asyncio.TimeoutError:
            raise DrillError(f"the cluster was not ready within {READY_S:g} s") from None
        if not line.startswith(b"ready:"):
            await launcher.communicate()
            self._launcher = None
            words = self._last_words()
            kind = _PortTaken if " is in use: " in words else DrillError
            raise kind(f"the cluster did not start: {words}")
        self._faults = FaultsClient(f"127.0.0.1:{self._base_port}", cluster_id=CLUSTER_ID)

    async def stop(self) -> None:
        """End every process, and close what is open to them. None is left when this returns."""
        launcher = self._launcher
        try:
            await self._hang_up()
            for observer in self._observers:
                await observer.close()
            for node in list(self._paused):
                self.resume(node)
            if launcher is not None and launcher.returncode is None:
                launcher.terminate()
                async with timeout(STOP_S):
                    await launcher.communicate()
        except asyncio.TimeoutError:
            pass
        finally:
            self.kill_now()
            for descriptor in (self._lifeline, self._held_open):
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        if launcher is not None:
            await launcher.communicate()

    def kill_now(self) -> list[int]:
        """Send SIGKILL to all nodes, the orchestrator and the launcher; their process ids."""
        killed = [pid for node, pid in self._paused.items() if self._is_node(pid, node)]
        self._paused.clear()
        launcher = self._launcher
        if launcher is not None and launcher.returncode is None:
            # The launcher is the last: while it lives its children can be found.
            killed += [one.pid for one in processes.children(launcher.pid)] + [launcher.pid]
        for pid in killed:
            processes.send(pid, signal.SIGKILL)
        return killed

    async def kill_all(self) -> None:
        """`kill_now`, and wait until all of them have gone."""
        killed = self.kill_now()
        launcher, self._launcher = self._launcher, None
        await self._hang_up()
        if launcher is not None:
            await launcher.communicate()
        deadline = time.monotonic() + STOP_S
        while any(map(processes.alive, killed)):
            if time.monotonic() > deadline:
                raise DrillError("processes outlived kill -9: look at them with ps")
            await asyncio.sleep(0.02)

    async def replace(self, node: int, timeout_s: float) -> int:
        """Add a node of the next number, then remove ``node``, whose process lives on; the new
        number.

        Raises DrillError, FaultRefused.
        """
        if self._replaced == REPLACED_MAX:
            raise DrillError(f"a drill replaces {REPLACED_MAX} nodes at most")
        self._replaced += 1
        new = self._scenario.nodes + self._replaced
        await self.faults.install_node(new, self.address(new))
        async with self._changing(timeout_s) as client:
            await client.replace_node(node, new, self.address(new), timeout_s=timeout_s)
        self.nodes = tuple(sorted({*self.nodes, new} - {node}))
        self._observer = None  # the next one asks the nodes of now
        return new

    async def retire(self, node: int) -> None:
        """End the process of a node that was replaced, for good. Raises FaultRefused."""
        await self.faults.retire_node(node)
        self._paused.pop(node, None)

    async def transfer(self, node: int, timeout_s: float) -> None:
        """Have the leader hand over to ``node``. Raises DrillError."""
        async with self._changing(timeout_s) as client:
            await client.transfer_leader(node, timeout_s=timeout_s)

    @contextlib.asynccontextmanager
    async def _changing(self, timeout_s: float) -> AsyncIterator[Client]:
        try:
            async with self.client(None, 0, timeout_s) as client:
                yield client
        except ConsensusError as error:
            raise DrillError(str(error)) from None

    def pause(self, node: int) -> bool:
        """SIGSTOP the node's process; false where it does not run or is paused already."""
        pid = self.node_pid(node)
        if pid is None or node in self._paused:
            return False
        processes.send(pid, signal.SIGSTOP)
        self._paused[node] = pid
        return True

    def resume(self, node: int) -> bool:
        """SIGCONT the node's process; false where it is not paused."""
        pid = self._paused.pop(node, None)
        if pid is None or not self._is_node(pid, node):
            return False
        processes.send(pid, signal.SIGCONT)
        return True

    async def kill(self, node: int) -> None:
        """Kill the node as by kill -9. Raises FaultRefused."""
        await self.faults.fail_node(node)
        self._paused.pop(node, None)

    def node_pid(self, node: int) -> int | None:
        """The node's process; None where it does not run."""
        if self._launcher is None:
            return None
        for one in processes.children(self._launcher.pid):
            if _command(one.arguments)[:2] == ("node", str(node)):
                return one.pid
        return None

    def _is_node(self, pid: int, node: int) -> bool:
        """Whether the process is that node of this cluster: once it has gone, its number may be
        anybody's."""
        one = processes.find(pid)
        if one is None or _command(one.arguments)[:2] != ("node", str(node)):
            return False
        return any(word.startswith(str(self._data_dir)) for word in one.arguments)

    async def _hang_up(self) -> None:
        faults, self._faults = self._faults, None
        if faults is not None:
            await faults.close()

    def _last_words(self) -> str:
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").split("\n")
        words = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return words.removeprefix("consensusllm: ")


class _PortTaken(DrillError):
    """Another process was faster."""


def _command(arguments: Sequence[str]) -> tuple[str, ...]:
    """What follows ``--lifeline FD``: the command and its arguments."""
    if "--lifeline" not in arguments:
        return ()
    return tuple(arguments[arguments.index("--lifeline") + 2 :])


def _free_ports(count: int) -> int:
    """The first of ``count`` ports in a row that are free."""
    chooser = random.SystemRandom()
    for _ in range(1000):
        base = chooser.randrange(PORTS.start, PORTS.stop - count)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + count):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise DrillError("there are no free ports: end what uses them")
