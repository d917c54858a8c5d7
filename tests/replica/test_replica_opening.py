"""What a node makes of the disk that it finds."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import pytest

from consensusllm.conversations import Limits, Machine, encode, snapshot
from consensusllm.paxos import Ballot, Batch, Persist, first_members
from consensusllm.paxos.messages import Entry
from consensusllm.replica.members import to_extra
from consensusllm.replica.opening import open_replica
from consensusllm.storage import Disk, SnapshotInfo, StorageError
from consensusllm.storage.identity import format_disk, open_disk, set_aside


class Home:
    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def open(self) -> Disk:
        return open_disk(self._path, "c", 1)

    def format(self, *, voting: bool) -> None:
        format_disk(self._path, "c", 1, 2, voting)

    def set_aside(self) -> str:
        return str(set_aside(self._path))


def test_a_snapshot_of_another_release_is_no_damage_and_its_node_keeps_its_vote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node"
    format_disk(path, "c", 1, 1, True)
    disk = open_disk(path, "c", 1)
    disk.load()
    ballot = Ballot(1, 1, 1)
    entries = (Entry(1, ballot, Batch.noop(5)),)
    disk.write([Persist(promised=ballot, entries=entries, chosen_through=1)])
    machine = Machine(Limits())
    machine.apply(1, 5, [])
    with monkeypatch.context() as before:
        before.setattr(snapshot, "_VERSION", 6)
        data = b"".join(encode(machine.freeze(to_extra(first_members((1, 2, 3)), 0))))
    disk.stage_snapshot(1, 0, data)
    info = SnapshotInfo(1, len(data), blake2b(data, digest_size=32).digest())
    disk.publish_snapshot(info, Persist(compact_through=1))
    disk.close()
    files = sorted(path.iterdir())
    for _ in range(2):  # nothing is changed, so it is said as often as it is started
        with pytest.raises(StorageError, match=r"version 6, .* start the release that wrote it"):
            open_replica(Home(path), Limits(), alone=False, bootstrap=False)
        assert sorted(path.iterdir()) == files
