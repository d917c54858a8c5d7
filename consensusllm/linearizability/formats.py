"""Owns the ways into a History: our JSON lines, and the two formats that others' records come in.

``jepsen`` is the log of a Jepsen test of one register, such as
``INFO  jepsen.util - 3 :invoke :cas [1 2]``. ``kv`` is one EDN map a line, such as
``{:process 0, :type :invoke, :f :append, :key "0", :value "x"}``, with keys that hold "" at first.
Both are logs of events, so the number of the line serves as the time.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from enum import Enum
from typing import Literal, NamedTuple

from .history import (
    History,
    Json,
    MalformedHistory,
    Operation,
    OperationName,
    numbered_lines,
    read_json_lines,
)

REGISTER = "register"
"""The key that the one register of a Jepsen log is given."""


class Format(Enum):
    AUTO = "auto"
    JSON_LINES = "jsonl"
    JEPSEN = "jepsen"
    KV = "kv"


def read_history(data: bytes, format: Format = Format.AUTO) -> History:
    """``data`` is a whole file. Raises MalformedHistory, also where no operation is in it: nothing
    was recorded then, and nothing can be said of it."""
    first = next(numbered_lines(data), None)
    if first is None:
        raise MalformedHistory(1, "the history is empty")
    if format is Format.AUTO:
        format = _detect(*first)
    if format is Format.JSON_LINES:
        return read_json_lines(data)
    return _read_jepsen(data) if format is Format.JEPSEN else _read_kv(data)


def _detect(line: int, text: str) -> Format:
    if text.startswith("{:"):
        return Format.KV
    if text.startswith("{"):
        return Format.JSON_LINES
    if _JEPSEN.match(text):
        return Format.JEPSEN
    raise MalformedHistory(line, "neither JSON lines, nor a Jepsen log, nor a kv log")


class _Event(NamedTuple):
    line: int
    process: int
    type: Literal["invoke", "ok", "fail", "info"]
    op: OperationName
    key: str
    value: Json


_JEPSEN = re.compile(
    r"INFO\s+jepsen\.util\s+-\s+(\d{1,18})\s+:(invoke|ok|fail|info)\s+:(read|write|cas)\s+"
    r"(nil|:timed-out|-?\d{1,18}|\[-?\d{1,18}\s+-?\d{1,18}\])$"
)
_JEPSEN_OPERATIONS: dict[str, OperationName] = {"read": "get", "write": "put", "cas": "cas"}

_STRING = r'"(?:[^"\\]|\\.)*"'
_KV = re.compile(
    r"\{:process (\d{1,18}), :type :(invoke|ok|fail|info), :f :(get|put|append),"
    rf" :key ({_STRING}), :value (nil|{_STRING})\}}$"
)


def _read_jepsen(data: bytes) -> History:
    recorder = _Recorder()
    for line, text in numbered_lines(data):
        match = _JEPSEN.match(text)
        if match is None:
            raise MalformedHistory(line, "not a line of a Jepsen register log")
        process, type_, function, argument = match.groups()
        op = _JEPSEN_OPERATIONS[function]
        value: Json = None
        if argument.startswith("["):
            value = [int(number) for number in argument[1:-1].split()]
        elif argument not in ("nil", ":timed-out"):
            value = int(argument)
        if type_ == "invoke" and isinstance(value, list) is not (op == "cas"):
            raise MalformedHistory(line, f"the argument {argument} does not suit a {function}")
        recorder.add(_Event(line, int(process), type_, op, REGISTER, value))  # type: ignore[arg-type]
    return recorder.history(initial=None)


def _read_kv(data: bytes) -> History:
    recorder = _Recorder()
    for line, text in numbered_lines(data):
        match = _KV.match(text)
        if match is None:
            raise MalformedHistory(line, "not a line of a kv log")
        process, type_, op, key_text, value_text = match.groups()
        try:
            key = json.loads(key_text, strict=False)
            value = None if value_text == "nil" else json.loads(value_text, strict=False)
        except ValueError:
            raise MalformedHistory(line, "a string has an unknown escape") from None
        if type_ == "invoke" and (value is None) is not (op == "get"):
            raise MalformedHistory(line, f"the value does not suit a {op}")
        recorder.add(_Event(line, int(process), type_, op, key, value))  # type: ignore[arg-type]
    return recorder.history(initial="")


class _Recorder:
    """Joins each return to its invocation."""

    def __init__(self) -> None:
        self._operations: list[Operation] = []
        self._under_way: dict[int, int] = {}

    def add(self, event: _Event) -> None:
        if event.type == "invoke":
            if event.process in self._under_way:
                raise MalformedHistory(
                    event.line, f"process {event.process} has two operations at once"
                )
            self._under_way[event.process] = len(self._operations)
            self._operations.append(
                Operation(
                    event.process, event.op, event.key, event.value, event.line, end=None, ok=None
                )
            )
            return
        index = self._under_way.pop(event.process, None)
        if index is None:
            raise MalformedHistory(
                event.line, f"process {event.process} has no operation under way"
            )
        operation = self._operations[index]
        if (operation.op, operation.key) != (event.op, event.key):
            raise MalformedHistory(
                event.line, f"process {event.process} ends another operation than it began"
            )
        if event.type == "ok":
            output = event.value if event.op == "get" else None
            self._operations[index] = replace(operation, end=event.line, ok=True, output=output)
        elif event.type == "fail":
            # A failed comparison tells that another value stood there; any other failure tells
            # nothing but that the operation did not happen.
            output = False if event.op == "cas" else None
            self._operations[index] = replace(operation, end=event.line, ok=False, output=output)

    def history(self, initial: Json) -> History:
        return History(tuple(self._operations), initial)
