"""Owns what the bench does: which workloads, on which systems, how often and for how long.

It is made of runs. In each run every system is started afresh, measured with all that it can do,
and ended before the next one is started, so that none costs another anything; the order changes
from run to run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from .figures import SYSTEMS, Cell
from .work import Work

FLOOR = "floor"
FLOOR_CELL = Cell(FLOOR, 0, "this machine")
WORKLOADS = {
    FLOOR: "the disk, gRPC and the event loop by themselves",
    "memory": "memory and disk of a node after many puts to a new cluster",
    "puts": "durable puts over one connection",
    "reads": "linearizable reads over one connection",
    "connections": "puts over separate connections, one outstanding on each",
    "conversations": "create, query, choose and view, with three scripted models",
    "failover": "longest gap between writes after kill -9 of the leader",
}
"""In the order in which they are done: memory first, on a cluster that has done nothing else."""

MEMORY_OUTSTANDING = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """``kills`` are those of each run; ``floor_count`` the repetitions of each floor figure."""

    workloads: Sequence[str] = tuple(WORKLOADS)
    systems: Sequence[str] = SYSTEMS
    runs: int = 5
    seconds: float = 3.0
    warm_s: float = 0.5
    outstanding: Sequence[int] = (1, 16, 64, 256)
    conversations: Sequence[int] = (1, 16, 64)
    connections: int = 64
    memory_puts: int = 100_000
    kills: int = 2
    floor_count: int = 1_000

    def cells(self, system: str, able: Collection[str]) -> list[Cell]:
        """What is measured on ``system``, which is ``able`` to do these workloads, in order."""
        outstanding: dict[str, Iterable[int]] = {
            FLOOR: (),  # it is of no system
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
            if workload in self.workloads and workload in able
            for number in outstanding[workload]
        ]

    def work(self, cell: Cell) -> Work:
        """The loop of a cell; a failover has none."""
        if cell.workload == "memory":
            return Work("put", cell.outstanding, count=self.memory_puts)
        kind = {"reads": "get", "conversations": "turn"}.get(cell.workload, "put")
        connections = cell.outstanding if cell.workload == "connections" else 0
        return Work(kind, cell.outstanding, connections, self.warm_s, self.seconds)


QUICK = Plan(runs=1, seconds=0.5, warm_s=0.2, memory_puts=5_000, kills=1, floor_count=100)
