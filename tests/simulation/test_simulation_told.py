"""What clients were told of turns is still so in the end, or it is seen that it is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from consensusllm.conversations import (
    CreateConversation,
    Fork,
    Limits,
    Machine,
    OpenSession,
    Operation,
    PlannedCandidate,
    Rename,
    SessionCommand,
    SessionOpened,
    SubmitQuery,
    Turn,
    TurnOpened,
)
from consensusllm.conversations.commands import RecordCandidate, RetryTurn
from consensusllm.simulation.told import Told


class Round:
    """One conversation, ``c``, with an answered turn and one that is open."""

    def __init__(self) -> None:
        self.machine = Machine(Limits())
        self.told = Told(["c"])
        self._session = bytes(16)
        self._sequence = -1
        self.do(OpenSession(), CreateConversation("c"))
        self.do(SubmitQuery("c", "first", (PlannedCandidate(1, 1), PlannedCandidate(2, 2))))
        for number in (1, 2):
            self.do(self.answer(1, number))
        self.do(SubmitQuery("c", "second", (PlannedCandidate(1, 1),)))

    def answer(self, turn: int, number: int) -> RecordCandidate:
        found = self.machine.turn("c", turn)
        assert found is not None
        candidate = found.candidate(number)
        assert candidate is not None
        return RecordCandidate(
            "c", turn, number, candidate.attempt, f"answer {number}", "m", "stop"
        )

    def do(self, *operations: Operation) -> None:
        for operation in operations:
            self._sequence += 1
            command = SessionCommand(self._session, self._sequence, 0, operation)
            (reply,) = self.machine.apply(self.machine.applied_slot + 1, 0, [command])
            if isinstance(reply, SessionOpened):
                self._session = reply.session
            if isinstance(reply, TurnOpened):
                self.told.opened(operation, reply)

    def fork(self) -> None:
        """To ``x``, which is then called ``y``; the open turn ends afterwards."""
        turns = self.told.turns("c")
        self.do(Fork("c", "x"))
        self.told.copied("c", "x", turns)
        self.do(Rename("x", "y"))
        self.told.renamed("x", "y")
        self.do(self.answer(2, 1))

    def change(self, conversation: str, turn: int, to: Callable[[Turn], Turn]) -> None:
        found = self.machine.turn(conversation, turn)
        assert found is not None
        self.machine._state.write_turn(conversation, to(found))

    def lose(self, conversation: str, turn: int) -> None:
        del self.machine._state.turns[conversation, turn]


def test_nothing_is_lost_of_what_is_there_or_was_asked_in_a_copy_or_copied_while_open() -> None:
    seen = Round()
    seen.fork()
    seen.do(SubmitQuery("y", "third", (PlannedCandidate(1, 1),)))
    seen.do(SubmitQuery("c", "fourth", (PlannedCandidate(1, 1),)))
    seen.do(RetryTurn("c", 1, (PlannedCandidate(1, 1),)))
    assert seen.told.lost(seen.machine) == ""


def test_a_copy_under_a_name_that_nobody_was_told_is_not_missed() -> None:
    seen = Round()
    seen.fork()
    seen.do(Rename("y", "z"))
    assert seen.told.lost(seen.machine) == ""


def without_the_last_candidate(turn: Turn) -> Turn:
    return replace(turn, candidates=turn.candidates[:-1])


def with_another_text(turn: Turn) -> Turn:
    return turn.with_candidate(replace(turn.candidates[0], text="another"))


def with_an_error(turn: Turn) -> Turn:
    after = turn.candidates[0].ended_revision + 1
    return turn.with_candidate(
        replace(turn.candidates[0], text="", error="lost", ended_revision=after)
    )


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda seen: seen.lose("c", 1), "'first' was turn 1 of c, which is None"),
        (lambda seen: seen.lose("y", 1), "'first' was turn 1 of y, which is None"),
        (
            lambda seen: seen.change("c", 1, lambda turn: replace(turn, question="?")),
            "'first' was turn 1 of c, which is Turn",
        ),
        (
            lambda seen: seen.change("c", 1, without_the_last_candidate),
            r"turn 1 of c had candidates \[2\]",
        ),
        (lambda seen: seen.change("y", 1, with_another_text), "y, a copy of c, has Candidate"),
        (lambda seen: seen.change("y", 1, with_an_error), "y, a copy of c, has Candidate"),
    ],
)
def test_what_is_lost_or_changed_is_seen(harm: Callable[[Round], None], said: str) -> None:
    seen = Round()
    seen.fork()
    harm(seen)
    assert re.match(said, seen.told.lost(seen.machine))
