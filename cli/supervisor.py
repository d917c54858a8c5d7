"""One run of a cluster on this machine: from its first process to its last.

It starts the children, says when there is a leader, kills and restarts nodes as the fault commands
order, reports a child that dies by itself (and does not start it again: a drill wants it dead), and
ends everything on Ctrl-C, SIGTERM or the end of its terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from consensusllm.config import Config, split_address
from consensusllm.logs import configure

from . import terminal
from .launcher import ORCHESTRATOR, Arguments, Launcher, LauncherError, in_words, node_name
from .logtail import LogTail
from .probe import Prober
from .record import DataDirError, Record
from .signals import heeded
from .standing import leader_of

if TYPE_CHECKING:
    from consensusllm.orchestrator import Order

READY_S = 30.0
FIX_S = 10.0
LEADER_S = 5.0
"""How long one may be waited for that says who is a member: a removal may change who leads."""
POLL_S = 0.05
PROBE_S = 1.0
"""How long a node may take to say that it serves: it has much to do as it starts."""


class ClusterEnded(Exception):
    """The cluster could not be brought up, or cannot go on. One line that says what to do."""


@dataclass(frozen=True)
class Plan:
    """What to run: the checked configuration, the file that the children read, and where they
    write. ``record`` says which nodes there are beside those of the configuration, and ``keep``
    remembers it for the next run. ``repl`` runs the REPL on this terminal."""

    config: Config
    config_path: Path
    log_dir: Path
    record: Record
    keep: Callable[[Record], None]
    repl: bool = False
    verbose: bool = False


def command_line(plan: Plan, lifeline: int, *command: str) -> list[str]:
    """A command of this program, as a child of this process."""
    verbose = ["--verbose"] if plan.verbose else []
    program = [sys.executable, "-m", f"{__package__}.main", "--lifeline", str(lifeline)]
    return [*program, *verbose, *command, "--config", str(plan.config_path)]


def child_arguments(plan: Plan, joined: Mapping[int, str], running: Sequence[int]) -> Arguments:
    """The command lines of the orchestrator and of the nodes, which are ``running``; ``joined`` are
    the addresses of those that the configuration does not list."""

    def arguments(name: str, lifeline: int) -> Sequence[str]:
        if name == ORCHESTRATOR:
            gone = (f"--without={node}" for node in plan.record.retired)
            return command_line(plan, lifeline, name, *gone)
        node = name.removeprefix("node-")
        if int(node) in joined:
            return command_line(plan, lifeline, "node", node, "--join", joined[int(node)])
        unlisted = joined and list(running) != [int(node)]
        return command_line(plan, lifeline, "node", node, *(["--rejoin"] if unlisted else []))

    return arguments


class Cluster:
    """Runs a plan. ``arguments`` are those of the real children unless others are given."""

    def __init__(self, plan: Plan, arguments: Arguments | None = None) -> None:
        self._plan = plan
        self._config = plan.config
        self._record = plan.record
        self._joined = dict(plan.record.joined)
        self._ids = list(plan.record.running(node.id for node in plan.config.nodes))
        self._direct = plan.config.network == "direct"
        self._launcher = Launcher(
            arguments or child_arguments(plan, self._joined, self._ids),
            plan.log_dir,
            self._report_death,
        )
        self._warnings = LogTail(self._say)
        self._attached = asyncio.Event()
        self._signalled = asyncio.Event()
        self._signal: int | None = None
        self._terminal_is_lent = False
        self._is_ready = False
        self._output: TextIO = sys.stderr

    async def run(self) -> int:
        """Run until told to stop, and return the exit status; no child is left then.

        Raises ClusterEnded, LauncherError, and what the fault commands' server or client raise.
        """
        with heeded(self._take_signal):
            async with contextlib.AsyncExitStack() as stack:
                configure("warning", verbose=self._plan.verbose)
                stack.push_async_callback(self._launcher.stop)
                prober = await stack.enter_async_context(Prober(self._config.client_token))
                if not self._direct:
                    await self._launcher.start(ORCHESTRATOR)
                for node in self._ids:
                    await self._launcher.start(node_name(node))
                work = [self._until_signalled(), self._serve(prober), self._obey(prober)]
                if not self._plan.repl:
                    work.append(self._show_warnings())
                return await _first_of(*work)

    async def _serve(self, prober: Prober) -> int:
        """Say who leads, then go on while there is a network, and a REPL that the terminal is lent
        to, where there is to be one."""
        leader = await self._leader(prober)
        self._is_ready = True
        nodes = "1 node" if len(self._ids) == 1 else f"{len(self._ids)} nodes"
        way = "direct links, faults" if self._direct else "orchestrator"
        with contextlib.suppress(OSError):
            print(f"ready: {nodes}, leader {leader}, {way} {self._config.orchestrator.address}")
            sys.stdout.flush()
        if self._plan.repl:
            return await _first_of(self._lend_terminal(), self._until_network_ends())
        return await self._until_network_ends()

    async def _until_network_ends(self) -> int:
        while self._direct or self._launcher.running(ORCHESTRATOR):
            await self._launcher.changed()
        raise ClusterEnded("the orchestrator died, so the cluster was ended: start it again")

    async def _lend_terminal(self) -> int:
        """Run the REPL here until it ends; what there is to say meanwhile goes to a file."""
        log = (self._plan.log_dir / "launcher.log").open("a", encoding="utf-8")
        with terminal.kept():
            self._terminal_is_lent, self._output = True, log
            configure("warning", verbose=self._plan.verbose, stream=log)
            try:
                return await self._launcher.run_in_foreground(
                    lambda lifeline: command_line(self._plan, lifeline, "repl")
                )
            except asyncio.CancelledError:
                terminal.leave_prompt()
                raise
            finally:
                self._terminal_is_lent, self._output = False, sys.stderr
                configure("warning", verbose=self._plan.verbose)
                with contextlib.suppress(OSError):  # of a full disk, which is tried once more
                    log.close()

    async def _leader(self, prober: Prober) -> int:
        """Wait until a node leads and the fault commands reach this launcher."""
        addresses = [self._address(node) for node in self._ids]
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            running = [node for node in self._ids if self._launcher.running(node_name(node))]
            if not self._direct and not self._launcher.running(ORCHESTRATOR):
                raise ClusterEnded("the orchestrator did not start: see the line above")
            if 2 * len(running) <= len(self._ids):
                raise ClusterEnded("too few nodes started for a majority: see the lines above")
            leader = leader_of((await prober.statuses(addresses)).values())
            if leader is not None and self._attached.is_set():
                return leader
            await asyncio.sleep(POLL_S)
        raise ClusterEnded(f"no leader within {READY_S:g} s: see the logs in {self._plan.log_dir}")

    async def _obey(self, prober: Prober) -> int:
        """Kill, start, install and retire nodes as the fault commands say."""
        from consensusllm.client import Unauthenticated
        from consensusllm.orchestrator import FaultsClient, serve_faults

        address = self._config.orchestrator.address
        secret = self._config.orchestrator.token
        token = secret.reveal() if secret else None

        async def obey(order: Order) -> None:
            try:
                if order.join:
                    await self._install(order.node, order.join, prober)
                elif order.retire:
                    await self._retire(order.node, order.reusable, prober)
                else:
                    await (self._fix(order.node, prober) if order.start else self._fail(order.node))
            except Unauthenticated as error:  # of a stranger at a node's address
                raise _refusal(error) from None

        async with contextlib.AsyncExitStack() as stack:
            if self._direct:
                cluster_id = self._config.cluster_id
                server = await serve_faults(address, self._ids, token, cluster_id=cluster_id)
                stack.push_async_callback(server.stop)
            client = await stack.enter_async_context(FaultsClient(address, token))
            await client.processes(self._ids, obey, on_attached=self._attached.set)
        raise AssertionError("orders are obeyed until this is cancelled")

    def _address(self, node: int) -> str:
        return self._joined.get(node) or self._config.node(node).address

    async def _install(self, node: int, address: str, prober: Prober) -> None:
        """Start a new node, which waits to be added, and remember it."""
        try:
            split_address(address)
        except ValueError as error:
            raise _refusal(error) from None
        if self._joined.get(node) == address and self._launcher.running(node_name(node)):
            self._remember_joined()  # it was started before, and perhaps that could not be kept
            return
        if node in self._record.retired:
            raise _refusal(f"node {node} was removed, and its number is never used again")
        if node in self._ids:
            raise _refusal(f"node {node} is there already: take another number")
        self._joined[node] = address
        self._ids.append(node)
        self._follow_log(node)
        try:
            await self._start(node, prober)
        except BaseException:
            self._ids.remove(node)
            del self._joined[node]
            raise
        self._remember_joined()
        self._say(f"node {node} was started to join, at {address}")

    async def _retire(self, node: int, reusable: bool, prober: Prober) -> None:
        """End a node's process for good; or forget the node, whose data stay for the next time."""
        if node not in self._ids:
            raise _refusal(f"no process of node {node} is run here")
        if reusable and node not in self._joined:
            raise _refusal(f"node {node} was no new one: the cluster began with it")
        await self._refuse_a_member(node, prober)
        if reusable:
            joined = {each: at for each, at in self._joined.items() if each != node}
            self._remember(replace(self._record, joined=joined))
            del self._joined[node]
        else:
            retired = tuple(sorted({*self._record.retired, node}))
            self._remember(replace(self._record, retired=retired))
        self._ids.remove(node)
        with contextlib.suppress(LauncherError):  # it may be down already
            await self._launcher.kill(node_name(node))
        why = "did not become a member" if reusable else "is no member any more"
        self._say(f"node {node} {why}, and its process was ended")

    async def _refuse_a_member(self, node: int, prober: Prober) -> None:
        """Who has a process ended for good may mean a node of another cluster with this one's name:
        what the nodes here say decides, and where one leads, its word alone."""
        deadline = time.monotonic() + LEADER_S
        while True:
            found = await prober.everybody(map(self._address, self._ids))
            answers = [answer for answer in found.values() if answer is not None]
            leader = leader_of(answers)
            heard = [one for one in answers if leader in (None, one.node)]
            if heard and not any(each.node == node for one in heard for each in one.members):
                return
            if leader is not None:
                raise _refusal(
                    f"node {node} of this launcher's cluster {self._config.cluster_id!r} is a "
                    f"member still: if that is the one that you mean, removeNode {node} first"
                )
            if time.monotonic() >= deadline:
                raise _refusal(
                    f"no node leads here that could say whether node {node} is a member still"
                )
            await asyncio.sleep(POLL_S)

    def _remember_joined(self) -> None:
        self._remember(replace(self._record, joined=dict(self._joined)))

    def _remember(self, record: Record) -> None:
        try:
            self._plan.keep(record)
        except DataDirError as error:
            raise _refusal(error) from None
        self._record = record

    async def _fail(self, node: int) -> None:
        try:
            await self._launcher.kill(node_name(node))
        except LauncherError as error:
            raise _refusal(f"{error}: fixNode {node} starts it") from None
        self._say(f"node {node} was killed by failNode")

    async def _fix(self, node: int, prober: Prober) -> None:
        """Start the node again."""
        serves = await self._start(node, prober)
        self._say(
            f"node {node} was started by fixNode{'' if serves else ', and does not answer yet'}"
        )

    async def _start(self, node: int, prober: Prober) -> bool:
        """Start the node's process and wait a while. Whether it serves."""
        name = node_name(node)
        try:
            await self._launcher.start(name)
        except LauncherError as error:
            raise _refusal(error) from None
        deadline = time.monotonic() + FIX_S
        while time.monotonic() < deadline:
            if await prober.status(self._address(node), PROBE_S) is not None:
                return True
            if not self._launcher.running(name):
                raise _refusal(f"node {node} ended again: see {self._launcher.log_path(name)}")
            await asyncio.sleep(POLL_S)
        return False

    async def _until_signalled(self) -> int:
        await self._signalled.wait()
        return 130 if self._signal == signal.SIGINT else 0

    async def _show_warnings(self) -> int:
        for node in self._ids:
            self._follow_log(node)
        await self._warnings.run()
        raise AssertionError("logs are followed until this is cancelled")

    def _follow_log(self, node: int) -> None:
        self._warnings.follow(self._launcher.log_path(node_name(node)))

    def _report_death(self, name: str, how: str) -> None:
        number = name.removeprefix("node-")
        curable = self._is_ready and number != name
        cure = f"; start it again with `fixNode {number}` in the REPL" if curable else ""
        self._say(f"{in_words(name)} {how}{cure}")

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # a terminal that has gone
            print(f"consensusllm: {line}", file=self._output, flush=True)

    def _take_signal(self, number: int) -> None:
        if number == signal.SIGINT and self._terminal_is_lent:
            return  # it was meant for the REPL, which got it too
        if self._signalled.is_set():  # asked twice: at once
            self._launcher.kill_all()
        self._signal = number
        self._signalled.set()


def _refusal(reason: object) -> Exception:
    from consensusllm.orchestrator import ProcessFailed

    return ProcessFailed(str(reason))


async def _first_of(*work: Coroutine[Any, Any, int]) -> int:
    """The result of what ends first; the rest is cancelled and has ended when this returns."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
