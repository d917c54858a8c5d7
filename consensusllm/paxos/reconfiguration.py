"""The part of `PaxosNode` that changes members and leader: who they are, and who may vote here.

The rule is in `docs/PROTOCOL.md`: a change is in force once it is chosen, and a ballot ends so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from .admission import Wanted
from .ballot import BOTTOM
from .batch import in_parts
from .changes import Change, ChangeProgress, Changes
from .knowledge import Knowledge
from .membership import Membership
from .messages import CatchUp, Forward, Rejoin, Rejoined, TimeoutNow
from .outbox import Outbox
from .roles import Event, NotLeader, Role


class Reconfiguration(Knowledge, ABC):
    """See the module. What a role is and how it changes is for `PaxosNode` to say."""

    _changes: Changes
    _outbox: Outbox
    _members_batch: int
    """The batch of changes that makes the members in force durable."""

    @abstractmethod
    def _advance(self, now: float) -> None: ...

    @abstractmethod
    def _turn(self, event: Event) -> None: ...

    @abstractmethod
    def _prepare(self, event: Event) -> None: ...

    @abstractmethod
    def _step_down(self, event: Event) -> None: ...

    @abstractmethod
    def _announce(self) -> None: ...

    def change(self, change: Change, now: float) -> ChangeProgress:
        """Take the next step towards ``change``, and say what it waits for; to be repeated until it
        is done. Raises NotLeader, ChangeRefused."""
        self._advance(now)
        if self.role is not Role.LEADING:
            raise NotLeader(self.leader)
        step = self._changes.next_step(change, now)
        if step.membership is not None:
            self._proposer.change(step.membership, now)
        elif step.successor is not None:
            self._hand_over(step.successor)
        elif step.calls_roll:
            self._proposer.call_roll(now)
        return step.progress

    # Who has no vote ------------------------------------------------------------------------

    def _on_rejoin(self, rejoin: Rejoin) -> None:
        """A peer has no vote: it lost its disk, or joins. It may lack the very change that made it
        a voter, without which nobody can lead: while nobody does, it is told what is chosen. So is,
        at any time, one that has missed its removal."""
        removed = rejoin.sender in self._members.membership.removed
        if removed or self.role is not Role.LEADING:
            lacks = rejoin.chosen_through < self._log.chosen_through
            if lacks and (removed or self.leader is None):
                self._learner.on_catch_up(CatchUp(rejoin.sender, rejoin.chosen_through + 1))
            return
        wanted = self._admission.on_rejoin(rejoin, self._heartbeats.live(), self._now)
        if wanted is Wanted.FENCE:
            self._prepare(Event.FENCING)
        elif wanted is Wanted.PROMOTE:
            membership = self._changes.promote(rejoin, self._now)
            if membership is not None:
                self._proposer.change(membership, self._now)
                return
            wanted = Wanted.SLOT
        if wanted is Wanted.SLOT and not self._proposer.stopped:
            self._proposer.call_roll(self._now)

    def _on_rejoined(self, answer: Rejoined) -> None:
        if self.role is Role.LEARNING and self._admission.on_rejoined(answer):
            self._learner.on_known(answer.ballot.op_num - 1, answer.sender)
            self._admit_if_ready()
        elif answer.ballot == BOTTOM:  # the votes of a life of this node are refused
            self._acceptor.learn_fence(answer.incarnations)
            self._end_fenced_life()

    def _admit_if_ready(self) -> None:
        if self.role is Role.LEARNING and self._admission.admit():
            self._turn(Event.ADMITTED)
            self._election.stand_down()

    def _end_fenced_life(self) -> bool:
        """Whether this life is fenced: it was taken for one that had ended, or the disk is an old
        copy. Its votes count no more. It asks for its vote anew."""
        if not self._acceptor.fenced:
            return False
        if self.role is Role.FOLLOWING:
            self._turn(Event.FENCED)
        else:
            self._step_down(Event.FENCED)
        self._admission.begin_again()
        return True

    # What is in force -----------------------------------------------------------------------

    def _adopt_change(self) -> bool:
        """Put what is now chosen of changes into force. Whether there was one."""
        changes = self._log.chosen_changes(self._members.since)
        if not changes:
            return False
        if self.role is Role.LEADING:
            self._announce()  # those who leave hear of it too
        membership = self._members.membership
        for entry in changes:
            membership = membership.followed_by(entry.batch.membership())
        self._reconfigure(membership, changes[-1].slot)
        return True

    def _reconfigure(self, membership: Membership, since: int) -> None:
        """``membership`` is in force above slot ``since``. A ballot that was begun with other
        members ends: nothing above that slot may be proposed in it."""
        self._members.adopt(membership, since)
        self._members_batch = self._outbox.record_membership(since, membership)
        self._adopt_own_vote()
        if self.role in (Role.PREPARING, Role.LEADING):
            if self._members.votes_here:
                self._prepare(Event.RECONFIGURED)
            else:
                self._step_down(Event.REMOVED)

    def _adopt_own_vote(self) -> None:
        if self.role is Role.LEARNING and self._admission.joins():
            self._turn(Event.PROMOTED)
            self._election.stand_down()

    def _durably_chosen_through(self) -> int:
        """The end of the prefix, but before a change of members that a crash here could forget."""
        if self._outbox.is_durable(self._members_batch):
            return self._log.chosen_through
        return min(self._log.chosen_through, self._members.since - 1)

    # The leader ------------------------------------------------------------------------------

    def _hand_over(self, successor: int) -> None:
        """End the lease, stop leading, have ``successor`` prepare at once, and hand it what waits
        for a slot."""
        self._heartbeats.lease.end()
        self._announce()
        self._outbox.send(successor, TimeoutNow(self.config.node, self._proposer.ballot))
        commands = self._proposer.take_pending()
        for part in in_parts(commands, self.config.chunk_bytes):
            self._outbox.send(successor, Forward(self.config.node, 0, part))
        self._step_down(Event.HANDING_OVER)
        self._election.expect(successor)

    def _on_timeout_now(self, request: TimeoutNow) -> None:
        current = request.ballot >= self._election.highest_seen
        if self.role is Role.FOLLOWING and current and self._members.votes_here:
            grant = self._acceptor.grant
            grant.release(request.sender, self._now)
            if not grant.binds(self.config.node, self._now):
                self._prepare(Event.HANDED_OVER)
