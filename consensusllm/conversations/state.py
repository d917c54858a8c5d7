"""The replicated state's tables, and the indexes that follow from them.

Everything that changes conversations or keys goes through the methods here, which keep revision,
indexes, fingerprints and the list of touched turns right. Whether a change is allowed is decided
elsewhere: see turn_rules.py, conversation_rules.py and key_rules.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .fingerprint import Fingerprint
from .lines import budget_line, head_line, key_line, lease_line, models_line, turn_line
from .names import SortedNames
from .records import Budget, Head, ProbeLease, RegisteredModel, Turn, TurnId
from .sessions import Session


@dataclass(frozen=True, slots=True)
class FrozenState:
    """The whole state after ``slot``, for a snapshot. Nobody changes what is in it.

    ``sessions`` are in the order of their last use, ``conversations`` and ``key_names`` in that of
    names. ``extra`` is the owner's, small, and of JSON's types (membership, for one).
    """

    slot: int
    time_ms: int = 0
    attempt_floor: int = 0
    touches: int = 0
    sessions: tuple[tuple[bytes, Session], ...] = ()
    heads: Mapping[str, Head] = field(default_factory=dict)
    turns: Mapping[TurnId, Turn] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict)
    registry: Mapping[int, tuple[RegisteredModel, ...]] = field(default_factory=dict)
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    probe_leases: Mapping[str, ProbeLease] = field(default_factory=dict)
    conversations: tuple[str, ...] = ()
    key_names: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)


class State:
    """Conversations, keys, the registry of models, budgets, and the replicated clock.

    ``attempt_floor`` is the highest attempt, a hedge's included, under any conversation id that was
    given up: new candidates start above it, so that an answer which was still on its way when its
    conversation was deleted never lands in another one of the same id.
    """

    def __init__(self, frozen: FrozenState) -> None:
        self.time_ms = frozen.time_ms
        self.attempt_floor = frozen.attempt_floor
        self.heads = dict(frozen.heads)
        self.turns = dict(frozen.turns)
        self.keys = dict(frozen.keys)
        self.registry = dict(frozen.registry)
        self.budgets = dict(frozen.budgets)
        self.probe_leases = dict(frozen.probe_leases)
        self.conversations = SortedNames(frozen.conversations)
        self.key_names = SortedNames(frozen.key_names)
        self.open = {turn_id for turn_id, turn in self.turns.items() if not turn.closed}
        self.touched: dict[TurnId, None] = {}
        self.head_hash = Fingerprint(self.heads, head_line)
        self.turn_hash = Fingerprint(self.turns, turn_line)
        self.key_hash = Fingerprint(self.keys, key_line)
        self.budget_hash = Fingerprint(self.budgets, budget_line)
        self.registry_hash = Fingerprint(self.registry, models_line)
        self.lease_hash = Fingerprint(self.probe_leases, lease_line)

    # Conversations ----------------------------------------------------------------------------

    def create(
        self, conversation: str, revision: int, turns: tuple[Turn, ...] = (), system: str = ""
    ) -> None:
        """Add a conversation under an id that is free, with closed ``turns`` to begin with."""
        now = self.time_ms
        for turn in turns:
            assert turn.closed, "a conversation begins with closed turns"
            self._set_turn(conversation, turn)
        self._add_head(conversation, Head(revision, now, now, turns=len(turns), system=system))

    def next_revision(self, conversation: str) -> int:
        """The revision that the next change of the conversation makes."""
        return self.heads[conversation].revision + 1

    def write_turn(self, conversation: str, turn: Turn, revision: int = 0) -> None:
        """Set a turn of a conversation, or append its next one; afterwards the conversation is at
        ``revision`` (0: one more)."""
        head = self.heads[conversation]
        before = self.turns.get((conversation, turn.turn))
        assert before is not None or turn.turn == head.turns + 1, "turns are numbered without a gap"
        was_open = before is not None and not before.closed
        self._set_turn(conversation, turn)
        self.heads[conversation] = Head(
            revision=revision or head.revision + 1,
            created_ms=head.created_ms,
            updated_ms=max(self.time_ms, head.created_ms),  # an import's may be to come
            turns=max(head.turns, turn.turn),
            open_turns=head.open_turns + (not turn.closed) - was_open,
            system=head.system,
        )
        self.head_hash.marked.add(conversation)
        self.touched[conversation, turn.turn] = None

    def rename(
        self, conversation: str, target: str, created_ms: int = 0, updated_ms: int = 0
    ) -> None:
        """Move a conversation to an id that is free; its times are those that are given."""
        head = self.heads[conversation]
        for turn in self._take_turns(conversation):
            self._set_turn(target, turn)
        created_ms = created_ms or head.created_ms
        moved = replace(
            head,
            revision=head.revision + 1,
            created_ms=created_ms,
            updated_ms=max(updated_ms or self.time_ms, created_ms),
        )
        self._add_head(target, moved)

    def delete(self, conversation: str) -> None:
        self._take_turns(conversation)

    def all_turns(self, conversation: str, through: int) -> tuple[Turn, ...]:
        """Turns 1 to ``through``."""
        turns = self.turns
        return tuple(turns[conversation, number] for number in range(1, through + 1))

    def _add_head(self, conversation: str, head: Head) -> None:
        self.heads[conversation] = head
        self.head_hash.marked.add(conversation)
        self.conversations.add(conversation)
        self.touched[conversation, 0] = None

    def _set_turn(self, conversation: str, turn: Turn) -> None:
        turn_id = (conversation, turn.turn)
        self.turns[turn_id] = turn
        self.turn_hash.marked.add(turn_id)
        if turn.closed:
            self.open.discard(turn_id)
        else:
            self.open.add(turn_id)

    def _take_turns(self, conversation: str) -> tuple[Turn, ...]:
        """Remove the conversation and give back its turns; its id is free for another one."""
        head = self.heads.pop(conversation)
        self.head_hash.marked.add(conversation)
        self.conversations.remove(conversation)
        self.touched[conversation, 0] = None
        taken = []
        for number in range(1, head.turns + 1):
            turn_id = (conversation, number)
            turn = self.turns.pop(turn_id)
            self.turn_hash.marked.add(turn_id)
            self.open.discard(turn_id)
            taken.append(turn)
            for candidate in turn.candidates:
                attempt = candidate.attempt + (candidate.hedged is not None)
                self.attempt_floor = max(self.attempt_floor, attempt)
        return tuple(taken)

    # Keys -------------------------------------------------------------------------------------

    def set_key(self, key: str, value: bytes) -> None:
        if key not in self.keys:
            self.key_names.add(key)
        self.keys[key] = value
        self.key_hash.marked.add(key)

    def delete_key(self, key: str) -> None:
        del self.keys[key]
        self.key_names.remove(key)
        self.key_hash.marked.add(key)

    # The registry -----------------------------------------------------------------------------

    def set_models(self, node: int, models: tuple[RegisteredModel, ...]) -> None:
        """What ``node`` serves; none: it is gone from the registry. A lease stays while somebody
        serves a model of its server."""
        before = self.registry.get(node, ())
        if models:
            self.registry[node] = models
        else:
            self.registry.pop(node, None)
        self.registry_hash.marked.add(node)
        left = {each.served.server for each in before} - {each.served.server for each in models}
        if left & self.probe_leases.keys():
            served = {each.served.server for other in self.registry.values() for each in other}
            for server in sorted((left & self.probe_leases.keys()) - served):
                del self.probe_leases[server]
                self.lease_hash.marked.add(server)

    def set_probe_lease(self, server: str, lease: ProbeLease) -> None:
        self.probe_leases[server] = lease
        self.lease_hash.marked.add(server)

    def set_budget(self, scope: str, budget: Budget | None) -> None:
        """None: the scope has none any more."""
        if budget is None:
            del self.budgets[scope]
        else:
            self.budgets[scope] = budget
        self.budget_hash.marked.add(scope)
