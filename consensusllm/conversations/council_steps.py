"""How a council goes on from stage to stage: pure functions of the turn.

A council goes on within the command that ends what its stage waits for, so there is no state in
which a stage is over and the next one is not open, and nobody has to notice. Only time needs
somebody: a stage past its deadline is ended by CloseStage.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from .answers import answers_needed, kind, shown
from .council import StageKind
from .rankings import read_ranking
from .records import Candidate, Retried, Turn


class Moment(NamedTuple):
    """When a council goes on, and the ``attempt`` under which its new candidates begin."""

    time_ms: int
    revision: int
    attempt: int


def with_ranking(turn: Turn, candidate: Candidate) -> Candidate:
    """``candidate``, which has ended, with the ranking that a review's text has."""
    if kind(turn, candidate) is not StageKind.REVIEW or not candidate.answered:
        return candidate
    numbers = {
        each.label: each.candidate.number for each in shown(turn, candidate.stage, candidate.seat)
    }
    ranking = read_ranking(candidate.text, tuple(numbers))
    return replace(candidate, ranking=tuple(numbers[label] for label in ranking))


def advanced(turn: Turn, now: Moment) -> Turn:
    """The turn after candidates of its council have ended: as it is while its stage still waits;
    otherwise with the next chairman or stage that has something to do opened, or closed."""
    council = turn.council
    assert council is not None, "only a council goes on"
    number = turn.stage
    stage = council.stage(number)
    asked = [each for each in turn.candidates if each.stage == number]
    answers = sum(each.answered for each in asked)
    enough = 1 if stage.kind is StageKind.SYNTHESIS else stage.close_after
    if enough and answers >= enough:
        reason = f"not waited for: the stage closed after {answers} answers"
        turn = turn.with_open_ended(reason, now.revision)
    elif not all(each.ended for each in asked):
        return turn
    elif stage.kind is StageKind.SYNTHESIS and len(asked) < len(stage.seats):
        return opened(turn, number, (stage.seats[len(asked)],), now)
    for following in range(number + 1, len(council.stages) + 1):
        seats = _busy_seats(turn, following)
        if seats:
            return opened(turn, following, seats, now)
    return replace(turn, closed=True)


def _busy_seats(turn: Turn, number: int) -> tuple[int, ...]:
    """The seats that have something to do as stage ``number`` opens. Where nobody has answered
    that is none of them: a failure is never ranked or summed up."""
    assert turn.council is not None, "only a council has stages"
    stage = turn.council.stage(number)
    if stage.kind is StageKind.OPINIONS:
        return stage.seats
    needed = answers_needed(stage.kind)
    seats = tuple(seat for seat in stage.seats if len(shown(turn, number, seat)) >= needed)
    return seats[:1] if stage.kind is StageKind.SYNTHESIS else seats


def opened(turn: Turn, number: int, seats: tuple[int, ...], now: Moment) -> Turn:
    """The turn with a new candidate for each of ``seats`` in stage ``number``, which has its whole
    time before it."""
    council = turn.council
    assert council is not None, "only a council has seats"
    last = turn.candidates[-1].number if turn.candidates else 0
    candidates = []
    for number_of_it, seat in enumerate(seats, start=last + 1):
        node, model = _place_of(turn, seat)
        candidates.append(
            Candidate(
                number=number_of_it,
                node=node,
                model=model,
                attempt=now.attempt,
                planned_node=node,
                planned_model=model,
                opened_revision=now.revision,
                fallbacks=council.member(seat).fallbacks,
                stage=number,
                seat=seat,
            )
        )
    retries = turn.retries
    if turn.candidates:
        retries += (Retried(now.revision, now.time_ms, turn.deadline_ms, turn.close_after),)
    return replace(
        turn,
        candidates=(*turn.candidates, *candidates),
        deadline_ms=now.time_ms + council.stage(number).deadline_ms,
        retries=retries,
    )


def contradiction(turn: Turn) -> str:
    """What of the turn's council cannot have come about, in a few words; "" where all of it can."""
    before = 0
    for each in turn.candidates:
        if turn.council is None:
            if each.stage or each.seat or each.ranking:
                return f"candidate {each.number} is of a council, and there is none"
            continue
        if not max(1, before) <= each.stage <= len(turn.council.stages):
            return f"candidate {each.number} is of a wrong stage"
        if each.seat not in turn.council.stage(each.stage).seats:
            return f"candidate {each.number} has a wrong seat"
        before = each.stage
    for each in turn.candidates if turn.council is not None else ():  # which reads all of them
        if each.ranking and with_ranking(turn, replace(each, ranking=())) != each:
            return f"candidate {each.number} does not say the ranking that it has"
    return ""


def _place_of(turn: Turn, seat: int) -> tuple[int, str]:
    """The node and the model where the seat was last: who took it over keeps it."""
    assert turn.council is not None, "only a council has seats"
    held = next((each for each in reversed(turn.candidates) if each.seat == seat), None)
    if held is None:
        member = turn.council.member(seat)
        return member.node, member.model
    models = (each.model for each in reversed(held.takeovers) if each.model)
    return held.node, next(models, held.planned_model)
