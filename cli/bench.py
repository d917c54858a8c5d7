"""``consensusllm bench``: how quick the cluster is on this machine, side by side with others.

It owns the options and what a person sees while it runs; what is measured is in
`consensusllm.bench`.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Finite, Whole
from .polling import poll_in_one_thread
from .progress import shown
from .revision import commit
from .signals import heeded

if TYPE_CHECKING:
    from consensusllm.bench.figures import Results
    from consensusllm.bench.run import Bench

PROGRAM = (sys.executable, "-m", f"{__package__}.main")


def _chosen(option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """The parts of a comma-separated list, in the order of ``known``."""
    names = {name.lower(): name for name in known}
    wanted = {part.strip().lower() for part in text.split(",") if part.strip()}
    if unknown := sorted(wanted - names.keys()) or ([] if wanted else ["nothing"]):
        near = difflib.get_close_matches(unknown[0], names, n=2, cutoff=0.5)
        hint = f"; did you mean {' or '.join(names[name] for name in near)}?" if near else ""
        raise click.UsageError(f"{option}: {unknown[0]!r} is none of {', '.join(known)}{hint}")
    return tuple(name for low, name in names.items() if low in wanted)


@click.command()
@click.option("--quick", is_flag=True, help="Everything in one short run, to see that it works.")
@click.option(
    "--all", "everything", is_flag=True, help="Everything, at full length: an hour or so."
)
@click.option(
    "--only", metavar="LIST", help="Workloads, such as puts,reads; default: the short ones."
)
@click.option("--systems", metavar="LIST", help="Systems, such as direct,etcd; default: all.")
@click.option("--runs", type=Whole(1, 100), help="How often; medians are shown.")
@click.option("--seconds", type=Finite(0.05, 600.0), help="Of each closed loop.")
@click.option(
    "--minutes",
    type=Finite(0.01, 10_000.0),
    help="How long elections are counted under full load; default: 1.",
)
@click.option(
    "--conversations",
    type=Whole(1, 1_000_000),
    help="How many the workload `scale` makes; default: 10,000.",
)
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Write all figures.")
@click.option("--plots", type=click.Path(file_okay=False), help="Write bars as SVG there.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, exists=True),
    help="Where the data is while it runs; default: the system's directory for such.",
)
def bench(
    quick: bool,
    everything: bool,
    only: str | None,
    systems: str | None,
    runs: int | None,
    seconds: float | None,
    minutes: float | None,
    conversations: int | None,
    json_path: str | None,
    plots: str | None,
    data_dir: str | None,
) -> int:
    """Measure this cluster, etcd and PySyncObj side by side, and the floor below them.

    Each is started on free ports of loopback with its data in a directory that is removed
    afterwards; what is not installed is named as missing. The exit status is 1 where a
    measurement failed.
    """
    if quick and everything:
        raise click.UsageError("--quick and --all: use one of them")
    _check_writable(json_path, plots)
    # Processes are started while gRPC is in use; they run another program at once.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    poll_in_one_thread()

    from consensusllm.bench.conditions import conditions, load, warnings
    from consensusllm.bench.figures import SYSTEMS
    from consensusllm.bench.plan import ALL, QUICK, WORKLOADS, Plan
    from consensusllm.bench.plots import write
    from consensusllm.bench.report import report
    from consensusllm.bench.run import Bench, available, versions

    plan = QUICK if quick else ALL if everything else Plan()
    changes: dict[str, Any] = {
        "workloads": None if only is None else _chosen("--only", only, tuple(WORKLOADS)),
        "systems": None if systems is None else _chosen("--systems", systems, SYSTEMS),
        "runs": runs,
        "seconds": seconds,
        "minutes": minutes,
        "many": conversations,
    }
    plan = replace(plan, **{name: each for name, each in changes.items() if each is not None})
    makers, missing = available(PROGRAM)
    directory = Path(tempfile.mkdtemp(prefix="consensusllm-bench-", dir=data_dir))
    try:
        known = conditions(directory, versions([name for name in plan.systems if name in makers]))
        with shown(sys.stderr, terminal=sys.stderr.isatty(), each=True) as tell:
            planned = Bench(plan, makers, PROGRAM, directory, tell)
            if planned.measures_nothing and not missing.keys() & {*plan.systems}:
                raise click.UsageError(
                    f"{' and '.join(plan.systems)} cannot do {' or '.join(plan.workloads)}: add "
                    "direct to --systems"
                )
            notes = [*warnings(directory), *planned.notes]
            results = measured(planned)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    known |= {"load after": load(), "commit": commit()}
    results.missing = {name: why for name, why in missing.items() if name in plan.systems}
    click.echo(report(known, plan, results, notes), nl=False)
    if json_path is not None:
        settings = {"conditions": known, "notes": notes, "plan": asdict(plan)}
        document = {**settings, **results.document()}
        Path(json_path).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if plots is not None:
        for path in write(results, Path(plots)):
            click.echo(f"wrote {path}", err=True)
    return 1 if results.failures else 0


def _check_writable(json_path: str | None, plots: str | None) -> None:
    """Find out before an hour of measuring. Raises UsageError."""
    if json_path is not None:
        try:
            open(json_path, "a", encoding="utf-8").close()
        except OSError as error:
            raise click.UsageError(f"--json {json_path}: {error.strerror}") from None
    if plots is not None:
        try:
            Path(plots).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.UsageError(f"--plots {plots}: {error.strerror}") from None


def measured(bench: Bench) -> Results:
    """Run it on the event loop that the nodes use, until it ends or is told to."""

    async def main() -> Results:
        task = asyncio.ensure_future(bench.run())
        with heeded(lambda number: task.cancel()):
            return await task

    try:
        import uvloop
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    try:
        return run(main())
    except asyncio.CancelledError:
        raise click.Abort from None
