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

from . import etcd, floor, pysyncobj
from .etcd import Etcd
from .figures import Cell, Results, percentile
from .gaps import longest_gap
from .ours import Ours
from .plan import FLOOR, FLOOR_CELL, Plan
from .processes import BenchError, Usage, disk_bytes, usage, usages
from .pysyncobj import PySyncObj
from .system import System
from .work import KEYS, Timings, Work

BEFORE_KILL_S = 1.0

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
    """One run of ``plan`` in ``directory``, with the systems that ``makers`` make."""

    def __init__(
        self,
        plan: Plan,
        makers: Mapping[str, Callable[[], System]],
        directory: Path,
        tell: Tell = lambda done, total, what: None,
    ) -> None:
        self.results = Results()
        self._plan = plan
        self._makers = {name: makers[name] for name in plan.systems if name in makers}
        self._directory = directory
        self._tell = tell
        self._done = 0
        systems = [make() for make in self._makers.values()]
        self.notes = [note for system in systems for note in system.notes]
        cells = sum(len(self._cells(system)) for system in systems)
        self._total = plan.runs * ((FLOOR in plan.workloads) + cells)

    def _cells(self, system: System) -> list[Cell]:
        return self._plan.cells(system.name, system.workloads)

    async def run(self) -> Results:
        """Measure everything. No process is left when it returns or raises."""
        names = list(self._makers)
        for run in range(1, self._plan.runs + 1):
            if FLOOR in self._plan.workloads:
                await self._measure_floor(run)
            for name in names[run % len(names) :] + names[: run % len(names)] if names else []:
                await self._measure_system(run, self._makers[name]())
        return self.results

    async def _measure_floor(self, run: int) -> None:
        self._say(run, "floor")
        with self._room("floor") as directory:
            figures = await floor.measure(directory, self._plan.floor_count)
        self.results.add(FLOOR_CELL, run, figures)
        self._done += 1
        self._say(run, f"floor: fdatasync {figures['fdatasync_us']:.0f} us")

    async def _measure_system(self, run: int, system: System) -> None:
        cells = self._cells(system)
        if not cells:
            return
        self._say(run, f"{system.name}: starting")
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

    async def _measure_cell(self, run: int, system: System, cell: Cell, directory: Path) -> None:
        what = f"{cell.system}: {cell.workload}{f' {cell.outstanding}' if cell.outstanding else ''}"
        self._say(run, what)
        try:
            if cell.workload == "failover":
                figures = await self._failover(system)
            else:
                figures = await self._loop(system, cell, directory)
        except _FAULTS as error:
            self._failed(cell, error)
            self._say(run, f"{what}: FAILED: {self.results.failures[cell]}")
            return
        self.results.add(cell, run, figures)
        self._done += 1
        self._say(run, f"{what}: {_shown(figures)}")

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
    if "gap_ms" in figures:
        return f"longest gap {figures['gap_ms']:.0f} ms"
    return (
        f"{figures['per_second']:,.0f}/s, p50 {figures['p50_us'] / 1e3:.2f} ms, "
        f"p99 {figures['p99_us'] / 1e3:.2f} ms"
    )
