"""What must hold at every step, judged by somebody who sees all nodes and all disks at once.

`docs/TESTING.md` has each invariant in words. Everything here is told by hooks and changes nothing;
what was settled is forgotten at the end of every calm (`settled`), so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from consensusllm.conversations import Limits, Machine
from consensusllm.conversations.commands import (
    Choose,
    Operation,
    ReassignCandidate,
    RecordCandidate,
    RecordCheckpoint,
    ServedModel,
    SessionCommand,
)
from consensusllm.conversations.records import Candidate, TurnId
from consensusllm.conversations.replies import Code, Refused, Reply
from consensusllm.paxos import BOTTOM, Ballot, Batch, Membership, Persist, first_members
from consensusllm.paxos.log import ENTRY_OVERHEAD_BYTES
from consensusllm.paxos.messages import Accept, Accepted, Entry, Message, Nack, Prepare, Promise
from consensusllm.paxos.quorum import is_quorum
from consensusllm.replica.replica import Replica
from consensusllm.storage import MemoryPlatter
from consensusllm.wire.commands import decode_command

from .budgets import BudgetInvariants, unnamed
from .councils import CouncilInvariants
from .reference_keys import ReferenceKeys
from .registry import RegistryInvariants

HASH_EVERY_SLOTS = 32

Attempt = tuple[str, int, int, int]
"""(conversation, turn, candidate, attempt)."""


class Violation(Exception):
    """``invariant`` is broken; the text says by what."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant


@dataclass(slots=True)
class _Vote:
    """What was durable at one ballot in one slot, and on which nodes at some time."""

    batch: Batch
    nodes: set[int]


@dataclass(slots=True)
class _Produced:
    node: int
    text: str


class Invariants:
    def __init__(self, members: Sequence[int], limits: Limits) -> None:
        self._configurations = [(0, first_members(tuple(members)))]  # (slot that chose it, it)
        self._may_vote = set(members)
        self._known = set(members)
        self._left: set[int] = set()
        self._limits = limits
        self._floor = 0  # everything up to here is settled and forgotten
        self.frontier = 0
        # Disks and messages.
        self._promised: dict[int, Ballot] = {}
        self._held: dict[int, dict[int, Ballot]] = {}  # by node and slot, since its disk was new
        self._lost: dict[int, dict[int, Ballot]] = {}  # the same, of lives whose disk was lost
        self._votes: dict[int, dict[tuple[int, int], _Vote]] = {}
        self._majority_value: dict[int, Batch] = {}
        self._opened: dict[Ballot, tuple[int, int]] = {}
        self._proposed: dict[tuple[int, Ballot], Batch] = {}
        # Applied state.
        self._log: dict[int, Batch] = {}
        self._keys_after: dict[int, tuple[tuple[str, bytes | None], ...]] = {}
        self._hashes: dict[int, tuple[str, int]] = {}
        self._reference = ReferenceKeys(limits.sessions, limits.replies_per_session)
        self._effective: dict[tuple[bytes, int], int] = {}  # the slot in which it was
        self.acknowledged_through = 0
        self._winners: dict[tuple[str, int], int] = {}
        self._produced: dict[Attempt, _Produced] = {}
        self._councils = CouncilInvariants()
        self._budgets = BudgetInvariants()
        self.registry = RegistryInvariants()

    # Disks ------------------------------------------------------------------------------------

    def formatted(self, node: int, voting: bool) -> None:
        """The node's disk begins empty."""
        if voting and node in self._promised:
            raise Violation("no vote after a lost disk", f"node {node} votes with an empty disk")
        self._promised[node] = BOTTOM
        self._lost.setdefault(node, {}).update(self._held.get(node, {}))
        self._held[node] = {}

    def written(self, node: int, platter: MemoryPlatter, changes: Sequence[Persist]) -> None:
        """``changes`` are durable."""
        self._check_promise(node, platter)
        for change in changes:
            for entry in change.entries:
                if entry.slot > self._floor:
                    self._held[node][entry.slot] = entry.ballot
                    self._count_vote(node, entry)
        if any(change.voting for change in changes):
            self._check_admission(node, platter)

    def _check_admission(self, node: int, platter: MemoryPlatter) -> None:
        """A node that lost its disk votes again: it must hold whatever its lost votes helped to be
        chosen."""
        state = platter.hard_state
        if state is None:
            return
        for slot in self._lost[node]:
            known = slot <= state.compacted_through or slot in platter.log
            if slot in self._majority_value and not known:
                raise Violation(
                    "no vote after a lost disk",
                    f"node {node} votes again and has not learned slot {slot}, which it voted in",
                )
        self._lost[node] = {}

    def loaded(self, node: int, platter: MemoryPlatter) -> None:
        """A life begins from ``platter``, which verified."""
        self._check_promise(node, platter)
        state = platter.hard_state
        assert state is not None
        for slot, ballot in self._held[node].items():
            entry = platter.log.get(slot)
            if slot > state.compacted_through and (entry is None or entry.ballot < ballot):
                raise Violation(
                    "a vote never regresses",
                    f"node {node} had voted at {ballot} in slot {slot}; its disk says {entry}",
                )

    def _check_promise(self, node: int, platter: MemoryPlatter) -> None:
        state = platter.hard_state
        if state is None:
            return
        promised = self._promised.get(node, BOTTOM)
        if state.promised < promised:
            raise Violation(
                "a promise never regresses",
                f"node {node} had promised {promised}; its disk says {state.promised}",
            )
        self._promised[node] = state.promised

    def _count_vote(self, node: int, entry: Entry) -> None:
        ballots = self._votes.setdefault(entry.slot, {})
        key = (entry.ballot.seq_num, entry.ballot.pid)
        vote = ballots.get(key)
        if vote is None:
            vote = ballots[key] = _Vote(entry.batch, set())
        elif vote.batch != entry.batch:
            raise Violation(
                "one value a ballot", f"two values at {entry.ballot} in slot {entry.slot}"
            )
        vote.nodes.add(node)
        if entry.slot <= self.frontier + 1:
            self._judge(entry.slot)

    def _judge(self, slot: int) -> None:
        """Whether a value is chosen in ``slot``, by the members of that slot: they are known when
        every slot below is."""
        voters = self._members_of(slot).voters
        for (seq_num, pid), vote in self._votes.get(slot, {}).items():
            if is_quorum(vote.nodes, voters):
                chosen = self._majority_value.setdefault(slot, vote.batch)
                if chosen != vote.batch:
                    raise Violation(
                        "one chosen value a slot",
                        f"majorities hold two values in slot {slot}, one at <{seq_num},{pid}>",
                    )

    # Members ----------------------------------------------------------------------------------

    @property
    def voters(self) -> tuple[int, ...]:
        """The members that vote, by the newest change that was applied."""
        return self._configurations[-1][1].voters

    def may_vote(self, node: int) -> bool:
        """Whether a change that was applied ever made it a member that votes."""
        return node in self._may_vote

    def _members_of(self, slot: int) -> Membership:
        return next(held for since, held in reversed(self._configurations) if since < slot)

    def _change_members(self, slot: int, after: Membership) -> None:
        before = self._configurations[-1][1]
        if after.version <= before.version:  # of a ballot that others overtook: it is void
            self._configurations.append((slot, before))
            return
        steps = {*before.members} ^ {*after.members}
        if len({each.node for each in steps}) != 1 or after.version != before.version + 1:
            raise Violation("one change at a time", f"slot {slot}: {before}, then {after}")
        ids = {each.node for each in after.members}
        if ids & self._left:
            raise Violation("an id is never used again", f"slot {slot}: {sorted(ids & self._left)}")
        self._known |= ids
        self._left |= {each.node for each in before.members} - ids
        self._may_vote |= set(after.voters)
        self._configurations.append((slot, after))

    def has_members(self, node: int, slot: int, members: Membership, since: int) -> None:
        """What ``node`` takes for the members after it has applied ``slot``."""
        expected = self._members_of(slot + 1)
        if since <= slot and members != expected:
            raise Violation(
                "applied prefixes agree", f"after slot {slot} node {node} has {members}: {expected}"
            )

    # Messages ---------------------------------------------------------------------------------

    def sent(self, node: int, life: int, message: Message, platter: MemoryPlatter) -> None:
        """``message`` leaves; what it reveals must be durable."""
        if isinstance(message, Accepted):
            self._check_voter(node, platter, message)
            first = message.ballot.op_num
            state = platter.hard_state
            compacted = state.compacted_through if state is not None else 0
            for slot in range(max(first, compacted + 1), first + message.count):
                if slot not in platter.log:
                    if state is None:  # it has rotted since, so what was compacted is not known
                        continue
                    raise _unsynced(node, message)
                entry = platter.log[slot]
                if entry is not None and entry.ballot < message.ballot:
                    raise _unsynced(node, message)
        elif isinstance(message, Promise):
            self._check_voter(node, platter, message)
            if self._promised.get(node, BOTTOM) < message.ballot:
                raise _unsynced(node, message)
        elif isinstance(message, Nack):
            if self._promised.get(node, BOTTOM) < message.promised:
                raise _unsynced(node, message)
        elif isinstance(message, Prepare):
            ballot = message.ballot.at(0)
            if self._opened.setdefault(ballot, (node, life)) != (node, life):
                raise Violation(
                    "a ballot is never reused",
                    f"node {node} opens {ballot} in life {life}, and did before it",
                )
            if self._promised.get(node, BOTTOM) < ballot:
                raise _unsynced(node, message)
        elif isinstance(message, Accept):
            ballot = message.ballot.at(0)
            for slot, batch in enumerate(message.batches, message.ballot.op_num):
                if self._proposed.setdefault((slot, ballot), batch) != batch:
                    raise Violation("one value a ballot", f"two proposals at {ballot} in {slot}")

    def _check_voter(self, node: int, platter: MemoryPlatter, message: Accepted | Promise) -> None:
        if node not in self._may_vote:
            raise Violation("no vote before it is a member", f"node {node} sends {message}")
        state = platter.hard_state
        if state is not None and not state.voting and message.incarnation >= state.incarnation:
            raise Violation(
                "no vote after a lost disk", f"node {node} has not caught up and sends {message}"
            )

    # Applied state ------------------------------------------------------------------------------

    def applied(self, node: int, slot: int, batch: Batch, machine: Machine) -> None:
        """``node`` has applied ``batch``; ``machine`` is its state after that."""
        if slot > self.frontier:
            self._apply_first(node, slot, batch, machine)
        elif slot > self._floor and self._log[slot] != batch:
            raise Violation(
                "applied prefixes agree", f"node {node} applied another value in slot {slot}"
            )
        for key, value in self._keys_after.get(slot, ()):
            if machine.get(key) != value:
                raise Violation(
                    "each command is applied once",
                    f"after slot {slot} node {node} has {machine.get(key)!r} under {key}, "
                    f"and the log gives {value!r}",
                )
        if slot % HASH_EVERY_SLOTS == 0:
            self.hashed(node, machine)

    def _apply_first(self, node: int, slot: int, batch: Batch, machine: Machine) -> None:
        if slot != self.frontier + 1:
            raise Violation("applied prefixes agree", f"node {node} skipped to slot {slot}")
        if self._majority_value.get(slot) != batch:
            raise Violation(
                "chosen is durable on a majority",
                f"node {node} applied a value in slot {slot} that no majority has on disk",
            )
        self.frontier = slot
        self._log[slot] = batch
        if batch.is_change:
            self._change_members(slot, batch.membership())
        self._judge(slot + 1)
        keys: dict[str, None] = {}
        commands = [decode_command(packed) for packed in batch.commands]
        for command in commands:
            if self._reference.takes_effect(command):
                self._effective[command.session, command.sequence] = slot
                key = self._reference.apply(command.operation)
                if key is not None:
                    keys[key] = None
            self._check_turn(command.operation, machine)
            if broken := self._councils.broken(command.operation, machine):
                raise Violation("a council goes on to its end", broken)
            if broken := self.registry.broken(command.operation, machine, self._known):
                raise Violation("the registry is what its members serve", broken)
        if broken := self._budgets.broken([each.operation for each in commands], machine):
            raise Violation("budgets hold", broken)
        if keys:
            values = self._reference.values
            self._keys_after[slot] = tuple((key, values.get(key)) for key in keys)

    def _check_turn(self, operation: Operation, machine: Machine) -> None:
        if not isinstance(
            operation, Choose | RecordCandidate | RecordCheckpoint | ReassignCandidate
        ):
            return
        turn = machine.turn(operation.conversation, operation.turn)
        if turn is None:
            return
        turn_id = (operation.conversation, operation.turn)
        if isinstance(operation, Choose):
            if turn.choice and self._winners.setdefault(turn_id, turn.choice) != turn.choice:
                raise Violation(
                    "one winner a turn",
                    f"turn {turn_id} was won by {self._winners[turn_id]}, now by {turn.choice}",
                )
            return
        candidate = turn.candidate(operation.candidate)
        if candidate is None:
            return
        attempt = (*turn_id, candidate.number, candidate.attempt)
        if isinstance(operation, ReassignCandidate):
            if candidate.attempt >= operation.attempt:  # else it was refused
                self._check_kept(turn_id, candidate)
            return
        produced = self._produced.get(attempt)
        if isinstance(operation, RecordCheckpoint):
            said = produced.text if produced is not None else candidate.text[: candidate.kept]
            if not candidate.ended and not said.startswith(candidate.text):
                raise Violation(
                    "a candidate is what its attempt produced",
                    f"{attempt} has the checkpoint {candidate.text!r}; produced: {produced}",
                )
            return
        self.check_answer(turn_id, candidate)

    def check_answer(self, turn_id: TurnId, candidate: Candidate) -> None:
        """What ``candidate`` of a turn has for an answer, if it has one, is what was produced."""
        attempt = (*turn_id, candidate.number, candidate.attempt)
        produced = self._produced.get(attempt)
        if not candidate.answered:
            return
        if produced is None or (produced.node, produced.text) != (candidate.node, candidate.text):
            raise Violation(
                "a candidate is what its attempt produced",
                f"{attempt} of node {candidate.node} is recorded as {candidate.text!r}; "
                f"produced: {produced}",
            )

    def _check_kept(self, turn_id: TurnId, candidate: Candidate) -> None:
        """What a new attempt goes on behind is what the one before it produced."""
        before = self._produced.get((*turn_id, candidate.number, candidate.attempt - 1))
        kept = candidate.text[: candidate.kept]  # it may have written more since
        if candidate.ended or not kept or before is None:
            return
        if not before.text.startswith(kept):
            raise Violation(
                "a candidate is what its attempt produced",
                f"attempt {candidate.attempt} keeps {kept!r} of {before}",
            )

    def hashed(self, node: int, machine: Machine) -> None:
        """``machine`` is what ``node`` has, however it came by it."""
        slot = machine.applied_slot
        state_hash = machine.state_hash()
        first, by = self._hashes.setdefault(slot, (state_hash, node))
        if first != state_hash:
            raise Violation(
                "state hashes are equal", f"nodes {by} and {node} differ after slot {slot}"
            )

    def produced(self, node: int, attempt: Attempt, offset: int, text: str) -> None:
        """A model gave ``text`` for ``attempt``."""
        before = self._produced.get(attempt)
        if before is None:
            before = self._produced[attempt] = _Produced(node, "")
        if before.node != node or len(before.text) != offset:
            raise Violation(
                "an attempt is begun once",
                f"node {node} gives text at {offset} for {attempt}, which has {before}",
            )
        before.text += text

    def serves(self, node: int, model: ServedModel) -> None:
        """A life of ``node`` begins, and serves ``model``."""
        self.registry.serves(node, model)

    def acknowledged(self, command: SessionCommand, reply: Reply) -> None:
        """A client was told that ``command`` was applied."""
        if broken := unnamed(command.operation, reply):
            raise Violation("budgets hold", broken)
        slot = self._effective.get((command.session, command.sequence))
        if slot is not None:
            self.acknowledged_through = max(self.acknowledged_through, slot)
        elif not (isinstance(reply, Refused) and reply.code in (Code.SESSION_EXPIRED, Code.STALE)):
            raise Violation(
                "what is acknowledged was chosen",
                f"{command.operation} was answered with {reply} and is in no slot",
            )

    def read(self, node: int, slot: int, needed: int) -> None:
        """A barrier that began when ``needed`` was acknowledged is served from state ``slot``."""
        if slot < needed:
            raise Violation(
                "linearizable",
                f"node {node} serves a read from slot {slot}, but slot {needed} was acknowledged "
                "before the read began",
            )

    # The whole ----------------------------------------------------------------------------------

    def bounds(self, node: int, replica: Replica, platter: MemoryPlatter) -> None:
        """Memory, queues and log of ``node`` stay within what is configured."""
        paxos = replica.config.paxos
        more_bytes = paxos.max_batch_bytes + paxos.chunk_bytes
        log_bytes = paxos.max_log_bytes + more_bytes
        if self._chosen_bytes(platter) <= paxos.max_log_bytes // 2 + paxos.log_retain_bytes:
            # No snapshot need be due, and there is no other way to go on than to fetch what is
            # chosen beneath what is not known to be.
            log_bytes += paxos.max_log_bytes // 2 + paxos.log_retain_bytes + more_bytes
        for what, size, limit in (
            ("log", replica.paxos.log_size_bytes, log_bytes),
            ("queue", replica.paxos.pending, paxos.max_pending_commands),
            ("requests", replica.pending, paxos.max_pending_commands),
            ("sessions", replica.machine.counts().sessions, self._limits.sessions),
            ("disk", sum(e.batch.size_bytes for e in platter.log.values() if e), log_bytes),
        ):
            if size > limit:
                raise Violation("everything is bounded", f"node {node}: {what} {size} > {limit}")

    @staticmethod
    def _chosen_bytes(platter: MemoryPlatter) -> int:
        state = platter.hard_state
        if state is None:
            return 0
        chosen = (e for e in platter.log.values() if e and e.slot <= state.chosen_through)
        return sum(entry.batch.size_bytes + ENTRY_OVERHEAD_BYTES for entry in chosen)

    def settled(self, slot: int) -> None:
        """Every node has applied ``slot``, and every client has all its answers."""
        self._floor = slot
        tables: tuple[dict[int, Any], ...] = (
            self._votes,
            self._majority_value,
            self._log,
            self._keys_after,
            *self._held.values(),
            *self._lost.values(),
        )
        for table in tables:
            for old in [number for number in table if number <= slot]:
                del table[old]
        self._hashes = {number: held for number, held in self._hashes.items() if number >= slot}
        self._proposed.clear()
        self._effective.clear()


def _unsynced(node: int, message: Message) -> Violation:
    return Violation(
        "durable before revealed", f"node {node} sends what it has not synced: {message}"
    )
