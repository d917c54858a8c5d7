"""The replicated clock, as far as one node can tell it: every batch says what it showed.

State machines take the highest time that a batch has said, so that time never goes back. It must
not stand still either: where a node's wall clock is behind what was applied, because that of a
former leader was ahead, this clock goes on from there, at its own rate. What it shows is right
where wall clocks are; that it goes on rests on nothing but monotonic clocks.
"""

from __future__ import annotations


class Clock:
    """``epoch_ms`` is the wall clock, in ms since the epoch, at ``now == 0``."""

    def __init__(self, epoch_ms: int) -> None:
        self._epoch_ms = epoch_ms

    def time_ms(self, now: float) -> int:
        """In ms since the epoch; never below what was `reached`."""
        return self._epoch_ms + int(now * 1000)

    def reached(self, time_ms: int, now: float) -> None:
        """What is applied says that it is ``time_ms`` at least."""
        self._epoch_ms = max(self._epoch_ms, time_ms - int(now * 1000))
