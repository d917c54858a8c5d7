"""Owns what may reach the terminal: text of models, servers and conversations, made harmless.

A terminal obeys what is printed to it: escape sequences move the cursor, set titles, write the
clipboard; bidirectional overrides make a line read differently from what it is. All of that is
taken out; nothing else is changed. Source: ECMA-48 (5.3, 5.4, 8.3) for the sequences, Unicode UAX 9
for the overrides.
"""

from __future__ import annotations

import re

# What is between a string's introducer and its terminator holds no other introducer of one, so that
# nothing is searched for an end twice: the time is linear in the text.
_SEQUENCES = re.compile(
    r"""
      (?: \x1b\[ | \x9b ) [0-?]* [ -/]* [@-~]                      # CSI ... final byte
    | (?: \x1b[\]PX^_] | [\x9d\x90\x98\x9e\x9f] )                  # OSC, DCS, SOS, PM, APC ...
      [^\x07\x1b\x90\x98\x9c-\x9f]* (?: \x07 | \x1b\\ | \x9c )     # ... up to their terminator
    | \x1b [ -/]+ [0-~]                                            # such as a choice of charset
    | \x1b [0-Z\\-~]                                               # two characters
    """,
    re.VERBOSE,
)
# C0 without newline and tab, DEL, C1, bidirectional embeddings, overrides and isolates.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def sanitise(text: str) -> str:
    """``text`` without terminal control; newlines and tabs stay.

    An unterminated sequence loses its introducer only, so that it cannot swallow what follows it.
    """
    return _CONTROLS.sub("", _SEQUENCES.sub("", text))


def one_line(text: str) -> str:
    """``text`` made harmless and put on one line, for tables and messages."""
    return " ".join(sanitise(text).split())


def escape_controls(json_text: str) -> str:
    """JSON whose control characters are written as escapes: the same data, harmless to print."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", json_text)
