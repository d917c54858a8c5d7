"""Who may try to lead, and when: failure detection, pre-vote, randomised back-off.

Paxos is safe with any number of proposers and live with one (Paxos Made Simple, 2.4). A replica
tries only after a silence of the leader that is long by what it has measured (see `timing`), or
soon after the leader's connection has ended, as that of a process that died does. It waits a
random while more, and leads only when a quorum answers that it hears no leader either (pre-vote,
Raft thesis 9.6). The answers also show that the replica hears a quorum, so one that can speak but
not hear never disturbs, and a connection that ended without a death deposes nobody.
"""

from __future__ import annotations

from random import Random

from .ballot import Ballot
from .config import PaxosConfig
from .lease import Grant
from .membership import Configuration
from .messages import PreVote, PreVoteReply
from .outbox import Outbox
from .timing import Timing

_STRETCH_MAX = 4
"""Fruitless ballots stretch the back-off by at most two to this power."""
_GONE_TRIES = 4
"""After so many tries that a death was to explain, there was none: others would know of it too."""


class Election:
    """All times are of ``timing.time``, the clock of silences, but for those of ``grant``."""

    def __init__(
        self,
        config: PaxosConfig,
        members: Configuration,
        promised: Ballot,
        outbox: Outbox,
        rng: Random,
        timing: Timing,
        grant: Grant,
    ) -> None:
        self._config = config
        self._members = members
        self._grant = grant
        self._outbox = outbox
        self._rng = rng
        self._timing = timing
        self.highest_seen = promised
        self._heard: Ballot | None = None  # of whoever led last
        self._heard_at = 0.0
        self._gone = False  # the connection of whoever led last has ended
        self._gone_tries = 0
        self._ballots = 0  # begun since a leader was heard
        self._candidate: Ballot | None = None
        self._asked_at = 0.0
        self._grants: set[int] = set()
        self.leader: int | None = None
        # Nobody leads yet. A cluster of one has nobody to wait for.
        self._deadline = timing.time
        if members.peers:
            self._wait_for_leader()

    def _wait_for_leader(self) -> None:
        self._deadline = (
            self._timing.time + self._timing.timeout_s + self._timing.spread_s * self._rng.random()
        )

    def _back_off(self) -> None:
        """The next try is one to two times what a try is given away, at random; and further with
        every ballot that led to nothing, because round trips may be longer than is foreseen. Not
        with pre-votes that nobody answers: who was cut off tries soon after it is joined again."""
        wait_s = self._timing.patience_s * _stretch(self._ballots)
        if self._gone:  # at first without regard to who else tries: one of them wins all the same
            wait_s = self._timing.grace_s
            if self._gone_tries:
                wait_s += self._timing.round_trip_s
            wait_s *= _stretch(self._gone_tries)
        self._deadline = self._timing.time + wait_s * (1.0 + self._rng.random())

    def saw(self, ballot: Ballot) -> None:
        """A ballot that somebody uses: one's own next one must be above it."""
        self.highest_seen = max(self.highest_seen, ballot)

    def heard_leader(self, ballot: Ballot) -> None:
        """Whoever leads at ``ballot`` speaks. What passed before it led is no silence of it, also
        where it had led before."""
        if ballot == self._heard:
            self._timing.measured_silence(self._timing.time - self._heard_at)
        self._heard = ballot
        self.expect(ballot.pid)

    def expect(self, leader: int) -> None:
        """``leader`` leads, or is about to: it is given an election timeout from now."""
        self.leader = leader
        self._heard_at = self._timing.time
        self._ballots = 0
        self._gone = False
        self._candidate = None
        self._wait_for_leader()

    def peer_gone(self, peer: int) -> None:
        """The connection of ``peer`` has ended, and what it sent before has arrived."""
        if peer == self.leader and not self._gone:
            self._gone, self._gone_tries = True, 0
            self._back_off()

    def begin(self, ballot: Ballot) -> None:
        """This node prepares ``ballot``: until it is due, it waits for promises."""
        self.saw(ballot)
        self._ballots += 1
        self.stand_down()

    def stand_down(self) -> None:
        """A try or a leadership has ended: a nack never triggers an immediate next try."""
        self.leader = None
        self._candidate = None
        self._gone = False
        self._back_off()

    def hears_leader(self) -> bool:
        return (
            self.leader is not None
            and not self._gone
            and self._timing.time < self._heard_at + self._timing.timeout_s
        )

    def won(self) -> None:
        """This node leads: the ballots before it were not in vain."""
        self._ballots = 0

    def next_ballot(self, promised: Ballot) -> Ballot:
        """A ballot of one's own above every one that was promised or seen."""
        return max(self.highest_seen, promised).above(self._config.node)

    def due(self) -> bool:
        return self._timing.time >= self._deadline

    def tick(self, promised: Ballot, now: float) -> bool:
        """Ask for pre-votes when it is time. Whether they are won already (a cluster of one)."""
        if not self.due() or self._grant.binds(self._config.node, now):
            return False
        self.leader = None
        if not self._members.votes_here:
            self._back_off()
            return False
        if self._gone:
            self._gone_tries += 1
            self._gone = self._gone_tries <= _GONE_TRIES
        ballot = self.next_ballot(promised)
        if ballot != self._candidate:
            self._candidate, self._asked_at = ballot, self._timing.time
        self._grants = {self._config.node}
        for peer in self._members.peers:
            self._outbox.send(peer, PreVote(self._config.node, ballot))
        self._back_off()
        return self._members.is_quorum(self._grants)

    def on_pre_vote(self, request: PreVote, promised: Ballot, leading: bool, now: float) -> None:
        bound = leading or self.hears_leader() or self._grant.binds(request.sender, now)
        granted = request.ballot > promised and not bound
        self._outbox.send(
            request.sender, PreVoteReply(self._config.node, request.ballot, granted, promised)
        )

    def on_pre_vote_reply(self, reply: PreVoteReply) -> bool:
        """Whether this reply wins the pre-vote: not where this node is no voter any more."""
        self.saw(reply.promised)
        if reply.ballot != self._candidate or not reply.granted:
            return False
        self._grants.add(reply.sender)
        if not self._members.votes_here or not self._members.is_quorum(self._grants):
            return False
        self._timing.guessed_round_trip(self._timing.time - self._asked_at)
        return True

    def deadline(self) -> float:
        """When to look again, on the owner's clock."""
        at = self._timing.when(self._deadline)
        return max(at, self._grant.until) if self.due() else at


def _stretch(times: int) -> int:
    """By how much a wait grows when it has been in vain ``times`` times."""
    return int(2 ** min(max(0, times - 1), _STRETCH_MAX))
