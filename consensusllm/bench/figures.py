"""Owns the figures of a run: what was measured, its medians, and the ratios between two systems.

Pure. A ratio is taken run by run, between figures that were measured minutes apart at most, and the
median of those is given: on a machine whose speed drifts that says more than a ratio of medians.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SYSTEMS = ("direct", "orchestrated", "etcd", "etcd-tuned", "PySyncObj")
"""What is measured, in the order in which it is shown: the first two are ours."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One thing that is measured: ``workload`` with ``outstanding`` calls at once on ``system``."""

    workload: str
    outstanding: int
    system: str


@dataclass(frozen=True, slots=True)
class Sample:
    """What one measurement of a cell in run number ``run`` gave, by the figures' names.

    Names end in their units: ``per_second``, ``p50_us``, ``gap_ms``, ``rss_mib``; or are counts.
    """

    run: int
    figures: Mapping[str, float]


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile, 0 < ``percent`` <= 100, of at least one value."""
    assert values
    assert 0 < percent <= 100
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


@dataclass
class Results:
    """All samples, in the order in which they were taken, and what could not be measured."""

    samples: dict[Cell, list[Sample]] = field(default_factory=dict)
    failures: dict[Cell, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, cell: Cell, run: int, figures: Mapping[str, float]) -> None:
        self.samples.setdefault(cell, []).append(Sample(run, dict(figures)))

    def values(self, cell: Cell, figure: str) -> list[float]:
        """Every value of a figure; empty where it was not measured."""
        found = self.samples.get(cell, ())
        return [sample.figures[figure] for sample in found if figure in sample.figures]

    def median(self, cell: Cell, figure: str) -> float | None:
        """The median over all samples; None where there is none."""
        values = self.values(cell, figure)
        return statistics.median(values) if values else None

    def ratio(
        self, cell: Cell, to: Cell, figure: str, to_figure: str | None = None
    ) -> float | None:
        """``cell``'s figure over ``to_figure`` (the same by default) of ``to``: the median of the
        ratios of each run.

        None where no run measured both, or what is divided by is 0.
        """
        ours, theirs = self._by_run(cell, figure), self._by_run(to, to_figure or figure)
        both = [run for run in ours if theirs.get(run)]
        return statistics.median(ours[run] / theirs[run] for run in both) if both else None

    def cells(self, workload: str) -> list[Cell]:
        """The cells of a workload that were measured or failed, by ``outstanding`` and then in
        the order of `SYSTEMS`."""
        met = {cell for cell in (*self.samples, *self.failures) if cell.workload == workload}
        order = {system: place for place, system in enumerate(SYSTEMS)}
        return sorted(met, key=lambda cell: (cell.outstanding, order.get(cell.system, len(order))))

    def document(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "cells": [
                {
                    "workload": cell.workload,
                    "outstanding": cell.outstanding,
                    "system": cell.system,
                    "median": {
                        name: self.median(cell, name) for name in _names(self.samples[cell])
                    },
                    "runs": [{"run": one.run, **one.figures} for one in self.samples[cell]],
                }
                for cell in self.samples
            ],
            "failures": [
                {"workload": cell.workload, "outstanding": cell.outstanding, "system": cell.system}
                | {"reason": reason}
                for cell, reason in self.failures.items()
            ],
            "missing": dict(self.missing),
        }

    def _by_run(self, cell: Cell, figure: str) -> dict[int, float]:
        runs: dict[int, list[float]] = {}
        for sample in self.samples.get(cell, ()):
            if figure in sample.figures:
                runs.setdefault(sample.run, []).append(sample.figures[figure])
        return {run: statistics.median(values) for run, values in runs.items()}


def _names(samples: Iterable[Sample]) -> list[str]:
    return list(dict.fromkeys(name for sample in samples for name in sample.figures))
