"""What a replica asks of its disk, one job at a time.

`run` touches only the disk and may be called in another thread; `done` is called back on the
replica's own. A job that raises has met a broken disk: the owner stops the node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from consensusllm.conversations import Encoding, Limits, Machine, MalformedSnapshot, restore
from consensusllm.paxos.messages import Compacted, SnapshotChunk
from consensusllm.paxos.ready import Install, Persist, SnapshotRead
from consensusllm.storage.port import Damaged, Disk, SnapshotInfo, StorageError

from .members import from_extra

READ_BYTES = 256 << 10


class Job(Protocol):
    def run(self, disk: Disk) -> None: ...

    def done(self) -> None: ...


class UnreadableSnapshot(StorageError):
    """A peer's snapshot is whole, and no state comes of it here."""


def snapshot_chunks(disk: Disk, slot: int) -> Iterator[bytes]:
    """The bytes of a stored snapshot, in order."""
    return _chunks(partial(disk.read_snapshot, slot))


def staged_chunks(disk: Disk) -> Iterator[bytes]:
    """The bytes of what is staged, in order."""
    return _chunks(disk.read_staged)


def _chunks(read: Callable[[int, int], bytes]) -> Iterator[bytes]:
    offset = 0
    while data := read(offset, READ_BYTES):
        yield data
        offset += len(data)


class Write:
    """Everything that waits to be durable, in one transaction."""

    def __init__(self, changes: Sequence[Persist], then: Callable[[], None]) -> None:
        self._changes = changes
        self.done = then

    def run(self, disk: Disk) -> None:
        disk.write(self._changes)


class StageSnapshot:
    """A chunk of a peer's snapshot; with the last one, the whole is verified, read and published.

    ``machine`` is then the state that it holds; None: more is to come, or it did not verify.
    """

    def __init__(self, install: Install, limits: Limits, then: Callable[[StageSnapshot], None]):
        self.install = install
        self.machine: Machine | None = None
        self.rejected = False
        self._limits = limits
        self._then = then

    def run(self, disk: Disk) -> None:
        install = self.install
        disk.stage_snapshot(install.slot, install.offset, install.data)
        if not install.last:
            return
        info = SnapshotInfo(install.slot, install.size_bytes, install.digest)
        try:
            disk.verify_staged(info)
            machine = self._restored(disk)
            disk.publish_snapshot(
                info, Persist(chosen_through=install.slot, compact_through=install.slot)
            )
        except Damaged:
            self.rejected = True
            return
        self.machine = machine

    def _restored(self, disk: Disk) -> Machine:
        """The state, before the snapshot stands for anything here. Its digest is right, so where it
        cannot be read a peer wrote it so, and no repetition helps."""
        slot = self.install.slot
        try:
            machine = restore(staged_chunks(disk), self._limits)
            from_extra(machine.extra)
        except MalformedSnapshot as error:
            raise UnreadableSnapshot(
                f"the snapshot of slot {slot} that a peer sent cannot be read: {error}; "
                "run the same version on all nodes"
            ) from None
        return machine

    def done(self) -> None:
        self._then(self)


class TakeSnapshot:
    """One step of a snapshot of one's own: some of the state is encoded, and stored where that
    makes a chunk; at the end it is published."""

    def __init__(self, slot: int, encoding: Encoding, then: Callable[[TakeSnapshot], None]):
        self.slot = slot
        self.finished = False
        self.encoding = encoding
        self._size_bytes = 0
        self._digest = hashlib.blake2b(digest_size=32)
        self._then = then

    def run(self, disk: Disk) -> None:
        chunk = next(self.encoding, None)
        if chunk is None:
            info = SnapshotInfo(self.slot, self._size_bytes, self._digest.digest())
            disk.publish_snapshot(info, Persist())
            self.finished = True
        elif chunk:
            disk.stage_snapshot(self.slot, self._size_bytes, chunk)
            self._size_bytes += len(chunk)
            self._digest.update(chunk)

    def done(self) -> None:
        self._then(self)


class ServeSnapshot:
    """Read a chunk for a peer. A snapshot that is gone is answered with the newest, from 0."""

    def __init__(
        self,
        node: int,
        request: SnapshotRead,
        size_bytes: int,
        then: Callable[[int, SnapshotChunk | Compacted], None],
    ) -> None:
        self._node = node
        self._request = request
        self._size_bytes = size_bytes
        self._then = then
        self._answer: SnapshotChunk | Compacted | None = None

    def run(self, disk: Disk) -> None:
        info = disk.snapshot()
        if info is None:
            return
        offset = self._request.offset if self._request.slot == info.slot else 0
        data = disk.read_snapshot(info.slot, offset, self._size_bytes)
        self._answer = SnapshotChunk(
            self._node, info.slot, offset, info.size_bytes, info.digest, data
        )

    def done(self) -> None:
        if self._answer is not None:
            self._then(self._request.to, self._answer)
