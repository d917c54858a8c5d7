"""The data directory of a whole cluster on one machine: who uses it, and what was formed in it.

A cluster is formed once: every replica's disk is made, and that is written down in ``cluster.json``
before any node has run. From then on no disk is made here again; a node whose disk has vanished
must rejoin, because it may have promised what it no longer knows (Paxos Made Live, 5.1).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from consensusllm.config import Config
from consensusllm.storage import FIRST_LIFE, format_disk
from consensusllm.storage.identity import has_database, was_used

from .record import RECORD, DataDirError, Record, listed, read_record

_CURES = (
    ((errno.ENOSPC, errno.EDQUOT), "free some space"),
    ((errno.EACCES, errno.EPERM, errno.EROFS), "make it writable"),
    ((errno.EEXIST, errno.EISDIR, errno.ENOTDIR), "move it away"),
)


class InUse(DataDirError):
    """Another launcher holds the directory."""


class Formation:
    """Holds ``data_dir`` for the life of this process, or until it is released.

    Raises InUse, or DataDirError where it cannot be made.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        with _operating(data_dir):
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(data_dir / "launcher.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise InUse(
                f"{data_dir} is in use by another launcher (process {holder}): "
                "stop that one, or use another --data-dir"
            ) from None
        except OSError as error:  # as of a file system without locks
            os.close(self._lock)
            raise unusable(data_dir, error) from None
        try:
            with _operating(data_dir):
                os.ftruncate(self._lock, 0)
                os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except DataDirError:
            self.release()
            raise

    def release(self) -> None:
        """Let another launcher have the directory."""
        os.close(self._lock)

    def formed(self) -> Record | None:
        """What was formed here, or begun to be. Raises DataDirError."""
        return read_record(self.data_dir)

    def form(self, config: Config) -> None:
        """Make the disks of a cluster that was never formed here; else check that it is the same
        one and that enough of it is left. Where all disks are there without a record, as their
        nodes were started one by one, it was formed. Raises DataDirError and StorageError."""
        ids = tuple(sorted(node.id for node in config.nodes))
        found = self.formed()
        record = found or Record(config.cluster_id, ids, False)
        if (record.cluster_id, record.nodes) != (config.cluster_id, ids):
            raise DataDirError(
                f"{self.data_dir} holds cluster {record.cluster_id!r} {record.described}, "
                f"not {config.cluster_id!r} of nodes {listed(ids)}: "
                "start it as it was, or use another --data-dir"
            )
        if record.formed:
            members = record.running(ids)
            lost = [node for node in members if not has_database(config.node_dir(node))]
            if not members:
                raise DataDirError(
                    f"{self.data_dir}: every node that was started from it is a member no more: "
                    "reach the others by --connect, or use another --data-dir"
                )
            if 2 * len(lost) >= len(members):
                noun = "node" if len(lost) == 1 else "nodes"
                raise DataDirError(
                    f"{self.data_dir} has lost the data of {noun} {listed(lost)}, and what is left "
                    "is no majority: bring it back from a copy, or use another --data-dir"
                )
            return
        lost = [node for node in ids if not has_database(config.node_dir(node))]
        left = [node for node in ids if node not in lost]
        if found is None and lost and left:
            raise DataDirError(
                f"{self.data_dir} has data of some nodes but none of nodes {listed(lost)}, and no "
                f"{RECORD} that says why: use another --data-dir"
            )
        if lost:
            # While none is used that is left, no majority has promised anything, unless it is lost.
            used = [
                node
                for node in left
                if was_used(config.node_dir(node), config.cluster_id, node, FIRST_LIFE)
            ]
            if used:
                raise DataDirError(
                    f"{self.data_dir} has no data of nodes {listed(lost)}, which may have voted: "
                    f"nodes {listed(used)} have run although not all are known to have been made; "
                    "bring it back from a copy, or use another --data-dir"
                )
            self.write(RECORD, asdict(record))
        for node in lost:
            format_disk(config.node_dir(node), config.cluster_id, node, FIRST_LIFE, voting=True)
        self.write(RECORD, asdict(replace(record, formed=True)))

    def keep(self, record: Record) -> None:
        """Remember what the cluster of this directory has become. Raises DataDirError."""
        self.write(RECORD, asdict(record))

    def write(self, name: str, document: dict[str, Any]) -> Path:
        """Replace a JSON file in the directory, durably and readable by its owner alone. Raises
        DataDirError."""
        path = self.data_dir / name
        with _operating(self.data_dir):
            _replace(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        return path


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _operating(data_dir: Path) -> Iterator[None]:
    """Turns the operating system's errors into DataDirError."""
    try:
        yield
    except OSError as error:
        raise unusable(data_dir, error) from None


def unusable(data_dir: Path, error: OSError) -> DataDirError:
    """What ``error`` says of the directory or of what is in it, and what to do."""
    where = error.filename if error.filename is not None else data_dir
    cure = next((words for numbers, words in _CURES if error.errno in numbers), "look at it")
    return DataDirError(f"{where}: {error.strerror}: {cure}, or use another --data-dir")
