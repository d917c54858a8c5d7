"""Progress and bounds (rules 10 to 12 and 16)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from consensusllm.paxos import timing
from consensusllm.paxos.clock import Clock
from consensusllm.paxos.election import Election
from consensusllm.paxos.heartbeats import Heartbeats
from consensusllm.paxos.learner import Learner
from consensusllm.paxos.node import PaxosNode
from consensusllm.paxos.proposer import Proposer
from consensusllm.replica.replica import Replica

from .bug import BOUNDED, PROGRESS, Patch, bug


@bug(PROGRESS, faults="lasting cut,cut", within=12, full=True)
def leader_without_a_quorum_stays(patch: Patch) -> None:
    patch.setattr(Heartbeats, "lost_quorum", lambda self: False)


@bug(PROGRESS, faults="depose,isolate")
def election_tried_once(patch: Patch) -> None:
    tick = Election.tick

    def once(self: Election, promised: Any, now: float) -> bool:
        due_at = self._deadline
        won = tick(self, promised, now)
        if self._deadline != due_at:
            self._deadline = math.inf
        return won

    patch.setattr(Election, "tick", once)


@bug(PROGRESS, faults="mute,depose", within=120, full=True)
def lost_prepare_waited_for(patch: Patch) -> None:
    """Neither sent again nor given up: each of the two makes up for the lack of the other.

    Rare: pre-votes must come through and the Prepares after them not, of two nodes one after the
    other, since one that stands still is overtaken by the next.
    """

    def wait(self: PaxosNode) -> None:
        self._proposer._prepare_at = self._now + 1.0
        self._election._back_off()

    patch.setattr(PaxosNode, "_tick_preparing", wait)


@bug(PROGRESS, faults="depose,crash")
def election_that_waits_a_hundred_times_as_long(patch: Patch) -> None:
    for name in ("_wait_for_leader", "_back_off"):
        patch.setattr(Election, name, _longer(getattr(Election, name)))


def _longer(wait: Callable[[Election], None]) -> Callable[[Election], None]:
    def wait_longer(self: Election) -> None:
        wait(self)
        now = self._timing.time
        self._deadline = now + 100 * (self._deadline - now)

    return wait_longer


@bug(PROGRESS, faults="isolate")
def missed_slot_not_fetched(patch: Patch) -> None:
    patch.setattr(Learner, "on_known", lambda self, chosen_through, peer: None)


@bug(PROGRESS, faults="lose")
def lost_proposal_not_sent_again(patch: Patch) -> None:
    tick = Proposer.tick

    def once(self: Proposer, now: float) -> None:
        if self._prepare_at is not None:
            tick(self)

    patch.setattr(Proposer, "tick", once)
    patch.setattr(
        Proposer,
        "deadline",
        lambda self: math.inf if self._prepare_at is None else self._prepare_at,
    )


@bug(BOUNDED, faults="lose,straggle")
def timer_left_in_the_past(patch: Patch) -> None:
    tick = Learner.tick

    def forgetful(self: Learner) -> None:
        fetch, at = self._fetch, self._fetch_at
        tick(self)
        if self._fetch is None:
            self._fetch, self._fetch_at = fetch, at

    patch.setattr(Learner, "tick", forgetful)


@bug(PROGRESS, faults="hanging disk,flood", within=12)
def leader_whose_disk_hangs_leads_on(patch: Patch) -> None:
    """The others' votes choose what it proposes, until its log is full."""
    patch.setattr(timing, "DISK_PATIENCE", math.inf)


@bug(PROGRESS, faults="flood,slow disk,hanging disk", within=90, full=True)
def full_log_left_full(patch: Patch) -> None:
    """A snapshot is looked for only where something is applied, and nothing is any more."""
    maybe = Replica._maybe_snapshot

    def reluctant(self: Any) -> None:
        applied, self.looked_at = self.machine.applied_slot, getattr(self, "looked_at", None)
        if applied != self.looked_at:
            self.looked_at = applied
            maybe(self)

    patch.setattr(Replica, "_maybe_snapshot", reluctant)


@bug(BOUNDED, faults="flood,slow disk", within=42, full=True)
def follower_fetches_beyond_its_log(patch: Patch) -> None:
    patch.setattr(Learner, "_has_room", lambda self: True)


@bug(PROGRESS, faults="set clock,crash all,slow models", within=24, full=True)
def time_stands_still(patch: Patch) -> None:
    """Until the wall clock has come to where that of a former leader was."""
    patch.setattr(Clock, "reached", lambda self, time_ms, now: None)
