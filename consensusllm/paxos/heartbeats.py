"""The leader's quorum rounds: proof of life for the followers, proof of leadership for itself.

A reply to round *r* says that at some moment after *r* began the sender had promised nothing above
this ballot. A quorum of such replies therefore confirms that no other leader had completed phase 1
before the round began, which is what a read barrier needs (Raft thesis, 6.4) and what a leader that
hears nobody lacks (6.2).
"""

from __future__ import annotations

from collections.abc import Iterable

from .ballot import Ballot
from .config import PaxosConfig
from .membership import Configuration
from .messages import Heartbeat, HeartbeatReply
from .outbox import Outbox
from .quorum import majority


class Heartbeats:
    def __init__(self, config: PaxosConfig, members: Configuration, outbox: Outbox) -> None:
        self._config = config
        self._members = members
        self._outbox = outbox
        self.round = 0
        self._replied_round: dict[int, int] = {}
        self._heard_at: dict[int, float] = {}
        self._next_at = 0.0
        self.started_at = 0.0
        self.chosen_through: dict[int, int] = {}

    def start(self, promised_by: Iterable[int], now: float) -> None:
        """A ballot begins. Those who have just promised it count as heard."""
        self._replied_round = {}
        self._heard_at = {peer: now for peer in promised_by if peer != self._config.node}
        self._next_at = now
        self.started_at = now
        self.chosen_through = {}

    def begin_round(self, ballot: Ballot, next_slot: int, chosen_through: int, now: float) -> int:
        """Send a heartbeat to every peer; the number of the round that it opens."""
        self.round += 1
        heartbeat = Heartbeat(
            self._config.node, ballot.at(next_slot), chosen_through, self.round, self.live(now)
        )
        for peer in self._members.peers:
            self._outbox.send(peer, heartbeat)
        self._next_at = now + self._config.heartbeat_s
        return self.round

    def due(self, now: float) -> bool:
        return now >= self._next_at

    def on_reply(self, reply: HeartbeatReply, now: float) -> None:
        sender = reply.sender
        if reply.round > self.round or sender not in self._members.voters:
            return  # of an earlier life of this node; or of one that has no vote
        self._heard_at[sender] = now
        self._replied_round[sender] = max(reply.round, self._replied_round.get(sender, 0))
        self.chosen_through[sender] = reply.chosen_through

    def heard(self, peer: int, now: float) -> None:
        """A vote arrived: the peer lives, though it confirms no round."""
        if peer in self._members.voters:
            self._heard_at[peer] = now

    def confirmed_round(self) -> int:
        """The highest round that a quorum, oneself included, has answered or outlived."""
        needed = majority(len(self._members.voters)) - 1
        if needed == 0:
            return self.round
        rounds = sorted(self._replied_round.values(), reverse=True)
        return rounds[needed - 1] if len(rounds) >= needed else 0

    def live(self, now: float) -> tuple[int, ...]:
        """Members heard from within an election timeout, oneself included."""
        since = now - self._config.election_timeout_s
        peers = [peer for peer, heard_at in self._heard_at.items() if heard_at > since]
        return tuple(sorted([self._config.node, *peers]))

    def lost_quorum(self, now: float) -> bool:
        return len(self.live(now)) < majority(len(self._members.voters))

    def deadline(self) -> float:
        return self._next_at
