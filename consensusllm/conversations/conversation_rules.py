"""The rules of whole conversations: create, fork, rename, delete, import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .commands import (
    Code,
    CreateConversation,
    Delete,
    Fork,
    ImportedCandidate,
    ImportTurn,
    Rename,
    Reply,
    TurnOpened,
)
from .limits import Limits
from .records import Candidate, Turn
from .refusal import Refusal, check_id, check_size, named
from .sessions import DONE
from .state import State
from .turn_rules import check_numbers, find_conversation, find_turn, next_turn


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
        self._state.create(create.conversation, revision=1)
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
            turn if turn.closed else turn.closed_because(reason)
            for turn in self._state.all_turns(fork.source, through)
        )
        self._state.create(fork.target, head.revision + 1, turns)
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
        self._state.rename(rename.conversation, rename.target)
        return DONE

    def _delete(self, delete: Delete) -> Reply:
        find_conversation(self._state, delete.conversation)
        self._state.delete(delete.conversation)
        return DONE

    def _import_turn(self, imported: ImportTurn) -> Reply:
        head = find_conversation(self._state, imported.conversation)
        limits = self._limits
        number = next_turn(imported.conversation, head, limits)
        check_size("the question", imported.question, limits.question_bytes)
        numbers = check_numbers((each.number for each in imported.candidates), limits)
        for each in imported.candidates:
            check_size(f"candidate {each.number}'s text", each.text, limits.text_bytes)
            check_size(f"candidate {each.number}'s error", each.error, limits.text_bytes)
            check_size(f"candidate {each.number}'s model", each.model, limits.name_bytes)
        turn = Turn(
            turn=number,
            question=imported.question,
            candidates=tuple(
                map(_ended, sorted(imported.candidates, key=lambda each: each.number))
            ),
            choice=imported.choice,
            closed=True,
            opened_ms=self._state.time_ms,
            deadline_ms=self._state.time_ms,
            asked_revision=head.revision,
            choice_revision=head.revision + 1 if imported.choice else 0,
        )
        chosen = turn.candidate(imported.choice)
        if imported.choice and (chosen is None or not chosen.answered):
            raise Refusal(
                Code.INVALID,
                f"the imported turn chooses candidate {imported.choice}, which has no answer: "
                "choose one that has, or none",
            )
        self._state.write_turn(imported.conversation, turn)
        return TurnOpened(number, numbers)

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


def _ended(imported: ImportedCandidate) -> Candidate:
    return Candidate(
        number=imported.number,
        node=imported.node,
        model=imported.model,
        ended=True,
        text=imported.text,
        error=imported.error,
    )
