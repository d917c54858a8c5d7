"""What an error leaves behind: nothing that is open, and no healthy disk that is called damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from storage_bench import CLUSTER, NODE, SqliteBench, entries, info_of, publish

from consensusllm.paxos.ballot import Ballot
from consensusllm.paxos.ready import Persist
from consensusllm.storage import Damaged, DiskFailed, open_disk, sqlite

SNAPSHOT = bytes(range(200)) * 60
ROT = "UPDATE chunk SET data = CAST(data || 'x' AS BLOB) WHERE offset = 0"


@pytest.mark.parametrize(
    "words",
    [
        *("unable to open database file", "disk I/O error", "database or disk is full"),
        *("attempt to write a readonly database", "locking protocol", "access permission denied"),
    ],
)
def test_what_the_system_would_not_let_it_do_is_not_damage(words: str) -> None:
    line = f"node.db: {words}: see that the disk works"
    with pytest.raises(DiskFailed, match=line), sqlite.reading(Path("node.db")):
        raise sqlite3.OperationalError(words)


def test_a_staged_snapshot_that_has_rotted_is_dropped_and_the_disk_goes_on(
    sqlite_bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its traceback is kept by whoever tells of the rot, and a checkpoint wants no reader."""
    monkeypatch.setattr(sqlite, "CHECKPOINT_BYTES", 0)
    disk = sqlite_bench.open()
    disk.load()
    disk.stage_snapshot(9, 0, SNAPSHOT)
    disk.stage_snapshot(9, len(SNAPSHOT), SNAPSHOT)
    disk._database.execute(ROT)
    with pytest.raises(Damaged, match="does not match its checksum"):
        disk.verify_staged(info_of(9, SNAPSHOT + SNAPSHOT))
    assert disk.staged() == (0, 0)
    disk.write([Persist(promised=Ballot(3, 2))])
    publish(disk, 9, SNAPSHOT)
    disk._database.execute(ROT)
    with pytest.raises(Damaged) as kept:
        disk.read_snapshot(9, 0, len(SNAPSHOT))
    disk.write([Persist(promised=Ballot(4, 2))])
    assert kept.value is not None


def test_a_disk_that_is_closed_after_a_failed_load_holds_nothing(sqlite_bench: SqliteBench) -> None:
    disk = sqlite_bench.open()
    disk.load()
    publish(disk, 1, SNAPSHOT)
    disk._database.execute(ROT)
    disk.close()
    disk = open_disk(sqlite_bench.data, CLUSTER, NODE)
    with pytest.raises(Damaged) as kept:
        disk.load()
    disk.close()
    open_disk(sqlite_bench.data, CLUSTER, NODE).close()
    assert kept.value is not None, "its traceback has been there all the time"


def test_a_disk_that_is_closed_after_a_failed_write_holds_nothing(
    sqlite_bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "RECLAIM_ROWS", 1)
    disk = sqlite_bench.open()
    disk.load()
    disk.write([Persist(entries=entries(1, 9), chosen_through=9)])
    publish(disk, 9, SNAPSHOT)
    disk._database.execute("DROP TABLE chunk")  # what is to be deleted after entries of the log
    with pytest.raises(DiskFailed) as kept:
        disk.write([Persist(compact_through=9)])
    disk.close()
    open_disk(sqlite_bench.data, CLUSTER, NODE).close()
    assert kept.value is not None, "its traceback has been there all the time"
