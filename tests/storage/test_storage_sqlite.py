"""What only the file can show: kills, rot, errors, and space given back."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from storage_bench import CLUSTER, NODE, SqliteBench, entries, entry, info_of, publish

from consensusllm.paxos.ballot import BOTTOM, Ballot
from consensusllm.paxos.ready import Persist, Recovered
from consensusllm.storage import Damaged, DiskFailed, InUse, open_disk, sqlite
from consensusllm.storage.rows import Head

WRITER = """
import sys
from pathlib import Path
from consensusllm.paxos.ballot import Ballot
from consensusllm.paxos.batch import Batch
from consensusllm.paxos.messages import Entry
from consensusllm.paxos.ready import Persist
from consensusllm.storage import open_disk
disk = open_disk(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
slot = disk.load().chosen_through
while True:
    slot += 1
    entry = Entry(slot, Ballot(slot, 1), Batch.pack(slot, [b"%d" % slot * 300]))
    disk.write([Persist(promised=Ballot(slot, 1), entries=(entry,), chosen_through=slot)])
    print(slot, flush=True)
"""


def test_every_acknowledged_write_survives_kill_9(sqlite_bench: SqliteBench) -> None:
    arguments = [sys.executable, "-c", WRITER, str(sqlite_bench.data), CLUSTER, str(NODE)]
    acknowledged = 0
    for life in range(3):
        enough = acknowledged + 150 + 37 * life
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
            try:
                assert writer.stdout is not None
                while acknowledged < enough:
                    acknowledged = int(writer.stdout.readline())
            finally:
                writer.kill()
            rest = writer.stdout.read().splitlines()
            acknowledged = int(rest[-1]) if rest else acknowledged
        assert writer.returncode == -signal.SIGKILL
        disk = open_disk(sqlite_bench.data, CLUSTER, NODE)
        recovered = disk.load()
        disk.close()
        assert [held.slot for held in recovered.entries] == list(
            range(1, recovered.chosen_through + 1)
        )
        assert recovered.chosen_through in (acknowledged, acknowledged + 1)
        assert recovered.promised == Ballot(recovered.chosen_through, 1)
        acknowledged = recovered.chosen_through


def test_a_writer_thread_may_own_a_disk_that_another_thread_opened(
    sqlite_bench: SqliteBench,
) -> None:
    disk = sqlite_bench.open()
    disk.load()
    writer = threading.Thread(target=disk.write, args=([Persist(entries=(entry(1),))],))
    writer.start()
    writer.join()
    disk.close()
    assert sqlite_bench.open().load().entries == (entry(1),)


# Rot ------------------------------------------------------------------------------------------

SNAPSHOT = bytes(range(200)) * 60


@pytest.fixture
def full(sqlite_bench: SqliteBench) -> tuple[SqliteBench, Recovered]:
    """A closed database with a row in each table, and what it holds."""
    disk = sqlite_bench.open()
    disk.load()
    disk.write([Persist(promised=Ballot(4, 3), incarnations=((1, 7),), entries=entries(1, 40))])
    disk.write([Persist(entries=(entry(50, "y" * 9000), entry(60)), chosen_through=30)])
    publish(disk, 20, SNAPSHOT, Persist(compact_through=10))
    disk.stage_snapshot(45, 0, b"staged" * 1000)
    disk.stage_snapshot(45, 6000, b"staged too")
    disk.close()
    disk = open_disk(sqlite_bench.data, CLUSTER, NODE)
    recovered = disk.load()
    disk.close()
    assert recovered.entries == (*entries(11, 40), entry(50, "y" * 9000), entry(60))
    return sqlite_bench, recovered


def load_again(data: Path) -> tuple[Recovered, bytes, tuple[int, int]]:
    disk = open_disk(data, CLUSTER, NODE)
    try:
        return disk.load(), disk.read_snapshot(20, 0, len(SNAPSHOT) + 1), disk.staged()
    finally:
        disk.close()


def columns() -> list[str]:
    return [
        *("identity.format", "identity.node_id", "identity.crc", "identity.cluster_id"),
        *("head.incarnation", "head.voting", "head.promised_seq_num", "head.promised_pid"),
        *("head.chosen_through", "head.compacted_through", "head.entry_count", "head.entry_sum"),
        *("head.generations", "head.published", "head.staged", "head.crc", "head.lists"),
        *("log.slot", "log.seq_num", "log.pid", "log.crc", "log.payload"),
        *("snapshot.slot", "snapshot.size_bytes", "snapshot.crc", "snapshot.digest"),
        *("chunk.generation", "chunk.offset", "chunk.crc", "chunk.data"),
    ]


def change_by_sql(data: Path, statement: str) -> None:
    database = sqlite3.connect(data / "node.db", isolation_level=None)
    database.execute(statement)
    database.close()


@pytest.mark.parametrize("column", columns())
def test_a_changed_column_is_damage(full: tuple[SqliteBench, Recovered], column: str) -> None:
    table, name = column.split(".")
    blob = name in ("cluster_id", "lists", "payload", "digest", "data")
    changed = f"CAST({name} || 'x' AS BLOB)" if blob else f"{name} + 1000"
    rows = f"(SELECT max(rowid) FROM {table})"
    change_by_sql(full[0].data, f"UPDATE {table} SET {name} = {changed} WHERE rowid = {rows}")
    with pytest.raises(Damaged, match=r"node\.db: ") as raised:
        load_again(full[0].data)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("table", "which"),
    [
        ("identity", "1"),
        ("head", "1"),
        ("snapshot", "slot = 20"),
        ("snapshot", "slot = 45"),
        ("chunk", "generation = 1 AND offset = 0"),
        ("chunk", "generation = 1 AND offset > 0"),
        ("chunk", "generation = 2 AND offset = 0"),
        ("chunk", "generation = 2 AND offset > 0"),
        ("log", "slot = 15"),
        ("log", "slot = 35"),
        ("log", "slot = 60"),
        ("log", "slot > 30"),
    ],
)
def test_a_row_that_is_lost_is_damage(
    full: tuple[SqliteBench, Recovered], table: str, which: str
) -> None:
    change_by_sql(full[0].data, f"DELETE FROM {table} WHERE {which}")
    with pytest.raises(Damaged):
        load_again(full[0].data)


@pytest.mark.parametrize("table", ["identity", "head", "log", "snapshot", "chunk"])
def test_a_table_that_is_lost_is_damage(full: tuple[SqliteBench, Recovered], table: str) -> None:
    change_by_sql(full[0].data, f"DROP TABLE {table}")
    with pytest.raises(Damaged):
        load_again(full[0].data)


def test_an_older_version_of_a_row_is_damage(full: tuple[SqliteBench, Recovered]) -> None:
    bench, _ = full
    database = sqlite3.connect(bench.data / "node.db")
    older = database.execute("SELECT * FROM log WHERE slot = 35").fetchone()
    database.close()
    disk = open_disk(bench.data, CLUSTER, NODE)
    disk.load()
    disk.write([Persist(entries=(entry(35, "newer", seq_num=9),))])
    disk.close()
    database = sqlite3.connect(bench.data / "node.db")
    with database:
        database.execute("REPLACE INTO log VALUES (?,?,?,?,?)", older)
    database.close()
    with pytest.raises(Damaged, match="not the 32 that were written"):
        load_again(bench.data)


def test_a_chosen_prefix_with_a_hole_is_damage(sqlite_bench: SqliteBench) -> None:
    disk = sqlite_bench.open()
    disk.load()
    disk.write([Persist(entries=(entry(1), entry(2), entry(4)), chosen_through=2)])
    head = Head.decode(disk._database.execute("SELECT * FROM head").fetchone())
    disk._finish(replace(head, state=replace(head.state, chosen_through=4)))  # a bug would do it
    disk.close()
    with pytest.raises(Damaged, match="entry of slot 3 is missing"):
        sqlite_bench.open().load()


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_damage_or_changes_nothing(
    full: tuple[SqliteBench, Recovered], where: float, bit: int
) -> None:
    bench, recovered = full
    content = bytearray((bench.data / "node.db").read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    rotten = bench.data.with_name("rotten")
    rotten.mkdir(exist_ok=True)
    for file in rotten.iterdir():
        file.unlink()
    (rotten / "node.db").write_bytes(content)
    try:
        found = load_again(rotten)
    except Damaged:
        return
    assert found == (recovered, SNAPSHOT, (45, 6010))


def test_a_flipped_byte_of_each_kind_of_row_is_damage(full: tuple[SqliteBench, Recovered]) -> None:
    bench, _ = full
    content = (bench.data / "node.db").read_bytes()
    for needle in (
        CLUSTER.encode(),
        b"y" * 3000,
        SNAPSHOT[:100],
        b"staged too",
        info_of(20, SNAPSHOT).digest,
    ):
        at = content.rindex(needle) + len(needle) // 2
        flipped = bytearray(content)
        flipped[at] ^= 0x20
        (bench.data / "node.db").write_bytes(flipped)
        with pytest.raises(Damaged, match=r"node\.db: .*(checksum|digest)"):
            load_again(bench.data)


def test_a_page_that_is_called_free_and_in_use_is_damage(
    full: tuple[SqliteBench, Recovered],
) -> None:
    """Every row is sound, but the next write would overwrite one."""
    bench, _ = full
    content = bytearray((bench.data / "node.db").read_bytes())
    content[32:40] = struct.pack(">II", 4, 1)  # the first free page, and how many there are
    (bench.data / "node.db").write_bytes(content)
    with pytest.raises(Damaged):
        load_again(bench.data)


def test_rot_that_comes_while_it_is_open_is_found_when_it_is_read(
    sqlite_bench: SqliteBench,
) -> None:
    disk = sqlite_bench.open()
    disk.load()
    publish(disk, 1, SNAPSHOT)
    disk._database.execute("UPDATE chunk SET data = CAST(data || 'x' AS BLOB) WHERE offset > 5000")
    assert disk.read_snapshot(1, 0, 100) == SNAPSHOT[:100]
    with pytest.raises(Damaged, match="chunk"):
        disk.read_snapshot(1, 5000, 5000)


# Errors ---------------------------------------------------------------------------------------


def test_a_full_disk_is_named_and_final(sqlite_bench: SqliteBench) -> None:
    disk = sqlite_bench.open()
    disk.load()
    disk.write([Persist(entries=(entry(1),))])
    pages = disk._database.execute("PRAGMA page_count").fetchone()[0]
    disk._database.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    with pytest.raises(DiskFailed, match=r"node\.db: the disk is full"):
        disk.write([Persist(entries=(entry(2, "x" * 100_000),))])
    disk._database.execute("PRAGMA max_page_count = 1000000").fetchall()
    with pytest.raises(DiskFailed, match="failed before"):
        disk.write([Persist(entries=(entry(2),))])
    with pytest.raises(DiskFailed):
        disk.write([])
    with pytest.raises(DiskFailed):
        disk.stage_snapshot(5, 0, b"a")
    with pytest.raises(DiskFailed):
        disk.publish_snapshot(info_of(5, b""), Persist())
    assert sqlite_bench.open().load().entries == (entry(1),)


LIMITED = """
import resource, sys
from pathlib import Path
from consensusllm.paxos.ballot import Ballot
from consensusllm.paxos.batch import Batch
from consensusllm.paxos.messages import Entry
from consensusllm.paxos.ready import Persist
from consensusllm.storage import DiskFailed, open_disk, sqlite
disk = open_disk(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
sqlite.CHECKPOINT_BYTES = int(sys.argv[4])
disk.load()
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200 << 10, hard))
for slot in range(1, 2000):
    try:
        entry = Entry(slot, Ballot(1, 1), Batch(b"x" * 4000))
        disk.write([Persist(entries=(entry,), chosen_through=slot)])
    except DiskFailed as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        try:
            disk.write([Persist(promised=Ballot(9, 1))])
        except DiskFailed:
            print(slot, error)
            sys.exit(3)
"""


@pytest.mark.parametrize(
    ("checkpoint_bytes", "kept"),
    [(1 << 30, False), (40 << 10, True)],
    ids=["journal", "checkpoint"],
)
def test_an_error_of_the_operating_system_is_final(
    sqlite_bench: SqliteBench, checkpoint_bytes: int, kept: bool
) -> None:
    """The files may not grow: in one case the journal would, in the other the database itself."""
    arguments = [str(sqlite_bench.data), CLUSTER, str(NODE), str(checkpoint_bytes)]
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (3, "")
    slot, _, line = ended.stdout.partition(" ")
    assert "node.db: " in line
    assert "start the node again" in line
    recovered = sqlite_bench.open().load()
    assert recovered.chosen_through == int(slot) - (not kept)
    assert recovered.promised == BOTTOM


def test_what_an_earlier_life_wrote_is_written_again_before_it_counts(
    sqlite_bench: SqliteBench,
) -> None:
    """A sync may have failed under it: the next life could read what only the cache holds."""
    disk = sqlite_bench.open()
    disk.load()
    disk.write([Persist(promised=Ballot(3, 2), entries=entries(1, 5), chosen_through=4)])
    killed = sqlite_bench.open()
    journal = sqlite_bench.data / "node.db-wal"
    assert journal.stat().st_size > 0
    recovered = killed.load()
    assert recovered.chosen_through == 4
    assert journal.stat().st_size == 0


def test_a_database_that_another_program_has_open_is_in_use(sqlite_bench: SqliteBench) -> None:
    other = sqlite3.connect(sqlite_bench.data / "node.db", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(InUse, match="another process has it open"):
        sqlite_bench.open()
    other.close()
    sqlite_bench.open().load()


# Space ----------------------------------------------------------------------------------------


def test_the_file_does_not_grow_with_history(
    sqlite_bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_BYTES", 256 << 10)
    monkeypatch.setattr(sqlite, "SPARE_PAGES", 16)
    disk = sqlite_bench.open()
    disk.load()
    sizes = []
    slot = 0
    for _ in range(12):
        for _ in range(8):
            batch = tuple(entry(slot + offset, "x" * 2000) for offset in range(1, 33))
            slot += 32
            disk.write([Persist(entries=batch, chosen_through=slot)])
        publish(disk, slot, bytes(200_000), Persist(compact_through=slot))
        sizes.append(disk.size_bytes())
    written = slot * 2000
    assert sizes[-1] <= 1.1 * max(sizes[:4])
    assert sizes[-1] < written / 2

    for step in range(20):
        disk.write([Persist(promised=Ballot(step + 1, 1))])
    disk.close()
    kept = disk.size_bytes()
    assert kept < 3 * 200_000
    assert kept < sizes[-1] / 2


def test_what_was_compacted_is_deleted_in_bounded_steps(
    sqlite_bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "RECLAIM_ROWS", 10)
    disk = sqlite_bench.open()
    disk.load()
    disk.write([Persist(entries=entries(1, 50), chosen_through=50)])
    publish(disk, 50, b"all", Persist(compact_through=45))

    def rows() -> int:
        return int(disk._database.execute("SELECT count(*) FROM log").fetchone()[0])

    counts = [rows()]
    disk.write([Persist(promised=Ballot(1, 1))])
    counts.append(rows())
    disk = sqlite_bench.open()  # the rest is remembered over a kill
    assert disk.load().entries == entries(46, 50)
    for seq_num in range(2, 7):
        disk.write([Persist(promised=Ballot(seq_num, 1))])
        counts.append(rows())
    assert counts == [40, 30, 20, 10, 5, 5, 5]
    assert sqlite_bench.open().load().entries == entries(46, 50)


def test_one_step_is_bounded_in_bytes_too(
    sqlite_bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "RECLAIM_BYTES", 10_000)
    disk = sqlite_bench.open()
    disk.load()
    large = tuple(entry(slot, "x" * 4500) for slot in range(1, 7))
    disk.write([Persist(entries=(*large, entry(7, "x" * 20_000)), chosen_through=7)])
    publish(disk, 7, b"all", Persist(compact_through=7))
    counts = []
    for seq_num in range(1, 5):
        counts.append(disk._database.execute("SELECT count(*) FROM log").fetchone()[0])
        disk.write([Persist(promised=Ballot(seq_num, 1))])
    assert counts == [5, 3, 1, 0]


def test_chunks_of_older_snapshots_are_deleted_in_bounded_steps(
    sqlite_bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "RECLAIM_ROWS", 2)
    disk = sqlite_bench.open()
    disk.load()
    publish(disk, 1, b"a" * 300)
    publish(disk, 2, b"b" * 300)
    publish(disk, 3, b"c" * 300)
    for seq_num in range(1, 5):
        disk.write([Persist(promised=Ballot(seq_num, 1))])
    left = disk._database.execute("SELECT count(*) FROM chunk").fetchone()[0]
    assert left == 3
    assert disk.read_snapshot(3, 0, 300) == b"c" * 300


def test_a_long_journal_is_cut_back(
    sqlite_bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = sqlite_bench.open()
    disk.load()
    journal = sqlite_bench.data / "node.db-wal"
    disk.stage_snapshot(1, 0, bytes(sqlite.JOURNAL_KEPT_BYTES + (1 << 20)))
    assert journal.stat().st_size > sqlite.JOURNAL_KEPT_BYTES
    disk.write([Persist(promised=Ballot(1, 1))])
    assert journal.stat().st_size <= sqlite.JOURNAL_KEPT_BYTES


def test_what_is_given_back_makes_no_long_journal(
    sqlite_bench: SqliteBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_BYTES", 1 << 20)
    monkeypatch.setattr(sqlite, "RECLAIM_ROWS", 100)
    monkeypatch.setattr(sqlite, "RECLAIM_PAGES", 32)
    monkeypatch.setattr(sqlite, "SPARE_PAGES", 0)
    disk = sqlite_bench.open()
    disk.load()
    for first in range(1, 4001, 100):
        disk.write([Persist(entries=entries(first, first + 99, "x" * 500))])
    disk.write([Persist(chosen_through=4000)])
    publish(disk, 4000, b"all", Persist(compact_through=4000))
    longest = 0
    for seq_num in range(1, 200):
        disk.write([Persist(promised=Ballot(seq_num, 1))])
        longest = max(longest, disk._size_of("-wal"))
    assert disk._database.execute("PRAGMA page_count").fetchone()[0] < 100, "it is given back"
    assert longest < 2 * sqlite.CHECKPOINT_BYTES


def test_copies_of_a_closed_database_need_no_journal(sqlite_bench: SqliteBench) -> None:
    disk = sqlite_bench.open()
    disk.load()
    disk.write([Persist(entries=entries(1, 3))])
    disk.close()
    copy = sqlite_bench.data.with_name("copy")
    copy.mkdir()
    shutil.copy(sqlite_bench.data / "node.db", copy)
    opened = open_disk(copy, CLUSTER, NODE)
    assert opened.load().entries == entries(1, 3)
    opened.close()
