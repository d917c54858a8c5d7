"""The faults of the in-memory disk, which the simulator is built on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from storage_bench import entries, entry, info_of, publish

from consensusllm.paxos.ballot import Ballot
from consensusllm.paxos.ready import Persist
from consensusllm.storage import (
    Damaged,
    DiskFailed,
    MemoryDisk,
    MemoryPlatter,
    NotFormatted,
    StorageError,
)


class Crash(Exception):
    """As the simulator's own would be."""


class Scripted:
    """Calls ``act`` at one side of the next ``operation``."""

    def __init__(self, side: str, operation: str, act: Callable[[], None]) -> None:
        self._due = (side, operation)
        self._act = act

    def before(self, operation: str) -> None:
        if self._due == ("before", operation):
            self._act()

    def after(self, operation: str) -> None:
        if self._due == ("after", operation):
            self._act()


def crash() -> None:
    raise Crash


def fail() -> None:
    raise DiskFailed("memory: the disk is full")


@pytest.fixture
def platter() -> MemoryPlatter:
    made = MemoryPlatter("node 1")
    made.format(incarnation=7, voting=True)
    disk = MemoryDisk(made)
    disk.load()
    disk.write([Persist(promised=Ballot(1, 1), entries=entries(1, 5), chosen_through=3)])
    publish(disk, 2, b"snapshot")
    disk.stage_snapshot(5, 0, b"sta")
    return made


OPERATIONS: dict[str, Callable[[MemoryDisk], None]] = {
    "write": lambda disk: disk.write([Persist(promised=Ballot(2, 1), entries=(entry(6),))]),
    "stage_snapshot": lambda disk: disk.stage_snapshot(5, 3, b"ged"),
    "publish_snapshot": lambda disk: disk.publish_snapshot(
        info_of(5, b"sta"), Persist(compact_through=5)
    ),
}


def state_of(platter: MemoryPlatter) -> object:
    disk = MemoryDisk(platter)
    return disk.load(), disk.snapshot(), disk.staged()


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("act", [crash, fail])
def test_a_fault_before_the_durable_point_leaves_nothing(
    platter: MemoryPlatter, operation: str, act: Callable[[], None]
) -> None:
    before = state_of(platter)
    disk = MemoryDisk(platter, Scripted("before", operation, act))
    disk.load()
    with pytest.raises((Crash, DiskFailed)):
        OPERATIONS[operation](disk)
    with pytest.raises(DiskFailed, match="failed before"):
        disk.write([Persist(promised=Ballot(9, 1))])
    assert state_of(platter) == before


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("act", [crash, fail])
def test_a_fault_after_the_durable_point_leaves_everything(
    platter: MemoryPlatter, operation: str, act: Callable[[], None]
) -> None:
    before = state_of(platter)
    disk = MemoryDisk(platter, Scripted("after", operation, act))
    disk.load()
    with pytest.raises((Crash, DiskFailed)):
        OPERATIONS[operation](disk)
    with pytest.raises(DiskFailed, match="failed before"):
        disk.write([Persist(promised=Ballot(9, 1))])
    after = state_of(platter)
    assert after != before
    assert MemoryDisk(platter).load().promised < Ballot(9, 1)


@pytest.mark.parametrize(
    ("rot", "line"),
    [
        (MemoryPlatter.rot_hard_state, "head record"),
        (lambda platter: platter.rot_entry(2), "log entry of slot 2"),
        (lambda platter: platter.rot_entry(5), "log entry of slot 5"),
        (MemoryPlatter.rot_snapshot, "snapshot of slot 2"),
        (MemoryPlatter.rot_staged, "snapshot of slot 5"),
    ],
)
def test_a_rotten_record_is_damage(
    platter: MemoryPlatter, rot: Callable[[MemoryPlatter], None], line: str
) -> None:
    rot(platter)
    with pytest.raises(Damaged, match=f"node 1: the {line}"):
        MemoryDisk(platter).load()


def test_rot_while_it_is_open_is_found_when_it_is_read(platter: MemoryPlatter) -> None:
    disk = MemoryDisk(platter, Scripted("before", "read_snapshot", platter.rot_snapshot))
    disk.load()
    with pytest.raises(Damaged):
        disk.read_snapshot(2, 0, 1)
    platter.rot_staged()
    with pytest.raises(Damaged):
        disk.publish_snapshot(info_of(5, b"sta"), Persist())
    publish(disk, 6, b"whole again")  # nothing rotten is left
    MemoryDisk(platter).load()


def test_a_lost_platter_is_formatted_anew(platter: MemoryPlatter) -> None:
    disk = MemoryDisk(platter)
    disk.load()
    platter.lose()
    with pytest.raises(AssertionError):
        disk.write([Persist(promised=Ballot(9, 1))])
    with pytest.raises(NotFormatted) as raised:
        MemoryDisk(platter)
    assert not raised.value.data_lost
    platter.format(incarnation=8, voting=False)
    recovered = MemoryDisk(platter).load()
    assert (recovered.incarnation, recovered.voting, recovered.entries) == (8, False, ())


def test_the_successor_of_what_was_set_aside_does_not_vote(platter: MemoryPlatter) -> None:
    platter.set_aside()
    with pytest.raises(NotFormatted) as raised:
        MemoryDisk(platter)
    assert raised.value.data_lost
    with pytest.raises(StorageError, match="must not vote"):
        platter.format(incarnation=8, voting=True)
    platter.format(incarnation=8, voting=False)


def test_an_earlier_life_may_not_write(platter: MemoryPlatter) -> None:
    earlier = MemoryDisk(platter)
    earlier.load()
    MemoryDisk(platter)
    with pytest.raises(AssertionError, match="another life"):
        earlier.write([Persist(promised=Ballot(9, 1))])
