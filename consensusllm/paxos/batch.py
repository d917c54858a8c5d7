"""The value of one slot: a batch of opaque commands, kept in the form that is sent and stored.

A batch is packed once, by the proposer, and unpacked once, where it is applied; followers vote on
the packed bytes without looking inside. Layout, little-endian: kind (1 byte), time_ms (8), count
(4), count lengths (4 each), then the bodies one after another.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum

from .membership import MalformedMembership, Membership

_HEAD = struct.Struct("<BQI")


class BatchKind(IntEnum):
    """What a slot holds. A no-op fills a hole left by an earlier leader (Paxos Made Simple, 3); a
    change of members has the slot for itself, as one body: see `membership`."""

    NOOP = 0
    COMMANDS = 1
    CHANGE = 2


_KINDS = frozenset(BatchKind)


class MalformedBatch(ValueError):
    """The bytes are not a packed batch."""


class Batch:
    """An immutable packed batch. Equal batches have equal payloads."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload

    @classmethod
    def pack(cls, time_ms: int, commands: Sequence[bytes]) -> Batch:
        """Pack ``commands`` (each opaque) with the proposer's wall clock, in ms since the epoch."""
        count = len(commands)
        head = _HEAD.pack(BatchKind.COMMANDS, time_ms, count)
        lengths = struct.pack(f"<{count}I", *map(len, commands))
        return cls(b"".join((head, lengths, *commands)))

    @classmethod
    def noop(cls, time_ms: int) -> Batch:
        """A batch that changes nothing; its time still moves the replicated clock on."""
        return cls(_HEAD.pack(BatchKind.NOOP, time_ms, 0))

    @classmethod
    def change(cls, time_ms: int, membership: Membership) -> Batch:
        """The batch that makes ``membership`` the members from the next slot on."""
        body = membership.encode()
        head = _HEAD.pack(BatchKind.CHANGE, time_ms, 1)
        return cls(b"".join((head, struct.pack("<I", len(body)), body)))

    @classmethod
    def checked(cls, payload: bytes) -> Batch:
        """A batch from the wire or the disk; raises MalformedBatch where it could not be applied.

        The frame is checked, and a change of members, but no command.
        """
        try:
            kind, _, count = _HEAD.unpack_from(payload)
            lengths = struct.unpack_from(f"<{count}I", payload, _HEAD.size)
        except (struct.error, MemoryError) as error:
            raise MalformedBatch(f"not a packed batch: {error}") from None
        if kind not in _KINDS or _HEAD.size + 4 * count + sum(lengths) != len(payload):
            raise MalformedBatch("not a packed batch: its lengths do not add up")
        batch = cls(payload)
        if kind == BatchKind.CHANGE:
            try:
                batch.membership()
            except MalformedMembership as error:
                raise MalformedBatch(f"not a packed batch: {error}") from None
        return batch

    def unpack(self) -> tuple[int, tuple[bytes, ...]]:
        """``(time_ms, commands)`` of a batch that was packed or checked."""
        payload = self.payload
        _, time_ms, count = _HEAD.unpack_from(payload)
        lengths = struct.unpack_from(f"<{count}I", payload, _HEAD.size)
        start = _HEAD.size + 4 * count
        commands = []
        for length in lengths:
            commands.append(payload[start : start + length])
            start += length
        return time_ms, tuple(commands)

    @property
    def command_count(self) -> int:
        """How many commands, or changes of members, it has."""
        return int(_HEAD.unpack_from(self.payload)[2])

    @property
    def size_bytes(self) -> int:
        """Size as stored and sent, without the framing of the carrier."""
        return len(self.payload)

    def membership(self) -> Membership:
        """What a change is to; raises MalformedMembership for anything else."""
        return Membership.decode(self.payload[_HEAD.size + 4 :])

    @property
    def commands(self) -> tuple[bytes, ...]:
        """The commands to apply; a change of members is none."""
        return () if self.is_change else self.unpack()[1]

    @property
    def is_change(self) -> bool:
        return self.payload[:1] == b"\x02"

    @property
    def is_noop(self) -> bool:
        return self.payload[:1] == b"\x00"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Batch) and self.payload == other.payload

    def __hash__(self) -> int:
        return hash(self.payload)

    def __repr__(self) -> str:
        return f"Batch({len(self.payload)} bytes)"


def in_parts(commands: Sequence[bytes], size_bytes: int) -> Iterator[tuple[bytes, ...]]:
    """``commands`` in order, in parts of about ``size_bytes``, at least one command in each."""
    part: list[bytes] = []
    size = 0
    for command in commands:
        if part and size + len(command) > size_bytes:
            yield tuple(part)
            part, size = [], 0
        part.append(command)
        size += len(command)
    if part:
        yield tuple(part)
