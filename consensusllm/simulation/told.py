"""What clients were told of turns, and that it is still so in the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from consensusllm.conversations import Machine, Operation, TurnOpened
from consensusllm.conversations.records import Candidate


@dataclass(frozen=True, slots=True)
class _Asked:
    """``question`` is "" where only a retry was acknowledged; ``candidates`` are their numbers."""

    question: str = ""
    candidates: frozenset[int] = frozenset()


Turns: TypeAlias = dict[int, _Asked]
"""By number."""


class Told:
    """Of one round. ``conversations`` are those that nobody renames or deletes; of others, which
    are copies of them, it counts what is found under the name that they were last known to have."""

    def __init__(self, conversations: Sequence[str]) -> None:
        self._kept = conversations
        self._turns: defaultdict[str, Turns] = defaultdict(dict)
        self._sources: dict[str, str] = {}

    def opened(self, operation: Operation, reply: TurnOpened) -> None:
        """A client was told that ``operation`` has opened candidates."""
        turns = self._turns[getattr(operation, "conversation", "")]
        before = turns.get(reply.turn, _Asked())
        question = getattr(operation, "question", "") or before.question
        turns[reply.turn] = _Asked(question, before.candidates.union(reply.candidates))

    def turns(self, conversation: str) -> Turns:
        """What has been acknowledged so far in ``conversation``: a copy that is asked for now has
        all of it."""
        return dict(self._turns[conversation])

    def copied(self, source: str, target: str, turns: Turns) -> None:
        """``target`` is a copy of ``source``, made after ``turns`` were acknowledged there."""
        self._sources[target] = source
        self._turns[target] = turns

    def renamed(self, copy: str, target: str) -> None:
        """``copy`` is called ``target`` now."""
        self._sources[target] = self._sources.pop(copy)
        self._turns[target] = self._turns.pop(copy)

    def lost(self, machine: Machine) -> str:
        """What is not any more as it was told, once no turn is open; "" for nothing."""
        there = {*self._kept, *(each.conversation for each in machine.summaries("", 10_000))}
        for name, turns in self._turns.items():
            if name in there and (lost := _lost(machine, name, turns)):
                return lost
        for name, source in self._sources.items():
            if name in there and (changed := _changed(machine, name, source)):
                return changed
        return ""


def _lost(machine: Machine, name: str, turns: Turns) -> str:
    """Which of the acknowledged ``turns`` of ``name`` is not as it was; "" for none."""
    for number, asked in turns.items():
        turn = machine.turn(name, number)
        if turn is None or asked.question not in ("", turn.question):
            return f"{asked.question!r} was turn {number} of {name}, which is {turn}"
        if lost := asked.candidates - {each.number for each in turn.candidates}:
            return f"turn {number} of {name} had candidates {sorted(lost)}: {turn}"
    return ""


def _changed(machine: Machine, name: str, source: str) -> str:
    """What the copy ``name`` has otherwise than ``source``; "" for nothing."""
    copy = machine.conversation(name)
    assert copy is not None, "it is there"
    for turn in copy.turns:
        original = machine.turn(source, turn.turn)
        if original is None or original.question != turn.question:
            break  # from here on it was asked in the copy
        for each in turn.candidates:
            other = original.candidate(each.number)
            if other is None or not _same(each, other):
                return f"{name}, a copy of {source}, has {each} in turn {turn.turn}, not {other}"
    return ""


def _same(copied: Candidate, original: Candidate) -> bool:
    """Equal, or else still open when it was copied, and so closed in the copy before it ended."""
    if (copied.text, copied.error) == (original.text, original.error):
        return True
    return bool(copied.error) and copied.ended_revision <= original.ended_revision
