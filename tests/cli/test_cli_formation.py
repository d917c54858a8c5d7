"""A cluster is formed once in its data directory, and never again over what was lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consensusllm.config import Config, demo_config
from consensusllm.paxos import Ballot, Persist
from consensusllm.storage import StorageError, format_disk, open_disk
from consensusllm_cli.formation import Formation, InUse
from consensusllm_cli.record import DataDirError


@pytest.fixture
def formation(tmp_path: Path) -> Iterator[Formation]:
    formation = Formation(tmp_path / "data")
    yield formation
    formation.release()


@pytest.fixture
def config(formation: Formation) -> Config:
    return demo_config(data_dir=formation.data_dir)


def test_the_first_start_makes_a_voting_disk_for_every_node(
    formation: Formation, config: Config
) -> None:
    formation.form(config)
    for node in config.nodes:
        disk = open_disk(config.node_dir(node.id), config.cluster_id, node.id)
        assert disk.load().voting
        disk.close()


def test_a_lost_disk_is_not_made_again(formation: Formation, config: Config) -> None:
    formation.form(config)
    shutil.rmtree(config.node_dir(2))
    formation.form(config)
    assert not config.node_dir(2).exists()


def test_a_lost_majority_is_refused(formation: Formation, config: Config) -> None:
    formation.form(config)
    shutil.rmtree(config.node_dir(1))
    shutil.rmtree(config.node_dir(3))
    with pytest.raises(DataDirError, match="has lost the data of nodes 1, 3"):
        formation.form(config)


def test_a_forming_that_was_cut_short_is_finished(formation: Formation, config: Config) -> None:
    formation.form(config)
    record = formation.data_dir / "cluster.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"formed": False}))
    shutil.rmtree(config.node_dir(3))
    formation.form(config)
    assert config.node_dir(3).exists()
    assert json.loads(record.read_text())["formed"] is True


def test_some_disks_without_a_record_are_refused(formation: Formation, config: Config) -> None:
    formation.form(config)
    (formation.data_dir / "cluster.json").unlink()
    shutil.rmtree(config.node_dir(3))
    with pytest.raises(DataDirError, match=r"none of nodes 3, and no cluster\.json"):
        formation.form(config)


def promise(config: Config, node: int) -> None:
    disk = open_disk(config.node_dir(node), config.cluster_id, node)
    disk.load()
    disk.write([Persist(promised=Ballot(40, 2))])
    disk.close()


def test_disks_that_are_all_there_without_a_record_were_formed_once_one_is_written(
    formation: Formation, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At no moment does the record say that a disk of theirs may be made anew."""
    for node in config.nodes:
        format_disk(config.node_dir(node.id), config.cluster_id, node.id, 1, voting=True)
    written = []
    write = formation.write

    def noting(name: str, document: dict[str, Any]) -> Path:
        written.append(document["formed"])
        return write(name, document)

    monkeypatch.setattr(formation, "write", noting)
    formation.form(config)
    assert written == [True]


@pytest.mark.parametrize("lost", [1, 3])
def test_a_forming_that_was_cut_short_is_not_finished_beside_disks_that_were_used(
    formation: Formation, config: Config, lost: int
) -> None:
    formation.form(config)
    record = formation.data_dir / "cluster.json"
    begun = json.dumps(json.loads(record.read_text()) | {"formed": False})
    record.write_text(begun)
    promise(config, 2)
    shutil.rmtree(config.node_dir(lost))
    with pytest.raises(DataDirError, match=rf"no data of nodes {lost}, .* nodes 2 have run"):
        formation.form(config)
    assert not config.node_dir(lost).exists()
    assert record.read_text() == begun


def test_a_forming_whose_disks_are_all_there_is_finished_though_they_were_used(
    formation: Formation, config: Config
) -> None:
    formation.form(config)
    record = formation.data_dir / "cluster.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"formed": False}))
    promise(config, 2)
    formation.form(config)
    assert json.loads(record.read_text())["formed"] is True


def test_a_disk_of_which_cannot_be_told_whether_it_is_there_is_not_called_lost(
    formation: Formation, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    formation.form(config)
    database = config.node_dir(2) / "node.db"
    stat, lstat = os.stat, os.lstat

    def check(path: Any) -> None:
        if str(path) == str(database):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(os, "stat", lambda path, **how: check(path) or stat(path, **how))
    monkeypatch.setattr(os, "lstat", lambda path, **how: check(path) or lstat(path, **how))
    monkeypatch.setattr(Path, "exists", os.path.exists)  # as Python 3.14 has it: no, at any error
    with pytest.raises(StorageError, match=f"{database}: Input/output error"):
        formation.form(config)


def test_another_cluster_is_refused(formation: Formation, config: Config) -> None:
    formation.form(config)
    with pytest.raises(DataDirError, match="holds cluster 'demo' of nodes 1, 2, 3, not 'demo' of"):
        formation.form(demo_config(nodes=5, data_dir=formation.data_dir))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[" * 100_000,
        '{"cluster_id": "demo", "nodes": [1, 2, "three"], "formed": true}',
        '{"cluster_id": "demo", "nodes": [1, 2, 3], "formed": true, "retired": [[]]}',
    ],
)
def test_a_damaged_record_is_named(formation: Formation, config: Config, text: str) -> None:
    (formation.data_dir / "cluster.json").write_text(text)
    with pytest.raises(DataDirError, match=r"cluster\.json cannot be read"):
        formation.form(config)


def test_a_file_system_without_locks_is_not_taken_for_another_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(DataDirError, match=r"No locks available: .* or use another --data-dir"):
        Formation(tmp_path / "data")


def test_one_launcher_at_a_time(formation: Formation) -> None:
    with pytest.raises(InUse, match="is in use by another launcher"):
        Formation(formation.data_dir)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirError, match="file/data: Not a directory"):
        Formation(tmp_path / "file" / "data")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (errno.ENOSPC, "No space left on device: free some space, or use another --data-dir"),
        (errno.EROFS, "Read-only file system: make it writable, or use another --data-dir"),
    ],
)
def test_a_directory_that_cannot_be_written_is_told_with_the_remedy(
    formation: Formation,
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: int,
    words: str,
) -> None:
    def fails(*_: object) -> int:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(DataDirError, match=f"{formation.data_dir}: {words}"):
        formation.form(config)
    monkeypatch.setattr(os, "pwrite", fails)
    other = tmp_path / "other"
    with pytest.raises(DataDirError, match=f"{other}: {words}"):
        Formation(other)
    monkeypatch.undo()
    Formation(other).release()  # nobody holds it


def test_what_is_written_is_for_its_owner_alone(formation: Formation) -> None:
    path = formation.write("config.json", {"a": 1})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"a": 1}


def test_who_joined_and_who_is_gone_is_kept(formation: Formation, config: Config) -> None:
    formation.form(config)
    record = formation.formed()
    assert record is not None
    assert record.running([1, 2, 3]) == (1, 2, 3)
    formation.keep(replace(record, joined={4: "127.0.0.1:5104"}, retired=(1,)))
    kept = formation.formed()
    assert kept is not None
    assert kept.running([1, 2, 3]) == (2, 3, 4)
    assert kept.joined == {4: "127.0.0.1:5104"}
    shutil.rmtree(config.node_dir(1))
    formation.form(config)  # whose data nobody needs
    shutil.rmtree(config.node_dir(2))
    with pytest.raises(DataDirError, match="has lost the data of nodes 2, 4"):
        formation.form(config)
    with pytest.raises(DataDirError, match=r"of nodes 2, 3, 4, which began as 1, 2, 3, not"):
        formation.form(demo_config(nodes=5, data_dir=formation.data_dir))
    formation.keep(replace(record, retired=(1, 2, 3)))
    with pytest.raises(DataDirError, match="every node that was started from it"):
        formation.form(config)
