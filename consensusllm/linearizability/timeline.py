"""Owns how an explanation is laid out and worded, and its rendering as plain text.

Time is drawn by rank, not by length: each moment at which something begins or ends gets a column,
so that a microsecond between two operations is as plain to see as a minute.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

from .explain import Explanation, Step
from .history import Operation
from .models import State, freeze

SHOWN_MAX = 40
"""Operations that are drawn at most: the last ones."""

_POINTS_APART = 0.3
"""Of the way from one moment to the next, where there is room for it."""

_TEXT_WIDTH = 96
_VALUE_CHARACTERS_MAX = 40


class Role(Enum):
    ORDERED = "ordered"
    STUCK = "stuck"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Bar:
    """One operation of the drawing. ``begin`` and ``end`` are ranks of moments.

    ``name`` is its number in the order, ``x`` if it is stuck, ``?`` if it is open. ``point``, a
    fractional rank, is where it takes effect in the order.
    """

    step: Step
    role: Role
    name: str
    lane: int
    begin: int
    end: int
    point: float | None

    def row(self, characters_max: int) -> tuple[str, str, str, str, str]:
        """What TABLE_HEAD names, with values of ``characters_max`` characters at most."""
        operation, role = self.step.operation, self.role
        if role is Role.ORDERED:
            after = shorten(show_state(self.step.state), characters_max)
        else:
            after = "fits nowhere" if role is Role.STUCK else "does not help"
        what = describe(operation, characters_max)
        if self.step.taken_for is not None:
            what += f" (only the {self.step.taken_for} of it)"
        return self.name, str(operation.process), span(operation), what, after


TABLE_HEAD = ("order", "process", "from .. to", "operation", "value then")


@dataclass(frozen=True, slots=True)
class Timeline:
    """``lanes`` are the processes from top to bottom: one has further lanes for what overlaps."""

    bars: tuple[Bar, ...]
    lanes: tuple[int, ...]
    moments: int
    hidden: int


def lay_out(explanation: Explanation) -> Timeline:
    steps = explanation.steps[-SHOWN_MAX:]
    first = len(explanation.steps) - len(steps) + 1
    entries = [(step, Role.ORDERED, str(first + at)) for at, step in enumerate(steps)]
    rest = [(step, Role.STUCK, "x") for step in explanation.stuck]
    rest += [(step, Role.OPEN, "?") for step in explanation.open[:SHOWN_MAX]]
    operations = [step.operation for step, _, _ in (*entries, *rest)]
    times = sorted(
        {time for each in operations for time in (each.start, each.end) if time is not None}
    )
    rank = {time: at for at, time in enumerate(times)}
    spans = [
        (rank[each.start], len(times) if each.unknown or each.end is None else rank[each.end])
        for each in operations
    ]
    lane_of, lanes = _lanes(operations, spans)
    points: Sequence[float | None] = [*_points(spans[: len(entries)]), *(None for _ in rest)]
    bars = tuple(
        Bar(step, role, name, lane, begin, end, point)
        for (step, role, name), lane, (begin, end), point in zip(
            (*entries, *rest), lane_of, spans, points, strict=True
        )
    )
    hidden = first - 1 + max(0, len(explanation.open) - SHOWN_MAX)
    return Timeline(bars, lanes, len(times) + 1, hidden)


def _lanes(
    operations: Sequence[Operation], spans: Sequence[tuple[int, int]]
) -> tuple[list[int], tuple[int, ...]]:
    """The lane of each operation, and the process of each lane."""
    free_at: defaultdict[int, list[int]] = defaultdict(list)
    own: list[int] = [0] * len(operations)
    for at in sorted(range(len(operations)), key=lambda at: spans[at]):
        ends = free_at[operations[at].process]
        begin, end = spans[at]
        own[at] = next((lane for lane, free in enumerate(ends) if free <= begin), len(ends))
        ends[own[at] : own[at] + 1] = [end]
    lanes = tuple(process for process in sorted(free_at) for _ in free_at[process])
    return [
        lanes.index(operation.process) + lane
        for operation, lane in zip(operations, own, strict=True)
    ], lanes


def _points(spans: Sequence[tuple[int, int]]) -> list[float]:
    """Where each takes effect: in its span, no earlier than the one before it in the order, and
    about halfway between as early and as late as it could be."""
    early = list(accumulate((begin for begin, _ in spans), max))
    late = list(accumulate((end for _, end in reversed(spans)), min))[::-1]
    points: list[float] = []
    for first, last in zip(early, late, strict=True):
        apart = points[-1] + _POINTS_APART if points else -math.inf
        points.append(min(max((first + last) / 2, apart), last))
    return points


def columns(timeline: Timeline, width_of: Callable[[Bar], float], gap: float) -> list[float]:
    """A place for each moment, at least ``gap`` apart, and so that each bar is wide enough."""
    ending: defaultdict[int, list[Bar]] = defaultdict(list)
    for bar in timeline.bars:
        ending[bar.end].append(bar)
    places: list[float] = []
    for moment in range(timeline.moments):
        place = places[-1] + gap if places else 0.0
        for bar in ending[moment]:
            if bar.begin < moment:
                place = max(place, places[bar.begin] + width_of(bar))
        places.append(place)
    return places


# Wording --------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """``text`` without what a terminal or a page could take for more than a character."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode()
        for each in text
    )


def width(text: str) -> int:
    """The columns of a terminal that ``text``, which is printable, takes."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )


def shorten(text: str, characters_max: int = _VALUE_CHARACTERS_MAX) -> str:
    if len(text) <= characters_max:
        return text
    half = (characters_max - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def show_state(state: State) -> str:
    """A state, or a value that was frozen into one, as its JSON text on one line."""
    if isinstance(state, tuple):
        return printable(str(state[0]))
    return printable(json.dumps(state, ensure_ascii=False))


def describe(operation: Operation, characters_max: int = _VALUE_CHARACTERS_MAX) -> str:
    """What was asked and answered, such as ``get -> 3`` or ``cas 1 -> 2 failed``."""

    def show(value: object) -> str:
        return shorten(show_state(freeze(value)), characters_max)  # type: ignore[arg-type]

    op, value, output = operation.op, operation.value, operation.output
    known = not operation.unknown
    if op == "get":
        return f"get -> {show(output)}" if known else "get"
    if op == "cas":
        assert isinstance(value, list), "a cas has [old, new]"
        failed = " failed" if known and output is False else ""
        return f"cas {show(value[0])} -> {show(value[1])}{failed}"
    if op == "choose" and known and operation.ok is False and output is not None:
        return f"choose {show(value)}: {show(output)} had won"
    return f"{op} {show(value)}"


def span(operation: Operation) -> str:
    if operation.unknown or operation.end is None:
        return f"{operation.start} .. unknown"
    return f"{operation.start} .. {operation.end}"


def headline(explanation: Explanation) -> str:
    return f'key "{shorten(printable(explanation.key))}" is not linearizable'


def summary(explanation: Explanation) -> str:
    """What is shown of how much, and what is wrong with it, in two sentences."""
    shown = len(explanation.steps) + len(explanation.stuck) + len(explanation.open)
    left_out = explanation.total - shown
    count = f"{shown} of its {explanation.total} operations show it"
    if not left_out:
        count = (
            f"all of its {shown} operations show it" if shown > 1 else "its one operation shows it"
        )
    initial = shorten(show_state(explanation.initial))
    stuck = " and ".join(
        f"process {step.operation.process}'s {describe(step.operation)}"
        for step in explanation.stuck
    )
    if explanation.unwritten:
        reason = f"No operation wrote what {stuck} saw."
    elif not explanation.steps:
        reason = f"There is no place for {stuck}."
    else:
        reason = (
            f"In the longest order, by the numbers, and in any other one, there is no place for"
            f" {stuck}."
        )
    return f"{count}; it holds {initial} at first. {reason}"


# Text -----------------------------------------------------------------------------------------


def render_text(explanation: Explanation) -> str:
    """A few lines of plain text, at most some 100 characters wide but for long values."""
    timeline = lay_out(explanation)
    lines = [headline(explanation), summary(explanation), ""]
    if timeline.hidden:
        lines += [f"({timeline.hidden} more are not drawn)", ""]
    lines += _drawing(timeline)
    rows = [TABLE_HEAD, *(bar.row(_VALUE_CHARACTERS_MAX) for bar in timeline.bars)]
    widths = [max(width(row[at]) for row in rows) for at in range(4)]
    for row in rows:
        cells = (cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=False))
        lines.append("  ".join((*cells, row[4])).rstrip())
    return "\n".join(lines) + "\n"


def _drawing(timeline: Timeline) -> list[str]:
    """One line a lane, in bands where it would be too wide."""
    places = [int(place) for place in columns(timeline, lambda bar: len(bar.name) + 5, 2)]
    grid = [[" "] * (places[-1] + 1) for _ in timeline.lanes]
    for bar in timeline.bars:
        row, begin, end = grid[bar.lane], places[bar.begin], places[bar.end]
        fill = {Role.ORDERED: "-", Role.STUCK: "=", Role.OPEN: "."}[bar.role]
        row[begin : end + 1] = fill * (end - begin + 1)
        row[begin] = row[end] = "|"
        if bar.end == timeline.moments - 1:
            row[end] = ">"
        middle = begin + (end - begin + 1 - len(bar.name)) // 2
        if end > begin:
            row[middle : middle + len(bar.name)] = bar.name
    heads = [f"process {process}" for process in timeline.lanes]
    margin = max(map(len, heads)) + 2
    lines: list[str] = []
    for left in range(0, places[-1] + 1, _TEXT_WIDTH - margin):
        for head, row in zip(heads, grid, strict=True):
            part = "".join(row[left : left + _TEXT_WIDTH - margin])
            lines.append(f"{head.ljust(margin)}{part}".rstrip())
        lines.append("")
    return lines
