"""Owns what the bench does: which workloads, on which systems, how often and for how long.

It is made of runs. In each run every system is started afresh, measured with all that it can do,
and ended before the next one is started, so that none costs another anything; the order changes
from run to run. What needs a cluster of its own gets one, and what takes long is in the first run
only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from .figures import SYSTEMS, Cell
from .work import Work

FLOOR = "floor"
STARTING = "starting"
MACHINE = "this machine"
FLOOR_CELL = Cell(FLOOR, 0, MACHINE)
STARTING_CELL = Cell(STARTING, 0, MACHINE)
WORKLOADS = {
    FLOOR: "the disk, gRPC and the event loop by themselves",
    STARTING: "from the command to --help, and to the `ready:` of `up` with three nodes",
    "memory": "memory and disk of a node after many puts to a new cluster",
    "puts": "durable puts over one connection",
    "reads": "linearizable reads over one connection",
    "connections": "puts over separate connections, one outstanding on each",
    "conversations": "create, query, choose and view, with three scripted models",
    "failover": "longest gap between writes after kill -9 of the leader",
    "catch-up": "a follower that was killed and missed puts, from its start until it is in step",
    "streams": "one client's put while many answers are streamed, against the same cluster idle",
    "first-token": "what consensus adds to the first token of an answer",
    "takeover": "the pause in a streamed answer whose node is killed, with nothing lost",
    "growth": "memory and disk of a node after many puts and after ten times as many",
    "scale": "choose and view with many conversations, against few in the same cluster",
    "elections": "elections that nobody needed, with all cores busy",
}
"""In the order in which they are done: memory first, on a cluster that has done nothing else."""

LONG = ("memory", "streams", "takeover", "growth", "scale", "elections")
"""Those that are done only where they are asked for."""

ONCE = ("takeover", "growth", "scale", "elections")
"""Those that are done in the first run only: they take minutes."""

OWN_CLUSTER = (*("catch-up", "streams", "first-token", "takeover", "growth", "scale", "elections"),)
"""Those that leave behind, or need, another cluster than the rest share."""

MEMORY_OUTSTANDING = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """``kills`` are those of each run; ``floor_count`` the repetitions of each floor figure,
    ``starts`` those of each command's start. ``many`` conversations of ``turns`` are measured
    against ``few``; ``streams`` queries at once, each answered by one model at
    ``tokens_per_second``; ``first_tokens`` of both kinds; ``takeovers`` nodes killed as they write,
    ``minutes`` of watching for elections."""

    workloads: Sequence[str] = tuple(name for name in WORKLOADS if name not in LONG)
    systems: Sequence[str] = SYSTEMS
    runs: int = 3
    seconds: float = 1.0
    warm_s: float = 0.3
    outstanding: Sequence[int] = (1, 16, 64, 256)
    conversations: Sequence[int] = (1, 16, 64)
    connections: int = 64
    memory_puts: int = 100_000
    growth: int = 10
    kills: int = 2
    floor_count: int = 1_000
    starts: int = 3
    missed_puts: int = 20_000
    streams: int = 200
    tokens_per_second: float = 50.0
    first_tokens: int = 200
    takeovers: int = 50
    many: int = 10_000
    few: int = 10
    turns: int = 20
    minutes: float = 1.0

    def cells(self, system: str, able: Collection[str], run: int = 1) -> list[Cell]:
        """What is measured on ``system``, which is ``able`` to do these workloads, in order."""
        outstanding: dict[str, Iterable[int]] = {
            "memory": (MEMORY_OUTSTANDING,),
            "puts": self.outstanding,
            "reads": self.outstanding,
            "connections": (self.connections,),
            "conversations": self.conversations,
            "failover": (0,) * self.kills,
        }
        return [
            Cell(workload, number, system)
            for workload in WORKLOADS
            if workload in self.workloads
            and workload in able
            and (run == 1 or workload not in ONCE)
            for number in outstanding.get(workload, (0,))
        ]

    def sittings(self, system: str, able: Collection[str], run: int = 1) -> list[list[Cell]]:
        """`cells`, in lists that share a cluster; none is empty."""
        cells = self.cells(system, able, run)
        shared = [cell for cell in cells if cell.workload not in OWN_CLUSTER]
        own = [[cell] for cell in cells if cell.workload in OWN_CLUSTER]
        return [shared, *own] if shared else own

    def machine_cells(self) -> list[Cell]:
        """What is measured in each run without a cluster of the bench's."""
        return [cell for cell in (FLOOR_CELL, STARTING_CELL) if cell.workload in self.workloads]

    def work(self, cell: Cell) -> Work:
        """The loop of a cell that has one."""
        if cell.workload == "memory":
            return Work("put", cell.outstanding, count=self.memory_puts)
        kind = {"reads": "get", "conversations": "turn"}.get(cell.workload, "put")
        connections = cell.outstanding if cell.workload == "connections" else 0
        return Work(kind, cell.outstanding, connections, self.warm_s, self.seconds)


ALL = Plan(workloads=tuple(WORKLOADS), runs=5, seconds=3.0, warm_s=0.5, starts=5)
QUICK = Plan(
    workloads=tuple(WORKLOADS),
    runs=1,
    seconds=0.5,
    warm_s=0.2,
    memory_puts=5_000,
    kills=1,
    floor_count=100,
    starts=1,
    missed_puts=2_000,
    streams=20,
    first_tokens=10,
    takeovers=1,
    many=100,
    few=5,
    turns=4,
    minutes=0.05,
)
