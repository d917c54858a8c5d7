"""What a person sees of a turn while it is answered."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from consensusllm.client import CandidateDone, Delta, Takeover, Turn, TurnClosed
from consensusllm.conversations.records import Usage
from consensusllm_cli.repl.output import Output
from consensusllm_cli.repl.watch import Column, LiveView
from tests.cli.repl_fakes import candidate


def drawn(view: LiveView, width: int) -> str:
    """The region as it is drawn on a terminal of that width, without colours."""
    screen = io.StringIO()
    console = Console(file=screen, width=width, height=24, color_system=None)
    view._console = console
    console.print(view._draw())
    return screen.getvalue()


@pytest.fixture
def view() -> LiveView:
    view = LiveView(Output(io.StringIO(), io.StringIO(), terminal=True), ())
    view.show(Delta(2, 1, 0, "second answer", 2, "model-2"))
    view.show(Delta(1, 1, 0, "first ", 1, "model-1"))
    view.show(Delta(1, 1, 6, "answer", 1, "model-1"))
    return view


def test_candidates_stand_side_by_side_in_the_order_of_their_numbers(view: LiveView) -> None:
    line = next(line for line in drawn(view, 120).splitlines() if "first answer" in line)
    assert line.index("first answer") < line.index("second answer")
    assert "1 · node 1 · model-1" in drawn(view, 120)


def test_candidates_stand_one_below_the_other_where_it_is_narrow(view: LiveView) -> None:
    lines = drawn(view, 50).splitlines()
    first = next(index for index, line in enumerate(lines) if "first answer" in line)
    second = next(index for index, line in enumerate(lines) if "second answer" in line)
    assert first < second
    assert all(len(line) <= 50 for line in lines)


def test_the_end_of_a_long_text_is_seen_and_the_region_fits(view: LiveView) -> None:
    view.show(Delta(1, 1, 12, "\nline" * 500 + "\nthe end", 1, "model-1"))
    screen = drawn(view, 120)
    assert "the end" in screen
    assert len(screen.splitlines()) <= 24


def test_hostile_text_cannot_control_the_region(view: LiveView) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\u202e[red]evil[/red]"
    view.show(Delta(3, 1, 0, hostile, 3, hostile))
    view.show(CandidateDone(candidate(3, hostile, model=hostile, error=hostile)))
    screen = drawn(view, 300)
    assert "[red]evil[/red]" in screen
    assert not {"\x1b", "\x07", "\u202e"} & set(screen)


def test_a_takeover_keeps_what_is_recorded_and_says_who_answers() -> None:
    column = Column(1)
    column.show(Delta(1, 1, 0, "kept lost", 1, "model-1"), 0.0)
    column.show(Takeover(1, 2, 3, 4), 0.0)
    assert (column.text, column.node, column.state) == ("kept", 3, "taken over by node 3")
    column.show(Delta(1, 1, 9, " too late", 1, "model-1"), 0.0)
    assert column.text == "kept"
    column.show(Delta(1, 2, 4, " on", 3, "model-3"), 0.0)
    assert (column.text, column.model) == ("kept on", "model-3")


def test_a_column_says_how_fast_it_goes_and_what_it_came_to() -> None:
    column = Column(1)
    column.show(Delta(1, 1, 0, "Some", 1, "model-1"), 10.0)
    column.show(Delta(1, 1, 4, "x" * 80, 1, "model-1"), 10.1)
    assert column.told(10.2) == "answering", "too early to tell"
    assert column.told(12.0) == "answering · about 10 tokens/s"
    usage = Usage(completion_tokens=36)
    column.show(replace(candidate(1, "Some"), usage=usage, cost=139), 13.0)
    assert column.told(99.0) == "done · 36 tokens · 0.000139 · 12 tokens/s"


def test_a_closed_turn_and_other_candidates_leave_the_region_alone() -> None:
    view = LiveView(Output(io.StringIO(), io.StringIO(), terminal=True), (4,))
    view.show(Delta(1, 1, 0, "earlier", 1, "model-1"))
    view.show(TurnClosed(Turn(1, "?", ())))
    assert "earlier" not in drawn(view, 120)


@pytest.mark.parametrize("reason", ["length", "filtered"])
def test_an_answer_that_was_cut_short_is_not_called_done(reason: str) -> None:
    column = Column(1)
    column.show(candidate(1, "half of", finish_reason=reason), 0.0)
    assert column.told(0.0) == f"cut short: {reason}"
