"""Making input that is nearly right: random messages by their descriptors, and mutated bytes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

INTERESTING = (0, 1, 2, 3, 7, 127, 128, 255, 1 << 16, (1 << 31) - 1, (1 << 32) - 1)
WORDS = ("", "c", "told", "test", "demo", "\0", "ü\u202e\x1b[31m", "x" * 70, "../..", "y" * 5000)


def mutate(rng: random.Random, data: bytes) -> bytes:
    """``data`` with a few random changes, or noise in its place."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        change = rng.randrange(7)
        at = rng.randrange(len(result) + 1)
        if change == 0 and result:
            result[at % len(result)] ^= 1 << rng.randrange(8)
        elif change == 1 and result:
            result[at % len(result)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif change == 2:
            del result[at:]
        elif change == 3:
            del result[at : at + rng.randrange(1, 9)]
        elif change == 4:
            result[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif change == 5:
            piece = result[at : at + rng.randrange(1, 40)]
            result[at:at] = piece * rng.choice((1, 1, 2, 50))
        else:
            result = bytearray(rng.randbytes(rng.choice((1, 5, 40, 400))))
    return bytes(result)


def random_message(rng: random.Random, descriptor: Descriptor, depth: int = 0) -> Message:
    """A valid message of this type, with extreme values in it."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if rng.random() < 0.25 or (depth > 4 and field.message_type is not None):
            continue
        if field.is_repeated:
            for _ in range(rng.choice((1, 1, 2, 5))):
                value = _value(rng, field, depth)
                if isinstance(value, Message):
                    getattr(message, field.name).add().CopyFrom(value)
                else:
                    getattr(message, field.name).append(value)
        else:
            value = _value(rng, field, depth)
            if isinstance(value, Message):
                getattr(message, field.name).CopyFrom(value)
            else:
                setattr(message, field.name, value)
    return message


def _value(rng: random.Random, field: FieldDescriptor, depth: int) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_MESSAGE:
        assert field.message_type is not None
        return random_message(rng, field.message_type, depth + 1)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return rng.randbytes(rng.choice((0, 1, 16, 16, 100)))
        return rng.choice(WORDS)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return rng.choice((0.0, -1.0, 1e308, float("nan"), float("inf"), rng.random()))
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return 0
    number = rng.choice((*INTERESTING, rng.randrange(1 << 31)))
    if kind == FieldDescriptor.CPPTYPE_UINT64 and rng.random() < 0.2:
        return rng.choice((1 << 62, (1 << 64) - 1))
    if kind == FieldDescriptor.CPPTYPE_INT64 and rng.random() < 0.4:
        return rng.choice((-1, -(1 << 63), (1 << 63) - 1))
    if kind == FieldDescriptor.CPPTYPE_INT32:
        return min(number, (1 << 31) - 1)
    return number


def is_one_line(error: Exception, names: str = "") -> None:
    """What a refusal must be: one line that a person can read, and that ``names`` something."""
    text = str(error)
    assert names in text
    assert text == text.strip()
    assert text.splitlines() == [text], text
    assert len(text) < 1000, text


# Processes ----------------------------------------------------------------------------------------


def children(parent: int) -> dict[int, str]:
    """The living children of a process by their id, each with its command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                arguments = (entry / "cmdline").read_text().split("\0")
            except OSError:
                continue
            state, ppid = stat.rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z":
                found[int(entry.name)] = " ".join(arguments).strip()
    return found


def resident_mib(process: int) -> float:
    """The memory that a process holds, in MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {process} has gone")


def open_files(process: int) -> int:
    """How many descriptors a process holds."""
    return sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())
