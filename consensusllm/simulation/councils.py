"""Councils in the simulation: how clients convene them, and what must hold at every step."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from consensusllm.conversations import (
    Choose,
    Council,
    Machine,
    Member,
    Operation,
    Stage,
    StageKind,
    Turn,
    outcome,
    shortfalls,
)
from consensusllm.conversations.answers import is_answer, kind, shown
from consensusllm.conversations.rankings import read_ranking
from consensusllm.conversations.records import Candidate, TurnId

SEATS_MAX = 3
DEADLINES_MS = (1500, 20_000)


class BrokenCouncil(Exception):
    """What a council did that none may do. One line."""


def random_council(rng: Random, nodes: Sequence[int], number: int) -> Council:
    """Some seats on some of ``nodes``, in stages of any kinds that may follow each other."""
    seats = tuple(range(1, rng.randrange(2, SEATS_MAX + 1) + 1))
    members = [Member(rng.choice(nodes), role=f"role {seat}") for seat in seats]
    chairs = tuple(range(len(seats) + 1, len(seats) + 3))
    members += [Member(rng.choice(nodes), role="chairman") for _ in chairs]

    def stage(of: StageKind, who: tuple[int, ...] = seats) -> Stage:
        quorum = rng.choice((0, 0, max(0, len(who) - 1)))
        return Stage(of, who, quorum, rng.choice(DEADLINES_MS))

    stages = [stage(StageKind.OPINIONS)]
    stages += [stage(StageKind.REBUTTAL)] if rng.random() < 0.3 else []
    stages += [stage(StageKind.REVIEW)] if rng.random() < 0.7 else []
    majority = rng.random() < 0.1
    last = Stage(StageKind.MAJORITY) if majority else stage(StageKind.SYNTHESIS, chairs)
    return Council(f"council {number}", "r", number, tuple(members), (*stages, last))


class CouncilInvariants:
    """Told of each operation once, as it is applied first."""

    def __init__(self) -> None:
        self._stages: dict[TurnId, tuple[int, int]] = {}

    def broken(self, operation: Operation, machine: Machine) -> str:
        """What is wrong with the council that ``operation`` was about; "" for nothing. ``machine``
        is the state after it."""
        turn_id = (getattr(operation, "conversation", ""), getattr(operation, "turn", 0))
        turn = machine.turn(*turn_id)
        try:
            if turn is not None and turn.council is not None:
                self._check(turn_id, operation, turn)
        except BrokenCouncil as error:
            return str(error)
        return ""

    def _check(self, turn_id: TurnId, operation: Operation, turn: Turn) -> None:
        place = (turn.stage, len(turn.candidates))
        if place < self._stages.get(turn_id, (0, 0)):
            raise BrokenCouncil(f"{turn_id} went back from {self._stages[turn_id]} to {place}")
        self._stages[turn_id] = place
        if turn.closed:
            del self._stages[turn_id]
            self._check_end(turn_id, turn)
        elif all(each.ended for each in turn.candidates):
            raise BrokenCouncil(f"{turn_id} waits in stage {turn.stage}, and nobody answers")
        for each in turn.candidates:
            if each.ended:
                _check_ranking(turn_id, turn, each)
            elif each.stage != turn.stage:
                raise BrokenCouncil(f"{turn_id} has left candidate {each.number} open behind it")
        if isinstance(operation, Choose) and turn.choice:
            chosen = turn.candidate(turn.choice)
            assert chosen is not None, "a choice names a candidate of its turn"
            if not is_answer(turn, chosen):
                raise BrokenCouncil(f"{turn_id} chose the review {turn.choice}")

    @staticmethod
    def _check_end(turn_id: TurnId, turn: Turn) -> None:
        whole = all(each.answered for each in turn.candidates)
        assert turn.council is not None, "told of councils only"
        sums_up = turn.council.stages[-1].kind is StageKind.SYNTHESIS
        if not shortfalls(turn) and (not whole or (sums_up and not outcome(turn))):
            raise BrokenCouncil(f"{turn_id} lacked something and does not say so: {turn}")


def _check_ranking(turn_id: TurnId, turn: Turn, candidate: Candidate) -> None:
    """What is recorded is what anyone reads out of the text again."""
    expected: tuple[int, ...] = ()
    if kind(turn, candidate) is StageKind.REVIEW and candidate.answered:
        numbers = {
            each.label: each.candidate.number
            for each in shown(turn, candidate.stage, candidate.seat)
        }
        if any(turn.candidate(number) is None for number in numbers.values()):
            raise BrokenCouncil(f"{turn_id} shows answers that it does not have")
        ranking = read_ranking(candidate.text, tuple(numbers))
        expected = tuple(numbers[label] for label in ranking)
    if candidate.ranking != expected:
        raise BrokenCouncil(
            f"{turn_id} candidate {candidate.number} ranks {candidate.ranking}, "
            f"and its text {expected}"
        )
