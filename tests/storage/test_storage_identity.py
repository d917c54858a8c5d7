"""Whose data it is, who holds it, and what is set aside."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from storage_bench import CLUSTER, NODE, SqliteBench, entry

from consensusllm.paxos.ready import Persist
from consensusllm.storage import (
    Damaged,
    DiskFailed,
    InUse,
    NotFormatted,
    StorageError,
    WrongIdentity,
    format_disk,
    identity,
    open_disk,
    set_aside,
)

HOLDER = """
import sys
from pathlib import Path
from consensusllm.storage import open_disk
disk = open_disk(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
print("held", flush=True)
sys.stdin.read()
"""


NOBODY = 65534


@contextmanager
def directory_of_a_plain_user() -> Iterator[Path]:
    """A new directory, and its owner as the user of this process: root may write everything."""
    with tempfile.TemporaryDirectory() as directory:
        privileged = os.geteuid() == 0
        if privileged:
            os.chown(directory, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(directory)
        finally:
            if privileged:
                os.seteuid(0)


def test_a_missing_directory_or_database_is_not_formatted(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotFormatted, match=str(path)) as raised:
            open_disk(path, CLUSTER, NODE)
        assert not raised.value.data_lost
    assert not (tmp_path / "missing").exists()


def test_what_is_made_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        format_disk(tmp_path / "data" / "node-1", "c", 1, 1, voting=True)
    finally:
        os.umask(before)
    disk = open_disk(tmp_path / "data" / "node-1", "c", 1)
    found = [tmp_path / "data" / "node-1", *(tmp_path / "data" / "node-1").iterdir()]
    assert {"node.db", "node.db-wal"} <= {each.name for each in found}
    assert [each.name for each in found if each.stat().st_mode & 0o077] == []
    disk.close()


@pytest.mark.parametrize("size", [490, 491])
def test_a_path_that_sqlite_cannot_open_is_refused_before_anything_is_made(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path
    while (left := size - len(str(path)) - 1) > 0:
        path /= "d" * (left if left <= 100 else min(100, left - 2))
    assert len(str(path)) == size
    if size == 490:
        format_disk(path, "c", 1, 1, voting=True)
        open_disk(path, "c", 1).close()
        return
    with pytest.raises(StorageError, match="has 491 bytes as a path: 490 is the most"):
        format_disk(path, "c", 1, 1, voting=True)
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_was_cut_short_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "node.db.new").write_bytes(b"half a database")
    (tmp_path / "node.db.new-wal").write_bytes(b"half a journal")
    with pytest.raises(NotFormatted):
        open_disk(tmp_path, CLUSTER, NODE)
    format_disk(tmp_path, CLUSTER, NODE, incarnation=1, voting=True)
    disk = open_disk(tmp_path, CLUSTER, NODE)
    assert disk.load().incarnation == 1
    disk.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lock", "node.db"]


@pytest.mark.parametrize("refusal", [None, errno.EACCES, errno.EIO])
def test_every_directory_above_a_new_database_is_durable_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int | None
) -> None:
    data, synced = tmp_path / "new" / "too", []

    def sync(path: Path) -> None:
        synced.append(path)
        if refusal and path == tmp_path:
            raise OSError(refusal, "refused", str(path))
        assert not (data / "node.db").exists() or path == data

    monkeypatch.setattr(identity, "_sync_directory", sync)
    if refusal == errno.EIO:
        with pytest.raises(DiskFailed):
            format_disk(data, CLUSTER, NODE, incarnation=1, voting=True)
        assert not (data / "node.db").exists()
        return
    format_disk(data, CLUSTER, NODE, incarnation=1, voting=True)
    ancestors = list(data.parents)
    if refusal:
        ancestors = ancestors[: ancestors.index(tmp_path) + 1]
    assert synced == [*ancestors, data]


@pytest.mark.parametrize(("cluster", "node"), [("other", NODE), (CLUSTER, 2)])
def test_data_of_another_node_or_cluster_is_refused(
    sqlite_bench: SqliteBench, cluster: str, node: int
) -> None:
    with pytest.raises(WrongIdentity, match=f"node 1 of cluster 'council', not to node {node} of"):
        open_disk(sqlite_bench.data, cluster, node)
    sqlite_bench.open().load()


def test_a_directory_has_one_owner_until_it_closes(sqlite_bench: SqliteBench) -> None:
    disk = sqlite_bench.open()
    for attempt in (
        lambda: open_disk(sqlite_bench.data, CLUSTER, NODE),
        lambda: set_aside(sqlite_bench.data),
        lambda: format_disk(sqlite_bench.data, CLUSTER, NODE, 1, True),
    ):
        with pytest.raises(InUse, match="another process uses it"):
            attempt()
    disk.close()
    open_disk(sqlite_bench.data, CLUSTER, NODE).close()


def test_the_lock_of_a_killed_process_is_free(sqlite_bench: SqliteBench) -> None:
    arguments = [sys.executable, "-c", HOLDER, str(sqlite_bench.data), CLUSTER, str(NODE)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(InUse):
                open_disk(sqlite_bench.data, CLUSTER, NODE)
        finally:
            holder.kill()
    sqlite_bench.open().load()


@pytest.mark.parametrize("size", [0, 1, 19, 100, 4096, 9000])
def test_a_truncated_database_is_damaged(sqlite_bench: SqliteBench, size: int) -> None:
    database = sqlite_bench.data / "node.db"
    database.write_bytes(database.read_bytes()[:size])
    with pytest.raises(Damaged, match=r"node\.db: ") as raised:
        sqlite_bench.open().load()
    assert "\n" not in str(raised.value)


def test_garbage_is_damaged(sqlite_bench: SqliteBench) -> None:
    (sqlite_bench.data / "node.db").write_bytes(b"no database " * 1000)
    with pytest.raises(Damaged, match=r"node\.db: "):
        sqlite_bench.open()


def test_a_database_that_would_ignore_its_journal_is_damaged(sqlite_bench: SqliteBench) -> None:
    database = sqlite_bench.data / "node.db"
    content = bytearray(database.read_bytes())
    content[18:20] = b"\x01\x01"  # as SQLite has it for a rollback journal
    database.write_bytes(content)
    with pytest.raises(Damaged, match="header"):
        sqlite_bench.open()


def test_a_journal_without_its_database_is_damaged(sqlite_bench: SqliteBench) -> None:
    disk = sqlite_bench.open()
    disk.load()
    disk.write([Persist(entries=(entry(1),))])
    (sqlite_bench.data / "node.db").unlink()
    with pytest.raises(Damaged, match="missing"):
        sqlite_bench.open()
    with pytest.raises(StorageError, match="not formatted again"):
        format_disk(sqlite_bench.data, CLUSTER, NODE, 1, True)


def test_no_loss_of_power_sets_aside_a_journal_and_leaves_its_database(
    sqlite_bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may keep the later of two renames alone, unless the earlier one is durable."""
    sqlite_bench.open()
    sqlite_bench.dispose()
    (sqlite_bench.data / "node.db-wal").write_bytes(b"a journal")
    names: list[set[str]] = []
    sync = identity._sync_directory

    def noting(path: Path) -> None:
        names.append({file.name for file in path.iterdir()})
        sync(path)

    monkeypatch.setattr(identity, "_sync_directory", noting)
    set_aside(sqlite_bench.data)
    assert "node.db-wal" in names[0]
    assert "node.db" not in names[0]
    assert "node.db-wal" not in names[-1]


def test_what_is_set_aside_is_kept_and_its_successor_does_not_vote(
    sqlite_bench: SqliteBench,
) -> None:
    disk = sqlite_bench.open()
    disk.load()
    disk.write([Persist(entries=(entry(1),))])
    with pytest.raises(InUse):
        set_aside(sqlite_bench.data)
    sqlite_bench.open()  # a killed process leaves its journal: the copy now has one
    sqlite_bench.dispose()
    data = sqlite_bench.data
    (data / "node.db-wal").write_bytes(b"damaged")
    content = (data / "node.db").read_bytes()

    assert set_aside(data) == data / "node.db.damaged-1"
    assert (data / "node.db.damaged-1").read_bytes() == content
    assert (data / "node.db.damaged-1-wal").read_bytes() == b"damaged"
    with pytest.raises(NotFormatted) as raised:
        open_disk(data, CLUSTER, NODE)
    assert raised.value.data_lost
    with pytest.raises(StorageError, match="must not vote"):
        format_disk(data, CLUSTER, NODE, incarnation=8, voting=True)

    format_disk(data, CLUSTER, NODE, incarnation=8, voting=False)
    disk = open_disk(data, CLUSTER, NODE)
    recovered = disk.load()
    assert (recovered.incarnation, recovered.voting, recovered.entries) == (8, False, ())
    disk.close()
    assert set_aside(data) == data / "node.db.damaged-2"
    assert (data / "node.db.damaged-1").read_bytes() == content


@pytest.mark.parametrize("name", ["node.db", "node.db-wal"])
def test_a_link_to_a_database_or_journal_is_refused_and_left_as_it_is(
    sqlite_bench: SqliteBench, name: str
) -> None:
    """SQLite would keep a journal beside what it leads to, and that one would not be verified."""
    sqlite_bench.open()
    sqlite_bench.dispose()
    data, elsewhere = sqlite_bench.data, sqlite_bench.data.with_name("elsewhere")
    elsewhere.mkdir()
    (data / name).touch()
    (data / name).rename(elsewhere / name)
    (data / name).symlink_to(elsewhere / name)
    for _ in range(2):  # the second time it leads nowhere
        listed = sorted(os.listdir(data))
        for attempt in (
            lambda: open_disk(data, CLUSTER, NODE),
            lambda: set_aside(data),
            lambda: format_disk(data, CLUSTER, NODE, 8, False),
        ):
            with pytest.raises(StorageError, match=r"is a symbolic link|not formatted") as raised:
                attempt()
            assert type(raised.value) is StorageError
        assert sorted(os.listdir(data)) == listed
        (elsewhere / name).unlink(missing_ok=True)


def test_a_directory_may_be_a_link(sqlite_bench: SqliteBench) -> None:
    link = sqlite_bench.data.with_name("link")
    link.symlink_to(sqlite_bench.data)
    disk = open_disk(link, CLUSTER, NODE)
    disk.load()
    disk.close()


def test_a_database_of_which_cannot_be_told_whether_it_is_there_is_not_replaced(
    sqlite_bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sqlite_bench.data
    content = (data / "node.db").read_bytes()
    stat, lstat = os.stat, os.lstat

    def check(path: Any) -> None:
        if str(path) == str(data / "node.db"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(os, "stat", lambda path, **how: check(path) or stat(path, **how))
    monkeypatch.setattr(os, "lstat", lambda path, **how: check(path) or lstat(path, **how))
    monkeypatch.setattr(Path, "exists", os.path.exists)  # as Python 3.14 has it: no, at any error
    for attempt in (
        lambda: open_disk(data, CLUSTER, NODE),
        lambda: set_aside(data),
        lambda: format_disk(data, CLUSTER, NODE, 8, False),
    ):
        with pytest.raises(DiskFailed, match=r"node\.db: Input/output error"):
            attempt()
    assert (data / "node.db").read_bytes() == content


def test_a_directory_that_cannot_be_listed_may_hold_what_was_set_aside(
    sqlite_bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_aside(sqlite_bench.data)

    def fails(path: Any = ".") -> Any:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "listdir", fails)
    monkeypatch.setattr(os, "scandir", fails)
    for attempt in (
        lambda: open_disk(sqlite_bench.data, CLUSTER, NODE),
        lambda: format_disk(sqlite_bench.data, CLUSTER, NODE, 8, True),
    ):
        with pytest.raises(DiskFailed, match="Permission denied"):
            attempt()


def test_the_journals_name_is_durable_before_anything_is_written_to_it(
    sqlite_bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite syncs the directory too, and goes on where that fails."""
    listed = []

    def fails(path: Path) -> None:
        listed.append(sorted(os.listdir(path)))
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(identity, "_sync_directory", fails)
        with pytest.raises(DiskFailed, match=f"{sqlite_bench.data}: Input/output error"):
            open_disk(sqlite_bench.data, CLUSTER, NODE)
    assert listed == [["lock", "node.db", "node.db-wal"]]
    sqlite_bench.open().load()


def test_a_newer_format_is_refused_and_not_called_damaged(
    sqlite_bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consensusllm.storage.identity.FORMAT", 0)
    with pytest.raises(StorageError, match="written in format 3") as raised:
        open_disk(sqlite_bench.data, CLUSTER, NODE)
    assert not isinstance(raised.value, (Damaged, WrongIdentity))


def test_a_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskFailed, match=r"file/data: .+|file: .+"):
        format_disk(tmp_path / "file" / "data", CLUSTER, NODE, 1, True)


@pytest.mark.parametrize("name", ["node.db", "node.db-wal"])
def test_a_file_that_may_not_be_written_is_not_called_damaged(name: str) -> None:
    with directory_of_a_plain_user() as directory:
        format_disk(directory, CLUSTER, NODE, incarnation=1, voting=True)
        (directory / name).touch()
        (directory / name).chmod(0o444)
        with pytest.raises(DiskFailed, match=f"{directory / name}: Permission denied"):
            open_disk(directory, CLUSTER, NODE).load()
        (directory / name).chmod(0o644)
        disk = open_disk(directory, CLUSTER, NODE)
        assert disk.load().incarnation == 1
        disk.close()


def test_a_directory_that_may_not_be_written_is_not_called_damaged() -> None:
    with directory_of_a_plain_user() as directory:
        format_disk(directory, CLUSTER, NODE, incarnation=1, voting=True)
        open_disk(directory, CLUSTER, NODE).close()
        directory.chmod(0o555)
        with pytest.raises(DiskFailed, match=r"node\.db: .+ may be written"):
            open_disk(directory, CLUSTER, NODE).load()
        directory.chmod(0o755)
        disk = open_disk(directory, CLUSTER, NODE)
        assert disk.load().incarnation == 1
        disk.close()
