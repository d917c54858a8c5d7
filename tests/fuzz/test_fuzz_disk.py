"""Damage in every page of a database, and in its journal: refused, or it changes nothing.

What a replica comes up with is what was written, or a clean beginning of it where only the end of
the journal was lost, which cannot be told from a write that was cut short; never anything else.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import pytest
import pytest_asyncio
from fuzzing import is_one_line, mutate
from real_cluster import RealCluster, eventually

from consensusllm.conversations import Limits, Machine, encode
from consensusllm.conversations.commands import OpenSession, Put, SessionCommand
from consensusllm.paxos import first_members
from consensusllm.paxos.ballot import Ballot
from consensusllm.paxos.batch import Batch
from consensusllm.paxos.messages import Entry
from consensusllm.paxos.ready import Persist, Recovered
from consensusllm.replica.members import to_extra
from consensusllm.replica.opening import open_replica
from consensusllm.storage import (
    Disk,
    SnapshotInfo,
    StorageError,
    format_disk,
    open_disk,
    set_aside,
)
from consensusllm.wire.commands import encode_command

CLUSTER = "fuzz"
SLOTS = 40
COVERED = 20
WRITES = 12


@dataclass
class Home:
    """The directory of a node that has no peers: whatever is wrong, it must say so."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def open(self) -> Disk:
        return open_disk(self.path, CLUSTER, 1)

    def format(self, *, voting: bool) -> None:
        format_disk(self.path, CLUSTER, 1, 1, voting)

    def set_aside(self) -> str:
        return str(set_aside(self.path))


def command(slot: int) -> SessionCommand:
    if slot == 1:
        return SessionCommand(b"s" * 16, 0, 0, OpenSession())
    session = b"s" * 16 + (1).to_bytes(8, "big")
    return SessionCommand(session, slot, slot, Put(f"k{slot % 7}", b"%d" % slot * 300))


def entry(slot: int) -> Entry:
    return Entry(slot, Ballot(slot, 1), Batch.pack(slot, [encode_command(command(slot))]))


def write(disk: Disk, slot: int) -> None:
    disk.write([Persist(promised=Ballot(slot, 1), entries=(entry(slot),), chosen_through=slot - 1)])


def publish(disk: Disk, slot: int, compact: bool) -> None:
    machine = Machine(Limits())
    for number in range(1, slot + 1):
        machine.apply(number, number, [command(number)])
    digest, size = blake2b(digest_size=32), 0
    for chunk in encode(machine.freeze(to_extra(first_members((1,)), 0))):
        disk.stage_snapshot(slot, size, chunk)
        digest.update(chunk)
        size += len(chunk)
    changes = Persist(chosen_through=slot, compact_through=slot - 5 if compact else None)
    disk.publish_snapshot(SnapshotInfo(slot, size, digest.digest()), changes)


def state(path: Path) -> tuple[Recovered, str]:
    """What a replica would start from. Raises what it would end with."""
    disk, recovered, machine = open_replica(Home(path), Limits(), alone=True, bootstrap=False)
    disk.close()
    return recovered, machine.state_hash()


def starts_as(path: Path) -> tuple[Recovered, str] | None:
    """The same; None where it is refused, in one line that names the place."""
    try:
        return state(path)
    except StorageError as error:
        is_one_line(error, names=str(path))
        return None


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a log, a snapshot, and a half of another one; all in the one file."""
    path = tmp_path_factory.mktemp("closed") / "data"
    format_disk(path, CLUSTER, 1, 1, voting=True)
    disk = open_disk(path, CLUSTER, 1)
    disk.load()
    for slot in range(1, SLOTS + 1):
        write(disk, slot)
        if slot == COVERED:
            publish(disk, slot, compact=True)
    disk.stage_snapshot(SLOTS, 0, b"half" * 1000)
    disk.close()
    assert not (path / "node.db-wal").exists()
    return path


@dataclass
class Killed:
    """What a killed process left, and every state that its journal went through."""

    path: Path
    states: list[tuple[Recovered, str]]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    directory = tmp_path_factory.mktemp("killed")
    path = directory / "data"
    format_disk(path, CLUSTER, 1, 1, voting=True)
    disk = open_disk(path, CLUSTER, 1)
    disk.load()
    states = []
    for slot in range(WRITES + 1):
        if slot:
            write(disk, slot)
        copy = directory / f"after-{slot}"
        shutil.copytree(path, copy)
        states.append(state(copy))
    shutil.copytree(path, directory / "killed")
    disk.close()
    return Killed(directory / "killed", states)


def test_damage_in_any_page_is_refused_or_changes_nothing(
    closed: Path, tmp_path: Path, seed: int
) -> None:
    check_pages(closed, tmp_path, seed, rounds=3)


@pytest.mark.full
def test_much_damage_in_any_page_is_refused_or_changes_nothing(
    closed: Path, tmp_path: Path, seed: int
) -> None:
    check_pages(closed, tmp_path, seed, rounds=150)


def check_pages(closed: Path, tmp_path: Path, seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    expected = starts_as(closed)
    assert expected is not None
    data = (closed / "node.db").read_bytes()
    page_bytes = int.from_bytes(data[16:18], "big")
    pages = range(0, len(data), page_bytes)
    assert len(pages) > 10
    copy = tmp_path / "copy"
    shutil.copytree(closed, copy)
    refused = 0
    for start in pages:
        end = start + page_bytes
        for _ in range(rounds):
            page = data[start:end]
            change = rng.randrange(5)
            if change == 0:
                at = rng.randrange(page_bytes)
                page = page[:at] + bytes([page[at] ^ 1 << rng.randrange(8)]) + page[at + 1 :]
            elif change == 1:
                at = rng.randrange(page_bytes)
                noise = rng.randbytes(rng.randrange(1, 600))
                page = (page[:at] + noise + page[at + len(noise) :])[:page_bytes]
            elif change == 2:
                page = bytes(page_bytes)
            elif change == 3:
                other = rng.choice(pages)
                page = data[other : other + page_bytes]
            else:
                page = mutate(rng, page)
            (copy / "node.db").write_bytes(data[:start] + page + data[end:])
            found = starts_as(copy)
            refused += found is None
            assert found in (None, expected), f"page {start // page_bytes + 1}"
            for left in ("node.db-wal", "node.db-shm"):
                (copy / left).unlink(missing_ok=True)
    assert refused > len(pages) * rounds // 4, "hardly anything was damaged"


@pytest.mark.parametrize("rounds", [60, pytest.param(3_000, marks=pytest.mark.full)])
def test_a_truncated_database_is_refused(
    closed: Path, tmp_path: Path, seed: int, rounds: int
) -> None:
    rng = random.Random(seed)
    data = (closed / "node.db").read_bytes()
    copy = tmp_path / "copy"
    shutil.copytree(closed, copy)
    for _ in range(rounds):
        (copy / "node.db").write_bytes(data[: rng.randrange(len(data))])
        assert starts_as(copy) is None


@pytest.mark.parametrize("rounds", [100, pytest.param(4_000, marks=pytest.mark.full)])
def test_a_damaged_journal_is_refused_or_ends_early(
    killed: Killed, tmp_path: Path, seed: int, rounds: int
) -> None:
    rng = random.Random(seed)
    journal = (killed.path / "node.db-wal").read_bytes()
    outcomes = {"refused": 0, "early": 0, "whole": 0}
    for number in range(rounds):
        copy = tmp_path / str(number)
        shutil.copytree(killed.path, copy)
        (copy / "node.db-wal").write_bytes(mutate(rng, journal))
        found = starts_as(copy)
        assert found is None or found in killed.states
        which = "refused" if found is None else "whole" if found == killed.states[-1] else "early"
        outcomes[which] += 1
        shutil.rmtree(copy)
    assert outcomes["refused"] > rounds // 20, outcomes
    assert outcomes["early"] > rounds // 20, outcomes


def test_a_flipped_bit_before_the_last_transaction_is_never_a_shorter_log(
    killed: Killed, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    journal = (killed.path / "node.db-wal").read_bytes()
    for number in range(60):
        damaged = bytearray(journal)
        damaged[rng.randrange(32, len(journal) // 2)] ^= 1 << rng.randrange(8)
        copy = tmp_path / str(number)
        shutil.copytree(killed.path, copy)
        (copy / "node.db-wal").write_bytes(damaged)
        assert starts_as(copy) in (None, killed.states[-1])


# A real cluster ---------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RealCluster]:
    async with RealCluster(tmp_path) as cluster:
        yield cluster


@pytest.mark.parametrize(
    "rounds", [2, pytest.param(30, marks=[pytest.mark.full, pytest.mark.timeout(1800)])]
)
async def test_a_node_with_a_damaged_database_is_repaired_and_the_cluster_serves(
    cluster: RealCluster, seed: int, rounds: int
) -> None:
    rng = random.Random(seed)
    client = cluster.client()
    written = 0
    for _ in range(rounds):
        for _ in range(20):
            written += 1
            await client.put(f"k{written}", rng.randbytes(500))
        node = rng.choice(list(cluster.addresses))
        await cluster.faults.fail_node(node)
        directory = cluster.data_dir / f"node-{node}"
        file = directory / rng.choice(("node.db", "node.db-wal"))
        if not file.exists():
            file = directory / "node.db"
        data = bytearray(file.read_bytes())
        at = rng.randrange(len(data))
        data[at : at + 4096] = rng.randbytes(min(4096, len(data) - at))
        file.write_bytes(data)
        await cluster.faults.fix_node(node)

        async def votes(node: int = node) -> bool:
            status = await cluster.status(node)
            return status is not None and status.role in ("following", "leading")

        await eventually(votes, f"node {node} votes again")
        status = await cluster.agreement()
        assert status.keys == written
    for path in (cluster.data_dir / "logs").glob("*.log"):
        assert "Traceback" not in path.read_text(), path
