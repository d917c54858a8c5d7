"""A conversation as it was at any of its revisions, rebuilt from the stamps that its records bear.

What is rebuilt is exact but for the text of a candidate that was open then: a takeover may drop
some of it, so what was written so far is not kept, and such a candidate has no text.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby, pairwise

from .commands import Usage
from .council_steps import contradiction as council_contradiction
from .records import Candidate, Conversation, Turn


def at_revision(conversation: Conversation, revision: int) -> Conversation:
    """The conversation as it was from ``revision`` (1 to the conversation's own) until the next.

    It has the id that it has now. A fork has its source's past, as far as it copied the turns.
    """
    assert 1 <= revision <= conversation.revision, f"no revision {revision}"
    turns = tuple(
        turn_at(turn, revision) for turn in conversation.turns if turn.asked_revision < revision
    )
    return replace(conversation, revision=revision, turns=turns)


def turn_at(turn: Turn, revision: int) -> Turn:
    """A turn as it was at a ``revision`` that is above the one at which it was asked."""
    candidates = tuple(
        _candidate_at(each, revision)
        for each in turn.candidates
        if each.opened_revision <= revision
    )
    chosen = 0 < turn.choice_revision <= revision
    undone = next((each for each in turn.retries if each.revision > revision), turn)
    return replace(
        turn,
        candidates=candidates,
        choice=turn.choice if chosen else 0,
        choice_revision=turn.choice_revision if chosen else 0,
        closed=all(each.ended for each in candidates),
        deadline_ms=undone.deadline_ms,
        close_after=undone.close_after,
        retries=tuple(each for each in turn.retries if each.revision <= revision),
    )


def _candidate_at(candidate: Candidate, revision: int) -> Candidate:
    if candidate.ended and candidate.ended_revision <= revision:
        return candidate
    takeovers = tuple(each for each in candidate.takeovers if each.revision <= revision)
    hedge = candidate.hedge
    return replace(
        candidate,
        node=takeovers[-1].node if takeovers else candidate.planned_node,
        model=next(
            (each.model for each in reversed(takeovers) if each.model), candidate.planned_model
        ),
        attempt=candidate.attempt - len(candidate.takeovers) + len(takeovers),
        ended=False,
        text="",
        error="",
        finish_reason="",
        usage=Usage(),
        takeovers=takeovers,
        ended_revision=0,
        provider="",
        prompt_hash="",
        cost=0,
        ranking=(),
        left_out=0,
        context_tokens=0,
        hedge=hedge if hedge is not None and hedge.revision <= revision else None,
    )


def last_revision(turn: Turn) -> int:
    """The revision of the turn's latest change."""
    return max(
        turn.asked_revision + 1,
        turn.choice_revision,
        *(each.revision for each in turn.retries),
        *(each.revision for candidate in turn.candidates for each in candidate.takeovers),
        *(each.hedge.revision for each in turn.candidates if each.hedge is not None),
        *(each.opened_revision for each in turn.candidates),
        *(each.ended_revision for each in turn.candidates),
    )


def contradiction(turn: Turn) -> str:
    """What of ``turn`` cannot have come about, in a few words; "" where all of it can.

    Every turn of the state machine is free of it, so one that is not was altered elsewhere.
    """
    numbers = [each.number for each in turn.candidates]
    if not numbers or numbers[0] < 1 or any(a >= b for a, b in pairwise(numbers)):
        return "its candidates are not numbered upwards from 1 or more"
    for candidate in turn.candidates:
        wrong = _contradiction(candidate, turn.asked_revision)
        if wrong:
            return f"candidate {candidate.number} {wrong}"
        if not 0 <= candidate.left_out < turn.turn:
            return f"candidate {candidate.number} leaves out turns that were not there"
    wrong = council_contradiction(turn)
    if wrong:
        return wrong
    if turn.closed != all(each.ended for each in turn.candidates):
        return "it is closed, and a candidate is not" if turn.closed else "nothing of it is open"
    chosen = turn.candidate(turn.choice)
    if turn.choice and (chosen is None or not chosen.answered):
        return f"it chooses candidate {turn.choice}, which has no answer"
    if turn.choice_revision < (chosen.ended_revision if chosen else 0) or (
        turn.choice_revision and not turn.choice
    ):
        return "its choice has the wrong revision"
    again = [each.revision for each in turn.retries]
    if turn.council is not None:  # it goes over stages that no budget allows within one revision
        again = [revision for revision, _ in groupby(again)]
    asked = [turn.asked_revision, *again]
    if asked[0] < 1 or any(a >= b for a, b in pairwise(asked)):
        return "it was asked at wrong revisions"
    return ""


def _contradiction(candidate: Candidate, asked_revision: int) -> str:
    takeovers = candidate.takeovers
    steps = [candidate.opened_revision, *(each.revision for each in takeovers)]
    if candidate.ended:
        steps.append(candidate.ended_revision)
    elif candidate.ended_revision or candidate.error:
        return "is open, and has an end"
    if asked_revision >= steps[0] or any(a > b for a, b in pairwise(steps)):
        return "has wrong revisions"
    hedge = candidate.hedge
    if hedge is not None and (
        hedge.revision < steps[0] or (candidate.ended and hedge.revision > steps[-1])
    ):
        return "has a hedge of a wrong revision"
    attempts = range(candidate.attempt - len(takeovers) + 1, candidate.attempt + 1)
    if attempts.start < 2 or [each.attempt for each in takeovers] != [*attempts]:
        return "has attempts with a gap"
    if candidate.node != (takeovers[-1].node if takeovers else candidate.planned_node):
        return "is of a node that never had it"
    return ""
