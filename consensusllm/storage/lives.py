"""The numbers of lives. A node begins a life with each new disk, and its votes name the life that
cast them.

No two lives of a node have the same number, whatever its clock shows: those with which a cluster
begins have the first, and every later one draws its own. Where clocks are right the later life has
the higher number, as with UUIDs of version 7 (RFC 9562, 5.7); where one was set back, its members
see to that.
"""

from __future__ import annotations

from collections.abc import Callable

FIRST_LIFE = 1
"""Of the disks with which a cluster begins."""

_TIME_BITS = 42
_RANDOM_BITS = 19
_LATEST_MS = (1 << _TIME_BITS) - (1 << 32)  # in the year 2109; above it is room for many renewals


def another_life(wall_ms: int, random_bits: Callable[[int], int]) -> int:
    """The number of a life that is not a first one, 2**61 to below 2**62: above that of every first
    life, also of those that were numbered by the wall clock alone, as they once were. ``wall_ms``
    is in ms since the epoch, ``random_bits(n)`` n random bits as an integer."""
    time_ms = min(max(wall_ms, 0), _LATEST_MS)
    return ((1 << _TIME_BITS | time_ms) << _RANDOM_BITS) | random_bits(_RANDOM_BITS)
