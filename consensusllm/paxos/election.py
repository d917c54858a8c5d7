"""Who may try to lead, and when: failure detection, pre-vote, randomised back-off.

Paxos is safe with any number of proposers and live with one (Paxos Made Simple, 2.4). A replica
tries only after an election timeout without a leader, at a random moment within the next one, and
only when a quorum answers that it hears no leader either (pre-vote, Raft thesis 9.6). The answers
also show that the replica hears a quorum, so one that can speak but not hear never disturbs.
"""

from __future__ import annotations

from random import Random

from .ballot import BOTTOM, Ballot
from .config import PaxosConfig
from .membership import Configuration
from .messages import PreVote, PreVoteReply
from .outbox import Outbox

_STRETCH_MAX = 4
"""Fruitless tries stretch the back-off by at most two to this power."""


class Election:
    def __init__(
        self,
        config: PaxosConfig,
        members: Configuration,
        promised: Ballot,
        outbox: Outbox,
        rng: Random,
    ) -> None:
        self._config = config
        self._members = members
        self._outbox = outbox
        self._rng = rng
        self._highest_seen = promised
        self._heard_at: float | None = None
        self._deadline = 0.0
        self._tries = 0  # since a leader was heard
        self._candidate: Ballot | None = None
        self._grants: set[int] = set()
        self.leader: int | None = None

    def start(self, now: float) -> None:
        """Nobody leads yet. A cluster of one has nobody to wait for."""
        if self._members.peers:
            self._back_off(now)
        else:
            self._deadline = now

    def _back_off(self, now: float) -> None:
        """The next try is one to two election timeouts away, at random; and further with every
        try that led to nothing, because round trips may be longer than the timeout foresees."""
        stretch = 2 ** min(max(0, self._tries - 1), _STRETCH_MAX)
        self._deadline = now + self._config.election_timeout_s * stretch * (
            1.0 + self._rng.random()
        )

    def saw(self, ballot: Ballot) -> None:
        """A ballot that somebody uses: one's own next one must be above it."""
        self._highest_seen = max(self._highest_seen, ballot)

    def heard_leader(self, leader: int, now: float) -> None:
        self.leader = leader
        self._heard_at = now
        self._tries = 0
        self._candidate = None
        self._back_off(now)

    def stand_down(self, now: float) -> None:
        """A try or a leadership has ended: a nack never triggers an immediate next try."""
        self.leader = None
        self._candidate = None
        self._back_off(now)

    def hears_leader(self, now: float) -> bool:
        return (
            self._heard_at is not None
            and now < self._heard_at + self._config.election_timeout_s
            and self.leader is not None
        )

    def won(self) -> None:
        """This node leads: the tries before it were not in vain."""
        self._tries = 0

    def next_ballot(self, promised: Ballot) -> Ballot:
        """A ballot of one's own above every one that was promised or seen."""
        return max(self._highest_seen, promised).above(self._config.node)

    def tick(self, promised: Ballot, now: float) -> bool:
        """Ask for pre-votes when it is time. Whether they are won already (a cluster of one)."""
        if now < self._deadline:
            return False
        self.leader = None
        if not self._members.votes_here:
            self._back_off(now)
            return False
        self._tries += 1
        self._candidate = self.next_ballot(promised)
        self._grants = {self._config.node}
        for peer in self._members.peers:
            self._outbox.send(peer, PreVote(self._config.node, self._candidate))
        self._back_off(now)
        return self._members.is_quorum(self._grants)

    def on_pre_vote(self, request: PreVote, promised: Ballot, leading: bool, now: float) -> None:
        granted = request.ballot > promised and not leading and not self.hears_leader(now)
        self._outbox.send(
            request.sender, PreVoteReply(self._config.node, request.ballot, granted, promised)
        )

    def on_pre_vote_reply(self, reply: PreVoteReply) -> bool:
        """Whether this reply wins the pre-vote."""
        self.saw(reply.promised)
        if reply.ballot != self._candidate or not reply.granted:
            return False
        self._grants.add(reply.sender)
        return self._members.is_quorum(self._grants)

    def deadline(self) -> float:
        return self._deadline

    @property
    def highest_seen(self) -> Ballot:
        return max(self._highest_seen, BOTTOM)
