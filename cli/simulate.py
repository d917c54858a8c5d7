"""``consensusllm simulate``: look for a broken invariant under simulated faults, seed by seed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Finite, Whole
from .revision import commit

if TYPE_CHECKING:
    from consensusllm.simulation import Result, Scenario

TRACE_SHOWN = 60
SEEDS_MAX = 1_000_000
PROGRESS_EVERY_S = 0.5
QUIET_EVERY_S = 30.0

THINK_S = 0.5
HEARTBEAT_MS = 150
"""Calm, with which planted bugs are found with as little work as by busier clients, in twice the
simulated time, with twice the faults."""


@click.command()
@click.option("--seed", type=Whole(min=0), metavar="N", help="Run one seed.")
@click.option("--seeds", metavar="A..B", help="Run each of these seeds.  [default: 1..20]")
@click.option(
    "--hours",
    type=Finite(min=0, min_open=True, max=1000),
    default=0.05,
    show_default=True,
    help="Simulated hours of each seed.",
)
@click.option("--nodes", type=Whole(1, 9), default=3, show_default=True)
@click.option("--faults", default="all", show_default=True, metavar="LIST", help="Kinds of fault.")
@click.option(
    "--think",
    type=Finite(min=0.001, max=3600),
    default=THINK_S,
    show_default=True,
    metavar="SECONDS",
    help="How long each of six clients thinks between two calls, on average.",
)
@click.option(
    "--heartbeat-ms",
    type=Whole(20, 10_000),
    default=HEARTBEAT_MS,
    show_default=True,
    help="Between a leader's heartbeats; elections begin after seven.",
)
@click.option(
    "--schedule",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Faults from this file, as --shrink writes it; with --seed.",
)
@click.option("--shrink", "shorten", is_flag=True, help="Find a shorter failing schedule.")
@click.option("--trace", is_flag=True, help="Print every event; with --seed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--jobs", type=Whole(min=1), help="Processes.  [default: one a core]")
def simulate(
    seed: int | None,
    seeds: str | None,
    hours: float,
    nodes: int,
    faults: str,
    think: float,
    heartbeat_ms: int,
    schedule: Path | None,
    shorten: bool,
    trace: bool,
    as_json: bool,
    jobs: int | None,
) -> int:
    """Run a whole cluster under a simulated clock, network and disk, with faults.

    Every seed is a cluster of its own, and the same seed gives the same run. The exit status is 1
    where an invariant is broken. In half of the cases a clock that jumps or is set (jump, set
    clock) crashes its node as well, since only a process that starts looks at it.
    """
    from consensusllm.simulation import Scenario, UnknownFault, from_json, parse_kinds, run

    numbers = _numbers(seed, seeds)
    if len(numbers) > 1 and (trace or schedule is not None):
        raise click.UsageError("--trace and --schedule are for one seed: name it with --seed")
    if trace and as_json:
        raise click.UsageError("--trace and --json: leave one of them out")
    try:
        kinds = parse_kinds(faults)
        fixed = tuple(from_json(schedule.read_text())) if schedule is not None else None
    except UnknownFault as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(f"{schedule}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"{schedule}: not a schedule of faults: {error}") from None
    scenarios = [
        Scenario(
            number,
            nodes,
            hours * 3600,
            kinds,
            think_s=think,
            heartbeat_s=heartbeat_ms / 1000,
            faults=fixed,
        )
        for number in numbers
    ]
    begin = time.monotonic()
    if trace:
        results = [run(scenarios[0], whole_trace=True)]
        click.echo("\n".join(results[0].trace))
    else:
        results = list(_watched(scenarios, jobs or _cores()))
    results.sort(key=lambda result: result.scenario.seed)
    failed = [result for result in results if result.broken]
    command = f"--hours {hours!r} --nodes {nodes} --faults {shlex.quote(faults)}"
    if think != THINK_S:
        command += f" --think {think!r}"
    if heartbeat_ms != HEARTBEAT_MS:
        command += f" --heartbeat-ms {heartbeat_ms}"
    if schedule is not None:
        command += f" --schedule {shlex.quote(str(schedule))}"
    report = _report(results, time.monotonic() - begin)
    if as_json:
        report["failures"] = [_failure(result, command) for result in failed]
        click.echo(json.dumps(report, indent=2))
    else:
        for result in failed:
            _show(result, command, with_trace=not trace)
        _summarise(report)
    if shorten and failed:
        _shrink(failed[0], command)
    return 1 if failed else 0


def _numbers(seed: int | None, seeds: str | None) -> range:
    if seed is not None:
        if seeds is not None:
            raise click.UsageError("--seed and --seeds: use one of them")
        return range(seed, seed + 1)
    match = re.fullmatch(r"(\d{1,15})\.\.(\d{1,15})", seeds if seeds is not None else "1..20")
    if match is None:
        raise click.UsageError(f"--seeds {seeds}: not a range; write it as 1..100")
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise click.UsageError(f"--seeds {seeds}: upside down; write it as {last}..{first}")
    if last - first >= SEEDS_MAX:
        raise click.UsageError(f"--seeds {seeds}: too many; {SEEDS_MAX:,} at a time at most")
    return range(first, last + 1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _watched(scenarios: list[Scenario], processes: int) -> Iterator[Result]:
    """The results, with a line on stderr that says how far it is."""
    from consensusllm.simulation import run_all

    live = sys.stderr.isatty()
    begin = shown = time.monotonic()
    done = failed = 0
    simulated_s = 0.0
    with contextlib.closing(run_all(scenarios, processes)) as results:
        for result in results:
            done += 1
            failed += bool(result.broken)
            simulated_s += result.simulated_s
            yield result
            now = time.monotonic()
            if now - shown >= (PROGRESS_EVERY_S if live else QUIET_EVERY_S):
                shown = now
                line = (
                    f"{done} of {len(scenarios)} seeds, {simulated_s / 3600:.2f} simulated hours, "
                    f"{simulated_s / (now - begin):.0f} times real time, {failed} failed"
                )
                click.echo(f"\r{line}\x1b[K" if live else line, err=True, nl=not live)
    if live:
        click.echo("\r\x1b[K", err=True, nl=False)


def _report(results: list[Result], took_s: float) -> dict[str, Any]:
    figures: Counter[str] = Counter()
    for result in results:
        figures.update(result.figures)
    simulated_s = sum(result.simulated_s for result in results)
    return {
        "seeds": len(results),
        "failed": sum(bool(result.broken) for result in results),
        "commit": commit(),
        "simulated_hours": round(simulated_s / 3600, 4),
        "times_real_time": round(simulated_s / took_s, 1),
        "rounds": sum(result.rounds for result in results),
        "figures": dict(sorted(figures.items())),
    }


def _summarise(report: dict[str, Any]) -> None:
    figures = report["figures"]
    for name in sorted(figures):
        click.echo(f"{figures[name]:>12,}  {name}")
    click.echo(
        f"{report['seeds']} seeds, {report['rounds']} rounds, "
        f"{report['simulated_hours']:.2f} simulated hours, "
        f"{report['times_real_time']:.0f} times real time, commit {report['commit']}: "
        + (f"{report['failed']} failed" if report["failed"] else "no violation")
    )


def _reproduce(result: Result, command: str) -> str:
    return f"consensusllm simulate --seed {result.scenario.seed} {command}"


def _failure(result: Result, command: str) -> dict[str, Any]:
    return {
        "seed": result.scenario.seed,
        "invariant": result.broken,
        "reason": result.reason,
        "simulated_s": result.simulated_s,
        "round": result.rounds,
        "faults": [str(fault) for fault in result.faults if fault.round == result.rounds],
        "trace": result.trace[-TRACE_SHOWN:],
        "reproduce": _reproduce(result, command),
    }


def _show(result: Result, command: str, *, with_trace: bool) -> None:
    failure = _failure(result, command)
    click.echo(
        f"seed {failure['seed']} breaks an invariant after {failure['simulated_s']:.3f} simulated "
        f"seconds, in round {failure['round']}, at commit {commit()}:"
    )
    click.echo(f"  {failure['reason']}")
    click.echo("faults of that round:")
    for fault in failure["faults"] or ["none"]:
        click.echo(f"  {fault}")
    if with_trace:
        click.echo("the last events:")
        for line in failure["trace"]:
            click.echo(f"  {line}")
    click.echo(f"reproduce it: {failure['reproduce']} --trace\n")


def _shrink(failed: Result, command: str) -> None:
    from consensusllm.simulation import shrink, to_json

    def progress(runs: int, left: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\rshrinking: {runs} runs, {left} faults left\x1b[K", err=True, nl=False)

    best = shrink(failed, progress)
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    click.echo(
        f"{len(best.faults)} of {len(failed.faults)} faults are enough to break it "
        f"({best.broken}):",
        err=True,
    )
    for fault in best.faults:
        click.echo(f"  {fault}", err=True)
    path = Path(f"seed-{failed.scenario.seed}.faults")
    try:
        path.write_text(to_json(best.faults))
    except OSError as error:
        click.echo(f"{path} cannot be written here: {error.strerror}", err=True)
    else:
        click.echo(f"reproduce it: {_reproduce(best, command)} --schedule {path} --trace", err=True)
