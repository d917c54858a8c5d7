"""How far long work is: plain lines, and a bar where somebody looks at a terminal."""

from __future__ import annotations

import io

import pytest

from consensusllm_cli import progress


def test_without_a_terminal_each_step_is_a_line_where_steps_are_long() -> None:
    stream = io.StringIO()
    with progress.shown(stream, terminal=False, each=True) as tell:
        tell(0, 2, "begin")
        tell(1, 2, "one")
        tell(1, 2, "still one")
        tell(2, 2, "two")
    assert stream.getvalue() == "[1/2] one\n[2/2] two\n"


def test_work_that_is_soon_done_says_nothing_and_long_work_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    stream = io.StringIO()
    with progress.shown(stream, terminal=False, each=False) as tell:
        for done in range(1, 12):
            now += 1.0
            tell(done, 12, "importing")
    assert stream.getvalue() == "[5/12] importing\n[10/12] importing\n"


def test_a_terminal_gets_a_bar_that_reads_no_markup() -> None:
    stream = io.StringIO()
    with progress.shown(stream, terminal=True, each=False) as tell:
        tell(1, 2, "importing [bold]c1")
    assert "━" in stream.getvalue()
    assert "importing [bold]c1" in stream.getvalue()
