"""When an answer that comes in pieces has ended (docs/DECISIONS.md, "An end is one that nothing
follows")."""

from __future__ import annotations

import asyncio

from .port import Chunk

USAGE_S = 2.0
"""What may follow the end of an answer, as its usage does, is waited for as long in all."""
DOUBTFUL_PART = 0.5
"""Of ``idle_s``: how long more is waited for behind a finish reason that may not be the end."""


class Ending:
    """When an answer has ended. Most servers say so once, behind the text or with its last piece;
    some say it with every piece, or before the first."""

    def __init__(self, idle_s: float) -> None:
        self._doubtful_s = DOUBTFUL_PART * idle_s
        self._said = False  # that it ends, at any time
        self._spoke_on = False  # after it had said so: its word is no end
        self._until: float | None = None
        self.wrote = False

    @property
    def is_whole(self) -> bool:
        """Whether what goes wrong now takes nothing from it."""
        return self.wrote and self._said and not self._spoke_on

    def take(self, piece: Chunk) -> None:
        if piece.text:
            self._spoke_on = self._spoke_on or self._said
            self.wrote, self._until = True, None
        self._said = self._said or bool(piece.finish_reason)
        if self.is_whole and not piece.text and self._until is None:
            self._until = _now() + USAGE_S

    def within_s(self) -> float | None:
        """How long the next piece is waited for; None: as long as the guard does."""
        if self._until is not None:
            return max(0.0, self._until - _now())
        return self._doubtful_s if self._said else None


def _now() -> float:
    return asyncio.get_running_loop().time()
