"""Owns what each operation means: what it demands of the state of its key, and does to it.

Register, compare-and-swap, append and choice share one state, the value of the key, so they may be
mixed on a key. All of them come down to five actions:

- READ       the state was ``expected``: a get; a refused choose (it tells who had won)
- DIFFERS    the state was anything but ``expected``: a cas whose comparison failed
- WRITE      the state becomes ``value``, whatever it was: a put
- SWAP       the state was ``expected`` and becomes ``value``: a cas; a choose, which is a swap of
             null for the candidate, so that a second winner of a turn is impossible
- APPEND     ``value`` is added to the string that stood there; null counts as ""

An operation that did not happen, or that has no effect and whose outcome is unknown, is no action.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

from .history import Json, Operation

State: TypeAlias = Hashable


class Kind(Enum):
    READ = auto()
    DIFFERS = auto()
    WRITE = auto()
    SWAP = auto()
    APPEND = auto()


@dataclass(frozen=True, slots=True)
class Action:
    """``expected`` belongs to READ, DIFFERS and SWAP, ``value`` to WRITE, SWAP and APPEND."""

    kind: Kind
    expected: State = None
    value: State = None


class _Impossible(Enum):
    IMPOSSIBLE = auto()


IMPOSSIBLE: Final = _Impossible.IMPOSSIBLE


def freeze(value: Json) -> State:
    """``value`` as a state: null and strings as they are, all else by its JSON text, since Python
    takes 1, 1.0 and True for equal and cannot hash a list."""
    if value is None or isinstance(value, str):
        return value
    return (json.dumps(value, sort_keys=True),)


def action_of(operation: Operation) -> Action | None:
    """What the operation did or, where the outcome is unknown, may have done; None for nothing."""
    op, value, output = operation.op, operation.value, operation.output
    if op == "cas":
        assert isinstance(value, list), "a cas has [old, new]"
        old, new = freeze(value[0]), freeze(value[1])
        if not operation.unknown and output is False:
            return Action(Kind.DIFFERS, expected=old)
        # A swap of a value for itself leaves the state alone: it is a read.
        action = Action(Kind.READ, old) if old == new else Action(Kind.SWAP, old, new)
    elif op == "get":
        action = Action(Kind.READ, freeze(output))
    elif op == "put":
        action = Action(Kind.WRITE, value=freeze(value))
    elif op == "append":
        action = Action(Kind.APPEND, value=freeze(value))
    else:
        if not operation.unknown and operation.ok is False and output is not None:
            return Action(Kind.READ, freeze(output))
        action = Action(Kind.SWAP, None, freeze(value))
    if operation.unknown:
        return None if action.kind is Kind.READ else action
    return action if operation.ok else None


def step(state: State, action: Action) -> State:
    """The state after ``action``, or IMPOSSIBLE where ``state`` does not allow it. An append to
    what is not a string is impossible."""
    kind = action.kind
    if kind is Kind.WRITE:
        return action.value
    if kind is Kind.READ:
        return state if state == action.expected else IMPOSSIBLE
    if kind is Kind.DIFFERS:
        return state if state != action.expected else IMPOSSIBLE
    if kind is Kind.SWAP:
        return action.value if state == action.expected else IMPOSSIBLE
    assert isinstance(action.value, str), "an append adds a string"
    if state is None:
        return action.value
    return state + action.value if isinstance(state, str) else IMPOSSIBLE
