"""What names one generation: one attempt at one candidate."""

from __future__ import annotations

from typing import NamedTuple


class Generation(NamedTuple):
    """The first four fields of every command, and every piece of live text, about it."""

    conversation: str
    turn: int
    candidate: int
    attempt: int
