"""The rules of councils: convene one, and end a stage whose time has passed.

How a council goes on from stage to stage is in council_steps.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .budget_rules import reserved
from .commands import CloseStage, ConveneCouncil
from .council import Council, StageKind
from .council_steps import Moment, advanced, opened
from .limits import Limits
from .records import Turn
from .refusal import Refusal, check_size
from .registry_rules import FALLBACKS_MAX
from .replies import Code, Reply, TurnOpened
from .sessions import DONE
from .state import State
from .stopped_calls import carried
from .turn_checks import (
    check_deadline,
    check_late,
    check_node,
    check_query,
    find_conversation,
    find_turn,
    next_turn,
)

_ROLE_BYTES = 64
_SEED_MAX = (1 << 63) - 1


class CouncilRules:
    """Applies one operation at a time; a rule raises Refusal before it has changed anything."""

    def __init__(self, state: State, limits: Limits) -> None:
        self._state = state
        self._limits = limits

    def handlers(self) -> Mapping[type, Callable[[Any], Reply]]:
        """What applies each kind of operation."""
        return {ConveneCouncil: self._convene, CloseStage: self._close_stage}

    def _convene(self, convene: ConveneCouncil) -> Reply:
        head = find_conversation(self._state, convene.conversation, "create it first")
        number = next_turn(convene.conversation, head, self._limits)
        check_query(convene.question, convene.options, self._limits)
        check_council(convene.council, self._limits)
        check_size("the user", convene.user, self._limits.name_bytes)
        options = convene.options
        if options.system is None and head.system:
            options = replace(options, system=head.system)
        turn = Turn(
            turn=number,
            question=convene.question,
            candidates=(),
            opened_ms=self._state.time_ms,
            asked_revision=head.revision,
            options=options,
            council=convene.council,
            user=convene.user,
        )
        seats = convene.council.stage(1).seats
        turn = opened(turn, 1, seats, self._now(convene.conversation))
        numbers = [each.number for each in turn.candidates]
        turn = reserved(self._state, convene.conversation, turn, numbers)
        self._state.write_turn(convene.conversation, turn)
        return TurnOpened(number, tuple(each.number for each in turn.candidates))

    def _close_stage(self, close: CloseStage) -> Reply:
        turn = find_turn(self._state, close.conversation, close.turn)
        if turn.council is None:
            raise Refusal(
                Code.INVALID, f"turn {turn.turn} of {close.conversation} has no council: close it"
            )
        if turn.closed or turn.candidates[-1].number != close.last_candidate:
            raise Refusal(
                Code.STALE,
                f"the council of turn {turn.turn} of {close.conversation} has gone on: "
                "nothing to do",
            )
        if not close.reason:
            raise Refusal(Code.INVALID, "no reason is given: say why the stage is closed")
        check_size("the reason", close.reason, self._limits.text_bytes)
        check_late(close.conversation, turn, self._state.time_ms)
        now = self._now(close.conversation)
        ended = turn.with_open_ended(close.reason, now.revision)

        def go_on(turn: Turn) -> Turn:
            return advanced(turn, now)

        after = carried(self._state, close.conversation, turn, go_on(ended), go_on, now.revision)
        self._state.write_turn(close.conversation, after)
        return DONE

    def _now(self, conversation: str) -> Moment:
        state = self._state
        return Moment(state.time_ms, state.next_revision(conversation), state.attempt_floor + 1)


def check_council(council: Council, limits: Limits) -> None:
    """Raises Refusal where ``council`` is not one that can be convened, or is over a bound."""
    members, stages = council.members, council.stages
    if not 1 <= len(members) <= limits.council_members:
        raise Refusal(
            Code.INVALID, f"a council of {len(members)}: use 1 to {limits.council_members} members"
        )
    if not 1 <= len(stages) <= limits.council_stages:
        raise Refusal(
            Code.INVALID, f"a council in {len(stages)} stages: use 1 to {limits.council_stages}"
        )
    if stages[0].kind is not StageKind.OPINIONS:
        raise Refusal(Code.INVALID, "a council begins with opinions: make them its first stage")
    if not 0 <= council.seed <= _SEED_MAX:
        raise Refusal(Code.INVALID, f"a council's seed of {council.seed}: use 0 to {_SEED_MAX}")
    for number, stage in enumerate(stages, start=1):
        distinct = len(set(stage.seats)) == len(stage.seats)
        if not distinct or not all(1 <= seat <= len(members) for seat in stage.seats):
            raise Refusal(Code.INVALID, f"stage {number} has seats that are not its members'")
        if bool(stage.seats) is (stage.kind is StageKind.MAJORITY):
            raise Refusal(
                Code.INVALID, f"stage {number}: all but a majority have seats, and it has none"
            )
        if not 0 <= stage.close_after <= len(stage.seats):
            raise Refusal(
                Code.INVALID,
                f"stage {number} closes after {stage.close_after} of {len(stage.seats)}: "
                "use 0 for all",
            )
        check_deadline(stage.deadline_ms, limits)
    for seat, member in enumerate(members, start=1):
        check_node(seat, member.node)
        check_size(f"member {seat}'s model", member.model, limits.name_bytes)
        check_size(f"member {seat}'s role", member.role, _ROLE_BYTES)
        if len(member.fallbacks) > FALLBACKS_MAX:
            raise Refusal(
                Code.INVALID, f"member {seat} has over {FALLBACKS_MAX} fallbacks: name fewer"
            )
        for name in member.fallbacks:
            check_size(f"member {seat}'s fallback", name, limits.name_bytes)
    check_size("the template's name", council.template, limits.name_bytes)
    check_size("the template's revision", council.revision, limits.name_bytes)
    told = [each.instructions for each in members] + [each.instructions for each in stages]
    check_size("the council's instructions", "".join(told), limits.council_bytes)
    seats = sum(len(stage.seats) for stage in stages)
    if seats > limits.candidates_per_turn:
        raise Refusal(
            Code.TOO_LARGE,
            f"the council could have {seats} candidates, "
            f"over the limit of {limits.candidates_per_turn}: use fewer members or stages",
        )
