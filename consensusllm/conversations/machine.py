"""The replicated state machine: slots of commands in, replies out, and the state to read.

It sees no clock, randomness or network: two machines that applied the same slots are equal, down to
their replies and their hash. Time is what the batches say, and never goes back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .asking import Asked, asked
from .budget_rules import BudgetRules
from .commands import OpenSession, ServedModel, SessionCommand, SubmitQuery
from .conversation_rules import ConversationRules
from .council_rules import CouncilRules
from .fingerprint import MODULUS, Fingerprint, digest
from .hedge_rules import HedgeRules
from .key_rules import KeyRules
from .limits import Limits
from .lines import Clock, clock_line, session_line
from .probe_rules import ProbeRules
from .prompt import Prompt, prompt
from .records import (
    Budget,
    Candidate,
    Conversation,
    ConversationSummary,
    ProbeLease,
    RegisteredModel,
    Turn,
    TurnId,
)
from .refusal import Refusal
from .registry_rules import RegistryRules
from .replies import Code, Refused, Reply
from .sessions import Session, Sessions
from .state import FrozenState, State
from .tally import shortfalls
from .turn_rules import TurnRules

_UNDECODABLE = Refused(
    Code.INVALID, "the command could not be decoded: client and node do not speak the same version"
)
_MISNUMBERED_OPEN = Refused(Code.INVALID, "opening a session has number 0: send it under that one")
_QUESTION_CHARACTERS = 200


class Counts(NamedTuple):
    conversations: int
    keys: int
    sessions: int
    open_turns: int


class Machine:
    """Owned by one thread; only what `freeze` returns may be handed to another."""

    def __init__(self, limits: Limits, frozen: FrozenState | None = None) -> None:
        """A machine that has applied nothing, or one that goes on from ``frozen``."""
        frozen = frozen or FrozenState(slot=0)
        self.applied_slot = frozen.slot
        self.extra: Mapping[str, object] = frozen.extra
        """What the owner put into the snapshot that this machine comes from; {} without one."""
        self._state = State(frozen)
        table = OrderedDict((name, session.copy()) for name, session in frozen.sessions)
        session_hash = Fingerprint(table, session_line)
        self._sessions = Sessions(limits, table, session_hash.marked, frozen.touches)
        self._fingerprints: tuple[Fingerprint[Any, Any], ...] = (
            session_hash,
            self._state.head_hash,
            self._state.turn_hash,
            self._state.key_hash,
            self._state.registry_hash,
            self._state.lease_hash,
            self._state.budget_hash,
        )
        self._turn_rules = TurnRules(self._state, limits)
        # Nothing of a state refers back to it, so that it goes as soon as another takes its place.
        self._handlers: Mapping[type, Callable[[Any], Reply]] = {
            OpenSession: lambda _: _MISNUMBERED_OPEN,
            **KeyRules(self._state, limits).handlers(),
            **ConversationRules(self._state, limits).handlers(),
            **self._turn_rules.handlers(),
            **HedgeRules(self._state, limits).handlers(),
            **RegistryRules(self._state, limits).handlers(),
            **ProbeRules(self._state, limits).handlers(),
            **CouncilRules(self._state, limits).handlers(),
            **BudgetRules(self._state, limits).handlers(),
        }

    # Writing ----------------------------------------------------------------------------------

    def apply(
        self, slot: int, time_ms: int, commands: Sequence[SessionCommand | None]
    ) -> list[Reply]:
        """Apply the next slot and answer each command, in order.

        ``time_ms`` is the batch's, in ms since the epoch; where it is behind the machine's time,
        that one goes on to hold. None stands for a command that could not be decoded.
        """
        assert slot == self.applied_slot + 1, f"slot {slot} applied after {self.applied_slot}"
        state = self._state
        if time_ms > state.time_ms:
            state.time_ms = time_ms
        apply_one = self._apply_one
        replies = [apply_one(command) for command in commands]
        self.applied_slot = slot
        for fingerprint in self._fingerprints:
            fingerprint.settle(len(commands))
        return replies

    def _apply_one(self, command: SessionCommand | None) -> Reply:
        if command is None:
            return _UNDECODABLE
        session = self._sessions.admit(command)
        if not isinstance(session, Session):
            return session
        operation = command.operation
        try:
            reply = self._handlers[type(operation)](operation)
        except Refusal as refusal:
            reply = refusal.reply
        session.remember(command.sequence, reply)
        return reply

    def take_touched(self) -> tuple[TurnId, ...]:
        """``(conversation, turn)`` of what changed since the last call, in the order of the first
        change. Turn 0 stands for the conversation with all its turns: it came, or went away."""
        touched = tuple(self._state.touched)
        self._state.touched.clear()
        return touched

    # Reading ----------------------------------------------------------------------------------

    @property
    def time_ms(self) -> int:
        """The replicated clock, in ms since the epoch; 0 before the first slot."""
        return self._state.time_ms

    def conversation(self, conversation: str) -> Conversation | None:
        """The whole conversation; takes time in proportion to its turns."""
        head = self._state.heads.get(conversation)
        if head is None:
            return None
        turns = self._state.all_turns(conversation, head.turns)
        return Conversation(
            conversation, head.revision, turns, head.created_ms, head.updated_ms, head.system
        )

    def turn(self, conversation: str, turn: int) -> Turn | None:
        """One turn, whatever the length of its conversation."""
        return self._state.turns.get((conversation, turn))

    def foreseen(self, query: SubmitQuery) -> Turn | None:
        """The turn that ``query`` opens if it is the next command to be applied; None where it is
        refused. A budget may refuse it still."""
        try:
            return self._turn_rules.opened(query)
        except Refusal:
            return None

    def asked(
        self, conversation: str, turn: Turn, candidate: Candidate, served: ServedModel
    ) -> Asked:
        """What ``served`` is asked for a candidate of ``turn``, which exists or is foreseen. Raises
        TooLong."""
        turns = self._state.turns
        return asked(turn, candidate, served, lambda number: turns[conversation, number])

    def prompt(self, conversation: str, turn: Turn, candidate: Candidate) -> Prompt:
        """The prompt of a candidate of ``turn``, which exists or is foreseen: ``(role, text)`` in
        order, what is asked last."""
        turns = self._state.turns
        return prompt(turn, candidate, lambda number: turns[conversation, number])

    def summaries(self, after: str, limit: int) -> list[ConversationSummary]:
        """Up to ``limit`` conversations in the order of their ids, the first ones above ``after``
        ("" for the beginning)."""
        return [
            self._summary(conversation)
            for conversation in self._state.conversations.page(after, limit)
        ]

    def _summary(self, conversation: str) -> ConversationSummary:
        head = self._state.heads[conversation]
        last = self._state.turns[conversation, head.turns] if head.turns else None
        return ConversationSummary(
            conversation,
            head.turns,
            head.open_turns,
            last.question[:_QUESTION_CHARACTERS] if last else "",
            head.updated_ms,
            degraded=bool(last and shortfalls(last)),
        )

    def open_turns(self) -> list[tuple[str, Turn]]:
        """``(conversation, turn)`` of every turn that is not closed, in order."""
        turns = self._state.turns
        return [(turn_id[0], turns[turn_id]) for turn_id in sorted(self._state.open)]

    def get(self, key: str) -> bytes | None:
        """The value of ``key``; None where it is absent."""
        return self._state.keys.get(key)

    def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        """Up to ``limit`` keys that begin with ``prefix``, in order, the first ones above
        ``after`` ("" for the beginning)."""
        return self._state.key_names.page(after, limit, prefix)

    @property
    def registry(self) -> Mapping[int, tuple[RegisteredModel, ...]]:
        """The models of each node that serves some, its default one first. To be read only."""
        return self._state.registry

    @property
    def probe_leases(self) -> Mapping[str, ProbeLease]:
        """Who looks at each model server, by its name in the registry. To be read only."""
        return self._state.probe_leases

    @property
    def budgets(self) -> Mapping[str, Budget]:
        """By scope, as in SetBudget. To be read only."""
        return self._state.budgets

    def counts(self) -> Counts:
        state = self._state
        return Counts(len(state.heads), len(state.keys), len(self._sessions.table), len(state.open))

    # The whole --------------------------------------------------------------------------------

    def state_hash(self) -> str:
        """32 hexadecimal digits: a function of the state alone, so equal on all nodes that have
        applied the same slots, however each one came by its state."""
        total = digest(clock_line(self._clock()))
        for fingerprint in self._fingerprints:
            total += fingerprint.total()
        return f"{total % MODULUS:032x}"

    def hash_some(self) -> bool:
        """Do a part of what `state_hash` would have to; whether nothing is left of it."""
        return all(fingerprint.step() for fingerprint in self._fingerprints)

    def freeze(self, extra: Mapping[str, object] | None = None) -> FrozenState:
        """The state as it is now, to be encoded by another thread while this one goes on.

        ``extra`` goes into the snapshot as it is. Copies tables, not the records in them.
        """
        state = self._state
        return FrozenState(
            slot=self.applied_slot,
            **self._clock()._asdict(),
            sessions=tuple(
                (name, session.copy()) for name, session in self._sessions.table.items()
            ),
            heads=state.heads.copy(),
            turns=state.turns.copy(),
            keys=state.keys.copy(),
            registry=state.registry.copy(),
            budgets=state.budgets.copy(),
            probe_leases=state.probe_leases.copy(),
            conversations=tuple(state.conversations),
            key_names=tuple(state.key_names),
            extra=dict(extra or {}),
        )

    def _clock(self) -> Clock:
        return Clock(self._state.time_ms, self._state.attempt_floor, self._sessions.touches)
