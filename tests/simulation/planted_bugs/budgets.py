"""Budgets, and the registry that they take their prices from."""

from __future__ import annotations

from dataclasses import replace

from consensusllm.conversations import budget_rules, stopped_calls, turn_rules
from consensusllm.conversations.commands import ReassignCandidate
from consensusllm.conversations.machine import Machine
from consensusllm.conversations.records import Candidate
from consensusllm.conversations.replies import Reply
from consensusllm.conversations.state import State
from consensusllm.council.duties import Duties

from .bug import BUDGET, PROGRESS, STATES, Patch, bug


@bug(BUDGET, faults="none")
def answer_settled_twice(patch: Patch) -> None:
    settle = turn_rules.settle

    def twice(state: State, before: Candidate, cost: int | None, keep: int = 0) -> int:
        settle(state, replace(before, reserved=0), cost)
        return settle(state, before, cost, keep)

    patch.setattr(turn_rules, "settle", twice)


@bug(BUDGET, faults="isolate,crash,slow models", within=10, full=True)
def reservation_not_returned_at_a_takeover(patch: Patch) -> None:
    reassign, settle = turn_rules.TurnRules._reassign, turn_rules.settle
    taking_over = False

    def keeping(state: State, before: Candidate, cost: int | None, keep: int = 0) -> int:
        if not taking_over:
            return settle(state, before, cost, keep)
        charged = before.reserved - keep if cost is None else cost
        return settle(state, replace(before, reserved=0), charged)

    def forgetful(self: turn_rules.TurnRules, command: ReassignCandidate) -> Reply:
        nonlocal taking_over
        taking_over = True
        try:
            return reassign(self, command)
        finally:
            taking_over = False

    patch.setattr(turn_rules, "settle", keeping)
    patch.setattr(turn_rules.TurnRules, "_reassign", forgetful)


@bug(BUDGET, PROGRESS, faults="slow models")
def reservation_not_returned_when_a_turn_closes(patch: Patch) -> None:
    patch.setattr(turn_rules, "settle_closed", lambda state, conversation, before, after: after)
    patch.setattr(stopped_calls, "settle_closed", lambda state, conversation, before, after: after)


@bug(BUDGET, faults="none", within=10, full=True)
def limit_that_counts_only_what_is_spent(patch: Patch) -> None:
    reserved = budget_rules.reserved

    def generous(state: State, *arguments: object) -> object:
        held = dict(state.budgets)
        for scope, budget in held.items():
            state.budgets[scope] = replace(budget, reserved=0)
        try:
            turn = reserved(state, *arguments)  # type: ignore[arg-type]
        except budget_rules.Refusal:
            state.budgets.update(held)
            raise
        for scope, budget in held.items():
            more = state.budgets[scope].reserved + budget.reserved
            state.set_budget(scope, replace(budget, reserved=more))
        return turn

    patch.setattr(budget_rules, "reserved", generous)
    patch.setattr(turn_rules, "reserved", generous)


@bug(STATES, faults="isolate,crash,lost disk")
def budgets_left_out_of_the_snapshot(patch: Patch) -> None:
    freeze = Machine.freeze
    patch.setattr(
        Machine, "freeze", lambda self, extra=None: replace(freeze(self, extra), budgets={})
    )


@bug(PROGRESS, faults="crash")
def models_registered_once_and_never_again(patch: Patch) -> None:
    """What a node serves after a restart is not what it served before."""

    def once(self: Duties) -> bool:
        return self._port.node in self._port.machine.registry

    patch.setattr(Duties, "registered", once)


@bug(PROGRESS, faults="membership")
def removed_node_stays_registered(patch: Patch) -> None:
    propose = Duties._propose

    def sparing(self: Duties, key: object, operation: object) -> None:
        if not (isinstance(key, tuple) and key[0] == "models"):
            propose(self, key, operation)  # type: ignore[arg-type]

    patch.setattr(Duties, "_propose", sparing)
