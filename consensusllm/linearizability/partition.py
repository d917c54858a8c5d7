"""Owns what is prepared of the operations on one key before they are searched.

Besides sorting out what is known, three things make the search smaller without changing its answer:

- values that no operation could tell from each other become one;
- operations of unknown outcome that could not make a difference to any other are dropped;
- a failed comparison is set aside where it fits in whatever the order of all others: where a known
  operation that shows another value ended before the comparison did, and began after it did, or
  after the compared value had come (see zones.py) to stand there for the only time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate

from .history import Operation, in_time
from .models import Action, Kind, State, action_of
from .zones import Contradiction, Entry, Zone, contradiction, zones_of

UNSEEN: State = ("unseen",)
"""Stands for every value that nobody can tell from others. No frozen value is like it: not JSON."""


class Partition:
    """The operations on one key. ``known`` and ``unknown`` are indices into ``operations`` in the
    order of starts; ``actions``, ``starts`` and ``ends`` are those of ``known``.

    Where there is a ``contradiction``, no search is needed. Once ``expired``, no more comparisons
    are set aside: what is left is searched like all else.
    """

    def __init__(
        self, operations: Sequence[Operation], initial: State, expired: Callable[[], bool]
    ) -> None:
        self.operations = operations
        self.initial = initial
        known: list[Entry] = []
        unknown: list[Entry] = []
        for index in sorted(range(len(operations)), key=self._in_time):
            action = action_of(operations[index])
            if action is not None:
                (unknown if operations[index].unknown else known).append((index, action))
        self.has_appends = any(action.kind is Kind.APPEND for _, action in (*known, *unknown))
        self.contradiction: Contradiction | None = None
        zones: dict[State, Zone] = {}
        if not self.has_appends:
            zones = zones_of(operations, known, unknown, initial)
            self.contradiction = contradiction(operations, known, zones)
        self._set_aside: list[tuple[int, int]] = []
        known = self._without_easy_comparisons(known, zones, expired)
        if not self.has_appends:
            unknown = _without_pointless(known, unknown)
            known, unknown = _with_unseen_values_merged(known, unknown)
        self.known = [index for index, _ in known]
        self.actions = [action for _, action in known]
        self.starts = [operations[index].start for index in self.known]
        self.ends = [in_time(operations[index])[1] for index in self.known]
        self.unknown = [index for index, _ in unknown]
        self.unknown_actions = [action for _, action in unknown]
        self.unknown_starts = [operations[index].start for index in self.unknown]
        self.after, self.unknown_after = self._program_order()

    def _program_order(self) -> tuple[list[int], list[int]]:
        """For each known, and each unknown, operation the known one that its process ended at the
        very time it began, or -1.

        Other operations that meet at one point in time count as concurrent, since a clock is
        coarse; those of one process are in order all the same, and where even their times are the
        same, in the order in which they were noted.
        """
        known = {index: at for at, index in enumerate(self.known)}
        before: dict[int, int] = {}
        ended: dict[tuple[int, float], int] = {}
        ended_later: dict[tuple[int, float], int] = {}  # than they began
        for index in sorted((*self.known, *self.unknown), key=self._in_time):
            operation = self.operations[index]
            # What took no time may as well have come after one that began right then and was given
            # up at a time that nobody recorded.
            candidates = ended_later if operation.end is None else ended
            before[index] = candidates.get((operation.process, operation.start), -1)
            if index in known and operation.end is not None:
                ended[operation.process, operation.end] = known[index]
                if operation.end != operation.start:
                    ended_later[operation.process, operation.end] = known[index]
        return [before[index] for index in self.known], [before[index] for index in self.unknown]

    def _in_time(self, index: int) -> tuple[float, float, int]:
        return *in_time(self.operations[index]), index

    def _without_easy_comparisons(
        self, known: list[Entry], zones: dict[State, Zone], expired: Callable[[], bool]
    ) -> list[Entry]:
        """``known`` without those that are set aside, each with the one that it comes after."""
        if all(action.kind is not Kind.DIFFERS for _, action in known):
            return known
        times = [in_time(self.operations[index]) for index, _ in known]
        starts = [start for start, _ in times]
        kept: list[Entry] = []
        latest_end: dict[int, float] = {}
        for (index, action), (start, end) in zip(known, times, strict=True):
            process = self.operations[index].process
            leader = -1
            may_be_easy = action.kind is Kind.DIFFERS and latest_end.get(process) != start
            if may_be_easy and not expired():
                zone = zones.get(action.expected)
                since = start if zone is None else min(start, zone.came)
                for later in range(bisect_right(starts, since), bisect_left(starts, end)):
                    if times[later][1] < end and _shows_another(known[later][1], action.expected):
                        leader = known[later][0]
                        break
            latest_end[process] = end
            if leader < 0:
                kept.append((index, action))
            else:
                self._set_aside.append((index, leader))
        return kept

    def with_set_aside(self, order: list[int]) -> list[int]:
        """A linearization of ``known``, with each comparison that was set aside put in behind its
        leader and all that ended before it began."""
        if not self._set_aside:
            return order
        place = {index: at for at, index in enumerate(order)}
        by_end = sorted(zip(self.ends, self.known, strict=True))
        latest = list(accumulate((place[index] for _, index in by_end), max))
        behind: defaultdict[int, list[int]] = defaultdict(list)
        for index, leader in self._set_aside:
            ended = bisect_left(by_end, (self.operations[index].start, -1))
            behind[max(place[leader], latest[ended - 1] if ended else -1)].append(index)
        return [each for at, index in enumerate(order) for each in (index, *behind.get(at, ()))]


def _shows_another(action: Action, value: State) -> bool:
    """Whether the state is certainly not ``value`` right after ``action``."""
    if action.kind is Kind.READ:
        return action.expected != value
    return action.kind in (Kind.WRITE, Kind.SWAP) and action.value != value


def _without_pointless(known: list[Entry], unknown: list[Entry]) -> list[Entry]:
    """Without the unknown operations whose value nobody expects, unless they may take away one that
    a failed comparison must not find. Proof: in an order that has such a write or swap, nothing
    observes its value, so that what follows is a write, or a comparison that does not need it, or
    the end; the order without it is as good. Dropping a swap may make another one pointless."""
    observed = {action.expected for _, action in known if action.kind in (Kind.READ, Kind.SWAP)}
    unwelcome = {action.expected for _, action in known if action.kind is Kind.DIFFERS}
    while True:
        expected = observed | {action.expected for _, action in unknown if action.kind is Kind.SWAP}
        kept = [
            (index, action)
            for index, action in unknown
            if action.value in expected
            or (action.expected in unwelcome if action.kind is Kind.SWAP else unwelcome)
        ]
        if len(kept) == len(unknown):
            return kept
        unknown = kept


def _with_unseen_values_merged(
    known: list[Entry], unknown: list[Entry]
) -> tuple[list[Entry], list[Entry]]:
    seen = {action.expected for _, action in (*known, *unknown) if action.kind is not Kind.WRITE}

    def merged(entries: list[Entry]) -> list[Entry]:
        return [
            (index, Action(action.kind, action.expected, UNSEEN))
            if action.kind in (Kind.WRITE, Kind.SWAP) and action.value not in seen
            else (index, action)
            for index, action in entries
        ]

    return merged(known), merged(unknown)
