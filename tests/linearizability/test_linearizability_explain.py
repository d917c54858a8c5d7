"""What is shown of a history that is not linearizable."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensusllm.linearizability import (
    Explanation,
    History,
    Operation,
    Verdict,
    check,
    explain,
    render_html,
    render_svg,
    render_text,
)
from consensusllm.linearizability.history import Json, OperationName
from consensusllm.linearizability.timeline import lay_out


def put(value: Json, start: float, end: float | None, process: int = 0) -> Operation:
    return Operation(process, "put", "k", value, start, end, None if end is None else True)


def get(output: Json, start: float, end: float, process: int = 1) -> Operation:
    return Operation(process, "get", "k", None, start, end, True, output)


def append(value: str, start: float, end: float, process: int = 0) -> Operation:
    return Operation(process, "append", "k", value, start, end, True)


def cas(old: Json, new: Json, start: float, end: float, swapped: bool, process: int) -> Operation:
    return Operation(process, "cas", "k", [old, new], start, end, swapped, swapped)


def explained(operations: Sequence[Operation]) -> Explanation:
    history = History(tuple(operations))
    explanation = explain(history, check(history, time.monotonic), time.monotonic, 60.0)
    assert explanation is not None
    return explanation


def shown(explanation: Explanation) -> list[Operation]:
    steps = (*explanation.steps, *explanation.stuck, *explanation.open)
    return [step.operation for step in steps]


ROUNDS = [
    each
    for number in range(200)
    for each in (
        put(number, 10 * number, 10 * number + 3),
        cas(number, -1, 10 * number + 2, 10 * number + 5, False, 7 + number),
        get(number, 10 * number + 4, 10 * number + 9),
    )
]
"""Much that is in order and has nothing to do with what is wrong. (The comparisons come early.)"""


def test_of_a_stale_read_the_two_writes_and_the_read_are_shown() -> None:
    stale = get(150, 1995, 1996, process=2)
    explanation = explained([*ROUNDS, stale])
    assert [step.operation for step in explanation.stuck] == [stale]
    assert len(shown(explanation)) <= 4
    assert explanation.total == len(ROUNDS) + 1


def test_what_was_never_written_is_shown_alone() -> None:
    explanation = explained([*ROUNDS, get("?", 500.5, 500.6, process=2)])
    assert shown(explanation) == [get("?", 500.5, 500.6, process=2)]
    assert 'No operation wrote what process 2\'s get -> "?" saw.' in render_text(explanation)


def test_of_two_winners_both_are_shown() -> None:
    operations = [Operation(process, "choose", "c1/1", process, 0, 9, True) for process in (1, 2)]
    explanation = explained([*operations, replace(operations[0], process=3, ok=False)])
    assert sorted(each.process for each in shown(explanation)) == [1, 2]


def test_a_lost_append_begins_after_the_last_read_that_was_in_order() -> None:
    operations = [append(f"{at} ", 2 * at, 2 * at + 1) for at in range(50)]
    operations.insert(40, get("".join(f"{at} " for at in range(40)), 79.2, 79.8))
    operations.append(get("".join(f"{at} " for at in range(50) if at != 45), 200, 201))
    explanation = explained(operations)
    assert len(shown(explanation)) == 12
    assert explanation.initial == operations[40].output
    assert explanation.steps[0].operation is operations[40]
    assert explanation.stuck[0].operation is operations[-1]


def test_a_swap_that_only_counts_as_a_write_says_so() -> None:
    swaps = [cas(at, at + 1, 2 * at, 2 * at + 2.5, True, at % 2) for at in range(30)]
    text = render_text(explained([put(0, 0, 0.5), *swaps, get(10, 100, 101)]))
    assert "cas 9 -> 10 (only the put of it)" in text


def test_without_time_there_is_no_reason_rather_than_a_wrong_one() -> None:
    operations = [append(f"{at} ", 0, 10, process=at) for at in range(5)]
    history = History((*operations, get("lost", 11, 12, process=9)))
    report = check(history, lambda: 0.0)
    assert report.verdict is Verdict.NOT_LINEARIZABLE
    assert explain(history, report, lambda: 0.0, time_limit_s=0.0) is None


SMALL_NAMES: tuple[OperationName, ...] = ("get", "put", "cas", "append")


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    names = draw(st.sampled_from([("get", "put"), ("get", "put", "cas"), ("get", "append")]))
    free_at = [0, 0, 0]
    operations: list[Operation] = []
    for _ in range(draw(st.integers(2, 14))):
        process = draw(st.integers(0, 2))
        start = free_at[process] + draw(st.integers(0, 2))
        free_at[process] = end = start + draw(st.integers(0, 5))
        name: OperationName = draw(st.sampled_from(names))
        some = st.sampled_from(["a", "b", "ab"])
        value: Json = draw(some)
        output: Json = draw(some) if name == "get" else None
        if name == "cas":
            value, output = [draw(some), draw(some)], draw(st.booleans())
        ok = None if draw(st.integers(0, 5)) == 0 else True
        if ok is None:
            output = None
        operations.append(Operation(process, name, "k", value, start, end, ok, output))
    return operations


@given(histories())
@settings(max_examples=150, deadline=None)
def test_what_is_shown_is_not_linearizable_by_itself_and_all_but_what_is_stuck_is(
    operations: list[Operation],
) -> None:
    history = History(tuple(operations))
    report = check(history, lambda: 0.0)
    if report.verdict is not Verdict.NOT_LINEARIZABLE:
        return
    explanation = explain(history, report, lambda: 0.0)
    assert explanation is not None
    part = [each for each in operations if any(each is other for other in shown(explanation))]
    initial = explanation.initial
    assert initial is None or isinstance(initial, str)
    assert check(History(tuple(part), initial), lambda: 0.0).verdict is Verdict.NOT_LINEARIZABLE
    points = [bar.point for bar in lay_out(explanation).bars if bar.point is not None]
    assert len(points) == len(explanation.steps)
    assert points == sorted(points)
    assert all(
        bar.begin <= bar.point <= bar.end
        for bar in lay_out(explanation).bars
        if bar.point is not None
    )


# Renderings ------------------------------------------------------------------------------------

EXAMPLE = [
    put(1, 0.5, 1.5),
    put(2, 2.0, 3.25, process=3),
    put(3, 1.0, None, process=4),
    get(1, 4.0, 5.0),
]


def test_the_text_is_a_timeline_and_a_table() -> None:
    assert (
        render_text(explained(EXAMPLE))
        == """\
key "k" is not linearizable
3 of its 4 operations show it; it holds null at first. In the longest order, by the numbers, and \
in any other one, there is no place for process 1's get -> 1.

process 0  |--1--|
process 1                  |==x==|
process 3          |--2--|

order  process  from .. to   operation  value then
1      0        0.5 .. 1.5   put 1      1
2      3        2.0 .. 3.25  put 2      2
x      1        4.0 .. 5.0   get -> 1   fits nowhere
"""
    )


def test_a_long_timeline_is_drawn_in_bands() -> None:
    appends = [append("x", 2 * at, 2 * at + 1, process=at % 2) for at in range(60)]
    text = render_text(explained([*appends, get("x" * 59, 200, 201)]))
    assert "(20 more are not drawn)" in text
    drawing = [each for each in text.splitlines() if each.startswith("process ")]
    assert len(drawing) > 3
    assert all(len(each) <= 96 for each in drawing)


HOSTILE = '"><script>alert(1)</script>&\x1b[31m\u202e\ud800\n]]>'


def hostile() -> Explanation:
    operations = [put(HOSTILE, 0, 1), put("later", 2, 3), get(HOSTILE, 4, 5)]
    return explained([replace(each, key=HOSTILE) for each in operations])


@pytest.mark.parametrize("render", [render_html, render_svg, render_text])
def test_nothing_of_a_history_is_taken_for_more_than_text(render: object) -> None:
    assert callable(render)
    text = render(hostile())
    assert "alert(1)" in text
    text.encode()
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)
    if render is not render_text:
        assert "<script" not in text


@pytest.mark.parametrize("operations", [EXAMPLE, None], ids=["example", "hostile"])
def test_the_svg_is_xml_with_a_bar_for_each_operation(
    operations: list[Operation] | None,
) -> None:
    explanation = hostile() if operations is None else explained(operations)
    root = ElementTree.fromstring(render_svg(explanation))
    name = "{http://www.w3.org/2000/svg}"
    bars = [each for each in root.iter(f"{name}g") if each.find(f"{name}title") is not None]
    assert [each.get("class") for each in bars] == ["ordered", "ordered", "stuck"]
    points = [each for each in root.iter(f"{name}circle") if each.find(f"{name}title") is not None]
    assert len(points) == 2


def test_the_page_loads_nothing_from_elsewhere_and_is_light_or_dark() -> None:
    page = render_html(explained(EXAMPLE))
    assert not re.search(r"<(script|link|img|iframe)|url\(|@import|src=|href=", page)
    assert page.replace("http://www.w3.org/2000/svg", "").count("://") == 0
    assert "prefers-color-scheme: dark" in page


def test_an_unknown_outcome_that_is_overtaken_by_its_own_process_gets_a_lane_of_its_own() -> None:
    appends = [
        replace(append("a", 0, 1), ok=None, end=None),
        append("b", 2, 3),
        get("c", 4, 5),
    ]
    timeline = lay_out(explained(appends))
    lanes = {bar.lane for bar in timeline.bars if bar.step.operation.process == 0}
    assert timeline.lanes == (0, 0, 1)
    assert lanes == {0, 1}
