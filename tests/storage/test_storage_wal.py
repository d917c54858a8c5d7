"""A torn journal loads; a damaged one is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from storage_bench import CLUSTER, NODE, SqliteBench, entry

from consensusllm.paxos.ready import Persist
from consensusllm.storage import Damaged, open_disk
from consensusllm.storage.wal import FRAME_HEADER_BYTES, HEADER_BYTES, scan_wal

WRITES = 6


@pytest.fixture
def killed(sqlite_bench: SqliteBench, tmp_path: Path) -> Path:
    """What a process leaves that was killed after it had written the slots 1 to WRITES."""
    disk = sqlite_bench.open()
    disk.load()
    for slot in range(1, WRITES + 1):
        disk.write([Persist(entries=(entry(slot),))])
    left = tmp_path / "killed"
    shutil.copytree(sqlite_bench.data, left)
    return left


def journal_of(data: Path) -> Path:
    return data / "node.db-wal"


def loaded_slots(data: Path) -> list[int]:
    disk = open_disk(data, CLUSTER, NODE)
    try:
        return [held.slot for held in disk.load().entries]
    finally:
        disk.close()


def with_journal(killed: Path, copy: Path, journal: bytes) -> Path:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(killed, copy)
    journal_of(copy).write_bytes(journal)
    return copy


def test_one_write_is_one_transaction_of_the_journal(sqlite_bench: SqliteBench) -> None:
    disk = sqlite_bench.open()
    disk.load()
    journal = journal_of(sqlite_bench.data)
    disk.write([Persist(entries=(entry(1),))])
    before = len(scan_wal(journal).commits)
    disk.write([Persist(entries=(entry(slot),), chosen_through=slot) for slot in range(2, 40)])
    assert len(scan_wal(journal).commits) == before + 1


def test_an_intact_journal_loads_whole(killed: Path) -> None:
    assert len(scan_wal(journal_of(killed)).commits) == WRITES
    assert loaded_slots(killed) == list(range(1, WRITES + 1))


@pytest.mark.parametrize("how", ["cut", "zeroed", "garbled"])
def test_a_torn_last_transaction_loads_everything_before_it(
    killed: Path, tmp_path: Path, how: str
) -> None:
    journal = journal_of(killed).read_bytes()
    scan = scan_wal(journal_of(killed))
    begin = HEADER_BYTES + (scan.commits[-2] + 1) * scan.frame_bytes
    end = HEADER_BYTES + (scan.commits[-1] + 1) * scan.frame_bytes
    assert end == len(journal)
    offsets = {*range(begin, end, 251), end - 1}
    for frame in range(begin, end, scan.frame_bytes):
        offsets.update(range(frame, frame + FRAME_HEADER_BYTES + 2))
    for offset in sorted(offsets):
        rest = len(journal) - offset
        tail = {"cut": b"", "zeroed": bytes(rest), "garbled": b"\xa5" * rest}[how]
        torn = with_journal(killed, tmp_path / "torn", journal[:offset] + tail)
        found = loaded_slots(torn)
        if found != list(range(1, WRITES)):
            # The end of the last page may happen to hold the bytes that it was torn to.
            assert journal[offset:] == tail, offset
            assert found == list(range(1, WRITES + 1))


def test_a_flipped_byte_before_the_last_transaction_is_damage(killed: Path, tmp_path: Path) -> None:
    journal = journal_of(killed).read_bytes()
    scan = scan_wal(journal_of(killed))
    last = HEADER_BYTES + (scan.commits[-2] + 1) * scan.frame_bytes
    offsets = {*range(0, last, 397), *range(HEADER_BYTES), last - 1}
    for frame in range(HEADER_BYTES, last, scan.frame_bytes):
        offsets.update(range(frame, frame + FRAME_HEADER_BYTES))
    for offset in sorted(offsets):
        flipped = bytearray(journal)
        flipped[offset] ^= 0x10
        damaged = with_journal(killed, tmp_path / "damaged", bytes(flipped))
        with pytest.raises(Damaged, match=r"node\.db-wal: .*journal") as raised:
            open_disk(damaged, CLUSTER, NODE)
        assert "\n" not in str(raised.value)


def test_frames_of_an_older_generation_are_no_damage(sqlite_bench: SqliteBench) -> None:
    disk = sqlite_bench.open()
    disk.load()
    disk.write([Persist(entries=(entry(1, "x" * (5 << 20)),))])  # past a checkpoint
    journal = journal_of(sqlite_bench.data)
    assert len(scan_wal(journal).commits) == 1
    disk.write([Persist(entries=(entry(2),))])
    scan = scan_wal(journal)
    assert len(scan.commits) == 1
    assert journal.stat().st_size > 100 * scan.frame_bytes * len(scan.commits)
    disk = sqlite_bench.open()
    assert [held.slot for held in disk.load().entries] == [1, 2]


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1, HEADER_BYTES])
def test_a_journal_that_was_only_begun_is_empty(
    sqlite_bench: SqliteBench, killed: Path, tmp_path: Path, size: int
) -> None:
    begun = tmp_path / "begun"
    shutil.copytree(sqlite_bench.data, begun)
    journal_of(begun).write_bytes(journal_of(killed).read_bytes()[:size])
    assert loaded_slots(begun) == []
