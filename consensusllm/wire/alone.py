"""A part of a message, kept without the rest."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

Part = TypeVar("Part", bound=Message)


def alone(part: Part) -> Part:
    """A copy: a part of a message keeps all of the message in memory."""
    copy = type(part)()
    copy.CopyFrom(part)
    return copy
