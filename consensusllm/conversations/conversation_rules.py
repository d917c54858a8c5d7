"""The rules of whole conversations: create, fork, rename, delete, import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .budget_rules import CONVERSATION
from .commands import IMPORT_PREFIX, CreateConversation, Delete, Fork, ImportTurn, Rename
from .council_rules import check_council
from .history import contradiction, last_revision
from .limits import Limits
from .records import TIME_MAX_MS, Turn
from .refusal import Refusal, check_id, check_size, named
from .replies import Code, Reply, TurnOpened
from .sessions import DONE
from .state import State
from .stopped_calls import settle_closed
from .turn_checks import (
    check_fallbacks,
    check_numbers,
    check_options,
    find_conversation,
    find_turn,
    next_turn,
)

_REVISION_MAX = 1 << 48
_ATTEMPT_MAX = 1 << 31


class ConversationRules:
    """Applies one operation at a time; a rule raises Refusal before it has changed anything."""

    def __init__(self, state: State, limits: Limits) -> None:
        self._state = state
        self._limits = limits

    def handlers(self) -> Mapping[type, Callable[[Any], Reply]]:
        """What applies each kind of operation."""
        return {
            CreateConversation: self._create,
            Fork: self._fork,
            Rename: self._rename,
            Delete: self._delete,
            ImportTurn: self._import_turn,
        }

    def _create(self, create: CreateConversation) -> Reply:
        self._check_new(create.conversation)
        check_size("the system prompt", create.system, self._limits.system_bytes)
        self._state.create(create.conversation, revision=1, system=create.system)
        return DONE

    def _fork(self, fork: Fork) -> Reply:
        """The copy's revision goes on from the source's, because its turns bear that one's stamps.

        Open turns are copied closed: copied open they would be answered, and paid for, again.
        """
        head = find_conversation(self._state, fork.source)
        through = head.turns
        if fork.at_turn:
            through = find_turn(self._state, fork.source, fork.at_turn).turn
        self._check_new(fork.target)
        reason = f"not answered yet when it was forked from {fork.source}: retry it to ask again"
        turns = tuple(
            turn if turn.closed else turn.closed_because(reason, head.revision + 1)
            for turn in self._state.all_turns(fork.source, through)
        )
        self._state.create(fork.target, head.revision + 1, turns, head.system)
        return DONE

    def _rename(self, rename: Rename) -> Reply:
        """Answers under way are recorded under the old id, so there must be none."""
        head = find_conversation(self._state, rename.conversation)
        self._check_new(rename.target, adds=False)
        if head.open_turns:
            raise Refusal(
                Code.NOT_ANSWERED,
                f"{rename.conversation} is still being answered: "
                "rename it when its turns have closed",
            )
        times = (rename.created_ms, rename.updated_ms)
        if any(times) and not rename.conversation.startswith(IMPORT_PREFIX):
            raise Refusal(Code.INVALID, "only an import has times of its own: rename without them")
        if not 0 <= times[0] <= times[1] <= TIME_MAX_MS:
            raise Refusal(Code.INVALID, f"created at {times[0]} ms and updated at {times[1]} ms")
        self._state.rename(rename.conversation, rename.target, *times)
        self._move_budget(rename.conversation, rename.target)
        return DONE

    def _delete(self, delete: Delete) -> Reply:
        head = find_conversation(self._state, delete.conversation)
        for turn in self._state.all_turns(delete.conversation, head.turns):
            if not turn.closed:
                after = turn.closed_because("deleted", head.revision + 1)
                settle_closed(self._state, delete.conversation, turn, after)
        self._state.delete(delete.conversation)
        self._move_budget(delete.conversation, "")
        return DONE

    def _move_budget(self, conversation: str, target: str) -> None:
        """A conversation's budget goes where it goes; with ``target`` "" it is gone."""
        budget = self._state.budgets.get(CONVERSATION + conversation)
        if budget is not None:
            self._state.set_budget(CONVERSATION + conversation, None)
            if target:
                self._state.set_budget(CONVERSATION + target, budget)

    def _import_turn(self, imported: ImportTurn) -> Reply:
        """Nothing of the turn is believed: what it says of itself is what `turn_rules` could have
        made, and leaves room for the numbers that come after it."""
        conversation, turn = imported.conversation, imported.turn
        head = find_conversation(self._state, conversation)
        if not conversation.startswith(IMPORT_PREFIX):
            raise Refusal(
                Code.INVALID,
                f"turns are imported into a conversation whose id begins with {IMPORT_PREFIX}: "
                "rename it when it is whole",
            )
        number = next_turn(conversation, head, self._limits)
        self._check_import(turn, number)
        before = self._state.turns.get((conversation, number - 1))
        if before is not None and before.asked_revision >= turn.asked_revision:
            raise Refusal(Code.INVALID, f"turn {number} was asked before turn {number - 1}")
        revision = last_revision(turn)
        if revision > _REVISION_MAX:
            raise Refusal(Code.INVALID, f"turn {number} has a revision of {revision}: too high")
        self._state.write_turn(conversation, turn, max(head.revision, revision))
        return TurnOpened(number, tuple(each.number for each in turn.candidates))

    def _check_import(self, turn: Turn, number: int) -> None:
        limits = self._limits
        check_numbers((each.number for each in turn.candidates), limits)
        if turn.council is not None:
            check_council(turn.council, limits)
        wrong = contradiction(turn) or ("" if turn.closed else "it is still open")
        if turn.turn != number or wrong:
            wrong = wrong or f"it says that it is turn {turn.turn}"
            raise Refusal(Code.INVALID, f"turn {number} cannot be imported: {wrong}")
        check_size("the question", turn.question, limits.question_bytes)
        check_options(turn.options, limits)
        check_size("the user", turn.user, limits.name_bytes)
        times = [turn.opened_ms, turn.deadline_ms]
        times += [time_ms for each in turn.retries for time_ms in (each.time_ms, each.deadline_ms)]
        if not all(0 <= time_ms <= TIME_MAX_MS for time_ms in times):
            raise Refusal(
                Code.INVALID,
                f"turn {number} cannot be imported: it has a time before 1970 or after 9999",
            )
        for each in turn.candidates:
            check_size(f"candidate {each.number}'s text", each.text, limits.text_bytes)
            check_size(f"candidate {each.number}'s error", each.error, limits.text_bytes)
            for what, name in (
                ("model", each.model),
                ("planned model", each.planned_model),
                ("finish reason", each.finish_reason),
                ("provider", each.provider),
                ("prompt's hash", each.prompt_hash),
                ("hedge", each.hedge.model if each.hedge is not None else ""),
            ):
                check_size(f"candidate {each.number}'s {what}", name, limits.name_bytes)
            check_fallbacks(f"candidate {each.number}", each.fallbacks, limits)
            for taken in each.takeovers:
                check_size(f"candidate {each.number}'s model", taken.model, limits.name_bytes)
                check_size(f"candidate {each.number}'s error", taken.reason, limits.text_bytes)
            if each.attempt > _ATTEMPT_MAX:
                raise Refusal(
                    Code.INVALID, f"candidate {each.number} is at attempt {each.attempt}: too high"
                )

    def _check_new(self, conversation: str, adds: bool = True) -> None:
        check_id(conversation)
        heads = self._state.heads
        if conversation in heads:
            raise Refusal(
                Code.EXISTS, f"conversation {named(conversation)} exists: choose another id"
            )
        if adds and len(heads) >= self._limits.conversations:
            raise Refusal(
                Code.TOO_LARGE,
                f"there are {len(heads)} conversations, the limit: delete some first",
            )
