"""When the next snapshot is due: after so many bytes or slots, and not before as much was applied
as the state is large.

A snapshot costs as much as the state is large, however little has changed. Taken at a fixed
distance, snapshots of a large state cost more than the work between them (Ongaro, "Consensus:
Bridging Theory and Practice", section 5.1.3), so the distance, and with it the log, grows with the
state. The log is in memory, and takes nothing more when it is full: so only up to a part of that,
and to twice as much while somebody fetches the last one.
"""

from __future__ import annotations

SLOT_BYTES = 4 << 10
"""What applying a slot costs by itself, in bytes of a snapshot that cost as much."""

LOG_SHARE = 4
"""One in so many of the bytes that the log may hold: there it is due, whatever else is said."""


class Pace:
    """At least ``every_bytes`` of applied batches or ``every_slots``, whichever comes first;
    ``log_bytes`` is what the log may hold."""

    def __init__(self, every_bytes: int, every_slots: int, log_bytes: int) -> None:
        self._every_bytes = every_bytes
        self._every_slots = every_slots
        self._most_bytes = log_bytes // LOG_SHARE
        self._applied_bytes = 0
        self._state_bytes = 0

    def applied(self, size_bytes: int) -> None:
        """One batch was."""
        self._applied_bytes += size_bytes

    def begun(self) -> None:
        """A snapshot of the state as it is now: what is applied from here on is for the next."""
        self._applied_bytes = 0

    def taken(self, state_bytes: int) -> None:
        """It is whole, and so large before it was compressed."""
        self._state_bytes = state_bytes

    def due(self, slots: int, *, fetched: bool) -> bool:
        """Whether it is, ``slots`` after the last one, which is being ``fetched`` by a peer."""
        if fetched:
            return self._applied_bytes >= 2 * self._most_bytes
        least = self._applied_bytes >= self._every_bytes or slots >= self._every_slots
        repaid = self._applied_bytes + slots * SLOT_BYTES >= self._state_bytes
        return self._applied_bytes >= self._most_bytes or (least and repaid)
