"""The mode of the terminal that the standard input is, where it is one."""

from __future__ import annotations

import contextlib
import sys
import termios
from collections.abc import Iterator
from typing import Any

_LOCAL_MODES = 3
"""Where `termios.tcgetattr` has them."""


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Put the mode back as it was, however its borrower ends."""
    mode = _mode()
    try:
        yield
    finally:
        if mode is not None:
            _set(mode)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """What is drawn stays as it is drawn: keys do not show, and Ctrl-C, which is obeyed all the
    same, throws no output away that the terminal has not taken yet."""
    with kept():
        if (mode := _mode()) is not None:
            mode[_LOCAL_MODES] = mode[_LOCAL_MODES] & ~termios.ECHO | termios.NOFLSH
            _set(mode)
        yield


def leave_prompt() -> None:
    """Go on in a line of its own after a program that was ended at its prompt, without what such a
    one asks of a terminal: colours, lines below, no cursor, and marks around what is pasted."""
    with contextlib.suppress(OSError):
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[0m\x1b[?25h\x1b[?2004l\x1b[J\r\n")
            sys.stdout.flush()


def _mode() -> list[Any] | None:
    try:
        return termios.tcgetattr(sys.stdin)
    except (termios.error, OSError, TypeError, ValueError):  # it may be a file, or be closed
        return None


def _set(mode: list[Any]) -> None:
    with contextlib.suppress(termios.error, OSError):
        termios.tcsetattr(sys.stdin, termios.TCSANOW, mode)
