"""The Disk port: what a replica keeps, and what must be durable when a call returns.

All methods are synchronous and are called by one owner at a time (a writer thread in production,
the simulator otherwise). Each method that changes something is durable when it returns. An error
from the disk is final: the caller stops the node and does not try again (Rebello et al., "Can
applications recover from fsync failures?", ATC 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from consensusllm.paxos.ready import Persist, Recovered


class StorageError(Exception):
    """One line that names the file and says what to do."""


class DiskFailed(StorageError):
    """A write or sync failed; what reached the disk is unknown. The node must stop."""


class Damaged(StorageError):
    """Checksums, contiguity or the file itself do not hold. The replica must not vote with it."""


class WrongIdentity(StorageError):
    """The data belongs to another node or cluster."""


class InUse(StorageError):
    """Another process holds the data."""


class NotFormatted(StorageError):
    """There is no data yet.

    ``data_lost`` is True where a damaged database was set aside here before: the replica may have
    voted with it, so what is formatted now must not vote.
    """

    def __init__(self, message: str, data_lost: bool) -> None:
        super().__init__(message)
        self.data_lost = data_lost


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A complete snapshot: state after ``slot``, ``size_bytes`` long, with its BLAKE2b digest."""

    slot: int
    size_bytes: int
    digest: bytes


class Disk(Protocol):
    """One replica's durable state."""

    def load(self) -> Recovered:
        """What was durable when the last life ended. Raises Damaged."""
        ...

    def write(self, changes: Sequence[Persist]) -> None:
        """Make ``changes``, in order, durable in one transaction. Raises DiskFailed."""
        ...

    def stage_snapshot(self, slot: int, offset: int, data: bytes) -> None:
        """Keep bytes of a snapshot that is not complete yet. Staging a new ``slot`` at offset 0
        drops what was staged of any other."""
        ...

    def staged(self) -> tuple[int, int]:
        """``(slot, bytes)`` staged so far without a hole; ``(0, 0)`` where nothing is."""
        ...

    def verify_staged(self, info: SnapshotInfo) -> None:
        """Raises Damaged unless what is staged is all of ``info``; it is dropped then, so that it
        can be staged anew."""
        ...

    def read_staged(self, offset: int, size_bytes: int) -> bytes:
        """Bytes of what is staged, b"" past its end. Raises Damaged where its checksum does not
        hold."""
        ...

    def publish_snapshot(self, info: SnapshotInfo, changes: Persist) -> None:
        """`verify_staged` where that was not done; then, in one transaction, make it *the* snapshot
        in place of the older one and apply ``changes``. Raises Damaged when it does not verify, and
        then keeps the older one."""
        ...

    def snapshot(self) -> SnapshotInfo | None:
        """The newest complete snapshot."""
        ...

    def read_snapshot(self, slot: int, offset: int, size_bytes: int) -> bytes:
        """Bytes of the snapshot of ``slot``, b"" past its end. Raises KeyError where that snapshot
        is no longer kept, Damaged where its checksum does not hold."""
        ...

    def size_bytes(self) -> int:
        """Bytes on disk, journal included."""
        ...

    def close(self) -> None: ...
