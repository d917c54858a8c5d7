"""Names in sorted order, for listing page by page: a list of short sorted blocks.

Adding or removing a name moves the rest of one block only, so neither gets slow with a million
names, and nothing ever has to be sorted as a whole.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from itertools import chain

_BLOCK = 512


class SortedNames:
    """A set of non-empty names in code point order."""

    __slots__ = ("_blocks", "_last")

    def __init__(self, names: Sequence[str] = ()) -> None:
        """``names`` must be in ascending order."""
        self._blocks = [list(names[i : i + _BLOCK]) for i in range(0, len(names), _BLOCK)]
        self._last = [block[-1] for block in self._blocks]

    def add(self, name: str) -> None:
        """``name`` must not be there yet."""
        blocks, last = self._blocks, self._last
        if not blocks:
            blocks.append([name])
            last.append(name)
            return
        at = min(bisect_left(last, name), len(blocks) - 1)
        block = blocks[at]
        insort(block, name)
        if len(block) > 2 * _BLOCK:
            blocks.insert(at + 1, block[_BLOCK:])
            del block[_BLOCK:]
            last.insert(at, block[-1])
            at += 1
        last[at] = blocks[at][-1]

    def remove(self, name: str) -> None:
        """``name`` must be there."""
        at = bisect_left(self._last, name)
        block = self._blocks[at]
        position = bisect_left(block, name)
        assert block[position] == name, "removing a name that is not there"
        del block[position]
        if block:
            self._last[at] = block[-1]
        else:
            del self._blocks[at], self._last[at]

    def page(self, after: str, limit: int, prefix: str = "") -> list[str]:
        """Up to ``limit`` names that begin with ``prefix``, the first ones above ``after``."""
        names: list[str] = []
        exclusive = after >= prefix
        bisect, start = (bisect_right, after) if exclusive else (bisect_left, prefix)
        first = bisect(self._last, start)
        for block in self._blocks[first:]:
            for name in block[bisect(block, start) :]:
                if len(names) >= limit or not name.startswith(prefix):
                    return names
                names.append(name)
        return names

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._blocks)
