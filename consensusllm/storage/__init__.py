"""What a replica keeps: the Disk port, its SQLite file, its identity, and the in-memory twin."""

from .identity import format_disk, open_disk, set_aside
from .lives import FIRST_LIFE, another_life
from .memory import DiskFaults, MemoryDisk, MemoryPlatter
from .port import (
    Damaged,
    Disk,
    DiskFailed,
    InUse,
    NotFormatted,
    SnapshotInfo,
    StorageError,
    WrongIdentity,
)
from .sqlite import SqliteDisk

__all__ = [
    "FIRST_LIFE",
    "Damaged",
    "Disk",
    "DiskFailed",
    "DiskFaults",
    "InUse",
    "MemoryDisk",
    "MemoryPlatter",
    "NotFormatted",
    "SnapshotInfo",
    "SqliteDisk",
    "StorageError",
    "WrongIdentity",
    "another_life",
    "format_disk",
    "open_disk",
    "set_aside",
]
