"""MemoryDisk: the in-memory twin of SqliteDisk, which the simulator runs on.

The durability model: a `MemoryPlatter` is what survives a crash, and a `MemoryDisk` is one life of
a replica over it. A change is on the platter, whole, when the method has passed its durable point,
and is not there at all before. Crashes are exceptions raised by a `DiskFaults` object at either
side of that point; after one the MemoryDisk is dead, and the next life opens a new one. Rot is
modelled by a record that is there but does not verify: a log entry or hard state of ``None``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

from consensusllm.paxos.messages import Entry
from consensusllm.paxos.ready import Persist, Recovered

from .hard_state import HardState, merge, newly_chosen, recover
from .port import Damaged, DiskFailed, NotFormatted, SnapshotInfo, StorageError


class DiskFaults(Protocol):
    """Called around ``load``, ``write``, ``stage_snapshot``, ``publish_snapshot`` and
    ``read_snapshot``, named so in ``operation``. Either may raise: a crash of the simulator's own,
    or DiskFailed. It may also reach for the platter and let something rot."""

    def before(self, operation: str) -> None:
        """Nothing of the operation is on the platter yet."""
        ...

    def after(self, operation: str) -> None:
        """All of it is durable, but the caller has not been told."""
        ...


class NoFaults:
    """A disk that does its work."""

    def before(self, operation: str) -> None: ...

    def after(self, operation: str) -> None: ...


@dataclass(slots=True)
class StoredSnapshot:
    """A snapshot, published or staged; ``digest`` is empty while it is staged."""

    slot: int
    data: bytearray
    digest: bytes = b""
    rotten: bool = False


class MemoryPlatter:
    """What is durable of one replica. ``name`` stands in errors where a path would."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.lose()

    def lose(self) -> None:
        """Lose everything, as a machine does whose disk is replaced by an empty one."""
        self.formatted = False
        self.data_lost = False
        self.hard_state: HardState | None = None
        self.log: dict[int, Entry | None] = {}
        self.snapshot: StoredSnapshot | None = None
        self.staged: StoredSnapshot | None = None
        self.owner: MemoryDisk | None = None

    def set_aside(self) -> None:
        """Give up what is damaged; what is formatted in its place may not vote."""
        self.lose()
        self.data_lost = True

    def format(self, incarnation: int, voting: bool) -> None:
        """Make a new replica, without a log. Raises StorageError where there is one already, or
        where a damaged one was set aside and the new one would vote."""
        if self.formatted:
            raise StorageError(f"{self.name}: exists already; it is not formatted again")
        if voting and self.data_lost:
            raise StorageError(
                f"{self.name}: a damaged database was set aside here; its successor must not vote"
            )
        self.formatted = True
        self.hard_state = HardState(incarnation, voting)

    def rot_hard_state(self) -> None:
        self.hard_state = None

    def rot_entry(self, slot: int) -> None:
        assert slot in self.log, "only what is stored can rot"
        self.log[slot] = None

    def rot_snapshot(self) -> None:
        assert self.snapshot is not None, "only what is stored can rot"
        self.snapshot.rotten = True

    def rot_staged(self) -> None:
        assert self.staged is not None, "only what is stored can rot"
        self.staged.rotten = True


class MemoryDisk:
    """One life over ``platter``. Raises NotFormatted where nothing is there.

    A later life takes the platter away from an earlier one, which may not touch it any more.
    """

    def __init__(self, platter: MemoryPlatter, faults: DiskFaults | None = None) -> None:
        if not platter.formatted:
            raise NotFormatted(f"{platter.name}: empty; format it first", platter.data_lost)
        platter.owner = self
        self._platter = platter
        self._faults: DiskFaults = faults or NoFaults()
        self._state: HardState | None = None
        self._failed = False

    def load(self) -> Recovered:
        platter = self._platter
        with self._operation("load"):
            state = platter.hard_state
            if state is None:
                raise Damaged(f"{platter.name}: the head record does not match its checksum")
            for stored in (platter.snapshot, platter.staged):
                self._refuse_rot(stored)
            entries = []
            for slot, entry in sorted(platter.log.items(), key=itemgetter(0)):
                if entry is None:
                    raise Damaged(
                        f"{platter.name}: the log entry of slot {slot} does not match its checksum"
                    )
                entries.append(entry)
            snapshot_slot = platter.snapshot.slot if platter.snapshot else 0
            recovered = recover(state, entries, snapshot_slot, platter.name)
        self._state = state
        return recovered

    def write(self, changes: Sequence[Persist]) -> None:
        before = self._writable()
        state, entries = merge(before, changes)
        if state == before and not entries:
            return
        with self._operation("write"):
            self._apply(state, entries, self._platter.snapshot)

    def stage_snapshot(self, slot: int, offset: int, data: bytes) -> None:
        """See the port. Offset 0 begins anew whatever was staged. Any other offset must go on where
        the staged bytes of ``slot`` end: a repeat, or one that would leave a hole, is ignored."""
        assert slot >= 1, "slots are numbered from 1"
        assert offset >= 0, "an offset is a number of bytes"
        self._writable()
        if offset > 0 and (slot, offset) != self.staged():
            return
        with self._operation("stage_snapshot"):
            staged = self._platter.staged
            if offset == 0 or staged is None:
                self._platter.staged = StoredSnapshot(slot, bytearray(data))
            else:
                staged.data += data

    def staged(self) -> tuple[int, int]:
        staged = self._platter.staged
        return (staged.slot, len(staged.data)) if staged else (0, 0)

    def verify_staged(self, info: SnapshotInfo) -> None:
        self._writable()
        staged, self._platter.staged = self._platter.staged, None
        self._verified(staged, info)
        self._platter.staged = staged

    def read_staged(self, offset: int, size_bytes: int) -> bytes:
        self._loaded()
        staged = self._platter.staged
        self._refuse_rot(staged)
        return bytes(staged.data[offset : offset + size_bytes]) if staged is not None else b""

    def publish_snapshot(self, info: SnapshotInfo, changes: Persist) -> None:
        """See the port. A snapshot of a slot that is not above the current one's is dropped and the
        current one stays; ``changes`` are applied all the same."""
        state, entries = merge(self._writable(), [changes])
        platter = self._platter
        snapshot = platter.snapshot
        with self._operation("publish_snapshot"):
            if snapshot is None or info.slot > snapshot.slot:
                staged, platter.staged = platter.staged, None
                snapshot = self._verified(staged, info)
            self._apply(state, entries, snapshot)
            platter.snapshot = snapshot
            platter.staged = None

    def snapshot(self) -> SnapshotInfo | None:
        stored = self._platter.snapshot
        return SnapshotInfo(stored.slot, len(stored.data), stored.digest) if stored else None

    def read_snapshot(self, slot: int, offset: int, size_bytes: int) -> bytes:
        self._loaded()
        stored = self._platter.snapshot
        if stored is None or stored.slot != slot:
            raise KeyError(slot)
        with self._operation("read_snapshot"):
            self._refuse_rot(stored)
            return bytes(stored.data[offset : offset + size_bytes])

    def size_bytes(self) -> int:
        platter = self._platter
        payloads = sum(entry.batch.size_bytes for entry in platter.log.values() if entry)
        snapshots = sum(len(kept.data) for kept in (platter.snapshot, platter.staged) if kept)
        return payloads + snapshots

    def close(self) -> None:
        self._failed = True

    def _loaded(self) -> HardState:
        assert self._platter.owner is self, "another life has begun on this platter"
        assert self._state is not None, "load comes before anything else"
        return self._state

    def _writable(self) -> HardState:
        if self._failed:
            raise DiskFailed(
                f"{self._platter.name}: closed, or failed before; start the node again"
            )
        return self._loaded()

    @contextmanager
    def _operation(self, name: str) -> Iterator[None]:
        """The durable point is the end of the block. Any error but Damaged ends this life."""
        assert self._platter.owner is self, "another life has begun on this platter"
        try:
            self._faults.before(name)
            yield
            self._faults.after(name)
        except Damaged:
            raise
        except BaseException:
            self._failed = True
            raise

    def _apply(
        self, state: HardState, entries: dict[int, Entry], snapshot: StoredSnapshot | None
    ) -> None:
        platter = self._platter
        covered = snapshot.slot if snapshot else 0
        assert state.compacted_through <= covered, "only what a snapshot covers is compacted"
        chosen = newly_chosen(self._loaded(), state)
        assert all(slot in entries or slot in platter.log for slot in chosen), (
            f"the log does not hold all of the chosen slots {chosen}"
        )
        for slot in range(self._loaded().compacted_through + 1, state.compacted_through + 1):
            platter.log.pop(slot, None)
        platter.log.update(entries)
        platter.hard_state = self._state = state

    def _verified(self, staged: StoredSnapshot | None, info: SnapshotInfo) -> StoredSnapshot:
        """``staged`` as the snapshot that ``info`` describes; raises Damaged where it is not."""
        self._refuse_rot(staged)
        if (
            staged is None
            or (staged.slot, len(staged.data)) != (info.slot, info.size_bytes)
            or hashlib.blake2b(staged.data, digest_size=32).digest() != info.digest
        ):
            raise Damaged(
                f"{self._platter.name}: what is staged is not the snapshot of slot {info.slot}"
            )
        return StoredSnapshot(staged.slot, staged.data, info.digest)

    def _refuse_rot(self, stored: StoredSnapshot | None) -> None:
        if stored is not None and stored.rotten:
            raise Damaged(
                f"{self._platter.name}: the snapshot of slot {stored.slot} does not match "
                "its digest"
            )
