"""The rules of hedges: a second model is asked where the first is slow to begin (Dean and Barroso,
The Tail at Scale, 2013: hedged requests).

The hedge has the attempt behind the holder's. It says nothing before it holds the candidate, and it
can take it only while nothing of the holder's text is recorded: so a candidate has one text, and
the log says which of the two was first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .budget_rules import hedge_reserved
from .commands import HedgeCandidate
from .limits import Limits
from .records import Hedge
from .refusal import Refusal, check_size, named
from .replies import Code, Reply
from .sessions import DONE
from .state import State
from .turn_checks import held


class HedgeRules:
    """Applies one operation at a time; a rule raises Refusal before it has changed anything."""

    def __init__(self, state: State, limits: Limits) -> None:
        self._state = state
        self._limits = limits

    def handlers(self) -> Mapping[type, Callable[[Any], Reply]]:
        """What applies each kind of operation."""
        return {HedgeCandidate: self._hedge}

    def _hedge(self, command: HedgeCandidate) -> Reply:
        turn, candidate = held(self._state, command)
        what = f"candidate {candidate.number} of turn {turn.turn}"
        check_size("the model", command.model, self._limits.name_bytes)
        if candidate.text:
            raise Refusal(Code.STALE, f"{what} has text: nobody else needs to be asked")
        if candidate.hedge is not None:
            raise Refusal(Code.STALE, f"{what} was asked of {candidate.hedge.model} too: wait")
        if command.model not in candidate.fallbacks_left:
            raise Refusal(
                Code.INVALID, f"{named(command.model)} is no fallback of {what} that is left"
            )
        served = self._state.registry.get(command.node, ())
        if not any(each.served.name == command.model for each in served):
            raise Refusal(
                Code.STALE, f"node {command.node} does not serve {named(command.model)}: ask others"
            )
        revision = self._state.next_revision(command.conversation)
        hedge = Hedge(candidate.attempt + 1, command.node, command.model, revision)
        asked = replace(candidate, hedge=hedge)
        asked = hedge_reserved(self._state, command.conversation, turn, asked, hedge)
        self._state.write_turn(command.conversation, turn.with_candidate(asked))
        return DONE
