"""The rules of budgets: what a call can cost at most is reserved before it, and settled after it.

A budget bounds what the calls of its scope cost: those of the cluster, of a conversation, or of a
user. A reservation is held by an open candidate, for its current attempt; what is spent and what is
reserved never exceed the limit, however many ask at once. An attempt that ends without saying what
it used (its node died, its turn was closed) is charged as reserved: nothing is spent in silence.

The bound rests on what models are known to keep to: a prompt has no more tokens than bytes, but for
PROMPT_OVERHEAD for each message, and an answer no more than it was allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from .commands import ServedModel, SetBudget, Usage
from .council_prompts import answer_schema
from .limits import Limits
from .prompt import candidate_system_prompt, history, question
from .records import Budget, Candidate, Hedge, Turn
from .refusal import Refusal, named
from .registry_rules import cost_of
from .replies import Code, Reply
from .sessions import DONE
from .state import State

CLUSTER = "cluster"
CONVERSATION = "conversation:"
USER = "user:"
PROMPT_OVERHEAD = 64
"""Tokens by which a model's own template may lengthen each message."""

_SCOPE = re.compile(r"cluster|(conversation|user):[A-Za-z0-9._@-]{1,64}")
_LIMIT_MAX = 1 << 60


def is_user(name: str) -> bool:
    """Whether a budget could be that of the user ``name``."""
    return _SCOPE.fullmatch(f"user:{name}") is not None


class BudgetRules:
    """Applies one operation at a time; a rule raises Refusal before it has changed anything."""

    def __init__(self, state: State, limits: Limits) -> None:
        self._state = state
        self._limits = limits

    def handlers(self) -> Mapping[type, Callable[[Any], Reply]]:
        """What applies each kind of operation."""
        return {SetBudget: self._set}

    def _set(self, change: SetBudget) -> Reply:
        budgets = self._state.budgets
        if not _SCOPE.fullmatch(change.scope):
            raise Refusal(
                Code.INVALID,
                f"{named(change.scope)} is no scope of a budget: use cluster, conversation:ID or "
                "user:NAME",
            )
        held = budgets.get(change.scope)
        if change.limit is None:
            if held is None:
                raise Refusal(Code.NOT_FOUND, f"{change.scope} has no budget: nothing to remove")
            if held.reserved:
                raise Refusal(
                    Code.CONFLICT,
                    f"calls of {change.scope} are under way: remove its budget when they end",
                )
            self._state.set_budget(change.scope, None)
            return DONE
        conversation = change.scope.removeprefix(CONVERSATION)
        if conversation != change.scope and conversation not in self._state.heads:
            raise Refusal(
                Code.NOT_FOUND, f"no conversation {named(conversation)}: create it, then bound it"
            )
        if not 0 <= change.limit <= _LIMIT_MAX:
            raise Refusal(Code.INVALID, "a budget is 0 or more: give another")
        if held is None and len(budgets) >= self._limits.budgets:
            raise Refusal(
                Code.TOO_LARGE, f"there are {len(budgets)} budgets, the limit: remove some"
            )
        self._state.set_budget(change.scope, replace(held or Budget(0), limit=change.limit))
        return DONE


def reserved(state: State, conversation: str, turn: Turn, candidates: Iterable[int]) -> Turn:
    """``turn`` with the open ``candidates`` (their numbers) holding reservations, and the budgets
    changed so. Raises Refusal, with nothing changed, where one does not allow it."""
    scopes = [scope for scope in _scopes(conversation, turn) if scope in state.budgets]
    if not scopes:
        return turn
    reservation = _Reservation(state, conversation, turn, scopes[0])
    before = turn
    total = 0
    for number in candidates:
        candidate = before.candidate(number)
        assert candidate is not None, "it is the turn's"
        most = reservation.most(candidate)
        total += most
        turn = turn.with_candidate(replace(candidate, reserved=most, budgets=tuple(scopes)))
    _take(state, scopes, total)
    return turn


def hedge_reserved(
    state: State, conversation: str, turn: Turn, candidate: Candidate, hedge: Hedge
) -> Candidate:
    """``candidate``, which is open, with what its ``hedge`` can cost at most reserved beside what
    it has reserved itself. Raises Refusal, with nothing changed, where a budget does not allow it.
    """
    scopes = _held(state, candidate)
    if not scopes:
        return candidate
    other = replace(candidate, node=hedge.node, model=hedge.model)
    most = _Reservation(state, conversation, turn, scopes[0]).most(other)
    _take(state, scopes, most)
    # Where a budget is gone it has reserved nothing, and must not when it comes back.
    return replace(candidate, reserved=candidate.reserved + most, budgets=tuple(scopes))


def share_of(
    state: State, conversation: str, turn: Turn, candidate: Candidate, hedge: Hedge
) -> int | None:
    """What ``candidate``, which is open, holds for the call of its ``hedge``, by what that one can
    cost now; None where its model was bounded when it was asked, and is not any more."""
    other = replace(candidate, node=hedge.node, model=hedge.model)
    try:
        most = _Reservation(state, conversation, turn, "").most(other)
    except Refusal:
        return None
    return min(most, candidate.reserved)


def _take(state: State, scopes: Iterable[str], total: int) -> None:
    """Reserve ``total`` in each of ``scopes``. Raises Refusal, with nothing changed."""
    for scope in scopes:
        budget = state.budgets[scope]
        if total and budget.spent + budget.reserved + total > budget.limit:
            raise Refusal(
                Code.OVER_BUDGET,
                f"the budget of {scope} is {shown(budget.limit)}: {shown(budget.spent)} is spent, "
                f"{shown(budget.reserved)} reserved, and this could cost {shown(total)}: ask for "
                "less, or raise it",
            )
    for scope in scopes:
        budget = state.budgets[scope]
        state.set_budget(scope, replace(budget, reserved=budget.reserved + total))


def settle(state: State, before: Candidate, cost: int | None, keep: int = 0) -> int:
    """Give back what ``before`` held but for ``keep`` of it, and charge ``cost``, or all that is
    not kept where that is not known; what was charged. A budget may be gone in which it reserved
    nothing."""
    given_back = before.reserved - keep
    charged = given_back if cost is None else cost
    for scope in _held(state, before):
        budget = state.budgets[scope]
        state.set_budget(
            scope,
            replace(budget, reserved=budget.reserved - given_back, spent=budget.spent + charged),
        )
    return charged


def shown(cost: int) -> str:
    """``cost`` (>= 0, in millionths) in the currency, with two to six digits behind the point."""
    whole, part = divmod(cost, 1_000_000)
    digits = f"{part:06}".rstrip("0")
    return f"{whole}.{digits:0<2}"


def _held(state: State, candidate: Candidate) -> list[str]:
    return [scope for scope in candidate.budgets if scope in state.budgets]


def _scopes(conversation: str, turn: Turn) -> list[str]:
    user = [USER + turn.user] if turn.user else []
    return [*user, CONVERSATION + conversation, CLUSTER]


class _Reservation:
    """What calls of candidates of ``turn`` can cost at most. ``scope`` is named where nothing
    bounds that."""

    def __init__(self, state: State, conversation: str, turn: Turn, scope: str) -> None:
        self._state = state
        self._conversation = conversation
        self._turn = turn
        self._scope = scope
        self._history: int | None = None

    def most(self, candidate: Candidate) -> int:
        """Of the candidate's next call. Raises Refusal."""
        served = called(self._state, candidate)
        if served is None or not (served.prompt_price or served.completion_price):
            return 0
        read = self._history_tokens() + self._asked_tokens(candidate)
        if served.context_tokens:
            read = min(read, served.context_tokens)
        allowed = [self._turn.options.max_tokens, served.max_tokens, served.context_tokens]
        written = min((tokens for tokens in allowed if tokens), default=0)
        if served.completion_price and not written:
            raise Refusal(
                Code.OVER_BUDGET,
                f"{self._scope} has a budget, and nothing bounds what {served.name} writes: ask "
                "with max_tokens, or configure the model's",
            )
        return cost_of(served, Usage(read, written))

    def _history_tokens(self) -> int:
        """Of what all candidates are told of the conversation, counted once."""
        if self._history is None:
            turns = self._state.turns
            asked = history(self._turn, lambda number: turns[self._conversation, number])
            self._history = _tokens_at_most(text for _, text in asked)
        return self._history

    def _asked_tokens(self, candidate: Candidate) -> int:
        turn = self._turn
        texts = [question(turn, candidate), candidate_system_prompt(turn, candidate) or ""]
        texts.append(candidate.text)
        if schema := answer_schema(turn, candidate):
            texts.append(json.dumps(schema))
        return _tokens_at_most(texts)


def _tokens_at_most(texts: Iterable[str]) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) + PROMPT_OVERHEAD for text in texts)


def called(state: State, candidate: Candidate) -> ServedModel | None:
    """What the candidate's node calls for it: the model that it names, or else its default."""
    models = [each.served for each in state.registry.get(candidate.node, ())]
    named_one = (each for each in models if each.name == candidate.model)
    return next(named_one, models[0] if models else None)
