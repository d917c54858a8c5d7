"""The drivers against real processes: they do the same work, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consensusllm.bench import floor, pysyncobj
from consensusllm.bench.figures import Cell
from consensusllm.bench.gaps import longest_gap
from consensusllm.bench.plan import OWN_CLUSTER, QUICK, WORKLOADS
from consensusllm.bench.processes import BenchError, Children, usage
from consensusllm.bench.report import LISTED, report
from consensusllm.bench.run import Bench, available
from consensusllm.bench.system import Networked, System
from consensusllm.bench.work import Work, key, value
from consensusllm_cli.bench import PROGRAM

MAKERS, MISSING = available(PROGRAM)
COUNT = 100
PATIENCE_S = 60.0
MAY_BE_NOTHING = ("elections", "early_disk_mib", "disk_mib", "not_whole")


def commands_that_name(directory: Path) -> list[str]:
    """The command lines of the processes that have to do with ``directory``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if str(directory) in command and path.parent.name != str(os.getpid()):
            found.append(command)
    return found


@pytest.fixture
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    """The system of that name; it must have ended with the test."""
    if request.param in MISSING:
        pytest.skip(MISSING[request.param])
    made = MAKERS[request.param]()
    yield made
    assert made.processes == {}


async def held(system: System, names: list[str]) -> dict[str, bytes | None]:
    """What the system has of each key, asked for one by one."""
    if not isinstance(system, Networked):
        values: dict[str, bytes | None] = await system.values(names)  # type: ignore[attr-defined]
        return values
    [connection] = await system.connect(1)
    try:
        return {name: await connection.get(name) for name in names}
    finally:
        await connection.close()


@pytest.mark.parametrize("system", ["direct", "etcd", "PySyncObj"], indirect=True)
async def test_every_driver_does_the_same_work(system: System, tmp_path: Path) -> None:
    try:
        await system.start(tmp_path)
        timings = await system.closed_loop(Work("put", 8, count=COUNT))
        assert timings.operations == len(timings.latencies_s) == COUNT
        found = await held(system, [key(number) for number in range(COUNT)])
        assert found == {key(number): value(number) for number in range(COUNT)}
        if "reads" in system.workloads:
            timings = await system.closed_loop(Work("get", 8, connections=4, count=COUNT))
            assert timings.operations == COUNT
            with pytest.raises(BenchError, match="lost the key"):
                await system.closed_loop(Work("get", 1, count=COUNT + 1))
    finally:
        await system.stop()
    assert commands_that_name(tmp_path) == []


@pytest.mark.parametrize("system", ["PySyncObj"], indirect=True)
async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(
    system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        await system.start(tmp_path)
        with monkeypatch.context() as impatient:
            impatient.setattr(pysyncobj, "READY_S", 0.0)
            with pytest.raises(BenchError, match="does not answer"):
                await system.closed_loop(Work("put", 16, seconds=0.4))
        timings = await system.closed_loop(Work("put", 1, count=COUNT))
        assert timings.operations == COUNT
    finally:
        await system.stop()


@pytest.mark.parametrize("system", ["direct", "PySyncObj"], indirect=True)
async def test_a_leader_that_is_killed_makes_a_gap_and_comes_back(
    system: System, tmp_path: Path
) -> None:
    try:
        await system.start(tmp_path)
        leader = await system.leader()
        kill_at = time.monotonic() + 0.3

        async def kill() -> None:
            await system.kill(leader)

        completions = await system.writes(kill_at, kill)
        assert completions == sorted(completions)
        gap_s, end = longest_gap(completions, kill_at)
        assert gap_s > 0
        assert end > kill_at
        assert f"node-{leader}" not in system.processes
        await system.restart(leader)
        assert len(system.processes) == 3
    finally:
        await system.stop()


async def test_a_child_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    children = Children(tmp_path)
    code = "import sys; sys.exit('the port is taken')"
    child = await children.start("node-1", [sys.executable, "-c", code])
    await child.wait()
    with pytest.raises(BenchError, match="node-1 ended by itself: the port is taken"):
        children.check()
    await children.stop()


@pytest.mark.parametrize("known", [True, False], ids=["ended", "closed its pipe"])
async def test_a_child_that_ended_is_told_nothing_more(tmp_path: Path, known: bool) -> None:
    children = Children(tmp_path)
    code = "import sys; print('ready', flush=True); sys.exit('no memory')"
    child = await children.start("readers", [sys.executable, "-c", code], talks=True)
    if known:
        await child.wait()
    else:
        assert child.stdin is not None
        child.stdin.write = _closed  # type: ignore[method-assign]
        assert child.stdout is not None
        await child.stdout.read()
    with pytest.raises(BenchError, match="readers ended by itself: "):
        children.say("readers", b"count")
    await children.stop()


def _closed(line: bytes) -> None:
    raise RuntimeError("the handler is closed")


async def test_a_program_that_is_not_there_cannot_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BenchError, match="program cannot be started: No such file"):
        await Children(tmp_path).start("node-1", ["program"])


def test_a_process_that_has_gone_has_no_usage() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(BenchError, match="has ended"):  # and nobody has asked how yet
        usage(child.pid)
    child.wait()
    with pytest.raises(BenchError):
        usage(child.pid)
    assert usage(os.getpid()).rss_bytes > 0


class Broken(System):
    """A system that cannot be started."""

    name = "etcd"
    workloads = frozenset({"puts", "reads"})

    async def start(self, directory: Path) -> None:
        self.children = Children(directory)
        raise BenchError("there is no room")

    async def leader(self) -> int:
        raise AssertionError

    closed_loop = writes = restart = leader  # type: ignore[assignment]


async def test_a_system_that_does_not_start_fails_its_cells_and_no_others(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    plan = replace(QUICK, workloads=("floor", "puts", "reads"))
    bench = Bench(
        plan,
        {"etcd": Broken},
        PROGRAM,
        tmp_path,
        lambda done, total, what: told.append((done, total)),
    )
    results = await bench.run()
    assert results.failures[Cell("puts", 64, "etcd")] == "there is no room"
    assert len(results.failures) == 2 * len(QUICK.outstanding)
    assert len(results.samples) == 1, "the floor"
    assert told[-1][1] == 2 * len(QUICK.outstanding) + 1
    assert os.listdir(tmp_path) == []


async def test_a_bare_put_is_on_a_majority_of_disks_when_it_is_answered(tmp_path: Path) -> None:
    figures = await floor.measure(tmp_path, 20)
    assert figures.keys() == floor.NAMES.keys()
    assert min(figures.values()) > 0
    assert commands_that_name(tmp_path) == []
    held = []
    for number in range(3):
        with closing(sqlite3.connect(tmp_path / f"bare-{number}.db")) as database:
            held.append(database.execute("SELECT data FROM log").fetchall())
    leader, *followers = held
    assert leader == [(value(0),)] * 21, "one to connect, and twenty"
    assert leader in followers


TINY = replace(
    QUICK,
    systems=("direct", "etcd"),
    seconds=0.1,
    warm_s=0.05,
    missed_puts=50,
    memory_puts=50,
    growth=4,
    streams=3,
    many=4,
    few=2,
    turns=2,
    minutes=0.005,
)


@pytest.mark.parametrize("workload", ["starting", *OWN_CLUSTER])
async def test_each_workload_of_its_own_cluster_gives_its_figures(
    workload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consensusllm.bench.streams.SECONDS_LEAST", 0.5)
    bench = Bench(replace(TINY, workloads=(workload,)), MAKERS, PROGRAM, tmp_path)
    results = await bench.run()
    assert results.failures == {}
    cells = {cell.system: cell for cell in results.samples}
    wanted = {"this machine"} if workload == "starting" else {"direct"}
    if workload == "catch-up" and "etcd" not in MISSING:
        wanted.add("etcd")
    assert set(cells) == wanted
    for cell in cells.values():
        for figure in LISTED[workload]:
            found = results.median(cell, figure)
            assert found is not None, figure
            assert found > 0 or figure in MAY_BE_NOTHING, figure
    assert os.listdir(tmp_path) == []
    assert commands_that_name(tmp_path) == []
    title = f"{workload}: {WORKLOADS[workload]}"
    assert title in report({}, TINY, results, [])


def bench_process(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [*PROGRAM, "bench", "--quick", "--only", "puts", "--data-dir", str(tmp_path)]
    return subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": "/nonexistent"},  # where no other system is installed
    )


def test_a_quick_run_prints_a_table_and_leaves_nothing_behind(tmp_path: Path) -> None:
    data, out, plots = tmp_path / "data", tmp_path / "out.json", tmp_path / "plots"
    data.mkdir()
    process = bench_process(
        data,
        *("--systems", "direct,etcd", "--seconds", "0.1"),
        *("--json", str(out), "--plots", str(plots)),
    )
    text, progress = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, progress
    rows = [line.split()[:2] for line in text.splitlines()]
    for outstanding in QUICK.outstanding:
        assert [str(outstanding), "direct"] in rows
    assert "missing: etcd: etcd is not installed" in text
    assert f"[{len(QUICK.outstanding)}/{len(QUICK.outstanding)}]" in progress
    document = json.loads(out.read_text(encoding="utf-8"))
    assert [cell["system"] for cell in document["cells"]] == ["direct"] * len(QUICK.outstanding)
    assert all(cell["median"]["per_second"] > 0 for cell in document["cells"])
    assert [path.name for path in plots.iterdir()] == ["puts.svg"]
    assert list(data.iterdir()) == []
    assert commands_that_name(data) == []


def test_a_run_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    process = bench_process(tmp_path, "--systems", "direct", "--seconds", "60")
    deadline = time.monotonic() + PATIENCE_S
    while not any("node 3" in command for command in commands_that_name(tmp_path)):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []
    assert commands_that_name(tmp_path) == []
