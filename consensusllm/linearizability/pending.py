"""Owns what the search has still to take, and counts of who still needs which value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from .models import Action, Kind, State
from .partition import Partition


class Pending:
    """Operations go by *choices*: a known one by its index in the partition, which is in the order
    of starts, an unknown one by the complement (~) of its index.

    The known ones form a doubly linked list, so that one that is taken and put back, the latest
    first, costs a few assignments.
    """

    def __init__(self, partition: Partition) -> None:
        self._actions = partition.actions
        self._unknown_actions = partition.unknown_actions
        self._starts = partition.starts
        self._after, self._unknown_after = partition.after, partition.unknown_after
        count = len(self._actions)
        self.head = count
        """Where the list begins and ends; not an operation."""
        self.following: list[int] = [*range(1, count + 1), 0]
        self._preceding = [count, *range(count)]
        self._is_taken = bytearray(count)
        self.observers: Counter[State] = Counter()
        """How many known operations have still to observe a value."""
        self.writers: Counter[State] = Counter()
        """How many operations, known or not, may still write a value."""
        self.differing: Counter[State] = Counter()
        """How many failed comparisons must still not find a value."""
        self.differing_total = 0
        self.resets_taken = sum(_is_reset(action) for action in self._actions)
        """How many known puts and swaps were taken: none, once the loop below has put all in."""
        for action in self._actions:
            self._tally(action, 1)
        for action in self._unknown_actions:
            self._tally_unknown(action, 1)

    def is_empty(self) -> bool:
        return self.following[self.head] == self.head

    def until(self, time: float) -> Iterator[int]:
        """The known operations that begin by ``time``. Nothing may be taken meanwhile."""
        at = self.following[self.head]
        while at != self.head and self._starts[at] <= time:
            yield at
            at = self.following[at]

    def is_next(self, choice: int) -> bool:
        """Whether the process of ``choice`` has nothing to be taken before it."""
        before = self._after[choice] if choice >= 0 else self._unknown_after[~choice]
        return before < 0 or self._is_taken[before] == 1

    def take(self, choice: int) -> None:
        if choice < 0:
            self._tally_unknown(self._unknown_actions[~choice], -1)
            return
        before, after = self._preceding[choice], self.following[choice]
        self.following[before], self._preceding[after] = after, before
        self._is_taken[choice] = 1
        self._tally(self._actions[choice], -1)

    def put_back(self, choices: list[int]) -> None:
        """Undo the latest takings, given in the order of the takings."""
        for choice in reversed(choices):
            if choice < 0:
                self._tally_unknown(self._unknown_actions[~choice], 1)
                continue
            before, after = self._preceding[choice], self.following[choice]
            self.following[before] = self._preceding[after] = choice
            self._is_taken[choice] = 0
            self._tally(self._actions[choice], 1)

    def _tally(self, action: Action, change: int) -> None:
        kind = action.kind
        if kind is Kind.READ:
            self.observers[action.expected] += change
        elif kind is Kind.DIFFERS:
            self.differing[action.expected] += change
            self.differing_total += change
        elif _is_reset(action):
            self.writers[action.value] += change
            self.resets_taken -= change
            if kind is Kind.SWAP:
                self.observers[action.expected] += change

    def _tally_unknown(self, action: Action, change: int) -> None:
        if _is_reset(action):
            self.writers[action.value] += change


def _is_reset(action: Action) -> bool:
    return action.kind in (Kind.WRITE, Kind.SWAP)
