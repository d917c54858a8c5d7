"""Who fetches this replica's snapshot, and then the log behind it.

A newer snapshot takes the older one's place, and the log before it goes. A peer that is slower to
fetch than snapshots are taken would begin anew each time, and never come to the end; so none is
taken meanwhile, as far as the log has room (see `pace`).
"""

from __future__ import annotations

from consensusllm.paxos.changes import NEAR_SLOTS

PATIENCE_S = 10.0
"""Who has not asked for so long, say while it reads what it fetched, has given up."""


class Fetchers:
    """``now`` is the owner's monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    def asked_for_snapshot(self, peer: int, now: float) -> None:
        self._until[peer] = now + PATIENCE_S

    def asked_for_log(self, peer: int, behind: int, now: float) -> None:
        """``peer`` wants entries, and lacks ``behind`` slots. It counts while it goes on with what
        it fetched, until it is near: one that is slow and needs no snapshot keeps nobody from
        taking one."""
        if peer not in self._until:
            return
        if behind > NEAR_SLOTS:
            self._until[peer] = now + PATIENCE_S
        else:
            del self._until[peer]

    def any(self, now: float) -> bool:
        self._until = {peer: until for peer, until in self._until.items() if until > now}
        return bool(self._until)
