"""How the rules refuse a command, and how they name things in what they say about it.

A refusal's message is part of the replicated state (it is remembered for the session), so it is a
function of command and state alone, and it never repeats a control character.
"""

from __future__ import annotations

import re

from .replies import Code, Refused

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Refusal(Exception):
    """Raised by a rule before it has changed anything; carries the answer."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        turn: int = 0,
        winner: int = 0,
        current: bytes | None = None,
    ) -> None:
        self.reply = Refused(code, message, turn, winner, current)


def named(name: str) -> str:
    """``name`` as it may be shown: quoted, in ASCII, at most 64 characters of it."""
    return ascii(name if len(name) <= 64 else name[:63] + "…")


def check_id(conversation: str) -> None:
    """Conversation ids are 1 to 64 of letters, digits, `.`, `_`, `-`."""
    if not _ID.fullmatch(conversation):
        raise Refusal(
            Code.INVALID,
            f"{named(conversation)} cannot be a conversation's id: "
            "use 1 to 64 letters, digits, '.', '_' or '-'",
        )


def check_size(what: str, text: str, limit_bytes: int) -> None:
    """``text`` may take ``limit_bytes`` of UTF-8."""
    if 4 * len(text) <= limit_bytes:
        return
    size_bytes = len(text.encode("utf-8", "surrogatepass"))
    if size_bytes > limit_bytes:
        raise Refusal(
            Code.TOO_LARGE,
            f"{what} has {size_bytes} bytes, over the limit of {limit_bytes}: shorten it",
        )
