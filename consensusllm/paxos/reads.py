"""Read barriers: linearizable reads without a log write (Raft thesis, section 6.4).

A read that arrives at the leader notes how far the log is chosen (at least the no-op that opened
this ballot: everything that an earlier leader acknowledged is below it; a ballot without one, which
only finishes a change of members, confirms no read), joins the next quorum round that begins after
its arrival, and may be served when that round is confirmed and the noted slot applied. Every read
that waits shares the round. While the leader holds a lease (see `lease`)
no round is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from .heartbeats import Heartbeats


@dataclass(slots=True)
class _Barrier:
    round: int
    slot: int
    tokens: list[int]


class Reads:
    def __init__(self, heartbeats: Heartbeats) -> None:
        self._heartbeats = heartbeats
        self._waiting: list[int] = []  # for a round that has not begun
        self._barriers: list[_Barrier] = []  # of rounds that are under way, in order
        self.confirmed: list[tuple[int, int]] = []
        self.failed: list[int] = []

    def add(self, token: int, leased_slot: int | None) -> None:
        """``leased_slot``: where the prefix ends that a lease proves to be the newest."""
        if leased_slot is None:
            self._waiting.append(token)
        else:
            self.confirmed.append((token, leased_slot))

    def wants_round(self) -> bool:
        """Whether reads wait and no round is under way that would only be overtaken."""
        return bool(self._waiting) and not self._barriers

    def joined(self, round_number: int, slot: int) -> None:
        """A round has begun: everything that waits is answered by it, at ``slot`` or later."""
        if self._waiting:
            self._barriers.append(_Barrier(round_number, slot, self._waiting))
            self._waiting = []

    def confirm(self) -> None:
        """Hand out the barriers whose round a quorum has answered."""
        if not self._barriers:
            return
        confirmed_round = self._heartbeats.confirmed_round()
        while self._barriers and self._barriers[0].round <= confirmed_round:
            barrier = self._barriers.pop(0)
            self.confirmed.extend((token, barrier.slot) for token in barrier.tokens)

    def fail(self) -> None:
        """Leadership is lost: whoever waits must ask again elsewhere."""
        for barrier in self._barriers:
            self.failed.extend(barrier.tokens)
        self.failed.extend(self._waiting)
        self._waiting = []
        self._barriers = []
