"""Owns the arithmetic of an interruption: the longest gap between writes that were acknowledged.

Pure. Times are seconds of one monotonic clock, which on one machine all processes share.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

STEADY_S = 1.0
"""Writes have to go on for this long after the gap, so that a second one is not missed."""
FLOWING_S = 0.1


def longest_gap(completions: Sequence[float], since: float) -> tuple[float, float]:
    """``(length, end)`` of the longest pause between completions in a row, ascending, of those
    pauses that end after ``since``; (0, since) where there is none."""
    pauses = [(late - early, late) for early, late in pairwise(completions) if late > since]
    return max(pauses, default=(0.0, since))


def settled(completions: Sequence[float], since: float, now: float) -> bool:
    """Whether writes flow again, and have done so for long enough since the longest gap."""
    if not completions or now - completions[-1] > FLOWING_S:
        return False
    return now - max(since, longest_gap(completions, since)[1]) >= STEADY_S
