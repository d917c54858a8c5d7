"""Owns what the search can foresee on a key with appends, where any string may come about: rules 7
and 8 of search.py."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from .models import IMPOSSIBLE, Action, Kind, State, step
from .partition import Partition
from .pending import Pending


class Foresight:
    def __init__(self, partition: Partition, pending: Pending) -> None:
        self._actions = partition.actions
        self._pending = pending
        both = (*partition.actions, *partition.unknown_actions)
        self._sought = _Values(
            action.expected for action in both if action.kind in (Kind.READ, Kind.SWAP)
        )
        self._shunned = _Values(action.expected for action in both if action.kind is Kind.DIFFERS)
        count = len(self._actions)
        self._next_get = [count] * (count + 1)
        for at in range(count - 1, -1, -1):
            is_get = self._actions[at].kind is Kind.READ
            self._next_get[at] = at if is_get else self._next_get[at + 1]
        resets = [
            start
            for start, action in zip(partition.starts, partition.actions, strict=True)
            if action.kind in (Kind.WRITE, Kind.SWAP)
        ]
        unknown_resets = (
            start
            for start, action in zip(
                partition.unknown_starts, partition.unknown_actions, strict=True
            )
            if action.kind is not Kind.APPEND
        )
        first_unknown = min(unknown_resets, default=math.inf)
        self._resets_before = [
            bisect_right(resets, end) if end < first_unknown else -1 for end in partition.ends
        ]

    def due(self, pending: list[int], frontier: int) -> State:
        """Rule 7: what appends alone have to lead to now; IMPOSSIBLE for no such thing. ``pending``
        are the known operations that may be next; none from ``frontier`` on is taken yet."""
        gets = (at for at in pending if self._actions[at].kind is Kind.READ)
        get = next(gets, self._next_get[frontier])
        if get == self._pending.head or self._pending.resets_taken != self._resets_before[get]:
            return IMPOSSIBLE
        return self._actions[get].expected

    def may_help(self, action: Action, state: State) -> bool:
        """Rule 8, for an unknown operation in ``state``."""
        return (
            not (state is None or isinstance(state, str))
            or self._sought.may_come_of(step(state, action))
            or self._shunned.may_come_of(state)
        )


class _Values:
    def __init__(self, values: Iterable[State]) -> None:
        self._values = set(values)
        self._texts = sorted(value for value in self._values if isinstance(value, str))

    def may_come_of(self, state: State) -> bool:
        """Whether appends can lead from ``state`` to one of the values."""
        if state in self._values:
            return True
        text = "" if state is None else state
        if not isinstance(text, str):
            return False
        at = bisect_left(self._texts, text)
        return at < len(self._texts) and self._texts[at].startswith(text)


def may_become(state: State, value: State) -> bool:
    """Whether appends, or none, can lead from ``state`` to ``value``."""
    if isinstance(value, str):
        return state is None or (isinstance(state, str) and value.startswith(state))
    return state == value
