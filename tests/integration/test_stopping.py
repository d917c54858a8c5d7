"""SIGTERM ends a node whatever its disk does, and what the disk said then is told."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest
from edges import Ended

from consensusllm.bench.processes import free_ports

PATIENCE_S = 60.0

NODE = """
import sys, threading
from consensusllm import server
from consensusllm.replica.replica import Replica
from consensusllm.storage import DiskFailed, SqliteDisk
from consensusllm_cli.main import run

fault, config = sys.argv[1:]
stopping = threading.Event()
stop = Replica.stop
write = SqliteDisk.write

def ready(disk, changes):
    print("ready", flush=True)
    if fault == "a write fails":
        stopping.wait()
        raise DiskFailed("node.db: disk I/O error; check the disk")
    if fault == "a write hangs":
        threading.Event().wait()
    write(disk, changes)

def hang(disk):
    threading.Event().wait()

def tell(replica):
    stopping.set()
    stop(replica)

Replica.stop = tell
SqliteDisk.write = ready
if fault == "the end hangs":
    SqliteDisk.close = hang
if "hangs" in fault:
    server.STOP_WITHIN_S = 0.1
sys.exit(run(["node", "1", "--config", config, "--bootstrap"]))
"""


async def stopped(tmp_path: Path, fault: str) -> Ended:
    """A node of a cluster of one that was told to stop when it had begun to write."""
    config = tmp_path / "config.json"
    nodes = [{"id": 1, "address": f"127.0.0.1:{free_ports(1)[0]}"}]
    document = {"network": "direct", "data_dir": str(tmp_path), "nodes": nodes}
    config.write_text(json.dumps({"cluster_id": "test", **document}))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", NODE, fault, str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        assert line == b"ready\n"
        process.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode().splitlines())


@pytest.mark.parametrize("fault", ["a write hangs", "the end hangs"])
async def test_a_node_whose_disk_hangs_ends_all_the_same(tmp_path: Path, fault: str) -> None:
    ended = await stopped(tmp_path, fault)
    assert ended.status == 1, ended
    assert "the node did not stop in time" in ended.err[-1]
    assert not any("Traceback" in line for line in ended.err), ended


async def test_a_disk_that_fails_while_the_node_stops_is_its_last_line(tmp_path: Path) -> None:
    ended = await stopped(tmp_path, "a write fails")
    assert ended.status == 1, ended
    assert ended.err[-1] == "consensusllm: node.db: disk I/O error; check the disk"


async def test_a_node_whose_disk_is_well_ends_in_order(tmp_path: Path) -> None:
    ended = await stopped(tmp_path, "none")
    assert ended.status == 0, ended
    assert any("stopping" in line for line in ended.err), ended
