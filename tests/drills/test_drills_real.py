"""Real drills on real clusters: the verdicts, the command, and nothing left behind however it ends.

The default run has four short ones; a full run has every drill that ships.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consensusllm.drills import find, run_drill, shipped
from consensusllm.drills.actions import Actions, Skipped
from consensusllm.drills.cluster import LocalCluster
from consensusllm.linearizability import Verdict, check, read_history
from consensusllm_cli import main
from consensusllm_cli.drill import Lines

PATIENCE_S = 120.0
PROGRAM = (sys.executable, "-m", "consensusllm_cli.main", "drill")
LIGHT = "load: {clients: 3, keys: 3}\n"


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Where the drills of a test make their directories. No process may be left that uses it."""
    yield tmp_path
    deadline = time.monotonic() + PATIENCE_S
    while left := [line for line in processes() if str(tmp_path) in line]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def processes() -> list[str]:
    """The command lines of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return lines


def environment(scratch: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(scratch)}


def run(scratch: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments],
        env=environment(scratch),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )


def scenario(scratch: Path, *steps: str) -> str:
    path = scratch / "mine.yaml"
    text = "".join(f"  - {step}\n" for step in steps)
    path.write_text(f"description: A short one.\n{LIGHT}steps:\n{text}")
    return str(path)


def kept(scratch: Path) -> list[Path]:
    return list(scratch.glob("consensusllm-drill-*"))


def test_a_short_drill_passes_and_its_history_is_checked_once_more(scratch: Path) -> None:
    path = scenario(
        scratch,
        "failLink: leader follower",
        "after: 50 operations\n    fixLink: leader follower",
        "failNode: leader",
        "wait: leader",
        "pause: follower",
        "after: 300ms\n    resume: follower",
        "fixNode: leader",
        "wait: 50 operations",
    )
    history = scratch / "history.jsonl"
    done = run(scratch, path, "--json", "--seed", "7", "--history", str(history))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    [one] = report["runs"]
    assert one["seed"] == 7
    assert one["figures"]["elections"] >= 1
    assert one["figures"]["gap_ms"] > 0
    assert one["figures"]["ok"] > 100
    found = check(read_history(history.read_bytes()), time.monotonic)
    assert found.verdict is Verdict.LINEARIZABLE
    assert "failNode leader: node" in done.stderr
    assert kept(scratch) == []


def test_a_drill_that_fails_says_why_and_keeps_what_there_is_to_look_at(scratch: Path) -> None:
    done = run(scratch, scenario(scratch, "wait: 20 operations", "resume: 1"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "mine.yaml:5: resume 1: node 1 is not paused" in done.stdout
    [directory] = kept(scratch)
    assert str(directory) in done.stdout
    assert (directory / "history.jsonl").stat().st_size > 0
    assert (directory / "data" / "logs" / "node-1.log").exists()


async def test_a_drill_that_is_skipped_half_way_keeps_what_it_had_found(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    async def fill_disk(actions: Any, node: object) -> str:
        actions.note_deaths()
        raise Skipped("no right to limit a process")

    monkeypatch.setattr(Actions, "fill_disk", fill_disk)
    monkeypatch.setattr(LocalCluster, "node_pid", lambda cluster, node: None)
    path = scenario(scratch, "wait: 20 operations", "fillDisk: follower")
    with Lines(io.StringIO()) as lines:
        outcome = await run_drill(find(path), PROGRAM[:-1], 1, lines)
    judgement = outcome.judgement
    assert judgement.skipped == "no right to limit a process"
    assert judgement.problems == tuple(f"node {n} died by itself: see its log" for n in (1, 2, 3))
    assert not judgement.passed
    assert outcome.directory is not None


def test_a_drill_that_is_killed_leaves_no_process_behind(scratch: Path) -> None:
    assert_ends(scratch, signal.SIGKILL)


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_drill_that_is_interrupted_cleans_up(scratch: Path, number: signal.Signals) -> None:
    assert assert_ends(scratch, number) == 130
    assert kept(scratch) == []


def assert_ends(scratch: Path, number: signal.Signals) -> int:
    """End a drill in the middle, with a process that cannot end by itself."""
    path = scenario(scratch, "wait: 20 operations", "pause: leader", "wait: 60s")
    with subprocess.Popen(
        [*PROGRAM, path], env=environment(scratch), stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if "stopped in its tracks" in line:
                break
        assert any(str(scratch) in line and " node " in line for line in processes())
        child.send_signal(number)
        return child.wait(PATIENCE_S)


@pytest.mark.full
@pytest.mark.parametrize("name", shipped())
def test_every_drill_that_ships_passes(scratch: Path, name: str) -> None:
    done = run(scratch, name)
    assert done.stdout.count("PASSED") + done.stdout.count("SKIPPED") == 1, (
        done.stdout + done.stderr
    )


def test_misuse_gets_one_line_and_status_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = scenario(tmp_path, "failNode: 9")
    for arguments, words in (
        ([bad], "mine.yaml:4: failNode: '9' is not a node"),
        (["leader-crsh"], "did you mean leader-crash?"),
        (["leader-crash", "--times", "2", "--history", "x"], "--history is of one run"),
        (["leader-crash", "--times", "0"], "--times"),
    ):
        assert main.run(["drill", *arguments]) == 2
        said = capfd.readouterr()
        assert said.err.count("\n") == 1
        assert words in said.err
        assert said.out == ""


def test_without_a_name_the_drills_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["drill"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == len(shipped())
