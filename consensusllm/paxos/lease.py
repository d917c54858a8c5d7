"""Leader leases: reads without a quorum round, at the price of a bound on the drift of clocks.

Gray and Cheriton 1989; Paxos Made Live, 5.2; Raft thesis, 6.4.1. Off unless configured.

A heartbeat asks for a lease; an acceptor that answers it grants one to the leader, from its receipt
on: for ``leader_lease_s`` by its own clock it promises nothing to anybody else, and says no to
their pre-votes. With the grants of a quorum the leader holds a lease from the *sending* of that
heartbeat on, which is shorter by what two clocks can differ that are off by ``clock_drift`` each.

Why no other leader can have been chosen while it is held: the quorum that promised to the other
shares an acceptor with the quorum of grants. That acceptor did not promise before it answered the
heartbeat (it would have refused it), and promises after it only when its grant is over, which is
after the lease is. The leader itself may promise: it ceases to lead in the same step. A grant is to
a ballot, and moves only to a higher one, whose leader was chosen when the lease was over.

What was granted is not on the disk. A start therefore waits as long as any grant that the life
before it may have given, and binds against everybody, whoever is heard of meanwhile. An acceptor
grants nothing longer than what it would wait for itself, so nodes that are configured differently
hold no lease too many.

Whoever hands leadership over ends its own lease first (`Lease.end`). Its word to the successor
therefore releases what the successor granted it; the other acceptors did not hear it, and withhold
their promises until their grants are over.
"""

from __future__ import annotations

import math

from .ballot import BOTTOM, Ballot
from .config import PaxosConfig


class Grant:
    """The acceptor's side. ``now`` is the owner's monotonic clock at the start of this life."""

    def __init__(self, config: PaxosConfig, now: float) -> None:
        self._longest_s = config.leader_lease_s
        self._started_until = now + self._longest_s  # whom the life before bound is not known
        self._ballot = BOTTOM
        self._given_until = now

    def give(self, ballot: Ballot, lease_ms: int, now: float) -> bool:
        """Grant the leader of ``ballot``, whose heartbeat arrives ``now``, what it asks; or not.

        A heartbeat may be late, and its leader deposed by one whose heartbeats came before it, of a
        ballot that was not promised here: it does not take that one's grant away.
        """
        lease_s = lease_ms / 1000
        if not 0 < lease_s <= self._longest_s or (
            ballot < self._ballot and now < self._given_until
        ):
            return False
        self._ballot = ballot
        self._given_until = max(self._given_until, now + lease_s)
        return True

    def release(self, holder: int, now: float) -> None:
        """``holder`` says that it has ended its lease, and leads no more."""
        if holder == self._ballot.pid:
            self._given_until = min(self._given_until, now)

    def binds(self, candidate: int, now: float) -> bool:
        """Whether ``candidate`` must not be promised anything yet."""
        given = now < self._given_until and candidate != self._ballot.pid
        return given or now < self._started_until

    @property
    def until(self) -> float:
        """When nobody is bound any more, unless more is granted."""
        return max(self._started_until, self._given_until)


class Lease:
    """The leader's side."""

    def __init__(self, config: PaxosConfig) -> None:
        self.asked_ms = int(round(config.leader_lease_s * 1000, 3))
        drift = config.clock_drift
        self._length_s = self.asked_ms / 1000 * (1.0 - drift) / (1.0 + drift)
        self._until = -math.inf

    def granted(self, asked_at: float) -> None:
        """A quorum granted what was asked for at ``asked_at``."""
        self._until = max(self._until, asked_at + self._length_s)

    def end(self) -> None:
        """Leadership begins, or is given away."""
        self._until = -math.inf

    def holds(self, now: float) -> bool:
        return now < self._until
