"""The replicated state and its turns (rules 9 and 17)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from consensusllm.conversations import (
    SessionCommand,
    SessionOpened,
    TurnOpened,
    sessions,
    turn_checks,
    turn_rules,
)
from consensusllm.conversations.conversation_rules import ConversationRules
from consensusllm.conversations.machine import Machine
from consensusllm.council.answerer import Answerer
from consensusllm.council.duties import Duties
from consensusllm.simulation.reference_keys import ReferenceKeys

from .bug import BEGUN, LINEARIZABLE, ONCE, PRODUCED, PROGRESS, STATES, STAYS, WINNER, Patch, bug


@bug(STATES, faults="isolate,crash,lost disk")
def session_table_left_out_of_the_snapshot(patch: Patch) -> None:
    freeze = Machine.freeze
    patch.setattr(
        Machine, "freeze", lambda self, extra=None: replace(freeze(self, extra), sessions=())
    )


@bug(ONCE, LINEARIZABLE, faults="lose,crash")
def command_applied_at_each_arrival(patch: Patch) -> None:
    patch.setattr(sessions.Session, "remember", lambda self, sequence, reply: None)


@bug(ONCE, LINEARIZABLE, faults="echo,crash,flood", within=45, full=True)
def session_that_comes_back_by_a_late_copy(patch: Patch) -> None:
    """Openings have no number of their own; so has the reference none."""
    open_session = sessions.Sessions._open

    def by_name_alone(self: sessions.Sessions, command: SessionCommand) -> Any:
        touches, self.touches = self.touches, 0
        reply = open_session(self, command)
        self.touches = touches
        if isinstance(reply, SessionOpened):
            self._touch(reply.session, self.table[reply.session])
        return reply

    patch.setattr(sessions.Sessions, "_open", by_name_alone)
    always = property(lambda self: 0, lambda self, uses: None)
    patch.setattr(ReferenceKeys, "_uses", always, raising=False)


@bug(STATES, faults="crash")
def apply_reads_a_clock(patch: Patch) -> None:
    apply = Machine.apply
    clock = itertools.count(1)
    patch.setattr(
        Machine,
        "apply",
        lambda self, slot, time_ms, commands: apply(self, slot, time_ms + next(clock), commands),
    )


@bug(WINNER, LINEARIZABLE, faults="none")
def choose_overwrites(patch: Patch) -> None:
    patch.setattr(turn_rules, "check_unchosen", lambda conversation, turn: None)


@bug(PRODUCED, faults="pause,slow models,isolate", within=20, full=True)
def attempt_fence_ignored(patch: Patch) -> None:
    patch.setattr(turn_rules, "held", turn_checks.open_candidate)


@bug(BEGUN, faults="crash")
def attempt_begun_again_after_a_restart(patch: Patch) -> None:
    begin = Answerer._begin

    def again(self: Answerer, key: Any) -> None:
        self._found.discard(key)
        begin(self, key)

    patch.setattr(Answerer, "_begin", again)


@bug(STAYS, faults="none")
def acknowledged_turn_left_out(patch: Patch) -> None:
    submit = turn_rules.TurnRules._submit

    def forgetful(self: turn_rules.TurnRules, query: Any) -> Any:
        turn = self.opened(query)
        if turn.turn % 4 == 0:
            return TurnOpened(turn.turn, tuple(each.number for each in turn.candidates))
        return submit(self, query)

    patch.setattr(turn_rules.TurnRules, "_submit", forgetful)


@bug(PRODUCED, faults="none")
def retry_loses_answers(patch: Patch) -> None:
    retry = turn_rules.TurnRules._retry

    def careless(self: turn_rules.TurnRules, command: Any) -> Any:
        reply = retry(self, command)
        turn = turn_rules.find_turn(self._state, command.conversation, command.turn)
        for each in turn.candidates:
            turn = turn.with_candidate(replace(each, text="") if each.answered else each)
        self._state.write_turn(command.conversation, turn)
        return reply

    patch.setattr(turn_rules.TurnRules, "_retry", careless)


@bug(STAYS, faults="none")
def fork_loses_turns(patch: Patch) -> None:
    fork = ConversationRules._fork

    def empty(self: ConversationRules, command: Any) -> Any:
        with Patch.context() as inner:
            inner.setattr(self._state, "all_turns", lambda conversation, through: ())
            return fork(self, command)

    patch.setattr(ConversationRules, "_fork", empty)


@bug(PROGRESS, faults="slow models", within=10, full=True)
def turn_past_its_deadline_left_open(patch: Patch) -> None:
    patch.setattr(Duties, "_close_turn", lambda self, conversation, turn: None)
