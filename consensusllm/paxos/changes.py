"""Changes of members and of the leader, as the leader carries them out: one step at a time.

A request says what is wanted and is repeated until it is so; every repetition does what is then
next, or says what it waits for. So a request that is lost, comes twice, or meets a new leader does
no harm. What is under way is in the membership and in the ballot; all that is kept here is from
which slot on the members are asked for votes, before one of them is let go, and who was handed the
lead in vain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

from .admission import Admission
from .config import PaxosConfig
from .heartbeats import Heartbeats
from .log import Log
from .membership import ChangeRefused, Configuration, Membership
from .messages import Rejoin
from .proposer import Proposer
from .quorum import majority

NEAR_SLOTS = 256
"""Who lacks no more than this, as far as it has said, is as good as in step: a successor that may
be handed over to."""

IN_VAIN = 10
"""For so many election timeouts nothing is handed over to a successor that twice did not come to
lead: each try costs the others an election. (The first word may have been lost.)"""


@dataclass(frozen=True, slots=True)
class AddNode:
    """``address`` is ``host:port``."""

    node: int
    address: str


@dataclass(frozen=True, slots=True)
class RemoveNode:
    """``asked`` tells one asking, however often it is repeated, from another one, whose votes are
    not its own; 0 to 2^64 - 1."""

    node: int
    asked: int = 0


@dataclass(frozen=True, slots=True)
class TransferLeader:
    node: int


Change: TypeAlias = AddNode | RemoveNode | TransferLeader


@dataclass(frozen=True, slots=True)
class ChangeProgress:
    """``waits_for`` is what is still to come, in words; "" where the change is done. ``behind`` is
    how many slots a joining node lacks, where that is what is waited for."""

    waits_for: str = ""
    behind: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What the leader does next: propose a membership, hand over, or see who votes."""

    progress: ChangeProgress
    membership: Membership | None = None
    successor: int | None = None
    calls_roll: bool = False


@dataclass(frozen=True, slots=True)
class _RollCall:
    """Who votes in ``slot``, which was opened when a removal was asked for, or above has lived
    since, and its disk has written. It holds from ``began_at`` for as long as slow disks take for
    their votes. ``opened_at`` is when a slot was last opened for it."""

    slot: int
    began_at: float
    opened_at: float


class Changes:
    def __init__(
        self,
        config: PaxosConfig,
        members: Configuration,
        log: Log,
        proposer: Proposer,
        heartbeats: Heartbeats,
        admission: Admission,
    ) -> None:
        self._config = config
        self._members = members
        self._log = log
        self._proposer = proposer
        self._heartbeats = heartbeats
        self._admission = admission
        self._roll_calls: dict[RemoveNode, _RollCall] = {}
        # When and how often the lead was handed to whom, without its being taken.
        self._handed: dict[int, tuple[float, int]] = {}

    def led_by(self, node: int) -> None:
        """``node`` leads: what was handed to it was not in vain."""
        self._handed.pop(node, None)

    @property
    def may_propose(self) -> bool:
        """Whether the last change is chosen and this ballot's own first slot too, which was chosen
        by the members now in force."""
        return not self._proposer.stopped and (
            self._log.chosen_through >= self._proposer.first_own_slot
        )

    def next_step(self, change: Change, now: float) -> Step:
        """What to do for ``change`` now. Raises ChangeRefused."""
        if isinstance(change, TransferLeader):
            return self._transfer(change.node, now)
        if isinstance(change, RemoveNode):
            return self._remove(change, now)
        return self._add(change, now)

    def promote(self, rejoin: Rejoin, now: float) -> Membership | None:
        """The membership in which the learner that has caught up votes; None: not now."""
        membership = self._members.membership.promoting(rejoin.sender, rejoin.incarnation)
        live = {*self._heartbeats.live(), rejoin.sender}
        if self.may_propose and _has_live_majority(membership, live):
            return membership
        return None

    # Each kind ------------------------------------------------------------------------------

    def _add(self, change: AddNode, now: float) -> Step:
        member = self._members.membership.member(change.node)
        if member is None:
            membership = self._members.membership.adding(change.node, change.address)
            return self._propose(membership)
        if member.address != change.address:
            where = f" at {member.address}" if member.address else ""
            raise ChangeRefused(f"node {change.node} is a member already{where}: take another id")
        if member.voting:
            return self._settle(now)
        report = self._admission.reports.get(change.node)
        if report is None or report.at <= now - 3 * self._config.election_timeout_s:
            return _wait(f"node {change.node} to be heard")
        behind = max(0, self._log.chosen_through - report.chosen_through)
        return _catching_up(change.node, behind)

    def _remove(self, change: RemoveNode, now: float) -> Step:
        node = change.node
        if node in self._members.membership.removed:
            self._roll_calls.pop(change, None)
            return self._settle(now)
        membership = self._members.membership.without(node)
        if self._proposer.stopped:  # it may be this one, and is taken back no more
            return _wait("the change that is under way")
        live = self._heartbeats.live()
        if not _has_live_majority(membership, set(live)):
            if self._has_just_begun(now):
                return _wait("the members to be heard")
            alive = len(set(live).intersection(membership.voters))
            raise ChangeRefused(
                f"without node {node} only {alive} of {len(membership.voters)} nodes would be "
                "alive, which is no majority: start the others first"
            )
        call = self._roll_calls.get(change)
        if call is None or self._is_over(call, now):
            return self._begin_roll_call(change, now)
        present = self._present(call)
        if not _has_live_majority(membership, present):
            missing = " or ".join(str(voter) for voter in membership.voters if voter not in present)
            waits = ChangeProgress(f"a vote of node {missing}")
            lost = now > call.opened_at + self._heartbeats.patience_s and self._nothing_open
            if not (lost and self.may_propose):
                return Step(waits)
            # What is chosen is sent to nobody again.
            self._roll_calls[change] = replace(call, opened_at=now)
            return Step(waits, calls_roll=True)
        if node == self._config.node:
            return self._hand_over_to_any(present, now)
        return self._propose(membership)

    def _begin_roll_call(self, change: RemoveNode, now: float) -> Step:
        """That a member was heard within an election timeout does not say that it still lives, nor
        that it can vote: its disk may hang. Without a majority nobody could take the removal back.
        """
        if not self.may_propose:
            return _wait("the change that is under way")
        calls = self._roll_calls.items()
        self._roll_calls = {each: call for each, call in calls if not self._is_over(call, now)}
        self._roll_calls[change] = _RollCall(self._proposer.next_slot, now, now)
        return Step(ChangeProgress("the members to vote"), calls_roll=True)

    def _is_over(self, call: _RollCall, now: float) -> bool:
        """Whether disks have had time for their votes."""
        return now > call.began_at + self._heartbeats.vote_patience_s

    @property
    def _nothing_open(self) -> bool:
        return self._log.chosen_through >= self._proposer.next_slot - 1

    def _present(self, call: _RollCall) -> set[int]:
        return self._proposer.voted_since(call.slot)

    def _transfer(self, node: int, now: float) -> Step:
        if node not in self._members.voters:
            member = self._members.membership.member(node)
            if member is None:
                raise ChangeRefused(self._members.membership.named(node))
            raise ChangeRefused(f"node {node} has no vote yet: wait until it has caught up")
        if node == self._config.node:
            return Step(ChangeProgress()) if self.may_propose else _wait("the leader to begin")
        if node not in self._heartbeats.live():
            if self._has_just_begun(now):
                return _wait(f"node {node} to be heard")
            raise ChangeRefused(f"node {node} does not answer the leader: start it first")
        if self._in_vain(node, now):
            raise ChangeRefused(
                f"node {node} was handed the lead twice and did not take it: see that it and the "
                "others hear each other, or hand over to another one"
            )
        return self._hand_over(node, now)

    def _hand_over_to_any(self, present: set[int], now: float) -> Step:
        others = present - {self._config.node}
        able = {each for each in others if not self._in_vain(each, now)}
        if able:
            return self._hand_over(self._best_successor(able, now), now)
        tried = " or ".join(str(each) for each in sorted(others))
        return _wait(f"node {tried} to be able to lead, which was tried")

    def _in_vain(self, node: int, now: float) -> bool:
        return self._tries(node, now) >= 2

    def _tries(self, node: int, now: float) -> int:
        at, times = self._handed.get(node, (-math.inf, 0))
        return times if now < at + IN_VAIN * self._config.election_timeout_s else 0

    def _hand_over(self, successor: int, now: float) -> Step:
        if not self.may_propose:
            return _wait("the change that is under way")
        held = self._heartbeats.chosen_through.get(successor, 0)
        behind = self._log.chosen_through - held
        if behind > NEAR_SLOTS:
            return _catching_up(successor, behind)
        self._handed[successor] = (now, self._tries(successor, now) + 1)
        return Step(ChangeProgress(f"node {successor} to lead"), successor=successor)

    def _has_just_begun(self, now: float) -> bool:
        """Whether the ballot is too young for silence to mean anything."""
        return now < self._heartbeats.started_at + self._config.election_timeout_s

    def _best_successor(self, able: set[int], now: float) -> int:
        def rank(node: int) -> tuple[bool, int, int, int]:
            held = self._heartbeats.chosen_through.get(node, 0)
            near = self._log.chosen_through - held <= NEAR_SLOTS
            return near, -self._tries(node, now), held, -node

        return max(able, key=rank)

    def _propose(self, membership: Membership) -> Step:
        if not self.may_propose:
            return _wait("the change that is under way")
        return Step(ChangeProgress("the change to be chosen"), membership=membership)

    def _settle(self, now: float) -> Step:
        """Wait until a majority of the new members knows durably that it is one: until then the old
        members may be needed to find that out."""
        since = self._members.since
        told = self._heartbeats.chosen_through.items()
        knowing = {self._config.node, *(peer for peer, through in told if through >= since)}
        if self.may_propose and self._members.is_quorum(knowing):
            return Step(ChangeProgress())
        return _wait("a majority of the new members to know of the change")


def _catching_up(node: int, behind: int) -> Step:
    slots = "slot" if behind == 1 else "slots"
    return Step(ChangeProgress(f"node {node} to catch up: {behind} {slots} behind", behind))


def _wait(what: str) -> Step:
    return Step(ChangeProgress(what))


def _has_live_majority(membership: Membership, live: set[int]) -> bool:
    voters = membership.voters
    return len(live.intersection(voters)) >= majority(len(voters))
