"""Whose data a directory holds, and who holds the directory.

A data directory has one database, ``node.db`` with its journal, and a ``lock`` that its one owner
keeps for life; the kernel releases it however the owner dies. The database names its cluster and
node, and is refused to any other. Nothing here deletes data: a damaged database is set aside under
another name, and what is formatted in its place may not vote.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .hard_state import HardState
from .port import Damaged, DiskFailed, InUse, NotFormatted, StorageError, WrongIdentity
from .rows import FORMAT, SCHEMA, Head, sealed, verify_only
from .sqlite import SqliteDisk, connect, reading
from .wal import scan_wal

DATABASE = "node.db"
LOCK = "lock"

_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP)
_SUFFIXES = ("", "-wal", "-shm")
_MAGIC = b"SQLite format 3\x00"
_WAL_VERSIONS = b"\x02\x02"  # bytes 18 and 19 of a database whose journal is a WAL


def format_disk(path: Path, cluster_id: str, node_id: int, incarnation: int, voting: bool) -> None:
    """Create the database of node ``node_id`` in the directory ``path``, which may be missing.

    ``incarnation`` is the number of the life that begins with it; see `lives`.
    Raises StorageError where there is a database already, or where a damaged one was set aside and
    the new one would vote; InUse; DiskFailed.
    """
    with _operating(path):
        path.mkdir(parents=True, exist_ok=True)
        _sync_ancestors(path)
        with _locked(path):
            database_path = path / DATABASE
            for suffix in _SUFFIXES:
                if (found := path / (DATABASE + suffix)).exists():
                    raise StorageError(f"{found}: exists already; it is not formatted again")
            if voting and _set_aside_before(path):
                raise StorageError(
                    f"{path}: a damaged database was set aside here; its successor must not vote"
                )
            draft = path / f"{DATABASE}.new"
            for suffix in (*_SUFFIXES, "-journal"):
                (path / (draft.name + suffix)).unlink(missing_ok=True)
            with reading(draft):
                _create(draft, cluster_id, node_id, HardState(incarnation, voting))
            draft.rename(database_path)
            _sync_directory(path)


def _create(path: Path, cluster_id: str, node_id: int, state: HardState) -> None:
    database = connect(path)
    try:
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL").fetchall()
        database.execute("BEGIN")
        for statement in SCHEMA:
            database.execute(statement)
        identity = sealed("identity", FORMAT, node_id, data=cluster_id.encode())
        database.execute("INSERT INTO identity VALUES (?,?,?,?)", identity)
        head = Head(state).encode()
        database.execute(f"INSERT INTO head VALUES ({','.join('?' * len(head))})", head)
        database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        database.close()


def open_disk(path: Path, cluster_id: str, node_id: int) -> SqliteDisk:
    """Open the database in the directory ``path`` and hold it until it is closed.

    Raises NotFormatted where there is none, InUse where another process holds it, WrongIdentity
    where it is not that of ``node_id`` in ``cluster_id``, Damaged, DiskFailed.
    """
    database_path = path / DATABASE
    with _operating(path):
        if not path.is_dir():
            raise NotFormatted(f"{path}: no such directory; format it first", data_lost=False)
        lock = _take_lock(path)
        try:
            _check_files(path)
            with reading(database_path):
                database = connect(database_path)
                try:
                    rows = database.execute("SELECT * FROM identity").fetchall()
                    identity = verify_only("identity", rows, str(database_path))
                    _check_identity(database_path, identity, cluster_id, node_id)
                except BaseException:
                    database.close()
                    raise
        except BaseException:
            os.close(lock)
            raise
        return SqliteDisk(database_path, database, lambda: os.close(lock))


def set_aside(path: Path) -> Path:
    """Rename the database in the directory ``path``, journal included; returns its new path,
    ``node.db.damaged-<n>``. Raises InUse where another process holds it, DiskFailed."""
    with _operating(path), _locked(path):
        taken = {name.partition("-wal")[0].partition("-shm")[0] for name in os.listdir(path)}
        number = 1
        while f"{DATABASE}.damaged-{number}" in taken:
            number += 1
        aside = f"{DATABASE}.damaged-{number}"
        for suffix in _SUFFIXES:
            source = path / (DATABASE + suffix)
            if source.exists():
                source.rename(path / (aside + suffix))
                _sync_directory(path)  # never the journal alone: the database would do without
        return path / aside


def _check_files(path: Path) -> None:
    """What can be told of the files before SQLite opens, and so changes, them."""
    database_path = path / DATABASE
    journal = path / f"{DATABASE}-wal"
    if not database_path.exists():
        if journal.exists():
            raise Damaged(f"{database_path}: it is missing, but its journal is there")
        raise NotFormatted(
            f"{database_path}: no such file; format it first", data_lost=_set_aside_before(path)
        )
    # For writing: what may only be read SQLite takes, and fails later as if it were damaged.
    with database_path.open("r+b") as file:
        head = file.read(20)
    if journal.exists():
        journal.open("r+b").close()
    if head[:16] != _MAGIC or head[18:20] != _WAL_VERSIONS:
        # With another version SQLite would not look at the journal at all.
        raise Damaged(f"{database_path}: its header is not that of a node's database")
    scan_wal(journal)


def _check_identity(path: Path, row: tuple[int, ...], cluster_id: str, node_id: int) -> None:
    version, found_node, _, found_cluster = row
    if version != FORMAT:
        raise StorageError(
            f"{path}: written in format {version}, and this program reads format {FORMAT}; "
            "start the release that wrote it"
        )
    cluster = bytes(found_cluster).decode(errors="replace")
    if (cluster, found_node) != (cluster_id, node_id):
        raise WrongIdentity(
            f"{path}: belongs to node {found_node} of cluster {cluster!r}, not to node {node_id} "
            f"of cluster {cluster_id!r}; give each node a data directory of its own"
        )


def _set_aside_before(path: Path) -> bool:
    return any(path.glob(f"{DATABASE}.damaged-*"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = _take_lock(path)
    try:
        yield
    finally:
        os.close(lock)


def _take_lock(path: Path) -> int:
    """The descriptor of the lock, held until it is closed. Raises InUse."""
    lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise InUse(f"{path}: another process uses it; stop that one first") from None
    except BaseException:
        os.close(lock)
        raise
    return lock


@contextmanager
def _operating(path: Path) -> Iterator[None]:
    """Turns the operating system's errors into DiskFailed."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise DiskFailed(f"{where}: {error.strerror or error}") from error


def _sync_ancestors(path: Path) -> None:
    """Make durable that ``path`` is there: with a lost name goes all that was promised below it.
    Which of the directories above it are new is not known; one that may not be read, or is of a
    file system without such a sync, is not ours."""
    for directory in path.absolute().parents:
        try:
            _sync_directory(directory)
        except OSError as error:
            if error.errno not in _NOT_OURS:
                raise
            return


def _sync_directory(path: Path) -> None:
    """Make names that were created or changed in ``path`` durable."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
