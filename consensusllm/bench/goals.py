"""Owns what this project sets itself as goals, and whether a run reached them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .figures import Cell, Results
from .plan import STARTING_CELL


@dataclass(frozen=True, slots=True)
class Goal:
    """``figure`` of ``cell``, over ``against_figure`` (the same by default) of ``against`` where
    there is one: to be ``at_least``, or else ``at_most``."""

    text: str
    cell: Cell
    figure: str
    against: Cell | None = None
    against_figure: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    def reached(self, measured: float) -> bool:
        if self.at_least is not None:
            return measured >= self.at_least
        assert self.at_most is not None
        return measured <= self.at_most

    @property
    def bound(self) -> str:
        word, bound = ("at least", self.at_least)
        if bound is None:
            word, bound = ("at most", self.at_most)
        assert bound is not None
        return f"{word} {f'{bound:g} x' if self.against else shown(self.figure, bound)}"


def shown(figure: str, value: float) -> str:
    """A figure with its unit, which its name ends in."""
    if figure.endswith("per_second"):
        return f"{value:,.0f}/s"
    if figure.endswith("_us"):
        return f"{value / 1e3:.3g} ms" if value < 1e6 else f"{value / 1e3:,.0f} ms"
    if figure.endswith("_ms"):
        return f"{value:,.0f} ms"
    if figure.endswith("_mib"):
        return f"{value:,.1f} MiB"
    return f"{value:,.0f}"


def _puts(outstanding: int, at_least: float) -> Goal:
    return Goal(
        f"puts, {outstanding} outstanding, over etcd's",
        Cell("puts", outstanding, "direct"),
        "per_second",
        Cell("puts", outstanding, "etcd"),
        at_least=at_least,
    )


def _one_put(figure: str) -> Goal:
    name = figure.removesuffix("_us")
    one = Cell("puts", 1, "direct")
    text = f"one client's put, {name}, over etcd's"
    return Goal(text, one, figure, Cell("puts", 1, "etcd"), at_most=1.2)


def _gap(system: str, at_most: float) -> Goal:
    text = f"longest gap after kill -9 of the leader, over {system}'s"
    ours = Cell("failover", 0, "direct")
    return Goal(text, ours, "gap_ms", Cell("failover", 0, system), at_most=at_most)


def _within(text: str, workload: str, figure: str, before: str, at_most: float) -> Goal:
    """A figure of one cell against another one of the same."""
    cell = Cell(workload, 0, "direct")
    return Goal(text, cell, figure, cell, before, at_most=at_most)


GOALS = (
    _puts(16, 1.2),
    _puts(64, 2.0),
    _puts(256, 4.0),
    Goal(
        "linearizable reads, 64 outstanding, over etcd's",
        Cell("reads", 64, "direct"),
        "per_second",
        Cell("reads", 64, "etcd"),
        at_least=2.0,
    ),
    Goal(
        "64 connections with one outstanding each, over etcd's",
        Cell("connections", 64, "direct"),
        "per_second",
        Cell("connections", 64, "etcd"),
        at_least=0.7,
    ),
    _one_put("p50_us"),
    _one_put("p99_us"),
    Goal(
        "one put through the orchestrator, p50, over direct",
        Cell("puts", 1, "orchestrated"),
        "p50_us",
        Cell("puts", 1, "direct"),
        at_most=2.0,
    ),
    Goal(
        "puts through the orchestrator, 256 outstanding, over direct",
        Cell("puts", 256, "orchestrated"),
        "per_second",
        Cell("puts", 256, "direct"),
        at_least=0.6,
    ),
    _gap("etcd", 0.25),
    _gap("etcd-tuned", 1.0),
    Goal("elections under full load", Cell("elections", 0, "direct"), "elections", at_most=0),
    Goal(
        "memory of a node after the same puts, over etcd's",
        Cell("memory", 256, "direct"),
        "rss_mib",
        Cell("memory", 256, "etcd"),
        at_most=1.0,
    ),
    _within("memory after ten times the puts", "growth", "rss_mib", "early_rss_mib", 1.1),
    _within("disk, over the compaction setting", "growth", "disk_mib", "compaction_mib", 2.0),
    Goal(
        "back in step after missed puts, from the start, over etcd's",
        Cell("catch-up", 0, "direct"),
        "back_ms",
        Cell("catch-up", 0, "etcd"),
        at_most=2.0,
    ),
    Goal("start of a node", Cell("catch-up", 0, "direct"), "serving_ms", at_most=500),
    _within(
        "choose, p99, over few conversations", "scale", "choose_p99_us", "few_choose_p99_us", 1.3
    ),
    _within("view, p99, over few conversations", "scale", "view_p99_us", "few_view_p99_us", 1.3),
    _within("put beside streams, p99, over idle", "streams", "p99_us", "idle_p99_us", 3.0),
    Goal("elections beside streams", Cell("streams", 0, "direct"), "elections", at_most=0),
    Goal(
        "first token, added to the model's own",
        Cell("first-token", 0, "direct"),
        "added_p50_us",
        at_most=2000,
    ),
    Goal(
        "pause when a node is killed", Cell("takeover", 0, "direct"), "pause_p50_ms", at_most=1500
    ),
    Goal("answers that were not whole then", Cell("takeover", 0, "direct"), "not_whole", at_most=0),
    Goal("consensusllm --help", STARTING_CELL, "help_ms", at_most=300),
    Goal("consensusllm up, to ready:", STARTING_CELL, "ready_ms", at_most=3000),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``measured`` is what the goal bounds: ``ours`` itself, or its ratio to ``other``."""

    goal: Goal
    ours: float
    other: float | None
    measured: float


def judged(results: Results) -> Iterator[Verdict]:
    """The goals that this run measured (both sides of)."""
    for goal in GOALS:
        ours = results.median(goal.cell, goal.figure)
        if ours is None:
            continue
        if goal.against is None:
            yield Verdict(goal, ours, None, ours)
            continue
        other = results.median(goal.against, goal.against_figure or goal.figure)
        ratio = results.ratio(goal.cell, goal.against, goal.figure, goal.against_figure)
        if ratio is not None:
            yield Verdict(goal, ours, other, ratio)
