"""Find a shorter schedule of faults that breaks the same invariant: delta debugging.

Zeller & Hildebrandt, "Simplifying and isolating failure-inducing input", TSE 2002: leave out ever
smaller parts for as long as what remains still fails. The seed stays, so all else is drawn as
before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .run import Result, run

RUNS_MAX = 300


def shrink(failed: Result, progress: Callable[[int, int], None] = lambda _, __: None) -> Result:
    """The result of the shortest schedule found. ``progress`` gets the number of runs so far and
    of the faults that are left."""
    best = failed
    stop_s = 1.2 * failed.simulated_s + 1.0  # what fails much later fails for another reason
    runs = 0
    parts = 2
    while best.faults and runs < RUNS_MAX:
        size = max(1, len(best.faults) // parts)
        shorter = None
        for start in range(0, len(best.faults), size):
            kept = (*best.faults[:start], *best.faults[start + size :])
            runs += 1
            found = run(replace(failed.scenario, faults=kept, stop_s=stop_s))
            progress(runs, len(best.faults))
            if found.broken == failed.broken:
                shorter = found
                break
            if runs >= RUNS_MAX:
                break
        if shorter is not None:
            # What was drawn for later rounds than the failing one is gone already.
            best = shorter
            parts = max(2, parts - 1)
        elif size == 1:
            break
        else:
            parts = min(len(best.faults), 2 * parts)
    return best
