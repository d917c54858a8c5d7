"""The hash of a table of records, kept up to date without reading the table again.

It is a multiset hash: the sum modulo 2**128 of the BLAKE2b digests of the records' canonical lines
(Clarke et al., "Incremental Multiset Hash Functions", ASIACRYPT 2003, the additive kind). A sum
depends on what is in the table and not on how it got there. It finds nodes that diverged; it is no
defence against somebody who forges records.

Writing only marks a record, so that one which is written again and again is hashed once. Marked
records are hashed when the hash is asked for, or in steps before that; and some of them with each
step of the owner's once many are marked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Generic, TypeVar

Key = TypeVar("Key")
Record = TypeVar("Record")

MODULUS = 1 << 128
_MARKED_MAX = 1024
_SETTLED_LEAST = 64
_STEP_BYTES = 1 << 20
"""Of lines that are hashed in one step, but for the last one: some milliseconds."""


def digest(line: bytes) -> int:
    """What one record adds to the sum: 0 to 2**128 - 1."""
    return int.from_bytes(blake2b(line, digest_size=16).digest(), "big")


class Fingerprint(Generic[Key, Record]):
    """The hash of ``table``, whose records ``line`` encodes; kinds of record must differ in it.

    The owner adds a record's key to ``marked`` whenever it sets, replaces or removes the record.
    """

    __slots__ = ("_digests", "_line", "_table", "_total", "marked")

    def __init__(self, table: Mapping[Key, Record], line: Callable[[Key, Record], bytes]) -> None:
        self._table = table
        self._line = line
        self._digests: dict[Key, int] = {}
        self._total = 0
        self.marked: set[Key] = set(table)

    def settle(self, written: int) -> None:
        """Hash some of what is marked if it is much; the work is in proportion to ``written``, the
        number of commands that the owner has just applied."""
        surplus = len(self.marked) - _MARKED_MAX
        if surplus > 0:
            self._hash(min(surplus, 2 * written + _SETTLED_LEAST), _STEP_BYTES)

    def step(self) -> bool:
        """Hash some of what is marked, for some milliseconds; whether that was all."""
        self._hash(min(len(self.marked), _MARKED_MAX), _STEP_BYTES)
        return not self.marked

    def total(self) -> int:
        """The sum over the whole table, 0 to 2**128 - 1."""
        self._hash(len(self.marked), sys.maxsize)
        return self._total

    def _hash(self, count: int, size_bytes: int) -> None:
        """Hash ``count`` of the marked records, or as many as have ``size_bytes`` together."""
        table, digests, marked = self._table, self._digests, self.marked
        total = self._total
        for _ in range(count):
            key = marked.pop()
            total -= digests.pop(key, 0)
            record = table.get(key)
            if record is not None:
                line = self._line(key, record)
                digests[key] = added = digest(line)
                total += added
                size_bytes -= len(line)
                if size_bytes <= 0:
                    break
        self._total = total % MODULUS
