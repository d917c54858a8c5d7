"""The simulated disk of one node: a platter that outlives crashes, and what may befall it.

`MemoryDisk` is the product's own twin of the SQLite file; here it meets a disk that fails on
command at either side of any operation, is full, slow, or forgets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from consensusllm.paxos.ready import Persist
from consensusllm.storage import (
    FIRST_LIFE,
    Disk,
    DiskFailed,
    MemoryDisk,
    MemoryPlatter,
    another_life,
)

from .invariants import Invariants

WRITING = ("write", "stage_snapshot", "publish_snapshot")
OPERATIONS = ("load", *WRITING, "read_snapshot")
ROTS = ("entry", "hard state", "snapshot", "staged")


class Crash(Exception):
    """The machine loses power in the middle of a disk operation."""


class _WatchedDisk(MemoryDisk):
    def __init__(self, disk: SimulatedDisk) -> None:
        super().__init__(disk.platter, disk)
        self._disk = disk

    def write(self, changes: Sequence[Persist]) -> None:
        self._disk.changes = changes
        super().write(changes)


class SimulatedDisk:
    """``platter`` is what is durable. A trap is sprung once, by the next operation that it names,
    before or after its durable point. Implements DiskFaults and replica.opening.DiskHome."""

    def __init__(
        self, node: int, rng: Random, now_ms: Callable[[], int], invariants: Invariants
    ) -> None:
        self.name = f"node {node}'s disk"
        self.platter = MemoryPlatter(self.name)
        self.full = False
        self.slowness = 1.0
        self.hanging = False
        """Whether it ends nothing that it is asked for, for as long as this is set."""
        self.changes: Sequence[Persist] = ()
        self._node = node
        self._invariants = invariants
        self._rng = rng
        self._now_ms = now_ms
        self._trap: tuple[str, bool, Exception] | None = None

    # What befalls it ----------------------------------------------------------------------------

    def set_trap(self, operation: str, *, after: bool, crash: bool) -> None:
        """The next ``operation`` ends in a crash, or in a failed sync."""
        error = Crash(operation) if crash else DiskFailed(f"{self.name}: a sync failed")
        self._trap = (operation, after, error)

    def mend(self) -> None:
        """Nothing befalls it any more; what is damaged stays so."""
        self._trap = None
        self.full = False
        self.slowness = 1.0

    def rot(self, what: str) -> bool:
        """Let ``what`` (of ROTS) rot. Whether there was any."""
        platter = self.platter
        if what == "hard state" and platter.hard_state is not None:
            platter.rot_hard_state()
        elif what == "entry" and platter.log:
            platter.rot_entry(self._rng.choice(sorted(platter.log)))
        elif what == "snapshot" and platter.snapshot is not None:
            platter.rot_snapshot()
        elif what == "staged" and platter.staged is not None:
            platter.rot_staged()
        else:
            return False
        return True

    def latency_s(self) -> float:
        return self.slowness * 0.0005 * (0.5 + self._rng.random())

    # DiskFaults ---------------------------------------------------------------------------------

    def before(self, operation: str) -> None:
        if self.full and operation in WRITING:
            raise DiskFailed(f"{self.name}: no space left")
        self._spring(operation, after=False)

    def after(self, operation: str) -> None:
        if operation == "write":
            self._invariants.written(self._node, self.platter, self.changes)
        self._spring(operation, after=True)

    def _spring(self, operation: str, *, after: bool) -> None:
        if self._trap is not None and self._trap[:2] == (operation, after):
            error = self._trap[2]
            self._trap = None
            raise error

    # DiskHome -----------------------------------------------------------------------------------

    def open(self) -> Disk:
        return _WatchedDisk(self)

    def format(self, *, voting: bool) -> None:
        self._invariants.formatted(self._node, voting)
        life = FIRST_LIFE if voting else another_life(self._now_ms(), self._rng.getrandbits)
        self.platter.format(life, voting)

    def set_aside(self) -> str:
        self.platter.set_aside()
        return self.name

    # What is known ------------------------------------------------------------------------------

    @property
    def rotten(self) -> bool:
        """Whether something is stored that does not verify."""
        platter = self.platter
        return platter.formatted and (
            platter.hard_state is None
            or None in platter.log.values()
            or any(each and each.rotten for each in (platter.snapshot, platter.staged))
        )

    @property
    def has_voted(self) -> bool:
        """Whether it ever was the disk of a member that votes."""
        return self._invariants.may_vote(self._node)

    @property
    def intact(self) -> bool:
        """Whether a node that starts from this may vote at once."""
        state = self.platter.hard_state
        return state is not None and state.voting and not self.rotten
