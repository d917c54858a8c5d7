"""How a node without a vote gets one: after the loss of its disk, or because it joins.

A node that lost its disk is let in by a ballot that fences its old life (Paxos Made Live, 5.1, made
explicit; `docs/PROTOCOL.md` has the argument). A node that joins has no old life: it is a learner,
and votes in the life that the change of members names, once it has learned that change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from random import Random

from .acceptor import Acceptor
from .ballot import BOTTOM
from .config import PaxosConfig
from .log import Log
from .membership import Configuration
from .messages import Rejoin, Rejoined
from .outbox import Outbox
from .proposer import Proposer

_MORE_BITS = 19
"""How many bits of a life's number are drawn, where it must be above another."""


class Wanted(Enum):
    """What the leader must do for a node that asks for its vote."""

    NOTHING = "nothing"
    FENCE = "fence its old life in a new ballot"
    PROMOTE = "make it a member that votes"
    SLOT = "open a slot: who learns it has lived since"


@dataclass(frozen=True, slots=True)
class Report:
    """What a node without a vote last said. It has caught up when a later one reaches ``goal``: the
    slot that was opened when this round began (Raft thesis, 4.2.1). So it has lived since; a late
    copy of what an earlier life said, which may have known all, does not reach it."""

    incarnation: int
    chosen_through: int
    goal: int
    at: float


class Admission:
    """Both sides: the node that asks (`tick`, `on_rejoined`, `admit`), and the leader."""

    def __init__(
        self,
        config: PaxosConfig,
        members: Configuration,
        log: Log,
        acceptor: Acceptor,
        proposer: Proposer,
        outbox: Outbox,
        rng: Random,
        now: float,
    ) -> None:
        self._config = config
        self._members = members
        self._log = log
        self._acceptor = acceptor
        self._proposer = proposer
        self._outbox = outbox
        self._rng = rng
        self._answer: Rejoined | None = None
        self._ask_at = now
        self.reports: dict[int, Report] = {}

    # Who asks -------------------------------------------------------------------------------

    def deadline(self) -> float:
        return self._ask_at

    def tick(self, now: float) -> None:
        """Ask everybody, from time to time, once what was learned is on this node's disk: to one
        that ends no write no vote must be given, which the others could not do without."""
        if now >= self._ask_at:
            self._ask_at = now + self._config.election_timeout_s
            life, through = self._acceptor.incarnation, self._log.chosen_through
            for peer in self._members.peers:
                self._outbox.send_durable(peer, Rejoin(self._config.node, life, through))

    def on_rejoined(self, answer: Rejoined) -> bool:
        """Whether the answer says from where on this node may vote."""
        if answer.ballot == BOTTOM:
            if answer.incarnation > self._acceptor.incarnation:  # else it asked for an earlier life
                self._begin_above(answer.incarnation)
            return False
        newer = self._answer is None or answer.ballot > self._answer.ballot
        if answer.incarnation != self._acceptor.incarnation or not newer:
            return False
        self._answer = answer
        return True

    def begin_again(self) -> None:
        """This life was fenced: begin another one, without a vote."""
        self._acceptor.abstain()
        self._begin_above(self._acceptor.fence.lowest(self._config.node))

    def _begin_above(self, incarnation: int) -> None:
        """Not right above: what is late may have been told to a life before this one, which then
        took the same number."""
        more = 1 + self._rng.getrandbits(_MORE_BITS)
        self._acceptor.renew_life(incarnation + more)
        self._answer = None

    def admit(self) -> bool:
        """Vote from now on, if everything is learned that the old life could have voted on."""
        answer = self._answer
        if answer is None or self._log.chosen_through < answer.ballot.op_num - 1:
            return False
        if self._members.since == 0:  # no change of members was learned: its own list may be wrong
            self._members.adopt(answer.membership, 0)
            self._outbox.record_membership(0, answer.membership)
        self._acceptor.admit(answer.ballot.at(0), answer.incarnations)
        self._answer = None
        return True

    def joins(self) -> bool:
        """Vote from now on, if the members in force name this very life as one that votes."""
        own = self._members.membership.member(self._config.node)
        if own is None or not own.voting or own.incarnation != self._acceptor.incarnation:
            return False
        self._acceptor.admit(BOTTOM, ())
        self._answer = None
        return True

    # The leader -----------------------------------------------------------------------------

    def on_rejoin(self, rejoin: Rejoin, live: Iterable[int], now: float) -> Wanted:
        """What to do for a node that asks; an answer that needs nothing else is sent. What asks may
        be a late copy, and its sender have a vote by now, which others cannot do without: a life is
        fenced for one that has shown that it lives, and with a majority of the others among those
        who ``live``."""
        sender, life = rejoin.sender, rejoin.incarnation
        member = self._members.membership.member(sender)
        if member is None:
            return Wanted.NOTHING
        if not member.voting:
            return self._on_report(rejoin, Wanted.PROMOTE, now)
        node, fence = self._config.node, self._acceptor.fence
        if 0 < life == member.incarnation and fence.lowest(sender) <= life:
            return Wanted.NOTHING  # it has joined, and will learn so
        membership = self._members.membership
        lowest = max(fence.lowest(sender), member.incarnation)
        if life < lowest:
            self._outbox.send(sender, Rejoined(node, BOTTOM, lowest, fence.pairs(), membership))
        elif not self._proposer.fenced(sender, life):
            if not self._proposer.can_prepare_without(sender, live):
                return Wanted.NOTHING
            wanted = self._on_report(rejoin, Wanted.FENCE, now)
            if wanted is Wanted.FENCE:
                self._acceptor.learn_fence(((sender, life),))
            return wanted
        elif self._log.chosen_through >= self._proposer.first_own_slot:
            ballot = self._proposer.ballot.at(self._log.chosen_through + 1)
            self._outbox.send(sender, Rejoined(node, ballot, life, fence.pairs(), membership))
        return Wanted.NOTHING

    def refuse_vote(self, member: int) -> None:
        """``member`` votes in a life that is fenced, and cannot know: the fence came to this leader
        in a promise, or the Prepare that said so was lost."""
        node, fence = self._config.node, self._acceptor.fence
        self._outbox.send(
            member,
            Rejoined(node, BOTTOM, fence.lowest(member), fence.pairs(), self._members.membership),
        )

    def _on_report(self, rejoin: Rejoin, then: Wanted, now: float) -> Wanted:
        """What to do for a node that learns; ``then``, once it has caught up."""
        last = self.reports.get(rejoin.sender)
        same_life = last is not None and last.incarnation == rejoin.incarnation
        caught_up = last is not None and same_life and rejoin.chosen_through >= last.goal
        under_way = last is not None and same_life and not caught_up
        goal = last.goal if last is not None and under_way else self._proposer.next_slot
        self.reports[rejoin.sender] = Report(rejoin.incarnation, rejoin.chosen_through, goal, now)
        if caught_up:
            return then
        return Wanted.NOTHING if under_way else Wanted.SLOT
