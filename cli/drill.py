"""``consensusllm drill``: scripted faults against a cluster of its own, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

import click

from .options import Whole
from .signals import heeded

if TYPE_CHECKING:
    from consensusllm.drills import Judgement, Outcome, Scenario

BAR_WIDTH = 24


class Misuse(click.ClickException):
    """What was named is no scenario."""

    exit_code = 2


@click.command(short_help="Break a cluster by script, and get a verdict.")
@click.argument("drill", metavar="[FILE|NAME]", required=False)
@click.option("--times", type=Whole(1, 1000), default=1, help="Run it so often.")
@click.option("--seed", type=Whole(0), help="What is random is drawn from it.")
@click.option("--keep", is_flag=True, help="Keep the data, logs and history, failed or not.")
@click.option("--history", "history_path", type=click.Path(), metavar="OUT", help="Write it there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def drill(
    drill: str | None,
    times: int,
    seed: int | None,
    keep: bool,
    history_path: str | None,
    as_json: bool,
) -> int:
    """Run the drill NAME, or the scenario in FILE, on a fresh cluster with ports of its own.

    Without either, list the drills that ship. The exit status is 1 where a run failed or was
    skipped.
    """
    from consensusllm.drills import DocumentError, find, shipped

    if drill is None and (times > 1 or seed is not None or keep or history_path):
        raise click.UsageError("no drill is named, so there is nothing to run: give one")
    if drill is None:
        listing = shipped()
        width = max(map(len, listing))
        for name, description in listing.items():
            click.echo(f"{name.ljust(width)}  {description}")
        return 0
    if history_path is not None and times > 1:
        raise click.UsageError("--history is of one run: it cannot go with --times")
    try:
        scenario = find(drill)
    except DocumentError as error:
        raise Misuse(str(error)) from None
    with contextlib.ExitStack() as stack:
        out = None
        if history_path is not None:  # before the drill: a path that cannot be written is misuse
            try:
                out = stack.enter_context(open(history_path, "w", encoding="utf-8"))
            except OSError as error:
                raise Misuse(f"--history {history_path}: {error.strerror}") from None
        first = secrets.randbits(32) if seed is None else seed
        outcomes = []
        for number in range(times):
            if not as_json and times > 1:
                click.echo(f"run {number + 1} of {times}")
            outcome = asyncio.run(_run(scenario, first + number, keep, as_json))
            outcomes.append(outcome)
            if not as_json:
                click.echo("\n".join(verdict_lines(outcome)))
        if out is not None:
            _write_history(outcomes[0], out)
    if as_json:
        click.echo(json.dumps(report(scenario, outcomes), indent=2))
    elif times > 1:
        click.echo(_summary(outcomes))
    return 0 if _all_passed(outcomes) else 1


def program() -> list[str]:
    """The command line of this program."""
    return [sys.executable, "-m", f"{__package__}.main"]


async def _run(scenario: Scenario, seed: int, keep: bool, as_json: bool) -> Outcome:
    from consensusllm.drills import run_drill

    with _ended_by_signals(), Lines(sys.stderr if as_json else sys.stdout) as lines:
        return await run_drill(scenario, program(), seed, lines, keep=keep)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A signal cancels the drill, which ends its cluster first; so does another, in case that it
    hangs."""
    task = asyncio.current_task()
    assert task is not None
    try:
        with heeded(lambda number: task.cancel()):
            yield
    except asyncio.CancelledError:
        raise click.Abort from None


class Lines:
    """Progress as a line a step and, on a terminal, a bar below them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._bar = ""

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._draw("")

    def line(self, seconds: float, text: str) -> None:
        bar = self._bar
        self._draw("")
        self._stream.write(f"{seconds:7.2f} s  {text}\n")
        self._draw(bar)

    def count(self, steps: int, total: int, operations: int) -> None:
        done = BAR_WIDTH * steps // total
        bar = "#" * done + "." * (BAR_WIDTH - done)
        self._draw(f"[{bar}] step {steps} of {total}, {operations} operations")

    def _draw(self, bar: str) -> None:
        if self._terminal:
            self._stream.write(f"\r\x1b[K{bar}")
        self._bar = bar
        self._stream.flush()


def verdict_lines(outcome: Outcome) -> list[str]:
    """The verdict and its figures, for people."""
    judgement = outcome.judgement
    lines = [_verdict(judgement), *(f"  - {problem}" for problem in judgement.problems)]
    if judgement.problems or not judgement.skipped:
        found = judgement.figures
        lines.append(
            f"  {found.operations} operations: {found.ok} ok, {found.failed} failed, "
            f"{found.unknown} unknown; {found.turns} turns, {found.takeovers} taken over"
        )
        if found.councils:
            lines.append(f"  {found.councils} councils, {found.degraded} of them degraded")
        lines.append(
            f"  longest gap in availability {found.gap_ms} ms; {found.elections} elections; "
            f"{found.seconds} s in all; seed {judgement.seed}"
        )
    if outcome.directory is not None:
        lines.append(f"  data, logs and history are kept in {outcome.directory}")
    return lines


def _verdict(judgement: Judgement) -> str:
    if judgement.passed:
        return f"PASSED  {judgement.drill}: linearizable, states equal, nothing lost"
    if not judgement.problems:
        return f"SKIPPED  {judgement.drill}: {judgement.skipped}"
    half_way = f", skipped half way: {judgement.skipped}" if judgement.skipped else ""
    return f"FAILED  {judgement.drill}{half_way}"


def _summary(outcomes: list[Outcome]) -> str:
    judged = [outcome.judgement for outcome in outcomes]
    passed = sum(one.passed for one in judged)
    gaps = [one.figures.gap_ms for one in judged]
    operations = sum(one.figures.operations for one in judged)
    return (
        f"{passed} of {len(judged)} runs passed; {operations} operations; longest gaps "
        f"{min(gaps)} to {max(gaps)} ms"
    )


def report(scenario: Scenario, outcomes: list[Outcome]) -> dict[str, Any]:
    """The verdicts and their figures, for programs."""
    runs = []
    for outcome in outcomes:
        kept = str(outcome.directory) if outcome.directory else None
        runs.append({**outcome.judgement.as_json(), "kept": kept})
    return {"drill": scenario.name, "passed": _all_passed(outcomes), "runs": runs}


def _all_passed(outcomes: list[Outcome]) -> bool:
    return all(outcome.judgement.passed for outcome in outcomes)


def _write_history(outcome: Outcome, out: TextIO) -> None:
    from consensusllm.linearizability import to_line

    for operation in outcome.history:
        out.write(f"{to_line(operation)}\n")
