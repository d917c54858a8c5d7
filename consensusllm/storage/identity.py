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
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consensusllm.paxos.ready import Recovered

from .hard_state import HardState
from .port import Damaged, DiskFailed, InUse, NotFormatted, StorageError, WrongIdentity
from .rows import FORMAT, SCHEMA, Head, sealed, verify_only
from .sqlite import SqliteDisk, connect, reading
from .wal import scan_wal

DATABASE = "node.db"
LOCK = "lock"

_PATH_BYTES = 490
"""SQLite opens no file whose path has more than 512 bytes with what it appends to it."""
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP)
_SUFFIXES = ("", "-wal", "-shm")
_MAGIC = b"SQLite format 3\x00"
_WAL_VERSIONS = b"\x02\x02"  # bytes 18 and 19 of a database whose journal is a WAL


def format_disk(path: Path, cluster_id: str, node_id: int, incarnation: int, voting: bool) -> None:
    """Create the database of node ``node_id`` in the directory ``path``, which may be missing.

    ``incarnation`` is the number of the life that begins with it; see `lives`.
    Raises StorageError where there is a database already, or a link to one, or where a damaged one
    was set aside and the new one would vote, or the path is too long; InUse; DiskFailed. What is
    made is for its owner alone.
    """
    size_bytes = len(os.fsencode(os.path.abspath(path)))
    if size_bytes > _PATH_BYTES:
        raise StorageError(f"{path}: has {size_bytes} bytes as a path: {_PATH_BYTES} is the most")
    with _operating(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync_ancestors(path)
        with _locked(path):
            database_path = path / DATABASE
            for suffix in _SUFFIXES:
                if _is_there(found := path / (DATABASE + suffix)):
                    raise StorageError(f"{found}: exists already; it is not formatted again")
            if voting and _set_aside_before(path):
                raise StorageError(
                    f"{path}: a damaged database was set aside here; its successor must not vote"
                )
            draft = path / f"{DATABASE}.new"
            for suffix in (*_SUFFIXES, "-journal"):
                (path / (draft.name + suffix)).unlink(missing_ok=True)
            # SQLite gives the journal the rights that the database has.
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
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
    where it is not that of ``node_id`` in ``cluster_id``, StorageError where a file of it is a
    link, Damaged, DiskFailed.
    """
    database_path = path / DATABASE
    with _operating(path):
        try:
            lock = _take_lock(path)
        except FileNotFoundError:
            raise NotFormatted(
                f"{path}: no such directory; format it first", data_lost=False
            ) from None
        try:
            _check_files(path)
            with reading(database_path):
                database = connect(database_path)
                try:
                    rows = database.execute("SELECT * FROM identity").fetchall()
                    identity = verify_only("identity", rows, str(database_path))
                    _check_identity(database_path, identity, cluster_id, node_id)
                    # The journal is there by now. SQLite syncs its name too, and ignores the error.
                    _sync_directory(path)
                except BaseException:
                    database.close()
                    raise
        except BaseException:
            os.close(lock)
            raise
        return SqliteDisk(database_path, database, lambda: os.close(lock))


def set_aside(path: Path) -> Path:
    """Rename the database in the directory ``path``, journal included; returns its new path,
    ``node.db.damaged-<n>``. Raises InUse where another process holds it, StorageError where a file
    of it is a link, DiskFailed."""
    with _operating(path), _locked(path):
        found = [suffix for suffix in _SUFFIXES if _is_there(path / (DATABASE + suffix))]
        taken = {name.partition("-wal")[0].partition("-shm")[0] for name in os.listdir(path)}
        number = 1
        while f"{DATABASE}.damaged-{number}" in taken:
            number += 1
        aside = f"{DATABASE}.damaged-{number}"
        for suffix in found:
            (path / (DATABASE + suffix)).rename(path / (aside + suffix))
            _sync_directory(path)  # never the journal alone: the database would do without
        return path / aside


def has_database(path: Path) -> bool:
    """Whether there is a database in the directory ``path``, sound or not. Raises StorageError
    where it is a link, DiskFailed where that cannot be told."""
    with _operating(path):
        return _is_there(path / DATABASE)


def was_used(path: Path, cluster_id: str, node_id: int, incarnation: int) -> bool:
    """Whether the database in the directory ``path`` holds more than `format_disk` put there for
    the voting life ``incarnation``. Raises what `open_disk` does."""
    disk = open_disk(path, cluster_id, node_id)
    try:
        return disk.load() != Recovered(incarnation, voting=True)
    finally:
        disk.close()


def _is_there(path: Path) -> bool:
    """Whether a file has that name. `Path.exists` will not do: from Python 3.14 on it takes any
    error for no, and what is not there is formatted. Raises StorageError for a link, OSError."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISLNK(mode):
        raise StorageError(
            f"{path}: is a symbolic link, and SQLite keeps the journal beside what it leads to; "
            "put the file here, or make the directory the link"
        )
    return True


def _check_files(path: Path) -> None:
    """What can be told of the files before SQLite opens, and so changes, them."""
    database_path = path / DATABASE
    journal = path / f"{DATABASE}-wal"
    journal_is_there = _is_there(journal)
    if not _is_there(database_path):
        if journal_is_there:
            raise Damaged(f"{database_path}: it is missing, but its journal is there")
        raise NotFormatted(
            f"{database_path}: no such file; format it first", data_lost=_set_aside_before(path)
        )
    # For writing: what may only be read SQLite takes, and fails later as if it were damaged.
    with database_path.open("r+b") as file:
        head = file.read(20)
    if journal_is_there:
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
    return any(name.startswith(f"{DATABASE}.damaged-") for name in os.listdir(path))


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
