"""Owns how results are shown as text. Pure: it returns lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import floor
from .figures import Cell, Results
from .goals import judged, shown
from .plan import FLOOR_CELL, WORKLOADS, Plan

_COMPARED = {
    "etcd": {"per_second": "per s", "p50_us": "p50", "p99_us": "p99"},
    "PySyncObj": {"per_second": "per s"},  # its client is inside the node: no latency to compare
}
_FLOORS = {"floor": "put_us", "bare": "bare_us"}
_PROCESSES = ("leader", "follower", "orchestrator", "client")
_LOOPS = ("puts", "reads", "connections", "conversations")
_STEPS = ("create", "query", "choose", "view")
NONE = "-"

LISTED = {
    "starting": {"help_ms": "--help", "ready_ms": "up to ready:"},
    "catch-up": {"serving_ms": "start to serving", "back_ms": "start to in step"},
    "streams": {
        "idle_p50_us": "p50 idle",
        "p50_us": "p50",
        "idle_p99_us": "p99 idle",
        "p99_us": "p99",
        "words_per_second": "words read",
        "elections": "elections",
    },
    "first-token": {
        "first_p50_us": "cluster p50",
        "model_first_p50_us": "model p50",
        "added_p50_us": "added",
    },
    "takeover": {
        "whole": "answers whole",
        "not_whole": "not whole",
        "pause_p50_ms": "pause p50",
        "pause_max_ms": "longest",
    },
    "growth": {
        "early_rss_mib": "RSS early",
        "rss_mib": "RSS late",
        "early_disk_mib": "disk early",
        "disk_mib": "disk late",
        "compaction_mib": "compacted at",
    },
    "scale": {
        "few_choose_p99_us": "choose p99, few",
        "choose_p99_us": "choose p99",
        "few_view_p99_us": "view p99, few",
        "view_p99_us": "view p99",
        "turns_per_second": "turns made",
    },
    "elections": {"elections": "elections", "minutes": "minutes", "per_second": "puts"},
}
"""The figures of the workloads that have some of their own, and what they are called in a table."""


def report(
    conditions: Mapping[str, str], plan: Plan, results: Results, notes: Sequence[str]
) -> str:
    """The whole report."""
    blocks = [
        _conditions(conditions, plan),
        [f"note: {note}" for note in notes],
        [f"missing: {name}: {why}" for name, why in results.missing.items()],
        _floor(results),
        *(_loops(results, workload) for workload in _LOOPS),
        _steps(results),
        _memory(results, plan),
        _failover(results),
        *(_listed(results, workload, plan) for workload in LISTED),
        _processes(results),
        _goals(results),
        _failures(results),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Aligned columns: the first ``left`` to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(aligned).rstrip()

    return [line(header), line(["-" * width for width in widths]), *map(line, rows)]


def milliseconds(microseconds: float | None) -> str:
    """Three digits that count."""
    if microseconds is None:
        return NONE
    value = microseconds / 1e3
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def number(value: float | None, form: str = ",.0f") -> str:
    return NONE if value is None else format(value, form)


def ratio(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f} x"


def _conditions(conditions: Mapping[str, str], plan: Plan) -> list[str]:
    told = {
        **conditions,
        "measured": f"{plan.runs} runs, closed loops of {plan.seconds:g} s each, 256-byte values "
        "over 1,000 keys; three nodes on loopback, one system at a time; medians of the runs",
        "ratios": "of figures of the same run; their median. Above 1 is more a second, or longer",
    }
    width = max(map(len, told))
    return [f"{name.ljust(width)}  {text}" for name, text in told.items()]


def _floor(results: Results) -> list[str]:
    if FLOOR_CELL not in results.samples:
        return []
    rows = [
        [text, number(results.median(FLOOR_CELL, name), ",.1f")]
        for name, text in floor.NAMES.items()
    ]
    return table(["floor", "us"], rows)


def _loops(results: Results, workload: str) -> list[str]:
    """Throughput and latency; against the floor goes the latency, against others both."""
    cells = results.cells(workload)
    if not cells:
        return []
    others = [name for name in _COMPARED if any(cell.system == name for cell in cells)]
    header = ["outstanding", "system", "per s", "p50 ms", "p99 ms"]
    for name in others:
        header += [f"{shown}/{name}" for shown in _COMPARED[name].values()]
    with_floor = workload in ("puts", "connections") and FLOOR_CELL in results.samples
    header += [f"p50/{name}" for name in _FLOORS] if with_floor else []
    rows = []
    for cell in cells:
        row = [
            str(cell.outstanding),
            cell.system,
            number(results.median(cell, "per_second")),
            milliseconds(results.median(cell, "p50_us")),
            milliseconds(results.median(cell, "p99_us")),
        ]
        for name in others:
            other = Cell(workload, cell.outstanding, name)
            for figure in _COMPARED[name]:
                row.append(NONE if other == cell else ratio(results.ratio(cell, other, figure)))
        if with_floor:
            p50 = results.median(cell, "p50_us")
            for figure in _FLOORS.values():
                least = results.median(FLOOR_CELL, figure)
                row.append(ratio(p50 / least if least and p50 else None))
        rows.append(row)
    return [f"{workload}: {WORKLOADS[workload]}", *table(header, rows, left=2)]


def _steps(results: Results) -> list[str]:
    cells = results.cells("conversations")
    if not cells:
        return []
    header = ["outstanding", "system"]
    header += [f"{step} {each}" for step in _STEPS for each in ("p50 ms", "p99 ms")]
    rows = [
        [str(cell.outstanding), cell.system]
        + [
            milliseconds(results.median(cell, f"{step}_{each}_us"))
            for step in _STEPS
            for each in ("p50", "p99")
        ]
        for cell in cells
    ]
    return ["conversations: each call of a turn", *table(header, rows, left=2)]


def _memory(results: Results, plan: Plan) -> list[str]:
    cells = results.cells("memory")
    if not cells:
        return []
    rows = [
        [
            cell.system,
            number(results.median(cell, "rss_mib"), ",.1f"),
            number(results.median(cell, "disk_mib"), ",.1f"),
            number(results.median(cell, "written_bytes")),
            number(results.median(cell, "per_second")),
        ]
        for cell in cells
    ]
    header = ["system", "largest RSS MiB", "disk MiB", "written bytes/put", "per s"]
    return [f"memory: a node after {plan.memory_puts:,} puts", *table(header, rows)]


def _failover(results: Results) -> list[str]:
    cells = results.cells("failover")
    if not cells:
        return []
    others = [cell for cell in cells if cell.system not in ("direct", "orchestrated")]
    header = ["system", "kills", "median ms", "least ms", "most ms"]
    rows = []
    for cell in cells:
        gaps = results.values(cell, "gap_ms")
        row = [cell.system, str(len(gaps)), number(results.median(cell, "gap_ms"))]
        row += [number(min(gaps, default=None)), number(max(gaps, default=None))]
        row += [
            NONE if cell == other else ratio(results.ratio(cell, other, "gap_ms"))
            for other in others
        ]
        rows.append(row)
    header += [f"/{other.system}" for other in others]
    return [f"failover: {WORKLOADS['failover']}", *table(header, rows)]


def _listed(results: Results, workload: str, plan: Plan) -> list[str]:
    """The workloads of `LISTED`: a row a system."""
    cells = results.cells(workload)
    if not cells:
        return []
    names = LISTED[workload]
    rows = []
    for cell in cells:
        medians = {name: results.median(cell, name) for name in names}
        rows.append(
            [cell.system]
            + [NONE if value is None else shown(name, value) for name, value in medians.items()]
        )
    counts = {
        "catch-up": f"; {plan.missed_puts:,} puts missed",
        "streams": f"; {plan.streams:,} queries of one answer each, {plan.tokens_per_second:g} "
        f"words a second; answering.concurrency {2 * plan.streams}",
        "first-token": f"; {plan.first_tokens:,} queries of three answers",
        "takeover": f"; {plan.takeovers:,} kills",
        "growth": f"; {plan.memory_puts:,} and {plan.memory_puts * plan.growth:,} puts",
        "scale": f"; {plan.few:,} and {plan.many:,} of {plan.turns:,} turns",
    }
    title = f"{workload}: {WORKLOADS[workload]}{counts.get(workload, '')}"
    return [title, *table(["system", *names.values()], rows)]


def _processes(results: Results) -> list[str]:
    """CPU, memory and disk of each loop."""
    cells = [cell for workload in _LOOPS for cell in results.cells(workload)]
    kinds = [
        kind
        for kind in _PROCESSES
        if any(results.median(cell, f"cpu_us_{kind}") is not None for cell in cells)
    ]
    if not kinds:
        return []
    header = ["workload", "outst.", "system", *(f"{kind} us/op" for kind in kinds)]
    header += [*(f"{kind} s" for kind in kinds), "RSS MiB", "written bytes/op"]
    rows = []
    for cell in cells:
        row = [cell.workload, str(cell.outstanding), cell.system]
        row += [number(results.median(cell, f"cpu_us_{kind}")) for kind in kinds]
        row += [number(results.median(cell, f"cpu_s_{kind}"), ".2f") for kind in kinds]
        row.append(number(results.median(cell, "rss_mib"), ".1f"))
        row.append(number(results.median(cell, "written_bytes")))
        rows.append(row)
    title = "processes: CPU of an operation and of a loop, the largest node's RSS, a node's writes"
    return [title, *table(header, rows, left=3)]


def _goals(results: Results) -> list[str]:
    rows = []
    for verdict in judged(results):
        goal = verdict.goal
        rows.append(
            [
                goal.text,
                shown(goal.figure, verdict.ours),
                NONE if verdict.other is None else shown(goal.figure, verdict.other),
                ratio(verdict.measured) if goal.against else NONE,
                goal.bound,
                "reached" if goal.reached(verdict.measured) else "missed",
            ]
        )
    return table(["goal", "measured", "against", "ratio", "wanted", ""], rows) if rows else []


def _failures(results: Results) -> list[str]:
    return [
        f"failed: {cell.system}, {cell.workload} {cell.outstanding}: {reason}"
        for cell, reason in results.failures.items()
    ]
