"""Benches that put the same tests on every Disk, and the small data that the tests write."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Protocol

from consensusllm.paxos.ballot import Ballot
from consensusllm.paxos.batch import Batch
from consensusllm.paxos.messages import Entry
from consensusllm.paxos.ready import Persist
from consensusllm.storage import (
    Disk,
    MemoryDisk,
    MemoryPlatter,
    SnapshotInfo,
    SqliteDisk,
    format_disk,
    open_disk,
)

CLUSTER = "council"
NODE = 1


class Bench(Protocol):
    """One replica's data and its lives."""

    def format(self, incarnation: int = 7, voting: bool = True) -> None: ...

    def open(self) -> Disk:
        """Begin a life: whatever an earlier one did not close is as a kill left it."""
        ...

    def dispose(self) -> None: ...


class MemoryBench:
    def __init__(self) -> None:
        self.platter = MemoryPlatter("memory")

    def format(self, incarnation: int = 7, voting: bool = True) -> None:
        self.platter.format(incarnation, voting)

    def open(self) -> MemoryDisk:
        return MemoryDisk(self.platter)

    def dispose(self) -> None: ...


class SqliteBench:
    def __init__(self, path: Path) -> None:
        self._lives = 0
        self._path = path
        self._disks: list[SqliteDisk] = []
        self.data = path / "0"

    def format(self, incarnation: int = 7, voting: bool = True) -> None:
        format_disk(self.data, CLUSTER, NODE, incarnation, voting)

    def open(self) -> SqliteDisk:
        if self._disks:
            # What the kernel holds of the files is what a killed process leaves behind.
            self._lives += 1
            left, self.data = self.data, self._path / str(self._lives)
            shutil.copytree(left, self.data)
        disk = open_disk(self.data, CLUSTER, NODE)
        self._disks.append(disk)
        return disk

    def dispose(self) -> None:
        for disk in self._disks:
            disk.close()


def entry(slot: int, text: str = "", seq_num: int = 1) -> Entry:
    return Entry(slot, Ballot(seq_num, NODE), Batch.pack(slot, [(text or f"{slot}").encode()]))


def entries(first: int, last: int, text: str = "") -> tuple[Entry, ...]:
    return tuple(entry(slot, text) for slot in range(first, last + 1))


def info_of(slot: int, data: bytes) -> SnapshotInfo:
    return SnapshotInfo(slot, len(data), hashlib.blake2b(data, digest_size=32).digest())


def publish(disk: Disk, slot: int, data: bytes, changes: Persist | None = None) -> SnapshotInfo:
    """Stage ``data`` in three chunks and publish it."""
    third = len(data) // 3 + 1
    for offset in range(0, max(len(data), 1), third):
        disk.stage_snapshot(slot, offset, data[offset : offset + third])
    info = info_of(slot, data)
    disk.publish_snapshot(info, changes or Persist())
    return info
