"""What a council found: the tally of its reviews, the majority of its samples, its outcome, and
what it lacked. Pure functions of the turn, so anyone can recompute them from the log.

The tally is a Borda count (J.-C. de Borda, 1781): on each ballot an answer gets a point for every
answer that the ballot puts below it. Nobody ranks an answer of its own, so ballots differ in what
they show, and answers are compared by the share of their points in what they could have got. Equal
shares are an equal place. Every figure belongs to the answer that was reviewed.

The majority is self-consistency (Wang et al., Self-Consistency Improves Chain of Thought Reasoning,
2022, 2): samples are grouped by their final answer, and the largest group wins if no other is as
large. The final answer is what follows the last line that begins with "Answer:", or else the whole
text; compared are NFKC-normalised, case-folded words without markup (* _ ` $), commas within
numbers, and stops at the end.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from .answers import SHOWN_CHARACTERS, idle_stages, kind, why_idle
from .council import ANSWERING, Council, StageKind
from .records import Candidate, Turn

_FINAL = re.compile(r"^[ \t*_#]*answer[ \t*_]*:[ \t*_]*(.*)", re.IGNORECASE | re.MULTILINE)
_MARKUP = re.compile(r"[*_`$]|(?<=[0-9]),(?=[0-9]{3}\b)")
_COMPARED_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Standing:
    """How ``candidate`` did: ``place`` from 1, equals sharing one; 0 where no ballot shows it.

    ``points`` of ``possible`` on ``ballots``; ``mean_rank`` is its mean place on them, from 1.0,
    and 0.0 without any.
    """

    candidate: int
    place: int
    ballots: int
    mean_rank: float
    points: int
    possible: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Samples that end in the same ``answer``, in the words of the first, on one line."""

    answer: str
    candidates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Something that the council lacked in ``stage`` (from 1), for ``reason``. ``seat`` 0 is the
    whole stage; ``candidate`` 0: nobody was asked."""

    stage: int
    seat: int
    candidate: int
    reason: str


def tally(turn: Turn) -> tuple[Standing, ...]:
    """The standings of all answers that were ranked or might have been, the best first; () where
    the council has no review."""
    if not _of_kind(turn, StageKind.REVIEW):
        return ()
    places: dict[int, list[tuple[int, int]]] = {}
    for each in _latest_answers(turn):
        places[each.number] = []
    for review in _of_kind(turn, StageKind.REVIEW):
        for place, number in enumerate(review.ranking, start=1):
            places.setdefault(number, []).append((place, len(review.ranking)))
    shares = {number: _share(ballots) for number, ballots in places.items()}
    return tuple(
        Standing(
            candidate=number,
            place=1 + sum(other > shares[number] for other in shares.values()) if ballots else 0,
            ballots=len(ballots),
            mean_rank=sum(place for place, _ in ballots) / len(ballots) if ballots else 0.0,
            points=sum(of - place for place, of in ballots),
            possible=sum(of - 1 for _, of in ballots),
        )
        for number, ballots in sorted(places.items(), key=lambda item: (-shares[item[0]], item[0]))
    )


def agreements(turn: Turn) -> tuple[Agreement, ...]:
    """The groups of samples that agree, the largest first; () where no majority is asked for."""
    council = turn.council
    if council is None or all(each.kind is not StageKind.MAJORITY for each in council.stages):
        return ()
    groups: dict[str, list[Candidate]] = {}
    for each in _latest_answers(turn):
        groups.setdefault(final_answer(each.text), []).append(each)
    found = [
        Agreement(" ".join(_stated(group[0].text).split()), tuple(each.number for each in group))
        for group in groups.values()
    ]
    return tuple(sorted(found, key=lambda each: (-len(each.candidates), each.candidates)))


def _stated(text: str) -> str:
    """What ``text`` ends in, as far as it is compared."""
    stated = _FINAL.findall(text)
    return str(stated[-1] if stated else text)[:_COMPARED_CHARACTERS]


def final_answer(text: str) -> str:
    """What ``text`` ends in, as it is compared with others."""
    said = unicodedata.normalize("NFKC", _stated(text))
    return " ".join(_MARKUP.sub("", said).casefold().split()).rstrip(".!?。 ")


def outcome(turn: Turn) -> int:
    """The candidate that the council came to: its synthesis, or else the first sample of the
    majority; 0 where there is neither (yet)."""
    for each in reversed(_of_kind(turn, StageKind.SYNTHESIS)):
        if each.answered:
            return each.number
    groups = agreements(turn) if turn.closed else ()
    if groups and all(len(each.candidates) < len(groups[0].candidates) for each in groups[1:]):
        return groups[0].candidates[0]
    return 0


def shortfalls(turn: Turn) -> tuple[Shortfall, ...]:
    """What the council has lacked so far, in order: a council that lacked anything is degraded."""
    council = turn.council
    if council is None:
        return ()
    found = []
    for number, stage in enumerate(council.stages, start=1):
        asked = [each for each in turn.candidates if each.stage == number]
        for each in asked:
            for reason in _lacks(turn, each):
                found.append(Shortfall(number, each.seat, each.number, reason))
        over = turn.closed or turn.stage > number
        if not over or stage.kind is StageKind.MAJORITY:
            continue
        if not asked:
            idle = number in idle_stages(council)
            found.append(Shortfall(number, 0, 0, "was not held" + f": {why_idle(stage)}" * idle))
        elif stage.kind is StageKind.SYNTHESIS:
            if not any(each.answered for each in asked):
                found.append(Shortfall(number, 0, 0, "no chairman summed up"))
        else:
            seats = {each.seat for each in asked}
            found += [
                Shortfall(number, seat, 0, "had too few answers of others to read")
                for seat in stage.seats
                if seat not in seats
            ]
    return tuple(found)


def described(council: Council, shortfall: Shortfall) -> str:
    """One line for a person: the stage, the seat with its role, and the reason."""
    where = council.stage(shortfall.stage).kind.value
    if shortfall.seat:
        member = council.member(shortfall.seat)
        role = f" ({member.role})" if member.role else ""
        where += f", seat {shortfall.seat}{role} of node {member.node}"
    if shortfall.candidate:
        where += f", candidate {shortfall.candidate}"
    return f"{where}: {shortfall.reason}"


def findings(turn: Turn) -> dict[str, Any]:
    """What the council of ``turn`` found, of JSON's types: its ``outcome`` (a candidate; 0: none),
    what it lacked in ``degraded``, and the standings of its ``tally``."""
    council = turn.council
    assert council is not None, "only a council finds anything"
    return {
        "turn": turn.turn,
        "outcome": outcome(turn),
        "degraded": [described(council, each) for each in shortfalls(turn)],
        "tally": [asdict(each) for each in tally(turn)],
        "agreements": [
            {"answer": each.answer, "candidates": list(each.candidates)}
            for each in agreements(turn)
        ],
    }


def _lacks(turn: Turn, candidate: Candidate) -> list[str]:
    assert turn.council is not None, "only a council lacks anything"
    reasons = []
    planned = turn.council.member(candidate.seat).node
    if candidate.node != planned:
        reasons.append(f"node {candidate.node} took the place of node {planned}")
    if candidate.hedge is not None and candidate.hedge_won:
        reasons.append(f"{candidate.hedge.model} was asked too, and answered first")
    for each in candidate.takeovers:
        if each.reason:
            stood_in = each.model or f"node {each.node}"
            reasons.append(f"{stood_in} stood in after: {each.reason}")
    if candidate.error:
        reasons.append(candidate.error)
    elif candidate.ended:
        of = kind(turn, candidate)
        if of is StageKind.REVIEW and not candidate.ranking:
            reasons.append("abstained: no ranking of the answers that it was shown can be read")
        if of in ANSWERING and len(candidate.text) > SHOWN_CHARACTERS:
            reasons.append(f"others were shown the first {SHOWN_CHARACTERS} characters of it")
    return reasons


def _share(ballots: list[tuple[int, int]]) -> Fraction:
    """Of the points that could be had; below every other where there is no ballot."""
    possible = sum(of - 1 for _, of in ballots)
    return (
        Fraction(sum(of - place for place, of in ballots), possible) if possible else Fraction(-1)
    )


def _of_kind(turn: Turn, wanted: StageKind) -> list[Candidate]:
    if turn.council is None:
        return []
    return [each for each in turn.candidates if kind(turn, each) is wanted]


def _latest_answers(turn: Turn) -> list[Candidate]:
    """The last answer of each seat."""
    latest = {
        each.seat: each
        for each in turn.candidates
        if each.answered and kind(turn, each) in ANSWERING
    }
    return sorted(latest.values(), key=lambda each: each.number)
