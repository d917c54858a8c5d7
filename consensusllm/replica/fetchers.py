"""Who fetches this replica's snapshot, and then the log behind it.

A newer snapshot takes the older one's place, and the log before it goes. A peer that is slower to
fetch than snapshots are taken would begin anew each time, and never come to the end; so none is
taken meanwhile, as far as the log has room (see `pace`).
"""

from __future__ import annotations

PATIENCE_S = 60.0
"""Who has not asked for so long has given up. It may be reading what it fetched, 50,000 records a
second; and the log is not held for it any longer than `pace` allows."""


class Fetchers:
    """``now`` is the owner's monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    def __contains__(self, peer: int) -> bool:
        return peer in self._until

    def asked_for_snapshot(self, peer: int, now: float) -> None:
        self._until[peer] = now + PATIENCE_S

    def asked_for_log(self, peer: int, last: bool, now: float) -> None:
        """``peer``, one of these, wants entries, the ``last`` that there are or not. It counts
        while it goes on with what it fetched, until it has them. (One that is slow and needs no
        snapshot keeps nobody from taking one.)"""
        if last:
            del self._until[peer]
        else:
            self._until[peer] = now + PATIENCE_S

    def any(self, now: float) -> bool:
        self._until = {peer: until for peer, until in self._until.items() if until > now}
        return bool(self._until)
