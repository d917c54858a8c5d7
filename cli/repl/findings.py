"""Owns how a council reads: its stages, the ranking table, its outcome, and what it lacked."""

from __future__ import annotations

from consensusllm.client import Candidate, Council, Turn
from consensusllm.conversations import (
    StageKind,
    agreements,
    outcome,
    shortfalls,
    tally,
)
from consensusllm.conversations.answers import idle_stages, labels, why_idle
from consensusllm.conversations.tally import described

from .output import Output


def stage_title(council: Council, stage: int) -> str:
    """Such as "stage 2 of 3: review"."""
    return f"stage {stage} of {len(council.stages)}: {council.stage(stage).kind.value}"


def foreseen(council: Council) -> list[str]:
    """What the council cannot do, whoever answers: a line for each stage."""
    return [
        f"{council.stage(number).kind.value} will not be held: {why_idle(council.stage(number))}"
        for number in idle_stages(council)
    ]


def council_state(turn: Turn, council: Council) -> str:
    """The turn's state in a few words."""
    parts = [f"council {council.template}"]
    if not turn.closed:
        asked = [each for each in turn.candidates if each.stage == turn.stage]
        ended = sum(each.ended for each in asked)
        parts.append(f"{stage_title(council, turn.stage)}, {ended} of {len(asked)} ended")
    found = outcome(turn)
    if found:
        parts.append(f"candidate {found} is its answer")
    elif turn.closed:
        parts.append("it came to no answer")
    if turn.choice:
        parts.append(f"candidate {turn.choice} is chosen")
    if shortfalls(turn):
        parts.append("DEGRADED")
    return " · ".join(parts)


def place_of(council: Council, candidate: Candidate) -> str:
    """Under which label and in which role the candidate speaks, or how it ranks the others'."""
    if council.stage(candidate.stage).kind is StageKind.REVIEW and candidate.ended:
        return _ballot(candidate)
    return seat_title(council, candidate.stage, candidate.seat)


def seat_title(council: Council, stage: int, seat: int) -> str:
    """What the seat does in the stage."""
    kind = council.stage(stage).kind
    if kind is StageKind.REVIEW:
        return "review"
    role = council.member(seat).role
    if kind is StageKind.SYNTHESIS:
        return role
    label = f"answer {labels(council)[seat]}"
    return f"{label} · {role}" if role else label


def show_findings(output: Output, turn: Turn, council: Council) -> None:
    """The ranking table, the majority, and what was lacking."""
    standings = tally(turn)
    if standings:
        named = labels(council)
        by_number = {each.number: each for each in turn.candidates}
        output.line()
        output.line(("ranking", "bold"), " (points: one for each answer that a review puts below)")
        output.table(
            ["place", "answer", "candidate", "node", "role", "points", "mean rank", "reviews"],
            [
                [
                    str(each.place or "-"),
                    named[by_number[each.candidate].seat],
                    str(each.candidate),
                    str(by_number[each.candidate].node),
                    council.member(by_number[each.candidate].seat).role or "-",
                    f"{each.points} of {each.possible}",
                    f"{each.mean_rank:.2f}" if each.ballots else "-",
                    str(each.ballots),
                ]
                for each in standings
            ],
        )
    groups = agreements(turn)
    if groups:
        output.line()
        output.table(
            ["samples", "candidates", "final answer"],
            [
                [str(len(each.candidates)), ",".join(map(str, each.candidates)), each.answer]
                for each in groups
            ],
        )
    found = shortfalls(turn)
    if found:
        output.line()
        output.line(("degraded", "bold yellow"), ": the council lacked something")
        for each in found:
            output.line((f"- {described(council, each)}", "yellow"))


def _ballot(candidate: Candidate) -> str:
    if not candidate.ranking:
        return "no ranking"
    return "ranks " + " > ".join(f"[{number}]" for number in candidate.ranking)
