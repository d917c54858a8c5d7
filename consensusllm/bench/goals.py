"""Owns the ratios that this project sets itself as goals, and whether a run reached them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .figures import Cell, Results


@dataclass(frozen=True, slots=True)
class Goal:
    """``figure`` of ``cell`` over that of ``against``: to be ``at_least``, or else ``at_most``."""

    text: str
    cell: Cell
    against: Cell
    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def reached(self, ratio: float) -> bool:
        if self.at_least is not None:
            return ratio >= self.at_least
        assert self.at_most is not None
        return ratio <= self.at_most

    @property
    def bound(self) -> str:
        if self.at_least is not None:
            return f"at least {self.at_least:g} x"
        return f"at most {self.at_most:g} x"


def _puts(outstanding: int, at_least: float) -> Goal:
    return Goal(
        f"puts, {outstanding} outstanding, over etcd's",
        Cell("puts", outstanding, "direct"),
        Cell("puts", outstanding, "etcd"),
        "per_second",
        at_least=at_least,
    )


def _one_put(figure: str) -> Goal:
    name = figure.removesuffix("_us")
    one = Cell("puts", 1, "direct")
    text = f"one client's put, {name}, over etcd's"
    return Goal(text, one, Cell("puts", 1, "etcd"), figure, at_most=1.2)


def _gap(system: str, at_most: float) -> Goal:
    text = f"longest gap after kill -9 of the leader, over {system}'s"
    ours = Cell("failover", 0, "direct")
    return Goal(text, ours, Cell("failover", 0, system), "gap_ms", at_most=at_most)


GOALS = (
    _puts(16, 1.2),
    _puts(64, 2.0),
    _puts(256, 4.0),
    Goal(
        "linearizable reads, 64 outstanding, over etcd's",
        Cell("reads", 64, "direct"),
        Cell("reads", 64, "etcd"),
        "per_second",
        at_least=2.0,
    ),
    Goal(
        "64 connections with one outstanding each, over etcd's",
        Cell("connections", 64, "direct"),
        Cell("connections", 64, "etcd"),
        "per_second",
        at_least=0.7,
    ),
    _one_put("p50_us"),
    _one_put("p99_us"),
    Goal(
        "one put through the orchestrator, p50, over direct",
        Cell("puts", 1, "orchestrated"),
        Cell("puts", 1, "direct"),
        "p50_us",
        at_most=2.0,
    ),
    Goal(
        "puts through the orchestrator, 256 outstanding, over direct",
        Cell("puts", 256, "orchestrated"),
        Cell("puts", 256, "direct"),
        "per_second",
        at_least=0.6,
    ),
    _gap("etcd", 0.25),
    _gap("etcd-tuned", 1.0),
    Goal(
        "memory of a node after the same puts, over etcd's",
        Cell("memory", 256, "direct"),
        Cell("memory", 256, "etcd"),
        "rss_mib",
        at_most=1.0,
    ),
)


def judged(results: Results) -> Iterator[tuple[Goal, float]]:
    """The goals that this run measured both sides of, each with its ratio."""
    for goal in GOALS:
        ratio = results.ratio(goal.cell, goal.against, goal.figure)
        if ratio is not None:
            yield goal, ratio
