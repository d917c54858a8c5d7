"""Turns as an import makes them."""

from __future__ import annotations

from consensusllm.conversations import Candidate, Turn

TEMPORARY = ".import-1"


def imported_turn(number: int, *texts: str, question: str = "?", choice: int = 0) -> Turn:
    """A closed turn with an answer for each text, and a failure for each empty one."""
    return Turn(
        turn=number,
        question=question,
        candidates=tuple(
            Candidate(
                number=each,
                node=0,
                ended=True,
                text=text,
                error="" if text else "failed",
                opened_revision=number + 1,
                ended_revision=number + 1,
            )
            for each, text in enumerate(texts, 1)
        ),
        choice=choice,
        closed=True,
        asked_revision=number,
        choice_revision=number + 1 if choice else 0,
    )
