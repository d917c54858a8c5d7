"""Bad command lines, configurations, ports and directories: one clear line, nothing is touched."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from edges import (
    at_once,
    command,
    content,
    files,
    no_log_holds_a_traceback,
)
from real_cluster import RealCluster, eventually

from consensusllm.bench.processes import free_ports
from consensusllm.storage import format_disk

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_misuse_of_the_command_line_is_one_line_and_status_2(
    cluster: RealCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    config = cluster.config_path
    cases: Sequence[tuple[Sequence[object], str]] = (
        (("frob",), "no such command 'frob'"),
        (("node", "1"), "Missing option '--config'"),
        (("node", "one", "--config", config), "'ID'"),
        (("node", "1", "--config", "nowhere.json"), "nowhere.json: cannot be read"),
        (("node", "7", "--config", config), "there is no node 7 in the configuration"),
        (("up", "--nodes", "0"), "'--nodes'"),
        (("up", "--base-port", "70000"), "'--base-port'"),
        (("up", "--config", config, "--nodes", "3"), "--nodes cannot go with --config"),
        (("status", "--config", config, "--base-port", "1"), "use only one of them"),
        (("repl", "--connect", "nonsense"), "'nonsense' is not HOST:PORT"),
        (("repl", "--config", config, "nowhere.script"), "'nowhere.script'"),
    )
    for arguments, expected in cases:
        at_once(capsys, *arguments).refused(2, expected)


async def test_a_node_that_is_not_there_cannot_be_spoken_to(cluster: RealCluster) -> None:
    ended = await command("repl", "--config", cluster.config_path, "--node", "9", "-c", "viewall")
    ended.refused(2, "there is no node 9: the nodes are 1, 2, 3")


async def test_a_bad_configuration_is_named_and_nothing_is_made(
    cluster: RealCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = json.loads(cluster.config_path.read_text())
    one, two = good["nodes"][:2]
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "key": ({**good, "nodse": []}, 'nodse: unknown key; did you mean "nodes"?'),
        "type": ({**good, "paxos": {"heartbeat_ms": "fast"}}, "paxos.heartbeat_ms: must be"),
        "id": ({**good, "nodes": [one, {**two, "id": 1}]}, "nodes[1].id: another node has"),
        "address": (
            {**good, "nodes": [one, {**two, "address": one["address"]}]},
            f"nodes[1].address: node 1 has the address {one['address']}",
        ),
        "variable": (
            {**good, "client_token": "${NO_SUCH_VARIABLE_HERE}"},
            "client_token: the environment variable NO_SUCH_VARIABLE_HERE is not set",
        ),
    }
    for name, (document, expected) in cases.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document))
        for arguments in (("node", 1), ("orchestrator",), ("up", "--data-dir", tmp_path / "data")):
            ended = at_once(capsys, *arguments, "--config", path)
            ended.refused(2, f"{name}.json: {expected}")
    assert not (tmp_path / "data").exists()


async def test_ports_and_directories_in_use_are_refused_and_left_as_they_are(
    cluster: RealCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(cluster.config_path.read_text())
    elsewhere, running, fresh = (tmp_path / name for name in ("other.json", "same.json", "fresh"))
    running.write_text(json.dumps({**document, "data_dir": str(cluster.data_dir)}))
    elsewhere.write_text(json.dumps({**document, "data_dir": str(fresh)}))
    listed = sorted(cluster.data_dir.rglob("*"))
    at_once(capsys, "up", "--config", running).refused(
        1, f"{cluster.data_dir} is in use by another launcher", "use another --data-dir"
    )
    at_once(capsys, "up", "--config", elsewhere).refused(
        1, "meant for the orchestrator, is in use", "choose another with"
    )
    node, network = await asyncio.gather(
        command("node", "1", "--config", running), command("orchestrator", "--config", running)
    )
    node.refused(1, "node-1: another process uses it; stop that one first")
    network.refused(1, f"cannot listen on {cluster.orchestrator}", "choose another port")
    assert not fresh.exists()
    assert sorted(cluster.data_dir.rglob("*")) == listed
    await cluster.all_up()


async def test_data_of_another_node_or_cluster_is_refused_and_left_as_it_is(
    cluster: RealCluster, tmp_path: Path
) -> None:
    document = json.loads(cluster.config_path.read_text())
    document["data_dir"] = str(tmp_path)
    format_disk(tmp_path / "node-1", "test", 2, 1, voting=True)
    format_disk(tmp_path / "node-2", "another", 2, 1, voting=True)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(document))
    before = files(tmp_path)
    of_two, of_another = await asyncio.gather(
        command("node", "1", "--config", config), command("node", "2", "--config", config)
    )
    of_two.refused(1, "belongs to node 2 of cluster 'test', not to node 1", "directory of its own")
    of_another.refused(1, "belongs to node 2 of cluster 'another'", "directory of its own")
    assert files(tmp_path) == before


@pytest.mark.parametrize("damage", ["corrupt", "truncated", "empty"])
async def test_a_damaged_database_of_a_lone_node_is_refused_and_left_as_it_is(
    tmp_path: Path, damage: str
) -> None:
    format_disk(tmp_path / "node-1", "test", 1, 1, voting=True)
    database = tmp_path / "node-1" / "node.db"
    data = bytearray(database.read_bytes())
    if damage == "corrupt":
        data[len(data) // 2 :] = b"\xa5" * (len(data) - len(data) // 2)
    else:
        del data[len(data) // 2 if damage == "truncated" else 0 :]
    database.write_bytes(data)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "cluster_id": "test",
                "network": "direct",
                "data_dir": str(tmp_path),
                "nodes": [{"id": 1, "address": address}],
            }
        )
    )
    before = files(tmp_path)
    ended = await command("node", "1", "--config", config, "--bootstrap")
    ended.refused(1, str(database), "damaged", "bring the directory back from a copy")
    assert files(tmp_path) == before


async def test_a_damaged_database_among_three_is_set_aside_and_repaired(
    cluster: RealCluster,
) -> None:
    leader = await cluster.leader()
    node = next(each for each in cluster.addresses if each != leader)
    before = await content(cluster)
    await cluster.faults.fail_node(node)
    database = cluster.data_dir / f"node-{node}" / "node.db"
    database.write_bytes(os.urandom(database.stat().st_size))
    await cluster.faults.fix_node(node)

    async def repaired() -> bool:
        status = await cluster.status(node)
        return status is not None and status.role == "following"

    await eventually(repaired, "the node votes again")
    assert (database.parent / "node.db.damaged-1").exists()
    await cluster.agreement()
    assert await content(cluster) == before


async def test_no_log_holds_a_traceback(cluster: RealCluster) -> None:
    no_log_holds_a_traceback(cluster)
