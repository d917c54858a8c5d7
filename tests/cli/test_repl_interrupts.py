"""Ctrl-C outside the prompt: what is running ends, what became of it is said, nothing follows."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from consensusllm.client import OutcomeUnknown, Turn, Unavailable
from consensusllm_cli.repl import asking, command, files, repl
from consensusllm_cli.repl.interrupts import Interrupted, Interrupts
from tests.cli.repl_fakes import FakeCluster, connected


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    cluster = FakeCluster()
    cluster.held["c1"] = []
    monkeypatch.setattr(command, "connect_to", connected(cluster))
    return cluster


def run(*lines: str) -> Result:
    """Run the lines, of which the first meets Ctrl-C, and see that this ended it all."""
    result = CliRunner().invoke(repl, [word for line in lines for word in ("-c", line)])
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 130
    return result


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def interrupted_for_good(*_: object, **__: object) -> Any:
    """A call that meets Ctrl-C and is never answered."""
    interrupt()
    await asyncio.Event().wait()


def interrupt_call(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Press Ctrl-C in the middle of the call, which is answered once that was seen."""
    call, seen = getattr(cluster, name), asyncio.Event()
    obey = Interrupts._interrupt

    def see(interrupts: Interrupts) -> None:
        obey(interrupts)
        seen.set()

    async def interrupted(*arguments: Any, **named: Any) -> Any:
        interrupt()
        await seen.wait()
        return await call(*arguments, **named)

    monkeypatch.setattr(Interrupts, "_interrupt", see)
    monkeypatch.setattr(cluster, name, interrupted)


def interrupt_watching(
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Press Ctrl-C as soon as a turn is watched, and do what is to be done ``before`` it."""
    watch = cluster.watch

    async def interrupted(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
        before()
        interrupt()
        async for event in watch(*arguments, **named):
            yield event

    monkeypatch.setattr(cluster, "watch", interrupted)


async def test_ctrl_c_cancels_what_is_running_and_the_next_can_run() -> None:
    cancelled = asyncio.Event()

    async def wait() -> None:
        try:
            interrupt()
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def give() -> int:
        return 7

    with Interrupts() as interrupts:
        with pytest.raises(Interrupted):
            await interrupts.guard(wait())
        assert cancelled.is_set()
        assert await interrupts.guard(give()) == 7


def test_ctrl_c_while_watching_cancels_the_turn(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_watching(cluster, monkeypatch)
    result = run("query c1 hold on", "create c2")
    assert result.stdout.endswith("turn 1 of c1 is cancelled: view c1 shows what there is\n")
    assert cluster.calls[-1] == ("cancel", "c1", 1)
    assert "c2" not in cluster.held


def test_who_stops_reading_cancels_the_turn(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``head -1`` does."""
    watched = cluster.watch

    async def closed_pipe(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
        async for event in watched(*arguments, **named):
            yield event
            raise BrokenPipeError

    monkeypatch.setattr(cluster, "watch", closed_pipe)
    result = CliRunner().invoke(repl, ["-c", "query c1 hold on", "-c", "create c2"])
    assert result.exit_code == 1
    assert cluster.calls[-1] == ("cancel", "c1", 1)
    assert "c2" not in cluster.held


def test_ctrl_c_where_the_turn_cannot_be_cancelled_says_so_and_ends_it_all(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_the_majority() -> None:
        cluster.majority = False

    interrupt_watching(cluster, monkeypatch, lose_the_majority)
    result = run("query c1 hold on", "set x done")
    assert result.stderr == (
        "turn 1 of c1 may still be answered: view c1 shows it, cancel c1 --turn 1 stops it; "
        "no answer within 10 s: check that a majority runs\n"
    )
    assert "is cancelled" not in result.stdout
    assert cluster.calls[-1] == ("cancel", "c1", 1)


def test_a_second_ctrl_c_does_not_wait_for_the_cancelling(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(conversation: str, turn: int) -> None:
        interrupt()
        await asyncio.Event().wait()

    monkeypatch.setattr(cluster, "cancel", never)
    interrupt_watching(cluster, monkeypatch)
    result = run("query c1 hold on", "set x done")
    assert result.stderr.startswith("turn 1 of c1 may still be answered: view c1 shows it")
    assert cluster.values == {}


SUBMITTING = pytest.mark.parametrize(
    ("line", "call"), [("query c1 What?", "ask"), ("retry c1", "retry")]
)


@SUBMITTING
def test_ctrl_c_while_a_question_is_submitted_cancels_the_turn_that_it_opens(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, line: str, call: str
) -> None:
    asyncio.run(cluster.ask("c1", "What?"))
    interrupt_call(cluster, monkeypatch, call)
    result = run(line, "set x done")
    turn = len(cluster.held["c1"])
    assert result.stdout == f"turn {turn} of c1 is cancelled: view c1 shows what there is\n"
    assert cluster.calls[-1] == ("cancel", "c1", turn)


@SUBMITTING
@pytest.mark.parametrize("again", [False, True])
def test_ctrl_c_where_nobody_says_which_turn_is_open_says_that_one_may_be(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, line: str, call: str, again: bool
) -> None:
    timeout = asking.timeout

    def impatient(within_s: float) -> Any:
        if again:
            interrupt()
        return timeout(60 if again else 0.01)

    monkeypatch.setattr(asking, "timeout", impatient)
    monkeypatch.setattr(cluster, call, interrupted_for_good)
    result = run(line, "set x done")
    assert (result.stdout, result.stderr) == ("", "it may have been asked: view c1 shows it\n")
    assert cluster.values == {}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OutcomeUnknown("it may or may not have happened"), "it may have been asked: view c1"),
        (Unavailable("no answer within 10 s"), "it was not asked: no answer within 10 s"),
    ],
)
def test_ctrl_c_while_asking_fails_says_what_became_of_it(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    async def fail(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr(cluster, "ask", fail)
    interrupt_call(cluster, monkeypatch, "ask")
    assert run("query c1 What?").stderr.startswith(said)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("set k v", "set: it may have been done: look before doing it again\n"),
        ("choose c1 1", "choose: it may have been done: look before doing it again\n"),
        ("failNode 1", "failNode: it may have been done: look before doing it again\n"),
        ("view c1", ""),
    ],
)
def test_ctrl_c_while_something_is_changed_says_that_it_may_be(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    for name in ("put", "choose", "view"):
        monkeypatch.setattr(cluster, name, interrupted_for_good)
    monkeypatch.setattr(cluster.fake_faults, "fail_node", interrupted_for_good)
    assert run(line).stderr == said


def test_what_an_interrupted_import_leaves_is_named(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def leave(*_: object, **__: object) -> None:
        try:
            await interrupted_for_good()
        except asyncio.CancelledError as cancelled:
            cancelled.args = ("what was imported is left as .import-1: delete it",)
            raise

    file = tmp_path / "c1.json"
    assert CliRunner().invoke(repl, ["-c", f"export c1 {file}"]).exit_code == 0
    monkeypatch.setattr(cluster, "import_conversation", leave)
    assert run(f"import {file} c2").stderr == (
        "import: what was imported is left as .import-1: delete it\n"
    )


@pytest.mark.timeout(60)
@pytest.mark.parametrize("line", ["import {}", "query c1 --file {} What?", "export c1 {}"])
def test_ctrl_c_is_obeyed_where_nobody_is_at_the_other_end_of_a_pipe(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    wait = files._ready

    async def interrupted(descriptor: int, *how: Any) -> None:
        interrupt()
        await wait(descriptor, *how)

    cluster.held["c1"] = [Turn(1, "x" * (1 << 20), ())]  # more than a pipe holds
    monkeypatch.setattr(files, "_ready", interrupted)
    held = os.open(pipe, os.O_RDWR)
    try:
        run(line.format(pipe), "set x done")
    finally:
        os.close(held)
    assert cluster.values == {}


@pytest.mark.parametrize("fails", [False, True])
async def test_what_swallows_an_interruption_is_interrupted_all_the_same(fails: bool) -> None:
    async def swallow() -> int:
        try:
            interrupt()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if fails:
                raise ValueError from None
        return 7

    with Interrupts() as interrupts, pytest.raises(Interrupted):
        await interrupts.guard(swallow())
