"""The rules of docs/PROTOCOL.md that reach beyond the core: sessions, damage, determinism."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from replica_cluster import ReplicaCluster
from structlog.testing import capture_logs

import consensusllm.conversations
from consensusllm.config import demo_config
from consensusllm.conversations import Limits, Machine, encode, restore
from consensusllm.conversations.commands import (
    CompareAndSwap,
    OpenSession,
    Operation,
    Put,
    SessionCommand,
)
from consensusllm.conversations.replies import Code, Done, Refused, Reply, SessionOpened
from consensusllm.paxos import Ballot, Batch, Persist, first_members
from consensusllm.paxos.messages import Entry
from consensusllm.replica.members import to_extra
from consensusllm.server import open_node
from consensusllm.storage import format_disk, open_disk
from consensusllm.storage.port import Damaged, DiskFailed, StorageError

A, B = b"a" * 16, b"b" * 16


def apply(machine: Machine, session: bytes, sequence: int, operation: Operation) -> Reply:
    command = SessionCommand(session, sequence, 1, operation)
    return machine.apply(machine.applied_slot + 1, 0, [command])[0]


def opened(machine: Machine, name: bytes) -> bytes:
    reply = apply(machine, name, 0, OpenSession())
    assert isinstance(reply, SessionOpened)
    return reply.session


# 9. Sessions ------------------------------------------------------------------------------------


def test_rule_09_a_repeated_command_is_answered_again_and_happens_once() -> None:
    machine = Machine(Limits())
    a = opened(machine, A)
    apply(machine, a, 1, Put("n", b"0"))
    first = apply(machine, a, 2, CompareAndSwap("n", b"0", b"1"))
    again = apply(machine, a, 2, CompareAndSwap("n", b"0", b"1"))
    assert first == again == Done()
    assert machine.get("n") == b"1"


def test_rule_09_sessions_and_their_replies_are_in_the_snapshot() -> None:
    machine = Machine(Limits())
    a = opened(machine, A)
    apply(machine, a, 1, Put("n", b"0"))
    refused = apply(machine, a, 2, CompareAndSwap("n", b"9", b"1"))
    restored = restore(encode(machine.freeze()), Limits())
    apply(restored, a, 3, Put("n", b"9"))
    assert apply(restored, a, 2, CompareAndSwap("n", b"9", b"1")) == refused
    assert restored.get("n") == b"9"


def test_rule_09_eviction_is_the_same_everywhere_and_the_evicted_are_told() -> None:
    def run() -> tuple[list[Reply], str]:
        machine = Machine(Limits(sessions=1))
        replies = [
            SessionOpened(a := opened(machine, A)),
            SessionOpened(b := opened(machine, B)),
            apply(machine, a, 1, Put("k", b"v")),
            apply(machine, b, 1, Put("k", b"w")),
        ]
        return replies, machine.state_hash()

    (replies, state_hash), (others, other_hash) = run(), run()
    assert replies == others
    assert state_hash == other_hash
    evicted = replies[2]
    assert isinstance(evicted, Refused)
    assert evicted.code is Code.SESSION_EXPIRED
    assert replies[3] == Done()


# 13. Damage -------------------------------------------------------------------------------------


def damaged_disk(path: Path, config_nodes: int) -> None:
    config = demo_config(config_nodes, data_dir=path)
    format_disk(config.node_dir(1), config.cluster_id, 1, 1, True)
    disk = open_disk(config.node_dir(1), config.cluster_id, 1)
    disk.load()
    disk.write(
        [
            Persist(
                promised=Ballot(1, 1),
                entries=tuple(
                    Entry(slot, Ballot(1, 1, slot), Batch.pack(1, [b"x" * 500]))
                    for slot in range(1, 50)
                ),
                chosen_through=49,
            )
        ]
    )
    disk.close()
    database = config.node_dir(1) / "node.db"
    content = bytearray(database.read_bytes())
    position = content.rindex(b"xxxxxxxx")
    content[position] ^= 1
    database.write_bytes(content)


def test_rule_13_damage_stops_the_node_from_voting_and_nothing_is_deleted(tmp_path: Path) -> None:
    damaged_disk(tmp_path, 3)
    config = demo_config(3, data_dir=tmp_path)
    disk, recovered, machine = open_node(config, 1, bootstrap=False)
    disk.close()
    assert not recovered.voting
    assert recovered.entries == ()
    assert machine.applied_slot == 0
    assert list(config.node_dir(1).glob("node.db.damaged-*"))


def test_rule_13_a_node_with_nobody_to_learn_from_refuses_to_start_on_damage(
    tmp_path: Path,
) -> None:
    damaged_disk(tmp_path, 1)
    config = demo_config(1, data_dir=tmp_path)
    before = (config.node_dir(1) / "node.db").read_bytes()
    with pytest.raises(Damaged):
        open_node(config, 1, bootstrap=False)
    assert (config.node_dir(1) / "node.db").read_bytes() == before


@pytest.mark.parametrize("lost", ["all", "a byte"])
def test_the_first_node_of_a_cluster_that_has_grown_rejoins_where_it_is_told_of_the_others(
    tmp_path: Path, lost: str
) -> None:
    """Its configuration does not list them."""
    damaged_disk(tmp_path, 1)
    config = demo_config(1, data_dir=tmp_path)
    if lost == "all":
        shutil.rmtree(config.node_dir(1))
    with pytest.raises(StorageError, match="--rejoin if others were added later"):
        open_node(config, 1, bootstrap=False)
    disk, recovered, _ = open_node(config, 1, bootstrap=False, rejoin=True)
    disk.close()
    assert not recovered.voting


def test_who_bootstraps_data_without_a_vote_is_told_that_it_changes_nothing(
    tmp_path: Path,
) -> None:
    config = demo_config(3, data_dir=tmp_path)
    for bootstrap in (False, True):
        with capture_logs() as told:
            disk, recovered, _ = open_node(config, 1, bootstrap=bootstrap)
        disk.close()
        assert not recovered.voting
    assert ["--bootstrap gives no vote" in each["event"] for each in told] == [True]


def test_a_disk_that_cannot_be_opened_for_now_is_kept_as_it_is(tmp_path: Path) -> None:
    """What fails may fail on every node, as where no file is free."""
    config = demo_config(3, data_dir=tmp_path)
    for _ in range(2):
        disk, recovered, _ = open_node(config, 1, bootstrap=True)
        disk.close()
        assert recovered.voting
    journal = config.node_dir(1) / "node.db-wal"
    journal.mkdir()
    with pytest.raises(DiskFailed, match="Is a directory"):
        open_node(config, 1, bootstrap=False)
    journal.rmdir()
    disk, recovered, _ = open_node(config, 1, bootstrap=False)
    disk.close()
    assert recovered.voting
    assert not list(config.node_dir(1).glob("*damaged*"))


def test_rule_14_a_node_without_data_does_not_vote_unless_the_cluster_is_new(
    tmp_path: Path,
) -> None:
    config = demo_config(3, data_dir=tmp_path)
    disk, recovered, _ = open_node(config, 1, bootstrap=False)
    disk.close()
    assert not recovered.voting
    disk, recovered, _ = open_node(config, 2, bootstrap=True)
    disk.close()
    assert recovered.voting


# 15. Snapshots ----------------------------------------------------------------------------------


def test_rule_15_a_snapshot_holds_the_membership() -> None:
    cluster = ReplicaCluster(snapshot_every_slots=5)
    cluster.open_session()
    for number in range(1, 11):
        cluster.submit(1, Put("k", b"%d" % number), number)
    disk = cluster.disks[1]
    info = disk.snapshot()
    assert info is not None
    restored = restore([disk.read_snapshot(info.slot, 0, info.size_bytes)], Limits())
    assert restored.applied_slot == info.slot
    assert restored.extra == to_extra(first_members((1, 2, 3)), 0)


# 17. Determinism --------------------------------------------------------------------------------

FORBIDDEN = {
    "asyncio",
    "datetime",
    "os",
    "random",
    "secrets",
    "socket",
    "threading",
    "time",
    "uuid",
}


def test_rule_17_the_state_machine_imports_neither_clock_nor_chance_nor_network() -> None:
    package = Path(consensusllm.conversations.__file__).parent
    for source in package.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            assert not {name.partition(".")[0] for name in names} & FORBIDDEN, source


SCRIPT = """
from consensusllm.conversations import Limits, Machine, encode
from consensusllm.conversations.commands import *
machine, slot = Machine(Limits()), 0
session = b"s" * 16
def apply(sequence, operation):
    global slot
    slot += 1
    return machine.apply(slot, 1000 + slot, [SessionCommand(session, sequence, 1, operation)])
session = apply(0, OpenSession())[0].session
number = 0
for name in ("zebra", "alpha", "middle"):
    number += 1; apply(number, CreateConversation(name))
    plan = tuple(PlannedCandidate(n, n) for n in (3, 1, 2))
    number += 1; apply(number, SubmitQuery(name, "why?", plan))
    number += 1; apply(number, RecordCandidate(name, 1, 2, 1, "because", "m", "stop"))
    number += 1; apply(number, Put("key of " + name, name.encode()))
print(machine.state_hash(), b"".join(encode(machine.freeze())).hex(), machine.take_touched())
"""


def test_rule_17_string_hashing_does_not_show_in_state_snapshot_or_order() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "1", "4711")
    }
    assert len(outputs) == 1


def test_rule_17_time_is_the_batchs_and_never_goes_back() -> None:
    machine = Machine(Limits())
    machine.apply(1, 5000, [])
    machine.apply(2, 4000, [])
    assert machine.time_ms == 5000
