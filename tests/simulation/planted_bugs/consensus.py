"""Ballots, recovery, quorums and what is chosen (rules 2 to 6)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from consensusllm.paxos import proposer as proposer_module
from consensusllm.paxos import quorum
from consensusllm.paxos.acceptor import Acceptor
from consensusllm.paxos.delivery import Delivery
from consensusllm.paxos.election import Election
from consensusllm.paxos.learner import Learner
from consensusllm.paxos.node import PaxosNode
from consensusllm.paxos.proposer import Proposer
from consensusllm.paxos.roles import Role

from .bug import AGREE, ASSERTED, CHOSEN, MAJORITY, PROGRESS, REUSED, Patch, bug


@bug(CHOSEN, faults="depose,lose,crash", within=10)
def accepted_value_ignored_in_recovery(patch: Patch) -> None:
    lead = Proposer.lead

    def ignorant(self: Proposer, now: float) -> None:
        self._recovered = {}
        lead(self, now)

    patch.setattr(Proposer, "lead", ignorant)


@bug(CHOSEN, AGREE, ASSERTED + "slot ", faults="depose,replay,tear", within=40, full=True)
def lowest_ballot_wins_in_recovery(patch: Patch) -> None:
    on_promise = Proposer.on_promise

    def backwards(self: Proposer, promise: Any) -> bool:
        entries = tuple(
            entry
            for entry in promise.entries
            if entry.slot not in self._recovered or entry.slot <= promise.chosen_through
        )
        return on_promise(self, replace(promise, entries=entries))

    patch.setattr(Proposer, "on_promise", backwards)


@bug(MAJORITY, faults="lose,straggle", within=10, full=True)
def hole_skipped_by_the_leader(patch: Patch) -> None:
    on_accepted = Proposer.on_accepted

    def greedy(self: Proposer, accepted: Any) -> bool:
        grew = on_accepted(self, accepted)
        members = self._config.members
        voted = [s for s, open_ in self._window.items() if quorum.is_quorum(open_.voters, members)]
        if voted:
            self._log.choose_through(max(voted))
            self.drop_chosen()
        return grew or bool(voted)

    patch.setattr(Proposer, "on_accepted", greedy)


@bug(ASSERTED + "slot ", faults="lose,straggle")
def hole_skipped_by_a_follower(patch: Patch) -> None:
    def leaping(self: Learner, ballot: Any, chosen_through: int) -> None:
        log = self._log
        held = [s for s in range(log.chosen_through + 1, chosen_through + 1) if log.get(s)]
        own = [s for s in held if log._entries[s].ballot == ballot]
        log.chosen_through = max(own, default=log.chosen_through)
        self.on_known(chosen_through, ballot.pid)

    def take(self: Delivery) -> Any:
        slots = range(self._delivered + 1, self._log.chosen_through + 1)
        self._delivered = self._log.chosen_through
        return tuple((s, entry.batch) for s in slots if (entry := self._log.get(s)) is not None)

    patch.setattr(Learner, "on_commit", leaping)
    patch.setattr(Delivery, "take", take)


@bug(PROGRESS, faults="tear,isolate", within=24, full=True)
def hole_not_filled(patch: Patch) -> None:
    def leaving(self: Proposer, now: float) -> None:
        self._prepare_at = None
        self._drop_recovered()
        held, self._recovered, self._next_chunk = self._recovered, {}, {}
        self.first_own_slot = max(held, default=self._log.chosen_through) + 1
        self._announced_through = 0
        self._awaited_through = 0
        for slot, entry in sorted(held.items()):
            self.next_slot = slot
            self._propose([entry.batch], now)
        self.next_slot = self.first_own_slot
        self._propose([self._noop(now)], now)

    patch.setattr(Proposer, "lead", leaving)


@bug(REUSED, faults="depose,tear")
def ballot_shared_by_two_proposers(patch: Patch) -> None:
    own = Election.next_ballot
    patch.setattr(
        Election, "next_ballot", lambda self, promised: replace(own(self, promised), pid=1)
    )


@bug(MAJORITY, faults="duplicate,straggle", nodes=5, within=10)
def votes_counted_twice(patch: Patch) -> None:
    class Bag(list[int]):
        add = list.append

    class Proposal(proposer_module._Proposal):
        def __init__(self, batch: Any, sent_at: float) -> None:
            super().__init__(batch, sent_at, Bag())  # type: ignore[arg-type]

    patch.setattr(proposer_module, "_Proposal", Proposal)
    patch.setattr(
        proposer_module,
        "is_quorum",
        lambda voters, members: len(voters) >= quorum.majority(len(members)),
    )


@bug(MAJORITY, CHOSEN, faults="relapse,replay", nodes=5, within=66, full=True)
def votes_of_another_ballot_counted(patch: Patch) -> None:
    """Rare: the slot must still be open, as few must have voted before, and a late vote must come
    before its voter has the Accept of the new ballot."""

    def any_ballot(self: PaxosNode, accepted: Any) -> None:
        if self.role is Role.LEADING:
            self._proposer.on_accepted(accepted)

    patch.setattr(PaxosNode, "_on_accepted", any_ballot)


@bug(CHOSEN, AGREE, faults="relapse,replay", nodes=5, within=150, full=True)
def promises_of_another_ballot_counted(patch: Patch) -> None:
    """With a node that lags asking for what it lacks only after a heartbeat: what it learned since
    masks a late promise."""
    on_promise, on_known = PaxosNode._on_promise, Learner.on_known

    def any_ballot(self: PaxosNode, promise: Any) -> None:
        own = self._proposer.ballot.at(promise.ballot.op_num)
        on_promise(self, replace(promise, ballot=own))

    def patient(self: Learner, chosen_through: int, peer: int) -> None:
        idle = self._fetch is None
        on_known(self, chosen_through, peer)
        if idle and self._fetch is not None:
            self._fetch_at = self._timing.time + self._config.heartbeat_s

    patch.setattr(PaxosNode, "_on_promise", any_ballot)
    patch.setattr(Learner, "on_known", patient)


@bug(MAJORITY, PROGRESS, faults="lose", nodes=5)
def half_is_a_majority(patch: Patch) -> None:
    """A leader that two have promised hears no majority, and steps down at once: no progress."""
    patch.setattr(
        proposer_module,
        "is_quorum",
        lambda voters, members: len(set(voters)) >= len(members) // 2,
    )


@bug(CHOSEN, AGREE, faults="depose,straggle,pause")
def lower_ballot_accepted(patch: Patch) -> None:
    on_accept = Acceptor.on_accept

    def lenient(self: Acceptor, accept: Any) -> bool:
        promised, self.promised = self.promised, min(self.promised, accept.ballot)
        try:
            return on_accept(self, accept)
        finally:
            self.promised = max(promised, self.promised)

    patch.setattr(Acceptor, "on_accept", lenient)
    patch.setattr(PaxosNode, "_follow", lambda self, sender, ballot: True)


@bug(AGREE, faults="depose,lose,straggle")
def commit_index_trusted_across_ballots(patch: Patch) -> None:
    def trusting(self: Learner, ballot: Any, chosen_through: int) -> None:
        slot = self._log.chosen_through
        while slot < chosen_through and self._log.get(slot + 1) is not None:
            slot += 1
        self._log.choose_through(slot)
        self.on_known(chosen_through, ballot.pid)

    patch.setattr(Learner, "on_commit", trusting)
