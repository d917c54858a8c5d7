"""What the replicated state machine answers to its commands: frozen data, no logic."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


class Code(Enum):
    """Why a command was refused by the state machine. A refusal changes nothing but the session."""

    INVALID = "invalid"
    EXISTS = "exists"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    NOT_ANSWERED = "not_answered"
    STALE = "stale"
    TOO_LARGE = "too_large"
    OVER_BUDGET = "over_budget"
    SESSION_EXPIRED = "session_expired"


@dataclass(frozen=True, slots=True)
class Done:
    """It happened."""


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """``session`` is what the session's later commands carry: its name, and 8 bytes that no other
    opening has, of the same name or another."""

    session: bytes


@dataclass(frozen=True, slots=True)
class TurnOpened:
    """Turn number ``turn`` (>= 1), with the numbers of the candidates that this command opened."""

    turn: int
    candidates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    turn: int
    candidate: int


@dataclass(frozen=True, slots=True)
class Refused:
    """``message`` is one line for a person and says what to do.

    With CONFLICT, ``winner`` is the candidate that stands chosen and ``turn`` its turn; for keys,
    ``current`` is the value that stands (None: absent).
    """

    code: Code
    message: str
    turn: int = 0
    winner: int = 0
    current: bytes | None = None


Reply: TypeAlias = Done | SessionOpened | TurnOpened | Chosen | Refused
