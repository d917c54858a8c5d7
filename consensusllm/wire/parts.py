"""How much a message holds, told before it is parsed.

Two bytes on the wire can be an empty message, which takes hundreds in memory and a while to decode,
on every node. So what comes from clients is counted first. Source: the encoding of protobuf
(protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from .errors import MalformedMessage
from .generated import client_pb2 as pb

PARTS_MAX = 16_384
"""Of a command: messages and values. A turn of 64 candidates may have 256 of them each."""

_VARINT, _FIXED_64, _DELIMITED, _FIXED_32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED_64: 8, _FIXED_32: 4}
_VARINT_BYTES_MAX = 10
_UNPACKED = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def check_parts(command: bytes) -> None:
    """Raise MalformedMessage where ``command`` has more than PARTS_MAX parts, and nothing where it
    is not protobuf, which its decoder finds."""
    # None is shorter than a byte.
    kind = pb.SessionCommand.DESCRIPTOR
    if len(command) > PARTS_MAX and parts(command, kind, PARTS_MAX) > PARTS_MAX:
        raise MalformedMessage(f"a command of more than {PARTS_MAX} parts: send less in one")


def parts(message: bytes, kind: Any, most: int) -> int:
    """The messages and values in ``message``, whose descriptor is ``kind``; a packed one counts as
    its bytes. Counts no further than past ``most``."""
    count = 0
    waiting: list[tuple[int, int, Any]] = [(0, len(message), kind)]
    while waiting:
        place, end, kind = waiting.pop()
        while place < end and count <= most:
            count += 1
            tag, place = _varint(message, place)
            wire_type = tag & 7
            if wire_type == _VARINT:
                _, place = _varint(message, place)
            elif wire_type == _DELIMITED:
                size, place = _varint(message, place)
                field = kind.fields_by_number.get(tag >> 3)
                if field is not None and field.message_type is not None:
                    waiting.append((place, min(place + size, end), field.message_type))
                elif field is not None and field.type not in _UNPACKED:
                    count += size
                place += size
            else:
                place += _FIXED_BYTES.get(wire_type, 0)
    return count


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The number at ``place``, and the place behind it."""
    value = 0
    for index, byte in enumerate(data[place : place + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, place + index + 1
    return value, place + _VARINT_BYTES_MAX
