"""Owns a proof without a search: values that cannot have stood there in any order.

A value that comes to stand there once at most does so in one stretch of time. The stretch has begun
by the first end, and lasts until the last start, of the operations that saw it. Two such values
contradict each other if each was seen after the other had been: their stretches cannot come in
either order (Gibbons & Korach, "Testing shared memories", SIAM J. Comput. 1997). So do a value and
a comparison with it that failed between two operations that saw it; and a value that was seen
though nobody wrote it contradicts itself. Stale reads and lost updates are found in this way.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .history import Operation, in_time
from .models import Action, Kind, State

Entry = tuple[int, Action]
"""An operation's index, and what it did."""


@dataclass(slots=True)
class Zone:
    """What is known of a value's only stretch of time; indices are of the operations that show it.

    It had begun by ``came`` and had not ended at ``last``. The initial value came before all time.
    """

    came: float = math.inf
    last: float = -math.inf
    came_index: int = -1
    last_index: int = -1
    writer: int = -1
    writers: int = 0

    def witnesses(self) -> tuple[int, ...]:
        indices = dict.fromkeys((self.writer, self.came_index, self.last_index))
        return tuple(index for index in indices if index >= 0)


def zones_of(
    operations: Sequence[Operation],
    known: Sequence[Entry],
    unknown: Sequence[Entry],
    initial: State,
) -> dict[State, Zone]:
    """The zones of the values that come to stand there at most once. There must be no appends."""
    comings = Counter(
        action.value for _, action in (*known, *unknown) if action.kind in (Kind.WRITE, Kind.SWAP)
    )
    comings[initial] += 1
    zones: dict[State, Zone] = {}
    for index, action in known:
        start, end = in_time(operations[index])
        for value in _shown(action):
            zone = zones.setdefault(value, Zone())
            if end < zone.came:
                zone.came, zone.came_index = end, index
            if start > zone.last:
                zone.last, zone.last_index = start, index
    for index, action in (*known, *unknown):
        if action.kind in (Kind.WRITE, Kind.SWAP) and action.value in zones:
            zones[action.value].writer = index
    at_first = zones.setdefault(initial, Zone())
    at_first.came, at_first.came_index = -math.inf, -1
    for value, zone in zones.items():
        zone.writers = comings[value]
    return {value: zone for value, zone in zones.items() if zone.writers <= 1}


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A few operations, by index, that have no order even if nothing else had happened but they,
    and even if they had only written and observed ``values``. ``seen`` is about when it
    showed."""

    indices: tuple[int, ...]
    values: frozenset[State]
    seen: float


def contradiction(
    operations: Sequence[Operation], known: Sequence[Entry], zones: dict[State, Zone]
) -> Contradiction | None:
    """The first that is found. None does not mean that there is an order."""
    lasting: list[tuple[State, Zone]] = []
    brief: list[tuple[State, Zone]] = []
    for value, zone in zones.items():
        if not zone.writers:
            return Contradiction((zone.came_index,), frozenset({value}), zone.came)
        (lasting if zone.came < zone.last else brief).append((value, zone))
    lasting.sort(key=lambda each: (each[1].came, each[1].last))
    longest: tuple[State, Zone] | None = None
    for value, zone in lasting:
        if longest is not None and zone.came < longest[1].last:
            return _between(longest, (value, zone))
        if longest is None or zone.last > longest[1].last:
            longest = value, zone
    # From here on the lasting zones do not overlap, so that their ends are in order, too.
    begins = [zone.came for _, zone in lasting]
    for value, zone in brief:
        at = bisect_left(begins, zone.last) - 1
        if at >= 0 and zone.came < lasting[at][1].last:
            return _between(lasting[at], (value, zone))
    for index, action in known:
        if action.kind is Kind.DIFFERS and action.expected in zones:
            zone = zones[action.expected]
            start, end = in_time(operations[index])
            if zone.came < start and end < zone.last:
                return Contradiction(
                    (*zone.witnesses(), index), frozenset({action.expected}), zone.last
                )
    return None


def _between(one: tuple[State, Zone], other: tuple[State, Zone]) -> Contradiction:
    indices = dict.fromkeys((*one[1].witnesses(), *other[1].witnesses()))
    seen = max(one[1].last, other[1].last)
    return Contradiction(tuple(indices), frozenset({one[0], other[0]}), seen)


def _shown(action: Action) -> Iterator[State]:
    """The values that certainly stood there right before or right after ``action``."""
    if action.kind in (Kind.READ, Kind.SWAP):
        yield action.expected
    if action.kind in (Kind.WRITE, Kind.SWAP):
        yield action.value
