"""The value of one slot: a batch of opaque commands, kept in the form that is sent and stored.

A batch is packed once, by the proposer, and unpacked once, where it is applied; followers vote on
the packed bytes without looking inside. Layout, little-endian: kind (1 byte), time_ms (8), count
(4), count lengths (4 each), then the bodies one after another.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum

_HEAD = struct.Struct("<BQI")


class BatchKind(IntEnum):
    """What a slot holds. A no-op fills a hole left by an earlier leader (Paxos Made Simple, 3)."""

    NOOP = 0
    COMMANDS = 1


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
    def checked(cls, payload: bytes) -> Batch:
        """A batch from the wire or the disk; raises MalformedBatch where it could not be applied.

        Only the frame is checked, not each command.
        """
        try:
            kind, _, count = _HEAD.unpack_from(payload)
            lengths = struct.unpack_from(f"<{count}I", payload, _HEAD.size)
        except (struct.error, MemoryError) as error:
            raise MalformedBatch(f"not a packed batch: {error}") from None
        if kind not in _KINDS or _HEAD.size + 4 * count + sum(lengths) != len(payload):
            raise MalformedBatch("not a packed batch: its lengths do not add up")
        return cls(payload)

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
    def size_bytes(self) -> int:
        """Size as stored and sent, without the framing of the carrier."""
        return len(self.payload)

    @property
    def is_noop(self) -> bool:
        return self.payload[:1] == b"\x00"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Batch) and self.payload == other.payload

    def __hash__(self) -> int:
        return hash(self.payload)

    def __repr__(self) -> str:
        return f"Batch({len(self.payload)} bytes)"
