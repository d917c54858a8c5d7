"""Bugs to plant, one for each rule that toy versions get wrong, and where each is planted.

Every one replaces a method of the product by one that breaks a single rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from consensusllm.conversations import sessions, turn_rules
from consensusllm.conversations.machine import Machine
from consensusllm.council.answerer import Answerer
from consensusllm.council.duties import Duties
from consensusllm.paxos import BOTTOM, quorum
from consensusllm.paxos import proposer as proposer_module
from consensusllm.paxos.acceptor import Acceptor
from consensusllm.paxos.admission import Admission
from consensusllm.paxos.changes import Changes
from consensusllm.paxos.election import Election
from consensusllm.paxos.heartbeats import Heartbeats
from consensusllm.paxos.learner import Learner
from consensusllm.paxos.lease import Lease
from consensusllm.paxos.log import Log
from consensusllm.paxos.membership import Configuration, Membership
from consensusllm.paxos.messages import Accepted, Nack, Promise, Rejoined
from consensusllm.paxos.node import PaxosNode
from consensusllm.paxos.outbox import Outbox
from consensusllm.paxos.proposer import Proposer
from consensusllm.replica.jobs import Write
from consensusllm.replica.replica import Replica
from consensusllm.simulation import node as node_module
from consensusllm.storage import DiskFailed, MemoryDisk

Patch = pytest.MonkeyPatch

SECONDS = 40.0
"""Simulated, of each seed."""


@dataclass(frozen=True)
class Bug:
    """``faults`` and ``nodes`` are what the simulation runs with, ``seeds`` within how many of them
    the bug must be found, ``caught_by`` the invariants that may find it."""

    name: str
    plant: Callable[[Patch], None]
    seeds: int
    caught_by: tuple[str, ...]
    faults: str = "all"
    nodes: int = 3

    def __str__(self) -> str:
        return self.name


BUGS: list[Bug] = []


def bug(
    seeds: int, *caught_by: str, faults: str = "all", nodes: int = 3
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def register(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        name = plant.__name__.replace("_", " ")
        BUGS.append(Bug(name, plant, seeds, caught_by, faults, nodes))
        return plant

    return register


DURABLE = "durable before revealed"
MAJORITY = "chosen is durable on a majority"
CHOSEN = "one chosen value a slot"
AGREE = "applied prefixes agree"
ASSERTED = "no bug stops a node"
LINEARIZABLE = "linearizable"
ONCE = "each command is applied once"
LOST_DISK = "no vote after a lost disk"
PROGRESS = "progress after the faults"
BOUNDED = "everything is bounded"
ONE_CHANGE = "one change at a time"
USED_ID = "an id is never used again"
NO_MEMBER = "no vote before it is a member"


def _unsynced(patch: Patch, early: Callable[[int, Any], bool]) -> None:
    durable = Outbox.send_durable

    def send(self: Outbox, dst: int, message: Any) -> None:
        if early(dst, message):
            self.send(dst, message)
        else:
            durable(self, dst, message)

    patch.setattr(Outbox, "send_durable", send)


@bug(1, DURABLE, faults="depose")
def promise_not_synced(patch: Patch) -> None:
    _unsynced(patch, lambda _, message: isinstance(message, Promise))


@bug(1, DURABLE, faults="depose")
def vote_not_synced(patch: Patch) -> None:
    _unsynced(patch, lambda _, message: isinstance(message, Accepted))


@bug(1, DURABLE, faults="replay,tear")
def refusal_not_synced(patch: Patch) -> None:
    _unsynced(patch, lambda _, message: isinstance(message, Nack))


@bug(1, MAJORITY, faults="slow disk,depose")
def own_vote_not_synced(patch: Patch) -> None:
    propose = Proposer._propose

    def counting(self: Proposer, batches: Any, now: float) -> None:
        propose(self, batches, now)
        for proposal in self._window.values():
            proposal.voters.add(self._config.node)

    patch.setattr(Proposer, "_propose", counting)


@bug(7, ASSERTED, faults="crash,depose")
def promise_forgotten_at_a_restart(patch: Patch) -> None:
    start = Acceptor.__init__

    def begin(self: Acceptor, config: Any, recovered: Any, *rest: Any) -> None:
        start(self, config, replace(recovered, promised=BOTTOM), *rest)

    patch.setattr(Acceptor, "__init__", begin)


@bug(1, DURABLE, faults="crash")
def ballot_reused_after_a_restart(patch: Patch) -> None:
    raise_promise = Acceptor._raise_promise

    def forgetful(self: Acceptor, ballot: Any, incarnations: Any) -> None:
        if ballot.pid == self._config.node:
            self.promised = max(self.promised, ballot)
        else:
            raise_promise(self, ballot, incarnations)

    patch.setattr(Acceptor, "_raise_promise", forgetful)


@bug(1, "a ballot is never reused", faults="depose,tear")
def ballot_shared_by_two_proposers(patch: Patch) -> None:
    own = Election.next_ballot
    patch.setattr(
        Election, "next_ballot", lambda self, promised: replace(own(self, promised), pid=1)
    )


@bug(1, DURABLE, faults="failed sync,crash")
def failed_sync_ignored(patch: Patch) -> None:
    run = Write.run

    def careless(self: Write, disk: Any) -> None:
        try:
            run(self, disk)
        except DiskFailed:
            disk._failed = False

    patch.setattr(Write, "run", careless)


@bug(3, CHOSEN, AGREE, ASSERTED, faults="depose,straggle,pause")
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


@bug(2, CHOSEN, faults="depose,lose,crash")
def accepted_value_ignored_in_recovery(patch: Patch) -> None:
    lead = Proposer.lead

    def ignorant(self: Proposer, now: float) -> None:
        self._recovered = {}
        lead(self, now)

    patch.setattr(Proposer, "lead", ignorant)


@bug(20, CHOSEN, ASSERTED, faults="depose,lose,slow link,crash")
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


@bug(2, MAJORITY, faults="lose,straggle")
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


@bug(1, ASSERTED, faults="lose,straggle")
def hole_skipped_by_a_follower(patch: Patch) -> None:
    def leaping(self: Learner, ballot: Any, chosen_through: int, now: float) -> None:
        log = self._log
        held = [s for s in range(log.chosen_through + 1, chosen_through + 1) if log.get(s)]
        own = [s for s in held if log._entries[s].ballot == ballot]
        log.chosen_through = max(own, default=log.chosen_through)
        self.on_known(chosen_through, ballot.pid, now)

    def deliver(self: PaxosNode) -> Any:
        slots = range(self._delivered + 1, self._log.chosen_through + 1)
        self._delivered = self._log.chosen_through
        return tuple((s, entry.batch) for s in slots if (entry := self._log.get(s)) is not None)

    patch.setattr(Learner, "on_commit", leaping)
    patch.setattr(PaxosNode, "_deliver", deliver)


@bug(4, PROGRESS, faults="tear")
def hole_not_filled(patch: Patch) -> None:
    def leaving(self: Proposer, now: float) -> None:
        self._prepare_at = None
        self._drop_recovered()
        held, self._recovered, self._next_chunk = self._recovered, {}, {}
        self.first_own_slot = max(held, default=self._log.chosen_through) + 1
        self._announced_through = 0
        for slot, entry in sorted(held.items()):
            self.next_slot = slot
            self._propose([entry.batch], now)
        self.next_slot = self.first_own_slot
        self._propose([self._noop(now)], now)

    patch.setattr(Proposer, "lead", leaving)


@bug(1, MAJORITY, faults="duplicate,lose,slow disk", nodes=5)
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


@bug(1, MAJORITY, faults="lose", nodes=5)
def half_is_a_majority(patch: Patch) -> None:
    patch.setattr(
        proposer_module,
        "is_quorum",
        lambda voters, members: len(set(voters)) >= len(members) // 2,
    )


@bug(1, AGREE, faults="depose,lose,straggle")
def commit_index_trusted_across_ballots(patch: Patch) -> None:
    def trusting(self: Learner, ballot: Any, chosen_through: int, now: float) -> None:
        slot = self._log.chosen_through
        while slot < chosen_through and self._log.get(slot + 1) is not None:
            slot += 1
        self._log.choose_through(slot)
        self.on_known(chosen_through, ballot.pid, now)

    patch.setattr(Learner, "on_commit", trusting)


@bug(4, AGREE, faults="depose,lose")
def compacted_acceptor_answers_empty(patch: Patch) -> None:
    on_prepare = Acceptor.on_prepare

    def empty(self: Acceptor, prepare: Any) -> bool:
        compacted, self._log.compacted_through = self._log.compacted_through, 0
        try:
            return on_prepare(self, prepare)
        finally:
            self._log.compacted_through = compacted

    patch.setattr(Acceptor, "on_prepare", empty)


@bug(1, LINEARIZABLE, faults="isolate")
def read_without_a_barrier(patch: Patch) -> None:
    patch.setattr(Replica, "read", lambda self, deadline, resolve, now: resolve(None))


@bug(4, LINEARIZABLE, faults="drift,depose")
def leader_reads_without_a_round(patch: Patch) -> None:
    patch.setattr(Heartbeats, "confirmed_round", lambda self: self.round)


@bug(2, LINEARIZABLE, faults="linger")
def lease_outlives_drift(patch: Patch) -> None:
    def granted(self: Lease, asked_at: float) -> None:
        self._until = max(self._until, asked_at + self.asked_ms / 1000)

    patch.setattr(Lease, "granted", granted)


@bug(12, LINEARIZABLE, faults="lose,depose,slow disk")
def new_leader_reads_before_its_own_slot(patch: Patch) -> None:
    begin = PaxosNode._begin_round

    def early(self: PaxosNode) -> None:
        first, self._proposer.first_own_slot = self._proposer.first_own_slot, 0
        begin(self)
        self._proposer.first_own_slot = first

    patch.setattr(PaxosNode, "_begin_round", early)


@bug(1, LINEARIZABLE, faults="slow link,depose")
def read_not_waiting_for_apply(patch: Patch) -> None:
    def hasty(self: Replica) -> None:
        reads = self._requests.reads
        for token in [token for token, read in reads.items() if read.slot is not None]:
            for resolve in reads.pop(token).resolve:
                resolve(None)

    patch.setattr(Replica, "_serve_reads", hasty)


@bug(1, "state hashes are equal", faults="isolate,crash,lost disk")
def session_table_left_out_of_the_snapshot(patch: Patch) -> None:
    freeze = Machine.freeze
    patch.setattr(
        Machine, "freeze", lambda self, extra=None: replace(freeze(self, extra), sessions=())
    )


@bug(1, LINEARIZABLE, faults="lose,crash")
def command_applied_at_each_arrival(patch: Patch) -> None:
    patch.setattr(sessions.Session, "remember", lambda self, sequence, reply: None)


@bug(1, "state hashes are equal", faults="crash")
def apply_reads_a_clock(patch: Patch) -> None:
    apply = Machine.apply
    clock = itertools.count(1)
    patch.setattr(
        Machine,
        "apply",
        lambda self, slot, time_ms, commands: apply(self, slot, time_ms + next(clock), commands),
    )


@bug(1, ASSERTED, faults="none")
def log_compacted_before_its_snapshot_is_durable(patch: Patch) -> None:
    take = Replica.take_snapshot

    def early(self: Replica) -> None:
        take(self)
        self._paxos.compact(self.machine.applied_slot)

    patch.setattr(Replica, "take_snapshot", early)


@bug(3, "a vote never regresses", faults="rot,crash")
def damaged_log_entry_dropped_in_silence(patch: Patch) -> None:
    load = MemoryDisk.load

    def truncating(self: MemoryDisk) -> Any:
        platter = self._platter
        rotten = [slot for slot, entry in platter.log.items() if entry is None]
        if rotten and platter.hard_state is not None:
            platter.log = {s: e for s, e in platter.log.items() if s < min(rotten)}
            chosen = min(platter.hard_state.chosen_through, min(rotten) - 1)
            platter.hard_state = replace(platter.hard_state, chosen_through=chosen)
        return load(self)

    patch.setattr(MemoryDisk, "load", truncating)


@bug(1, LOST_DISK, faults="lost disk")
def vote_after_a_lost_disk(patch: Patch) -> None:
    opened = node_module.open_replica

    def bold(*arguments: Any, alone: bool, bootstrap: bool) -> Any:
        return opened(*arguments, alone=alone, bootstrap=True)

    patch.setattr(node_module, "open_replica", bold)


@bug(1, LOST_DISK, faults="lost disk,depose,lose")
def rejoined_before_the_fence(patch: Patch) -> None:
    def hasty(self: PaxosNode, rejoin: Any) -> None:
        if self.role.value == "leading":
            ballot = self._proposer.ballot.at(1)
            answer = Rejoined(self.config.node, ballot, rejoin.incarnation, (), self.membership)
            self._outbox.send(rejoin.sender, answer)

    patch.setattr(PaxosNode, "_on_rejoin", hasty)


@bug(1, "one winner a turn", faults="none")
def choose_overwrites(patch: Patch) -> None:
    patch.setattr(turn_rules, "_check_unchosen", lambda conversation, turn: None)


@bug(12, "a candidate is what its attempt produced", faults="crash,isolate,slow models")
def attempt_fence_ignored(patch: Patch) -> None:
    patch.setattr(turn_rules.TurnRules, "_held", turn_rules.TurnRules._open_candidate)


@bug(1, "an attempt is begun once", faults="crash")
def attempt_begun_again_after_a_restart(patch: Patch) -> None:
    begin = Answerer._begin

    def again(self: Answerer, key: Any) -> None:
        self._found.discard(key)
        begin(self, key)

    patch.setattr(Answerer, "_begin", again)


@bug(1, PROGRESS, faults="slow models")
def turn_past_its_deadline_left_open(patch: Patch) -> None:
    patch.setattr(Duties, "_close_turn", lambda self, conversation, turn: None)


@bug(1, PROGRESS, faults="isolate")
def missed_slot_not_fetched(patch: Patch) -> None:
    patch.setattr(Learner, "on_known", lambda self, chosen_through, peer, now: None)


@bug(1, PROGRESS, faults="lose")
def lost_proposal_not_sent_again(patch: Patch) -> None:
    tick = Proposer.tick

    def once(self: Proposer, now: float) -> None:
        if self._prepare_at is not None:
            tick(self, now)

    patch.setattr(Proposer, "tick", once)
    patch.setattr(Proposer, "deadline", lambda self: self._prepare_at)


@bug(4, PROGRESS, faults="lose", nodes=2)
def lost_prepare_waited_for(patch: Patch) -> None:
    """Neither sent again nor given up: each of the two makes up for the lack of the other."""

    def wait(self: PaxosNode) -> None:
        self._proposer._prepare_at = self._now + 1.0
        self._election._back_off(self._now)

    patch.setattr(PaxosNode, "_tick_preparing", wait)


@bug(1, PROGRESS, faults="partition,isolate,cut")
def election_tried_once(patch: Patch) -> None:
    tick = Election.tick

    def once(self: Election, promised: Any, now: float) -> bool:
        tried = self._tries
        won = tick(self, promised, now)
        if self._tries > tried:
            self._deadline = float("inf")
        return won

    patch.setattr(Election, "tick", once)


@bug(2, PROGRESS, faults="lasting cut,cut")
def leader_without_a_quorum_stays(patch: Patch) -> None:
    patch.setattr(Heartbeats, "lost_quorum", lambda self, now: False)


@bug(3, BOUNDED, faults="lose,straggle")
def timer_left_in_the_past(patch: Patch) -> None:
    tick = Learner.tick

    def forgetful(self: Learner, now: float) -> None:
        fetch, at = self._fetch, self._fetch_at
        tick(self, now)
        if self._fetch is None:
            self._fetch, self._fetch_at = fetch, at

    patch.setattr(Learner, "tick", forgetful)


@bug(1, ONE_CHANGE, faults="membership,lose,slow link")
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


@bug(1, MAJORITY, CHOSEN, ASSERTED, AGREE, PROGRESS, faults="membership,depose,lose,crash")
def change_in_force_before_it_is_chosen(patch: Patch) -> None:
    def hasty(self: Log, since: int) -> Any:
        return max(
            (entry for slot, entry in self._changes.items() if slot > since),
            key=lambda entry: entry.slot,
            default=None,
        )

    patch.setattr(Log, "newest_change", hasty)


@bug(1, MAJORITY, CHOSEN, ASSERTED, faults="membership,lose,slow disk")
def votes_counted_in_the_first_configuration(patch: Patch) -> None:
    adopt = Configuration.adopt

    def stubborn(self: Configuration, membership: Membership, since: int) -> None:
        first = getattr(self, "voters", None)
        adopt(self, membership, since)
        if first is not None and self.node in first:
            self.voters = first

    patch.setattr(Configuration, "adopt", stubborn)


@bug(1, USED_ID, faults="membership")
def removed_id_used_again(patch: Patch) -> None:
    without = Membership.without

    def forgetful(self: Membership, node: int) -> Membership:
        return replace(without(self, node), removed=())

    patch.setattr(Membership, "without", forgetful)


@bug(1, NO_MEMBER, PROGRESS, faults="membership")
def learner_that_votes(patch: Patch) -> None:
    def eager(self: Admission) -> bool:
        if self._members.membership.member(self._config.node) is None:
            return False
        self._acceptor.admit(BOTTOM, ())
        return True

    patch.setattr(Admission, "joins", eager)
