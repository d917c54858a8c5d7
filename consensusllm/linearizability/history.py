"""Owns what was recorded: one Operation a call, and its form as a JSON line.

A line is ``{"process": 1, "op": "put", "key": "k", "value": 5, "start": 0.1, "end": 0.2,
"ok": true, "output": null}``. Lines may come in any order; only of two operations of one process
that begin and end at the very same time, the one on the earlier line came first. A file that is
anything else is refused with the number of the line: a verdict about a history that was misread is
worth nothing. What operations mean is in models.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias, cast, get_args

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
OperationName: TypeAlias = Literal["get", "put", "cas", "append", "choose"]

OPERATION_NAMES: tuple[str, ...] = get_args(OperationName)
TIME_MAX = 1e19
"""Times are of any unit and origin, from 0 up to this: it has room for nanoseconds since 1970."""


DEPTH_MAX = 100
"""Of a value: far from what the interpreter's stack bears, wherever it is written again."""


class MalformedHistory(ValueError):
    """The input is no history. ``line`` counts from 1; the message is one line and names it."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of a client, from ``start`` to ``end`` (same unit and clock for a whole history).

    ==========  ===================  ===============================================================
    op          value                output
    ==========  ===================  ===============================================================
    ``get``     not looked at        what was read; null where nothing was ever written
    ``put``     what was written     not looked at
    ``append``  a string             not looked at
    ``cas``     ``[old, new]``       false: the comparison failed (``ok`` may be true or false)
    ``choose``  the candidate        with ``ok`` false: the winner that stands; the key is
                                     ``conversation/turn``
    ==========  ===================  ===============================================================

    ``ok`` true: it happened. ``ok`` false: it certainly did not (but for the two outputs above,
    which tell of the value that stood). ``ok`` or ``end`` null: it may have happened at any time
    after ``start``, also after ``end``, or never.
    """

    process: int
    op: OperationName
    key: str
    value: Json
    start: float
    end: float | None
    ok: bool | None
    output: Json = None

    @property
    def unknown(self) -> bool:
        """Whether the client never learned the outcome."""
        return self.ok is None or self.end is None


@dataclass(frozen=True, slots=True)
class History:
    """Operations in any order, on keys that each hold ``initial`` at first."""

    operations: tuple[Operation, ...]
    initial: Json = None


def to_line(operation: Operation) -> str:
    """The JSON line of ``operation``, without the newline."""
    fields = {name: getattr(operation, name) for name in Operation.__dataclass_fields__}
    return json.dumps(fields, separators=(",", ":"))


def in_time(operation: Operation) -> tuple[float, float]:
    """Sorts by start and then by end, which puts the operations of a process in its order."""
    return operation.start, math.inf if operation.end is None else operation.end


def read_json_lines(data: bytes) -> History:
    """Blank lines and unknown fields are skipped. Raises MalformedHistory."""
    operations: list[Operation] = []
    lines: list[int] = []
    for line, text in numbered_lines(data):
        operations.append(_operation(line, text))
        lines.append(line)
    _check_processes(operations, lines)
    return History(tuple(operations))


def numbered_lines(data: bytes) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, counted from 1. Raises MalformedHistory where not UTF-8."""
    for line, raw in enumerate(data.split(b"\n"), start=1):
        try:
            text = raw.decode().strip()
        except UnicodeDecodeError as error:
            raise MalformedHistory(line, f"not UTF-8 text (byte {error.start + 1})") from None
        if text:
            yield line, text


def _operation(line: int, text: str) -> Operation:
    def refuse(reason: str) -> NoReturn:
        raise MalformedHistory(line, reason)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            refuse(f"{json.dumps(twice)[:40]} is there twice")
        return found

    try:
        fields: Any = json.loads(
            text,
            object_pairs_hook=unique,
            parse_constant=lambda name: refuse(f"{name} is not JSON"),
        )
    except MalformedHistory:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedHistory(line, f"not JSON ({_reason(error)})") from None
    if not isinstance(fields, dict):
        refuse("not a JSON object")
    if _is_deep(fields):
        refuse("not JSON (nested too deeply)")
    for name in ("process", "op", "key", "start", "end", "ok"):
        if name not in fields:
            refuse(f'"{name}" is missing')
    process, op, key = fields["process"], fields["op"], fields["key"]
    start, end, ok = fields["start"], fields["end"], fields["ok"]
    value, output = fields.get("value"), fields.get("output")
    if type(process) is not int:
        refuse('"process" must be a whole number')
    if op not in OPERATION_NAMES:
        refuse(f'unknown "op" {json.dumps(op)[:40]}: one of {", ".join(OPERATION_NAMES)}')
    if type(key) is not str:
        refuse('"key" must be a string')
    if op == "get" and ok is True and "output" not in fields:
        refuse('"output" is missing: what the get has read, or null')
    if ok is not None and type(ok) is not bool:
        refuse('"ok" must be true, false or null')
    for name, time in (("start", start), ("end", end)):
        if time is None and name == "end":
            continue
        if type(time) not in (int, float):
            refuse(f'"{name}" must be a number' + (" or null" if name == "end" else ""))
        if not 0 <= time <= TIME_MAX:
            refuse(f'"{name}" must be from 0 to {TIME_MAX:g}')
    if end is not None and end < start:
        refuse(f'"end" {end} is before "start" {start}')
    if op == "cas" and not (isinstance(value, list) and len(value) == 2):
        refuse('the "value" of a cas must be [old, new]')
    if op == "cas" and output is not None and type(output) is not bool:
        refuse('the "output" of a cas must be true, false or null')
    if op == "cas" and ok is False and output is True:
        refuse('a cas with "ok" false cannot have the "output" true')
    if op == "append" and type(value) is not str:
        refuse('the "value" of an append must be a string')
    if op == "choose" and value is None:
        refuse('the "value" of a choose must name the candidate')
    return Operation(process, cast(OperationName, op), key, value, start, end, ok, output)


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else "a number is too long"


def _check_processes(operations: Sequence[Operation], lines: Sequence[int]) -> None:
    """A process waits for an answer before it goes on; after an unknown outcome it may go on."""
    busy: dict[int, int] = {}
    for index in sorted(range(len(operations)), key=lambda at: in_time(operations[at])):
        operation = operations[index]
        if operation.process in busy:
            before = busy[operation.process]
            before_end = operations[before].end
            if before_end is not None and before_end > operation.start:
                raise MalformedHistory(
                    max(lines[index], lines[before]),
                    f"process {operation.process} has two operations at once"
                    f" (the other is on line {min(lines[index], lines[before])})",
                )
        if not operation.unknown:
            busy[operation.process] = index


def _is_deep(value: Any) -> bool:
    """Whether ``value`` is nested more than DEPTH_MAX deep."""
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [one for some in inner for one in some if isinstance(one, dict | list)]
        if not level:
            return False
    return True
