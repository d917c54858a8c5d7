"""The leader's quorum rounds: proof of life for the followers, proof of leadership for itself.

A reply to round *r* says that at some moment after *r* began the sender had promised nothing above
this ballot. A quorum of such replies therefore confirms that no other leader had completed phase 1
before the round began, which is what a read barrier needs (Raft thesis, 6.4) and what a leader that
hears nobody lacks (6.2). Where leases are configured it also renews the leader's (see `lease`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping

from .ballot import Ballot
from .config import PaxosConfig
from .lease import Lease
from .membership import Configuration
from .messages import Heartbeat, HeartbeatReply
from .outbox import Outbox
from .quorum import majority
from .timing import Timing

_ROUNDS = 64
"""How many of the latest rounds are remembered by when they began."""


class Heartbeats:
    def __init__(
        self, config: PaxosConfig, members: Configuration, outbox: Outbox, timing: Timing
    ) -> None:
        self._config = config
        self._members = members
        self._outbox = outbox
        self._timing = timing
        self.lease = Lease(config)
        # Rounds that no quorum has answered yet, and when they began: silences' clock, the owner's.
        self._began: deque[tuple[int, float, float]] = deque(maxlen=_ROUNDS)
        self.round = 0
        self._replied_round: dict[int, int] = {}
        self._leased_round: dict[int, int] = {}
        self._heard_at: dict[int, float] = {}
        self._next_at = 0.0
        self.started_at = 0.0
        self.chosen_through: dict[int, int] = {}

    def start(self, promised_by: Iterable[int], now: float) -> None:
        """A ballot begins. Those who have just promised it count as heard."""
        self._replied_round = {}
        self._leased_round = {}
        self.lease.end()
        heard_at = self._timing.time
        self._heard_at = {peer: heard_at for peer in promised_by if peer != self._config.node}
        self._began.clear()
        self._next_at = now
        self.started_at = now
        self.chosen_through = {}

    def begin_round(self, ballot: Ballot, next_slot: int, chosen_through: int, now: float) -> int:
        """Send a heartbeat to every peer; the number of the round that it opens."""
        self.round += 1
        self._began.append((self.round, self._timing.time, now))
        heartbeat = Heartbeat(
            self._config.node,
            ballot.at(next_slot),
            chosen_through,
            self.round,
            self.live(),
            self._timing.round_trip_ms,
            self.lease.asked_ms,
        )
        for peer in self._members.peers:
            self._outbox.send(peer, heartbeat)
        self._next_at = now + self._config.heartbeat_s
        return self.round

    def due(self, now: float) -> bool:
        return now >= self._next_at

    def on_reply(self, reply: HeartbeatReply) -> None:
        sender = reply.sender
        if reply.round > self.round or sender not in self._members.voters:
            return  # of an earlier life of this node; or of one that has no vote
        self._heard_at[sender] = self._timing.time
        self._replied_round[sender] = max(reply.round, self._replied_round.get(sender, 0))
        if reply.leased:
            self._leased_round[sender] = max(reply.round, self._leased_round.get(sender, 0))
        self.chosen_through[sender] = reply.chosen_through
        confirmed_round, leased_round = self.confirmed_round(), self._reached(self._leased_round)
        while self._began and self._began[0][0] <= confirmed_round:
            number, began_at, asked_at = self._began.popleft()
            if number == confirmed_round:
                self._timing.measured_round_trip(self._timing.time - began_at)
            if number == leased_round:
                self.lease.granted(asked_at)

    def heard(self, peer: int) -> None:
        """A vote arrived: the peer lives, though it confirms no round."""
        if peer in self._members.voters:
            self._heard_at[peer] = self._timing.time

    def confirmed_round(self) -> int:
        """The highest round that a quorum, oneself included, has answered or outlived."""
        return self._reached(self._replied_round)

    def _reached(self, rounds: Mapping[int, int]) -> int:
        needed = majority(len(self._members.voters)) - self._members.votes_here
        if needed == 0:
            return self.round
        latest = sorted(rounds.values(), reverse=True)
        return latest[needed - 1] if len(latest) >= needed else 0

    def live(self) -> tuple[int, ...]:
        """Members heard from within an election timeout, oneself included."""
        return self._heard_within(self._timing.timeout_s)

    @property
    def patience_s(self) -> float:
        """For how long a leader bears with the silence of a quorum."""
        return self._timing.quorum_timeout_s

    @property
    def vote_patience_s(self) -> float:
        """How long ago a vote may be of a member that is asked for one, on whatever disk."""
        return max(self.patience_s, self._timing.disk_patience_s)

    def lost_quorum(self) -> bool:
        return not self._members.is_quorum(self._heard_within(self.patience_s))

    def _heard_within(self, seconds: float) -> tuple[int, ...]:
        since = self._timing.time - seconds
        peers = [peer for peer, heard_at in self._heard_at.items() if heard_at > since]
        return tuple(sorted([self._config.node, *peers]))

    def deadline(self) -> float:
        return min(self._next_at, self._timing.when(math.inf))
