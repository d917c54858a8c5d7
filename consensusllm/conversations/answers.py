"""What the members of a council are shown of each other: which answers, under which labels, in
which order. Pure functions of the turn, so anyone can tell from the log who saw what.

A seat has one label in the whole council, drawn by the seed, so that reviews can be read side by
side. The order in which a reader sees the answers is drawn for each reader anew, because models
prefer what comes first (Zheng et al., Judging LLM-as-a-Judge, 2023, 3.3).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from .council import ANSWERING, Council, Stage, StageKind
from .records import Candidate, Turn

RANKED_MIN = 2
"""Fewer answers are not ranked: a single one is always first."""

SHOWN_CHARACTERS = 24_000
"""Of one answer, at most, to each who reads it."""


class Shown(NamedTuple):
    """An answer as a reader sees it. ``round`` counts the answers of one seat, from 1."""

    label: str
    round: int
    candidate: Candidate


def kind(turn: Turn, candidate: Candidate) -> StageKind | None:
    """What the candidate was asked to do; None where the turn has no council."""
    return turn.council.stage(candidate.stage).kind if turn.council is not None else None


def is_answer(turn: Turn, candidate: Candidate) -> bool:
    """Whether the candidate, once it has ended well, answers the question: reviews do not."""
    return kind(turn, candidate) is not StageKind.REVIEW


def labels(council: Council) -> dict[int, str]:
    """The label of each seat that answers the question: A, B, C and so on, by the seed."""
    seats = {seat for stage in council.stages if stage.kind in ANSWERING for seat in stage.seats}
    ordered = sorted(seats, key=lambda seat: _draw(council.seed, "label", seat))
    return {seat: chr(ord("A") + place) for place, seat in enumerate(ordered)}


def shown(turn: Turn, stage: int, seat: int) -> tuple[Shown, ...]:
    """The answers that ``seat`` reads in ``stage``, in the order in which it reads them.

    Only what answered is shown. A synthesis is shown every answer; the other stages the last one of
    each seat, and nothing of one's own.
    """
    council = turn.council
    assert council is not None, "only a council shows answers"
    everything = council.stage(stage).kind is StageKind.SYNTHESIS
    by_seat: dict[int, list[Shown]] = {}
    named = labels(council)
    for each in turn.candidates:
        said = each.stage < stage and each.answered and kind(turn, each) in ANSWERING
        if said and (everything or each.seat != seat):
            of_seat = by_seat.setdefault(each.seat, [])
            of_seat.append(Shown(named[each.seat], len(of_seat) + 1, each))
    order = sorted(by_seat, key=lambda other: _draw(council.seed, f"order {stage} {seat}", other))
    return tuple(
        each for other in order for each in (by_seat[other] if everything else by_seat[other][-1:])
    )


def answers_needed(of: StageKind) -> int:
    """How many answers of others a seat reads at least in a stage of the kind ``of``."""
    return {StageKind.OPINIONS: 0, StageKind.REVIEW: RANKED_MIN}.get(of, 1)


def idle_stages(council: Council) -> tuple[int, ...]:
    """The stages in which nobody will have enough to read, even if everybody answers."""
    authors: set[int] = set()
    idle = []
    for number, stage in enumerate(council.stages, start=1):
        needed = answers_needed(stage.kind)
        together = stage.kind in (StageKind.REVIEW, StageKind.REBUTTAL)
        if together and all(len(authors - {seat}) < needed for seat in stage.seats):
            idle.append(number)
        if stage.kind in ANSWERING:
            authors.update(stage.seats)
    return tuple(idle)


def why_idle(stage: Stage) -> str:
    """Why nobody has anything to do in ``stage``, which is one of the `idle_stages`."""
    return f"it takes {answers_needed(stage.kind) + 1} members who answer"


def own_answer(turn: Turn, stage: int, seat: int) -> Candidate | None:
    """What ``seat`` itself answered last before ``stage``."""
    return next(
        (
            each
            for each in reversed(turn.candidates)
            if each.stage < stage
            and each.seat == seat
            and each.answered
            and kind(turn, each) in ANSWERING
        ),
        None,
    )


def _draw(seed: int, what: str, seat: int) -> bytes:
    return blake2b(f"{seed}/{what}/{seat}".encode(), digest_size=16).digest()
