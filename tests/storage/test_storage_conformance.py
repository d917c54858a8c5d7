"""What every Disk does, asked of each of them alike."""

from __future__ import annotations

import pytest
from storage_bench import Bench, entries, entry, info_of, publish

from consensusllm.paxos.ballot import BOTTOM, Ballot
from consensusllm.paxos.ready import Persist, Recovered
from consensusllm.storage import Damaged, Disk, DiskFailed, StorageError


def test_a_new_disk_holds_nothing_but_its_incarnation(bench: Bench) -> None:
    disk = bench.open()
    assert disk.load() == Recovered(incarnation=7, voting=True)
    assert disk.snapshot() is None
    assert disk.staged() == (0, 0)


def test_a_disk_is_not_formatted_over(bench: Bench) -> None:
    bench.open().close()
    with pytest.raises(StorageError, match="not formatted again"):
        bench.format()


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "killed"])
def test_everything_written_is_there_in_the_next_life(bench: Bench, closed: bool) -> None:
    disk = bench.open()
    disk.load()
    disk.write([Persist(promised=Ballot(3, 2), incarnations=((1, 7), (3, 9)))])
    disk.write([Persist(entries=entries(1, 5), chosen_through=4)])
    disk.write([Persist(entries=(entry(9),), incarnation=8, voting=False)])
    if closed:
        disk.close()
    assert bench.open().load() == Recovered(
        incarnation=8,
        voting=False,
        promised=Ballot(3, 2),
        incarnations=((1, 7), (3, 9)),
        entries=(*entries(1, 5), entry(9)),
        chosen_through=4,
    )


def test_changes_take_effect_in_order(bench: Bench) -> None:
    disk = bench.open()
    disk.load()
    disk.write(
        [
            Persist(promised=Ballot(1, 1), entries=(entry(1, "first"), entry(2, "first"))),
            Persist(promised=Ballot(2, 2), entries=(entry(2, "second", seq_num=2),)),
            Persist(chosen_through=2),
            Persist(chosen_through=1),
        ]
    )
    recovered = bench.open().load()
    assert recovered.promised == Ballot(2, 2)
    assert recovered.entries == (entry(1, "first"), entry(2, "second", seq_num=2))
    assert recovered.chosen_through == 2


def test_an_entry_replaces_what_its_slot_held_in_an_earlier_write_or_life(bench: Bench) -> None:
    disk = bench.open()
    disk.load()
    disk.write([Persist(entries=entries(1, 3))])
    disk.write([Persist(entries=(entry(2, "again", seq_num=2),))])
    disk = bench.open()
    disk.load()
    disk.write([Persist(entries=(entry(3, "later", seq_num=3),))])
    found = bench.open().load().entries
    assert found == (entry(1), entry(2, "again", seq_num=2), entry(3, "later", seq_num=3))
    assert [held.ballot.seq_num for held in found] == [1, 2, 3]


def test_empty_changes_write_nothing(bench: Bench) -> None:
    disk = bench.open()
    before = disk.load()
    disk.write([])
    disk.write([Persist(), Persist(incarnations=())])
    assert bench.open().load() == before


@pytest.mark.parametrize(
    "change",
    [
        Persist(promised=BOTTOM),
        Persist(incarnation=6),
        Persist(entries=(entry(0),)),
        Persist(entries=(entry(3),), chosen_through=3),
        Persist(compact_through=1),
    ],
    ids=["lower promise", "lower incarnation", "slot 0", "chosen hole", "uncovered compaction"],
)
def test_a_change_that_breaks_the_rules_stops_the_process(bench: Bench, change: Persist) -> None:
    disk = bench.open()
    disk.load()
    disk.write([Persist(promised=Ballot(1, 1), entries=(entry(1),), chosen_through=1)])
    with pytest.raises(AssertionError):
        disk.write([change])
    assert bench.open().load() == Recovered(
        7, True, promised=Ballot(1, 1), entries=(entry(1),), chosen_through=1
    )


def test_a_closed_disk_refuses_to_write(bench: Bench) -> None:
    disk = bench.open()
    disk.load()
    disk.close()
    disk.close()
    with pytest.raises(DiskFailed):
        disk.write([Persist(entries=(entry(1),))])
    with pytest.raises(DiskFailed):
        disk.stage_snapshot(1, 0, b"a")


def test_a_published_snapshot_is_the_same_bytes_in_every_life(bench: Bench) -> None:
    data = bytes(range(256)) * 40
    disk = bench.open()
    disk.load()
    disk.write([Persist(entries=entries(1, 6), chosen_through=5)])
    info = publish(disk, 4, data, Persist(compact_through=3))

    def check(life: Disk) -> None:
        assert life.snapshot() == info
        assert life.staged() == (0, 0)
        assert life.read_snapshot(4, 0, len(data) + 1) == data
        third = len(data) // 3 + 1
        for offset in (0, 1, third - 1, third, third + 1, len(data) - 1):
            for size in (0, 1, 100, third, third + 1):
                assert life.read_snapshot(4, offset, size) == data[offset : offset + size]
        assert life.read_snapshot(4, len(data), 10) == b""
        assert life.read_snapshot(4, len(data) + 5, 10) == b""

    check(disk)
    disk = bench.open()
    recovered = disk.load()
    assert recovered.entries == entries(4, 6)
    assert (recovered.compacted_through, recovered.snapshot_slot) == (3, 4)
    assert recovered.chosen_through == 5
    check(disk)


def test_only_the_newest_snapshot_is_read(bench: Bench) -> None:
    disk = bench.open()
    disk.load()
    with pytest.raises(KeyError):
        disk.read_snapshot(0, 0, 1)
    publish(disk, 4, b"older")
    publish(disk, 8, b"newer")
    with pytest.raises(KeyError):
        disk.read_snapshot(4, 0, 1)
    assert disk.read_snapshot(8, 0, 10) == b"newer"


@pytest.mark.parametrize("slot", [3, 4])
def test_a_snapshot_never_regresses(bench: Bench, slot: int) -> None:
    disk = bench.open()
    disk.load()
    info = publish(disk, 4, b"current")
    publish(disk, slot, b"late", Persist(promised=Ballot(5, 1)))
    assert disk.snapshot() == info
    assert disk.staged() == (0, 0)
    disk = bench.open()
    assert disk.load().promised == Ballot(5, 1)
    assert disk.snapshot() == info
    assert disk.read_snapshot(4, 0, 10) == b"current"


def test_a_snapshot_of_a_peer_stands_for_the_whole_log_behind_it(bench: Bench) -> None:
    disk = bench.open()
    disk.load()
    disk.write([Persist(entries=(*entries(1, 3), entry(10), entry(30)), chosen_through=2)])
    publish(disk, 20, b"theirs", Persist(chosen_through=20, compact_through=20))
    disk.write([Persist(entries=(entry(15, "late"), entry(21)), chosen_through=21)])
    recovered = bench.open().load()
    assert recovered.entries == (entry(21), entry(30))
    assert (recovered.chosen_through, recovered.compacted_through) == (21, 20)


def test_what_is_compacted_was_chosen(bench: Bench) -> None:
    disk = bench.open()
    disk.load()
    publish(disk, 6, b"theirs", Persist(compact_through=6))
    assert bench.open().load().chosen_through == 6


def test_staging_goes_on_after_a_cut(bench: Bench) -> None:
    disk = bench.open()
    disk.load()
    disk.stage_snapshot(5, 0, b"abc")
    disk.stage_snapshot(5, 3, b"def")
    disk = bench.open()
    disk.load()
    assert disk.staged() == (5, 6)
    disk.stage_snapshot(5, 6, b"g")
    disk.publish_snapshot(info_of(5, b"abcdefg"), Persist())
    assert disk.read_snapshot(5, 0, 10) == b"abcdefg"


def test_what_is_staged_can_be_verified_and_read_before_it_is_published(bench: Bench) -> None:
    disk = bench.open()
    disk.load()
    assert disk.read_staged(0, 10) == b""
    disk.stage_snapshot(5, 0, b"abc")
    disk.stage_snapshot(5, 3, b"def")
    disk.verify_staged(info_of(5, b"abcdef"))
    assert [disk.read_staged(offset, 4) for offset in (0, 4, 6, 9)] == [b"abcd", b"ef", b"", b""]
    assert disk.snapshot() is None
    assert bench.open().load().snapshot_slot == 0
    disk = bench.open()
    disk.load()
    disk.verify_staged(info_of(5, b"abcdef"))
    disk.stage_snapshot(5, 6, b"g")
    with pytest.raises(Damaged):
        disk.publish_snapshot(info_of(5, b"abcdef"), Persist())


def test_a_repeated_chunk_and_one_beyond_a_hole_change_nothing(bench: Bench) -> None:
    disk = bench.open()
    disk.load()
    disk.stage_snapshot(5, 0, b"abc")
    disk.stage_snapshot(5, 3, b"def")
    disk.stage_snapshot(5, 3, b"XYZ")
    disk.stage_snapshot(5, 7, b"h")
    disk.stage_snapshot(6, 6, b"another's")
    assert disk.staged() == (5, 6)
    disk.publish_snapshot(info_of(5, b"abcdef"), Persist())


def test_offset_0_begins_staging_anew(bench: Bench) -> None:
    disk = bench.open()
    disk.load()
    disk.stage_snapshot(5, 0, b"abc")
    disk.stage_snapshot(6, 0, b"de")
    assert disk.staged() == (6, 2)
    disk.stage_snapshot(6, 0, b"f")
    assert disk.staged() == (6, 1)
    disk = bench.open()
    disk.load()
    assert disk.staged() == (6, 1)
    disk.publish_snapshot(info_of(6, b"f"), Persist())


def test_an_empty_snapshot_is_a_snapshot(bench: Bench) -> None:
    disk = bench.open()
    disk.load()
    info = publish(disk, 3, b"")
    disk = bench.open()
    assert disk.load().snapshot_slot == 3
    assert disk.snapshot() == info
    assert disk.read_snapshot(3, 0, 10) == b""


@pytest.mark.parametrize("by", ["verify_staged", "publish_snapshot"])
@pytest.mark.parametrize("wrong", ["digest", "size", "slot", "nothing staged"])
def test_a_snapshot_that_does_not_verify_leaves_the_older_one(
    bench: Bench, wrong: str, by: str
) -> None:
    disk = bench.open()
    disk.load()
    disk.write([Persist(entries=entries(1, 8), chosen_through=8)])
    older = publish(disk, 4, b"older")
    if wrong != "nothing staged":
        disk.stage_snapshot(8, 0, b"newer")
    info = {
        "digest": info_of(8, b"nexer"),
        "size": info_of(8, b"newer and longer"),
        "slot": info_of(9, b"newer"),
        "nothing staged": info_of(8, b"newer"),
    }[wrong]
    changes = [Persist(compact_through=8)] if by == "publish_snapshot" else []
    with pytest.raises(Damaged):
        getattr(disk, by)(info, *changes)

    def check(life: Disk) -> None:
        assert life.snapshot() == older
        assert life.staged() == (0, 0)
        assert life.read_snapshot(4, 0, 10) == b"older"

    check(disk)
    disk = bench.open()
    recovered = disk.load()
    assert (recovered.snapshot_slot, recovered.compacted_through) == (4, 0)
    check(disk)
    newer = publish(disk, 8, b"newer", Persist(compact_through=8))
    assert disk.snapshot() == newer


def test_size_grows_with_what_is_kept(bench: Bench) -> None:
    disk = bench.open()
    disk.load()
    before = disk.size_bytes()
    disk.write([Persist(entries=(entry(1, "x" * 100_000),))])
    assert disk.size_bytes() >= before + 100_000
