"""What models and servers say reaches the terminal as text only."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm_cli.repl.output import Output
from consensusllm_cli.repl.sanitise import escape_controls, one_line, sanitise

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
HOSTILE = st.lists(
    st.one_of(
        st.text(max_size=5),
        st.sampled_from([*"\x1b[];\x9b\x9d\x07\\\u202e\ré", "31m", "0;", "\x1bP"]),
    )
).map("".join)


@given(HOSTILE)
def test_no_control_character_is_left_but_newline_and_tab(text: str) -> None:
    assert not CONTROL.search(sanitise(text))


@given(st.integers(480, 520), st.integers(480, 520))
def test_a_line_of_which_the_middle_is_left_out_has_no_blanks_too_many(a: int, b: int) -> None:
    stderr = io.StringIO()
    Output(io.StringIO(), stderr, terminal=False).error("x" * a + " y" * 9 + " " + "z" * b)
    line = stderr.getvalue().removesuffix("\n")
    assert one_line(line) == line


@given(HOSTILE)
def test_sanitising_twice_changes_nothing_more(text: str) -> None:
    assert sanitise(sanitise(text)) == sanitise(text)


@given(st.text())
def test_text_without_control_characters_is_unchanged(text: str) -> None:
    clean = CONTROL.sub("", text)
    assert sanitise(clean) == clean


@pytest.mark.parametrize(
    ("hostile", "left"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("\x9b31mred", "red"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]52;c;Y2xpcGJvYXJk\x1b\\text", "text"),
        ("\x9d0;a title\x9ctext", "text"),
        ("\x1bP1$r0m\x1b\\text", "text"),
        ("\x1b_application\x1b\\text", "text"),
        ("\x1b(Btext\x1b=", "text"),
        ("\x1bctext", "text"),
        ("a\rb\x08c\x00\x7f\x85", "abc"),
        ("\u202eabc\u202c \u2066def\u2069", "abc def"),
        ("kept\n\ttoo [red]not markup[/red] 名前 🙂", "kept\n\ttoo [red]not markup[/red] 名前 🙂"),
    ],
)
def test_sequences_are_taken_out_whole(hostile: str, left: str) -> None:
    assert sanitise(hostile) == left


def test_a_sequence_without_its_end_does_not_swallow_the_text_after_it() -> None:
    assert "the answer" in sanitise("\x1b]0;the answer\nof many lines")


@given(
    st.sampled_from(["\x1b]", "\x1bP", "\x1bX", "\x1b^", "\x1b_", *"\x9d\x90\x98\x9e\x9f"]),
    st.text().filter(lambda text: not CONTROL.search(text)),
    st.sampled_from(["\x07", "\x1b\\", "\x9c"]),
)
def test_a_string_is_taken_out_up_to_any_of_its_terminators(
    introducer: str, body: str, terminator: str
) -> None:
    assert sanitise(f"before{introducer}{body}{terminator}after") == "beforeafter"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "introducer", [*"\x1b\x9b\x9d\x90\x98\x9e\x9f", *map("\x1b".__add__, "[]PX^_ ")]
)
@pytest.mark.parametrize("body", ["", "0", " ", "0 ", "a title"])
def test_a_long_text_of_sequences_without_an_end_takes_no_time(introducer: str, body: str) -> None:
    assert not CONTROL.search(sanitise((introducer + body) * 200_000))
    assert not CONTROL.search(sanitise(introducer + body * 200_000))


def test_one_line_is_one_line() -> None:
    assert one_line(" a\n\tb\r\n\x1b[1mc ") == "a b c"


@given(HOSTILE)
def test_json_with_its_controls_escaped_is_harmless_and_the_same_data(text: str) -> None:
    document = json.dumps({"text": text}, ensure_ascii=False)
    escaped = escape_controls(document)
    assert not CONTROL.search(escaped)
    assert json.loads(escaped) == {"text": text}
