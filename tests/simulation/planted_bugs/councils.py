"""Councils: their stages, reviews and rankings."""

from __future__ import annotations

from dataclasses import replace

from consensusllm.conversations import turn_rules
from consensusllm.conversations.records import Candidate, Turn

from .bug import COUNCIL, Patch, bug


@bug(COUNCIL, faults="none")
def council_left_between_two_stages(patch: Patch) -> None:
    patch.setattr(turn_rules, "advanced", lambda turn, now: turn)


@bug(COUNCIL, faults="none", within=12, full=True)
def review_chosen_as_an_answer(patch: Patch) -> None:
    patch.setattr(turn_rules, "is_answer", lambda turn, candidate: True)


@bug(COUNCIL, faults="none")
def ranking_that_is_not_in_the_text(patch: Patch) -> None:
    with_ranking = turn_rules.with_ranking

    def turned_round(turn: Turn, candidate: Candidate) -> Candidate:
        found = with_ranking(turn, candidate)
        return replace(found, ranking=found.ranking[::-1])

    patch.setattr(turn_rules, "with_ranking", turned_round)
