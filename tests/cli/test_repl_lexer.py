"""How a line is cut: the question of a query survives unchanged in each of its three forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm_cli.repl.lexer import (
    BLOCK,
    Misuse,
    Word,
    is_comment_or_blank,
    is_open_block,
    quote,
    take_text,
    take_word,
)

AWKWARD = st.lists(
    st.one_of(st.text(max_size=4), st.sampled_from(['"', "\\", "\n", "\r", " ", "\t", "n", BLOCK]))
).map("".join)


@given(AWKWARD)
def test_any_text_round_trips_quoted(text: str) -> None:
    assert take_text(" " + quote(text) + " \n") == text
    assert take_word(quote(text) + " rest") == (Word(text, quoted=True), " rest")


@given(AWKWARD)
def test_any_text_without_three_quotes_round_trips_in_a_block(text: str) -> None:
    text = text.replace('"', "'").rstrip("\r")  # a newline may be written as CR LF
    assert take_text(f" {BLOCK}\n{text}\n{BLOCK} ") == text


@given(AWKWARD)
def test_a_text_that_does_not_begin_with_a_quote_is_taken_as_typed(text: str) -> None:
    typed = "x" + text + "x"
    assert take_text(f"  {typed}  ") == typed


@pytest.mark.parametrize(
    ("rest", "text"),
    [
        (r' "a\nb\t\"c\" \\ \d" ', 'a\nb\t"c" \\ \\d'),
        ('say "hello"  twice', 'say "hello"  twice'),
        ('"hello" and "bye"', '"hello" and "bye"'),
        (r'"not closed\"', r'"not closed\"'),
        ('"', '"'),
        ('""', ""),
        ('"""one line"""', "one line"),
        ('"""\r\na\r\n"""', "a"),
        ('"""\n\na\n\n"""', "\na\n"),
        ("what's\\n this?", "what's\\n this?"),
        ("\u00a0no-break spaces stay\u00a0", "\u00a0no-break spaces stay\u00a0"),
    ],
)
def test_the_forms_of_a_text(rest: str, text: str) -> None:
    assert take_text(rest) == text


@pytest.mark.parametrize("rest", ['"""open', '"""', '"""""', '"""a""" b', '""""""" '])
def test_a_block_that_is_open_or_followed_by_text_is_misuse(rest: str) -> None:
    with pytest.raises(Misuse):
        take_text(rest)


def test_an_open_block_is_seen_as_open_until_its_end() -> None:
    assert is_open_block(' """a\nb')
    assert is_open_block('"""')
    assert not is_open_block('"""a"""')
    assert not is_open_block('say """')


def test_words_are_cut_at_blanks_and_may_be_quoted() -> None:
    assert take_word(' \t a"b c') == (Word('a"b'), " c")
    assert take_word('"my file.md" x') == (Word("my file.md", quoted=True), " x")
    assert take_word(" \n") == (None, "")


@pytest.mark.parametrize("rest", ['"open', '"a"b'])
def test_a_word_with_a_bad_quote_is_misuse(rest: str) -> None:
    with pytest.raises(Misuse):
        take_word(rest)


def test_comments_and_blank_lines_are_seen() -> None:
    assert is_comment_or_blank("  # create c1")
    assert is_comment_or_blank(" \r\n")
    assert not is_comment_or_blank("query c1 # no comment")
