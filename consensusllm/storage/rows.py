"""The tables of a replica's database, and the checksum that every row carries.

Each table is a few whole numbers, a crc and one blob: ``numbers..., crc, data``. The crc covers the
table's name, the numbers and the blob, so that a row that rotted, or that belongs elsewhere, is
never taken for a good one. The head is the one row that says which of the others count; it also
counts the log's rows and adds up their crcs, so that a row that was lost whole is missed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from zlib import crc32

from consensusllm.paxos.ballot import Ballot
from consensusllm.paxos.membership import Membership
from consensusllm.paxos.messages import Incarnations

from .hard_state import HardState
from .port import Damaged

FORMAT = 3
"""The version of the tables below; another one is refused."""

SCHEMA = (
    "CREATE TABLE identity (format INTEGER, node_id INTEGER, crc INTEGER, cluster_id BLOB)",
    "CREATE TABLE head (incarnation INTEGER, voting INTEGER, promised_seq_num INTEGER,"
    " promised_pid INTEGER, chosen_through INTEGER, compacted_through INTEGER,"
    " entry_count INTEGER, entry_sum INTEGER, generations INTEGER, published INTEGER,"
    " staged INTEGER, crc INTEGER, lists BLOB)",
    # The crc stands before the payload: adding crcs up then never reads a payload's pages.
    "CREATE TABLE log (slot INTEGER PRIMARY KEY, seq_num INTEGER, pid INTEGER, crc INTEGER,"
    " payload BLOB)",
    # A snapshot, published or staged, is a generation; publishing moves no byte.
    "CREATE TABLE snapshot (generation INTEGER PRIMARY KEY, slot INTEGER, size_bytes INTEGER,"
    " crc INTEGER, digest BLOB)",
    "CREATE TABLE chunk (generation INTEGER, offset INTEGER, crc INTEGER, data BLOB,"
    " UNIQUE (generation, offset))",
)

_PAIR = struct.Struct("<QQ")
_SUM_MASK = (1 << 63) - 1  # what SQLite's signed integers hold

Row = tuple[Any, ...]


def checksum(table: str, numbers: Sequence[int], data: bytes) -> int:
    """crc32 of a row of ``table``."""
    head = struct.pack(f"<{len(numbers)}q", *numbers)
    return crc32(data, crc32(head, crc32(table.encode())))


def sealed(table: str, *numbers: int, data: bytes) -> Row:
    """A row of ``table``, ready to be stored."""
    return (*numbers, checksum(table, numbers, data), data)


def verify(table: str, row: Row, what: str) -> Row:
    """``row`` as it was sealed; raises Damaged, in the name of ``what``, where it is not."""
    *numbers, crc, data = row
    try:
        sound = checksum(table, numbers, data) == crc
    except (struct.error, TypeError):  # SQLite keeps any type in any column, rot included
        sound = False
    if not sound:
        raise Damaged(f"{what} does not match its checksum")
    return row


def verify_only(table: str, rows: Sequence[Row], where: str) -> Row:
    """The one row of a ``table`` that has just one."""
    if len(rows) != 1:
        raise Damaged(f"{where}: the {table} record is missing")
    return verify(table, rows[0], f"{where}: the {table} record")


@dataclass(frozen=True, slots=True)
class Head:
    """The head row. ``published`` and ``staged`` are generations of snapshots, 0 for none;
    ``generations`` is the highest ever used."""

    state: HardState
    entry_count: int = 0
    entry_sum: int = 0
    generations: int = 0
    published: int = 0
    staged: int = 0

    def encode(self) -> Row:
        state = self.state
        return sealed(
            "head",
            state.incarnation,
            int(state.voting),
            state.promised.seq_num,
            state.promised.pid,
            state.chosen_through,
            state.compacted_through,
            self.entry_count,
            self.entry_sum,
            self.generations,
            self.published,
            self.staged,
            data=_pack_lists(state.incarnations, state.membership_slot, state.membership),
        )

    @classmethod
    def decode(cls, row: Row) -> Head:
        """The head of a row that was verified."""
        incarnation, voting, seq_num, pid, chosen, compacted, *counters, _, lists = row
        membership_slot, pairs_size = _PAIR.unpack_from(lists)
        pairs = lists[_PAIR.size : _PAIR.size + pairs_size]
        membership = lists[_PAIR.size + pairs_size :]
        state = HardState(
            incarnation=incarnation,
            voting=bool(voting),
            promised=Ballot(seq_num, pid),
            incarnations=tuple((member, life) for member, life in _PAIR.iter_unpack(pairs)),
            chosen_through=chosen,
            compacted_through=compacted,
            membership=Membership.decode(membership) if membership else None,
            membership_slot=membership_slot,
        )
        return cls(state, *counters)


@lru_cache(maxsize=4)
def _pack_lists(incarnations: Incarnations, slot: int, membership: Membership | None) -> bytes:
    """The slot of the membership and the size of the incarnations, then those, then the former.

    Every write has them, and nearly every one the same."""
    pairs = b"".join(_PAIR.pack(*pair) for pair in incarnations)
    members = membership.encode() if membership is not None else b""
    return b"".join((_PAIR.pack(slot, len(pairs)), pairs, members))


def add_crcs(total: int, difference: int) -> int:
    """The log's sum of crcs after it changed by ``difference``, wrapping around."""
    return (total + difference) & _SUM_MASK
