"""Runs a plan: starts the systems in turn, measures them, and ends them.

What goes wrong with one cell is written down as its result, and the next one is measured.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import grpc.aio

from consensusllm.client import ConsensusError

from . import (
    catch_up,
    elections,
    etcd,
    first_token,
    floor,
    growth,
    pysyncobj,
    scale,
    starting,
    streams,
    takeover,
)
from .etcd import Etcd
from .figures import Cell, Results, percentile
from .gaps import longest_gap
from .goals import shown
from .ours import Ours
from .plan import FLOOR, OWN_CLUSTER, Plan
from .processes import BenchError, Usage, disk_bytes, usage, usages
from .pysyncobj import PySyncObj
from .system import Networked, System
from .work import KEYS, Timings, Work

BEFORE_KILL_S = 1.0

FIRST = (
    *("per_second", "p50_us", "p99_us", "gap_ms", "help_ms", "ready_ms", "serving_ms", "back_ms"),
    *("fdatasync_us", "ping_us", "idle_p99_us", "elections", "early_rss_mib", "rss_mib"),
    *("added_p50_us", "pause_p50_ms", "pause_max_ms", "not_whole"),
    *("few_choose_p99_us", "choose_p99_us", "few_view_p99_us", "view_p99_us"),
)
"""The figures that are told as soon as they are measured, where a cell has them."""

_FAULTS = (BenchError, ConsensusError, grpc.aio.AioRpcError)

Tell = Callable[[int, int, str], None]
"""``tell(done, total, what)``: so many of all cells are done; ``what`` comes next or has ended."""


def available(program: Sequence[str]) -> tuple[dict[str, Callable[[], System]], dict[str, str]]:
    """How to make each system that is installed, and why the others are not there."""
    makers: dict[str, Callable[[], System]] = {
        "direct": lambda: Ours(program, direct=True),
        "orchestrated": lambda: Ours(program, direct=False),
        "etcd": Etcd,
        "etcd-tuned": lambda: Etcd(tuned=True),
        "PySyncObj": PySyncObj,
    }
    gone = {"etcd": etcd.missing(), "etcd-tuned": etcd.missing(), "PySyncObj": pysyncobj.missing()}
    missing = {name: why for name, why in gone.items() if why is not None}
    return {name: make for name, make in makers.items() if name not in missing}, missing


def versions(names: Sequence[str]) -> dict[str, str]:
    """The versions of the other systems among ``names``."""
    found = {}
    if "etcd" in names or "etcd-tuned" in names:
        found["etcd"] = f"{etcd.version()}, defaults; etcd-tuned: {' '.join(etcd.TUNED)}"
    if "PySyncObj" in names:
        found["PySyncObj"] = f"{pysyncobj.version()}, batching off, in memory"
    return found


class Bench:
    """One run of ``plan`` in ``directory``, with the systems that ``makers`` make; ``program`` is
    our command line."""

    def __init__(
        self,
        plan: Plan,
        makers: Mapping[str, Callable[[], System]],
        program: Sequence[str],
        directory: Path,
        tell: Tell = lambda done, total, what: None,
    ) -> None:
        self.results = Results()
        self._plan = plan
        self._makers = {name: makers[name] for name in plan.systems if name in makers}
        self._program = program
        self._directory = directory
        self._tell = tell
        self._done = 0
        systems = {name: make() for name, make in self._makers.items()}
        self.notes = [note for system in systems.values() for note in system.notes]
        self._able = {name: system.workloads for name, system in systems.items()}
        self._total = sum(
            len(plan.machine_cells())
            + sum(len(plan.cells(name, able, run)) for name, able in self._able.items())
            for run in range(1, plan.runs + 1)
        )

    @property
    def measures_nothing(self) -> bool:
        """Whether none of the systems that are there does any of the planned work."""
        return self._total == 0

    async def run(self) -> Results:
        """Measure everything. No process is left when it returns or raises."""
        names = list(self._makers)
        for run in range(1, self._plan.runs + 1):
            for cell in self._plan.machine_cells():
                with self._room(cell.workload) as directory:
                    await self._measure_cell(run, None, cell, directory)
            for name in names[run % len(names) :] + names[: run % len(names)] if names else []:
                for cells in self._plan.sittings(name, self._able[name], run):
                    await self._measure_system(run, self._makers[name](), cells)
        return self.results

    async def _measure_system(self, run: int, system: System, cells: list[Cell]) -> None:
        """Measure cells that share a cluster."""
        self._say(run, f"{system.name}: starting")
        if isinstance(system, Ours):
            self._prepare(system, cells[0].workload)
        with self._room(system.name) as directory:
            try:
                await system.start(directory)
                if any(cell.workload == "reads" for cell in cells):
                    await system.closed_loop(Work("put", min(KEYS, 64), count=KEYS))
            except _FAULTS as error:
                for cell in cells:
                    self._failed(cell, error)
                self._say(run, f"{system.name}: FAILED: {self.results.failures[cells[0]]}")
            else:
                for cell in cells:
                    await self._measure_cell(run, system, cell, directory)
            finally:
                await system.stop()

    def _prepare(self, system: Ours, workload: str) -> None:
        plan = self._plan
        if workload == "streams":
            streams.prepare(system, plan.streams, plan.tokens_per_second)
        elif workload == "first-token":
            first_token.prepare(system)
        elif workload == "takeover":
            takeover.prepare(system)
        elif workload == "scale":
            scale.prepare(system)

    async def _measure_cell(
        self, run: int, system: System | None, cell: Cell, directory: Path
    ) -> None:
        what = f"{cell.system}: {cell.workload}{f' {cell.outstanding}' if cell.outstanding else ''}"
        self._say(run, what)
        try:
            figures = await self._figures(run, system, cell, directory, what)
        except _FAULTS as error:
            self._failed(cell, error)
            self._say(run, f"{what}: FAILED: {self.results.failures[cell]}")
            return
        self.results.add(cell, run, figures)
        self._done += 1
        self._say(run, f"{what}: {_shown(figures)}")

    async def _figures(
        self, run: int, system: System | None, cell: Cell, directory: Path, what: str
    ) -> dict[str, float]:
        plan = self._plan

        def say(far: str) -> None:
            self._say(run, f"{what}: {far}")

        if system is None:
            if cell.workload == FLOOR:
                return await floor.measure(directory, plan.floor_count)
            return await starting.measure(self._program, directory, plan.starts)
        if cell.workload == "failover":
            return await self._failover(system)
        if cell.workload not in OWN_CLUSTER:
            return await self._loop(system, cell, directory)
        assert isinstance(system, Networked)
        if cell.workload == "catch-up":
            return await catch_up.measure(system, plan.missed_puts)
        if cell.workload == "growth":
            return await growth.measure(system, directory, plan.memory_puts, plan.growth, say)
        assert isinstance(system, Ours)
        if cell.workload == "scale":
            return await scale.measure(system, plan.many, plan.few, plan.turns, say)
        if cell.workload == "streams":
            return await streams.measure(system, plan.streams, plan.seconds, say)
        if cell.workload == "first-token":
            return await first_token.measure(system, plan.first_tokens)
        if cell.workload == "takeover":
            return await takeover.measure(system, plan.takeovers, say)
        return await elections.measure(system, plan.minutes, say)

    async def _loop(self, system: System, cell: Cell, directory: Path) -> dict[str, float]:
        leader = await system.leader()
        if isinstance(system, Ours):
            system.steps_s.clear()
        own = {} if isinstance(system, PySyncObj) else {"client": os.getpid()}
        before = usages(system.processes | own)
        timings = await system.closed_loop(self._plan.work(cell))
        after = {name: usage(pid) for name, pid in (system.processes | own).items()}
        figures = loop_figures(timings) | usage_figures(leader, before, after, timings.operations)
        if cell.workload == "memory":
            nodes = sum(name.startswith("node-") for name in system.processes)
            figures["disk_mib"] = disk_bytes(directory) / nodes / 2**20
        if isinstance(system, Ours):
            for step, times_s in system.steps_s.items():
                figures[f"{step}_p50_us"] = percentile(times_s, 50) * 1e6
                figures[f"{step}_p99_us"] = percentile(times_s, 99) * 1e6
        return figures

    async def _failover(self, system: System) -> dict[str, float]:
        leader = await system.leader()

        async def kill() -> None:
            await system.kill(leader)

        kill_at = time.monotonic() + BEFORE_KILL_S
        try:
            completions = await system.writes(kill_at, kill)
        finally:
            if f"node-{leader}" not in system.processes:
                await system.restart(leader)
        return {"gap_ms": longest_gap(completions, kill_at)[0] * 1e3}

    def _failed(self, cell: Cell, error: BaseException) -> None:
        if isinstance(error, grpc.aio.AioRpcError):
            reason = f"{error.code().name}: {error.details()}"
        else:
            reason = str(error) or type(error).__name__
        self.results.failures[cell] = " ".join(reason.split())
        self._done += 1

    def _say(self, run: int, what: str) -> None:
        self._tell(self._done, self._total, f"run {run} of {self._plan.runs}: {what}")

    @contextlib.contextmanager
    def _room(self, name: str) -> Iterator[Path]:
        """A directory for the data of one system, which goes with it."""
        directory = self._directory / name
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def loop_figures(timings: Timings) -> dict[str, float]:
    """Throughput and latency of a loop. Raises BenchError where no call ended in time."""
    if not timings.latencies_s:
        raise BenchError("no call ended while it was measured")
    return {
        "per_second": len(timings.latencies_s) / timings.elapsed_s,
        "p50_us": percentile(timings.latencies_s, 50) * 1e6,
        "p99_us": percentile(timings.latencies_s, 99) * 1e6,
    }


def usage_figures(
    leader: int, before: Mapping[str, Usage], after: Mapping[str, Usage], operations: int
) -> dict[str, float]:
    """What each kind of process used: a follower's figures are the mean of the followers'.

    ``cpu_s_X`` is of the whole loop and ``cpu_us_X`` of each operation; ``written_bytes`` are those
    of an operation on one node; ``rss_mib`` is that of the largest node.
    """
    kinds: dict[str, list[str]] = {}
    for name in before:
        kind = name
        if name.startswith("node-"):
            kind = "leader" if name == f"node-{leader}" else "follower"
        kinds.setdefault(kind, []).append(name)
    nodes = [name for name in before if name.startswith("node-")]
    written = sum(after[name].written_bytes - before[name].written_bytes for name in nodes)
    figures = {
        "rss_mib": max(after[name].rss_bytes for name in nodes) / 2**20,
        "written_bytes": written / len(nodes) / operations,
    }
    for kind, names in kinds.items():
        cpu_s = sum(after[name].cpu_s - before[name].cpu_s for name in names) / len(names)
        figures[f"cpu_s_{kind}"] = cpu_s
        figures[f"cpu_us_{kind}"] = cpu_s / operations * 1e6
    return figures


def _shown(figures: Mapping[str, float]) -> str:
    """The figures that a person looks for first."""
    names = [name for name in FIRST if name in figures]
    return ", ".join(
        f"{name.rpartition('_')[0] or name} {shown(name, figures[name])}" for name in names
    )
