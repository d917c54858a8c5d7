r"""Owns how a line is cut into words and text. Knows no command.

line   = name (blank argument)*        blank: spaces, tabs, newlines
word   = "…" with escapes, or anything up to the next blank
text   = the rest of the line in one of three forms:
         as typed    inner blanks, quotes and backslashes unchanged; only the ends are trimmed
         "…"         where the closing quote is the last character; \n \t \" \\ are escapes
         three quotes … three quotes: exactly what is between them, over as many lines as it
                     takes; one newline after the opening and one before the closing are not
                     part of it
A line whose first character is # is a comment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BLANKS = " \t\r\n"
BLOCK = '"""'
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Misuse(Exception):
    """A line that cannot be a command; the message is one line that says what to do instead."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word; a quoted one is never a flag."""

    text: str
    quoted: bool = False


def is_comment_or_blank(line: str) -> bool:
    stripped = line.strip(BLANKS)
    return not stripped or stripped.startswith("#")


def take_word(rest: str) -> tuple[Word | None, str]:
    """The next word of ``rest`` and what follows it; None where there is none left.

    Raises Misuse for a quote that is not closed, or closed in the middle of a word.
    """
    rest = rest.lstrip(BLANKS)
    if not rest:
        return None, ""
    if rest.startswith('"'):
        end = _closing_quote(rest)
        if end is None:
            raise Misuse(f"the quote in {rest} is not closed")
        after = rest[end + 1 :]
        if after and after[0] not in BLANKS:
            raise Misuse(f"a blank is missing after {rest[: end + 1]}")
        return Word(_unescape(rest[1:end]), quoted=True), after
    end = 0
    while end < len(rest) and rest[end] not in BLANKS:
        end += 1
    return Word(rest[:end]), rest[end:]


def take_text(rest: str) -> str:
    """The whole of ``rest`` as one text. Raises Misuse where a block is open or not the end."""
    text = rest.strip(BLANKS)
    if text.startswith(BLOCK):
        end = text.find(BLOCK, len(BLOCK))
        if end < 0:
            raise Misuse(f"the {BLOCK} block is not closed: end it with {BLOCK}")
        if text[end + len(BLOCK) :]:
            raise Misuse(f"nothing may follow the closing {BLOCK}")
        return _without_edge_newlines(text[len(BLOCK) : end])
    if text.startswith('"') and len(text) > 1 and _closing_quote(text) == len(text) - 1:
        return _unescape(text[1:-1])
    return text


def is_open_block(rest: str) -> bool:
    """Whether ``rest`` begins a block whose end is still to come."""
    text = rest.lstrip(BLANKS)
    return text.startswith(BLOCK) and text.find(BLOCK, len(BLOCK)) < 0


def quote(text: str) -> str:
    """``text`` written so that `take_text` and `take_word` give it back, on one line."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _closing_quote(text: str) -> int | None:
    """The index of the first quote after the opening one that is not escaped."""
    index = 1
    while index < len(text):
        if text[index] == "\\":
            index += 2
            continue
        if text[index] == '"':
            return index
        index += 1
    return None


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[0]), text)


def _without_edge_newlines(text: str) -> str:
    for newline in ("\r\n", "\n"):
        if text.startswith(newline):
            text = text[len(newline) :]
            break
    for newline in ("\r\n", "\n"):
        if text.endswith(newline):
            return text[: -len(newline)]
    return text
