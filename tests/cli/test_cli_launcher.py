"""The launcher's children: started, killed, watched, and ended with it, however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from consensusllm_cli.launcher import Launcher, LauncherError, printable
from consensusllm_cli.logtail import LogTail

FAKE = Path(__file__).with_name("fake_child.py")
DEADLINE_S = 20.0


class Children:
    """A launcher of fake children in this process, and what it reported."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.flags: dict[str, list[str]] = {}
        self.reports: list[tuple[str, str]] = []
        self.launcher = Launcher(self.arguments, directory, lambda *r: self.reports.append(r))

    def arguments(self, name: str, lifeline: int) -> Sequence[str]:
        command = [sys.executable, str(FAKE), str(self.directory), name, str(lifeline)]
        return command + self.flags.get(name, [])

    async def started(self, name: str) -> int:
        """Start the child and wait until it runs; returns its pid."""
        place = self.directory / name
        place.unlink(missing_ok=True)
        await self.launcher.start(name)
        deadline = time.monotonic() + DEADLINE_S
        while not place.exists():
            assert time.monotonic() < deadline, f"{name} did not start"
            await asyncio.sleep(0.01)
        return int(place.read_text())


@pytest.fixture
async def children(tmp_path: Path) -> AsyncIterator[Children]:
    children = Children(tmp_path)
    yield children
    children.launcher.kill_all()


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_stop_ends_every_child_and_reports_none(children: Children) -> None:
    pids = [await children.started(name) for name in ("node-1", "node-2")]
    await children.launcher.stop()
    assert not any(map(lives, pids))
    assert children.reports == []


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(children: Children) -> None:
    children.flags["node-1"] = ["--stubborn"]
    pid = await children.started("node-1")
    await children.launcher.stop(grace_s=0.2)
    assert not lives(pid)


async def test_a_second_request_to_stop_does_not_wait_for_the_grace(children: Children) -> None:
    children.flags["node-1"] = ["--stubborn"]
    pid = await children.started("node-1")
    stopping = asyncio.create_task(children.launcher.stop(grace_s=3600))
    await asyncio.sleep(0)
    children.launcher.kill_all()
    await asyncio.wait_for(stopping, DEADLINE_S)
    assert not lives(pid)


async def test_a_killed_child_is_gone_at_once_and_can_be_started_again(children: Children) -> None:
    pid = await children.started("node-1")
    await children.launcher.kill("node-1")
    assert not lives(pid)
    assert children.reports == []
    again = await children.started("node-1")
    assert lives(again)
    assert again != pid
    await children.launcher.stop()


async def test_orders_that_make_no_sense_are_refused(children: Children) -> None:
    with pytest.raises(LauncherError, match="node 1 is not running"):
        await children.launcher.kill("node-1")
    await children.started("node-1")
    with pytest.raises(LauncherError, match="node 1 is running already"):
        await children.launcher.start("node-1")
    await children.launcher.stop()


async def test_a_child_that_dies_by_itself_is_reported_and_stays_down(children: Children) -> None:
    children.flags["node-1"] = ["--fails"]
    changed = asyncio.create_task(children.launcher.changed())
    await asyncio.sleep(0)
    await children.started("node-1")
    await asyncio.wait_for(changed, DEADLINE_S)
    [(name, how)] = children.reports
    assert name == "node-1"
    assert how.startswith("ended with status 1: the disk of this node is made of cheese (log: ")
    assert not children.launcher.running("node-1")
    await children.launcher.stop()


@pytest.mark.parametrize(
    ("number", "name"), [(int(signal.SIGABRT), "SIGABRT"), (signal.SIGRTMIN + 3, "signal ")]
)
async def test_the_signal_that_killed_a_child_is_named_or_numbered(
    children: Children, number: int, name: str
) -> None:
    os.kill(await children.started("node-1"), number)
    deadline = time.monotonic() + DEADLINE_S
    while children.launcher.running("node-1"):
        assert time.monotonic() < deadline, "it lives"
        await asyncio.sleep(0.01)
    [(_, how)] = children.reports
    assert how.startswith(f"was killed by {name}")
    await children.launcher.stop()


async def test_a_program_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    launcher = Launcher(lambda name, lifeline: ["/no/such/program"], tmp_path, lambda *_: None)
    with pytest.raises(LauncherError, match=r"node 1 cannot be started: .*No such file"):
        await launcher.start("node-1")
    await launcher.stop()


@pytest.mark.parametrize(("code", "status"), [("exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
async def test_a_foreground_childs_status_is_handed_on(
    children: Children, code: str, status: int
) -> None:
    command = [sys.executable, "-c", f"import os; {code}"]
    assert await children.launcher.run_in_foreground(lambda lifeline: command) == status
    await children.launcher.stop()
    assert children.reports == []


async def test_a_foreground_child_ends_with_who_waits_for_it(children: Children) -> None:
    def arguments(lifeline: int) -> Sequence[str]:
        return children.arguments("repl", lifeline)

    waiting = asyncio.create_task(children.launcher.run_in_foreground(arguments))
    place = children.directory / "repl"
    deadline = time.monotonic() + DEADLINE_S
    while not place.exists():
        assert time.monotonic() < deadline, "it did not start"
        await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not lives(int(place.read_text()))


def test_only_warnings_and_worse_reach_the_terminal_and_each_once(tmp_path: Path) -> None:
    log, seen = tmp_path / "node-1.log", list[str]()
    log.write_text("2030 [warning  ] from an earlier run\n")
    tail = LogTail(seen.append)
    tail.follow(log)
    with log.open("a") as file:
        file.write("2030 [info     ] all is well\n2030 [warning  ] a slow disk\x1b[2J\n")
        file.write('{"level": "error", "event": "half a li')
    tail.poll()
    tail.poll()
    assert seen == ["node-1: 2030 [warning  ] a slow disk[2J"]
    with log.open("a") as file:
        file.write('ne"}\n')
    tail.poll()
    assert seen[1:] == ['node-1: {"level": "error", "event": "half a line"}']
    log.write_text("[error    ] anew\n")
    tail.poll()
    assert seen[2:] == ["node-1: [error    ] anew"]


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b]0;b\x07c\n", 100) == "a]0;bc"
