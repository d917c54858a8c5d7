"""An asyncio event loop whose time is simulated: it jumps to the next timer in place of waiting.

It has no sockets, threads or signals, so what runs on it is a function of what was put on it. Two
callbacks of one moment run in the order in which they were scheduled. A loop with nothing left to
run, and one that does not get past a moment, are errors and not waits.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

CALLBACKS_A_MOMENT_MAX = 100_000


class Stuck(Exception):
    """Nothing will ever happen again, or time stands still."""


class VirtualLoop(asyncio.BaseEventLoop):
    """``time`` is in simulated seconds from 0."""

    _scheduled: list[asyncio.TimerHandle]

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._turns = 0
        self._clock_resolution = 1e-9  # what is due at this very moment is due
        self._selector = self  # BaseEventLoop asks its selector to wait for events

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> tuple[()]:
        """Let ``timeout`` seconds pass; there is never any event of the outside world."""
        if timeout is None:
            raise Stuck("nothing is scheduled: whoever waits would wait for ever")
        if timeout > 0:
            # The timer's own time, since now + (when - now) may round to a little before it.
            self._now = max(self._now, self._scheduled[0].when())
            self._turns = 0
        else:
            self._turns += 1
            if self._turns > CALLBACKS_A_MOMENT_MAX:
                raise Stuck(f"time stands still at {self._now:.6f} s")
        return ()

    def run_in_executor(self, *_: Any) -> NoReturn:  # type: ignore[override]
        raise AssertionError("no threads: their order is not a function of the seed")

    def _process_events(self, event_list: tuple[()]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
