"""Many seeds on all cores. A seed's run is a function of its scenario, wherever it runs."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Generator, Sequence

from .run import Result, Scenario, run


def run_all(scenarios: Sequence[Scenario], processes: int) -> Generator[Result, None, None]:
    """Results as they come, in any order."""
    if processes <= 1 or len(scenarios) <= 1:
        yield from map(run, scenarios)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(processes, len(scenarios)), _ignore_interrupts) as pool:
        yield from pool.imap_unordered(run, scenarios)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the children
