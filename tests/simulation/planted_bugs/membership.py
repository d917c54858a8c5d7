"""Changes of the members."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from consensusllm.paxos import BOTTOM
from consensusllm.paxos.admission import Admission
from consensusllm.paxos.changes import Changes
from consensusllm.paxos.log import Log
from consensusllm.paxos.membership import Configuration, Membership
from consensusllm.paxos.messages import Rejoin

from .bug import AGREE, CHOSEN, MAJORITY, NO_MEMBER, ONE_CHANGE, PROGRESS, USED_ID, Patch, bug


@bug(ONE_CHANGE, faults="membership,lose,slow link")
def two_changes_at_a_time(patch: Patch) -> None:
    def careless(self: Membership, node: int) -> None: ...

    patch.setattr(Membership, "_no_other_is_joining", careless)
    patch.setattr(Changes, "may_propose", property(lambda self: not self._proposer.stopped))
    without = Membership.without

    def both(self: Membership, node: int) -> Membership:
        others = [each.node for each in self.members if each.voting and each.node != node]
        after = without(self, node)
        return without(after, others[0]) if len(others) > 1 else after

    patch.setattr(Membership, "without", both)


@bug(MAJORITY, CHOSEN, AGREE, PROGRESS, faults="replace node,depose,lose")
def change_in_force_before_it_is_chosen(patch: Patch) -> None:
    def hasty(self: Log, since: int) -> Any:
        return [entry for slot, entry in sorted(self._changes.items()) if slot > since]

    patch.setattr(Log, "chosen_changes", hasty)


@bug(MAJORITY, CHOSEN, PROGRESS, faults="membership,lose,slow disk", within=12, full=True)
def votes_counted_in_the_first_configuration(patch: Patch) -> None:
    """Votes of those who are no members any more may also be waited for in vain: no progress."""

    adopt = Configuration.adopt

    def stubborn(self: Configuration, membership: Membership, since: int) -> None:
        first = getattr(self, "voters", None)
        adopt(self, membership, since)
        if first is not None and self.node in first:
            self.voters = first

    patch.setattr(Configuration, "adopt", stubborn)


@bug(USED_ID, faults="add node,replace node")
def removed_id_used_again(patch: Patch) -> None:
    without = Membership.without

    def forgetful(self: Membership, node: int) -> Membership:
        return replace(without(self, node), removed=())

    patch.setattr(Membership, "without", forgetful)


@bug(NO_MEMBER, PROGRESS, faults="membership", within=45, full=True)
def learner_that_votes(patch: Patch) -> None:
    def eager(self: Admission) -> bool:
        if self._members.membership.member(self._config.node) is None:
            return False
        self._acceptor.admit(BOTTOM, ())
        return True

    patch.setattr(Admission, "joins", eager)


@bug(PROGRESS, faults="newcomer", within=6)
def vote_for_a_node_whose_disk_hangs(patch: Patch) -> None:
    """What it says that it has learned is not durable, and will not be."""

    def from_memory(self: Admission, now: float) -> None:
        if now >= self._ask_at:
            self._ask_at = now + self._config.election_timeout_s
            life, through = self._acceptor.incarnation, self._log.chosen_through
            for peer in self._members.peers:
                self._outbox.send(peer, Rejoin(self._config.node, life, through))

    patch.setattr(Admission, "tick", from_memory)


@bug(PROGRESS, faults="mistaken removal", within=60, full=True)
def removal_that_counts_on_old_news(patch: Patch) -> None:
    def heard_lately(self: Changes, call: Any) -> set[int]:
        return set(self._heartbeats.live())

    patch.setattr(Changes, "_present", heard_lately)
