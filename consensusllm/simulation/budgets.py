"""Budgets in the simulation: what clients ask for, and what must hold at every step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple

from consensusllm.conversations import (
    Budget,
    Candidate,
    CloseStage,
    Code,
    ConveneCouncil,
    Delete,
    HedgeCandidate,
    Machine,
    Operation,
    RecordCandidate,
    Refused,
    Reply,
    RetryTurn,
    SetBudget,
    SubmitQuery,
)
from consensusllm.conversations.commands import ReassignCandidate

USERS = ("ann", "bob")
LIMITS_TIGHT = (0, 3_000, 20_000, 100_000)
LIMITS_WIDE = (100_000, 1_000_000, 100_000_000)
"""In tokens of the cheaper price; a call reserves some 2,500 and up."""

_Place = tuple[str, int, int]
"""(conversation, turn, candidate)."""


def random_change(rng: Random, conversations: Sequence[str]) -> SetBudget:
    """A budget to set, or now and then to remove. That of the cluster, which all clients share, is
    a wide one."""
    scope = rng.choice(
        ("cluster", f"user:{rng.choice(USERS)}", f"conversation:{rng.choice(conversations)}")
    )
    if rng.random() < 0.2:
        return SetBudget(scope, None)
    return SetBudget(scope, rng.choice(LIMITS_WIDE if scope == "cluster" else LIMITS_TIGHT))


def unnamed(operation: Operation, reply: Reply) -> str:
    """What is wrong with a ``reply`` that says that a budget does not allow it; "" for nothing."""
    if not (isinstance(reply, Refused) and reply.code is Code.OVER_BUDGET):
        return ""
    conversation = getattr(operation, "conversation", "")
    user = getattr(operation, "user", "")
    scopes = ("cluster", f"conversation:{conversation}", f"user:{user}")
    if any(scope in reply.message for scope in scopes):
        return ""
    return f"{operation} was refused for lack of money, and is not told whose: {reply.message}"


class _Charge(NamedTuple):
    """What the budgets ``scopes`` were charged for a candidate: ``least`` to ``most``."""

    scopes: tuple[str, ...]
    least: float
    most: float


class BudgetInvariants:
    """Told of each batch of operations once, as it is applied first.

    What is reserved is what the open candidates hold; what is spent grows by what those came to
    cost that have ended, or moved on; and both together grow only up to the limit. A batch that
    ends a candidate more than once, or opens and ends it, or removes it with what was recorded of
    it, says less of its cost: it is held between bounds then.
    """

    def __init__(self) -> None:
        self._budgets: dict[str, Budget] = {}
        self._open: dict[_Place, Candidate] = {}
        self._seen: dict[tuple[str, int], int] = {}  # the last candidate of each turn seen open

    def broken(self, operations: Sequence[Operation], machine: Machine) -> str:
        """What is wrong with the budgets after ``operations``; "" for nothing."""
        if not machine.budgets and not self._budgets:
            return ""
        before, self._budgets = self._budgets, dict(machine.budgets)
        open_before = self._open
        self._open = {
            (conversation, turn.turn, each.number): each
            for conversation, turn in machine.open_turns()
            for each in turn.candidates
            if not each.ended
        }
        charges = [
            charge
            for place, held in open_before.items()
            if self._open.get(place) != held
            for charge in _charges(place, held, machine, operations)
        ]
        reserved: Counter[str] = Counter()
        for each in self._open.values():
            for scope in each.budgets:
                reserved[scope] += each.reserved
        for scope, budget in self._budgets.items():
            if budget.reserved != reserved[scope]:
                return f"{scope}: {budget}, and the open candidates hold {reserved[scope]}"
            known = before.get(scope)
            limits = [
                each.limit
                for each in operations
                if isinstance(each, SetBudget) and each.scope == scope
            ]
            if known is None or None in limits:
                continue  # renamed with its conversation, or new
            above = max(known.spent + known.reserved, known.limit, *filter(None, limits), 0)
            if budget.spent + budget.reserved > above:
                return f"{scope}: {budget} is over its limit; before it was {known}"
            mine = [charge for charge in charges if scope in charge.scopes]
            least = known.spent + sum(charge.least for charge in mine)
            most = known.spent + sum(charge.most for charge in mine)
            if _opens_and_removes(operations, open_before):
                most = math.inf
            if budget.spent > most:
                most += self._come_and_gone(operations, machine, open_before)
            if not least <= budget.spent <= most:
                return f"{scope}: {budget}, and what ended cost {least:g} to {most:g}: {mine}"
        gone = {each.conversation for each in operations if isinstance(each, Delete)}
        if gone:
            self._seen = {place: last for place, last in self._seen.items() if place[0] not in gone}
        for name, turn in machine.open_turns():
            self._seen[name, turn.turn] = turn.candidates[-1].number
        return ""

    def _come_and_gone(
        self,
        operations: Sequence[Operation],
        machine: Machine,
        open_before: Mapping[_Place, Candidate],
    ) -> int:
        """What those candidates cost at most that both opened and ended within ``operations``."""
        opened = _opened_in(operations)
        councils = {name for name, _, _ in open_before}  # whose stages open by themselves
        cost = 0
        for name in opened | councils:
            conversation = machine.conversation(name)
            for turn in conversation.turns if conversation is not None else ():
                if name in opened or turn.council is not None:
                    last = self._seen.get((name, turn.turn), 0)
                    cost += sum(each.cost for each in turn.candidates[last:] if each.ended)
        return cost


def _charges(
    place: _Place, before: Candidate, machine: Machine, operations: Sequence[Operation]
) -> Iterator[_Charge]:
    """What was charged for the candidate since it was as ``before``. One that moved on may have
    reserved in budgets that were not there before, and have ended since."""
    conversation, number, _ = place
    turn = machine.turn(conversation, number)
    now = turn.candidate(before.number) if turn is not None else None
    moved = any(
        isinstance(each, ReassignCandidate)
        and (each.conversation, each.turn, each.candidate) == place
        for each in operations
    )
    if moved and (now is None or now.ended):  # it does not tell any more in which it did
        most = math.inf if now is None else now.cost - before.cost
        yield _Charge(tuple(set(machine.budgets) - set(before.budgets)), 0, most)
    if before.budgets:
        yield _charge(place, before, now, operations)


def _charge(
    place: _Place, before: Candidate, now: Candidate | None, operations: Sequence[Operation]
) -> _Charge:
    """What the budgets of ``before`` were charged for it until ``now`` (None: it is gone)."""
    scopes = before.budgets
    if now is None:
        done = [
            type(each)
            for each in operations
            if isinstance(each, RecordCandidate | ReassignCandidate | HedgeCandidate)
            and (each.conversation, each.turn, each.candidate) == place
        ]
        if RecordCandidate in done or ReassignCandidate in done:
            return _Charge(scopes, 0, math.inf)
        # A hedge reserves for a second call.
        return _Charge(scopes, before.reserved, math.inf if done else before.reserved)
    cost = now.cost - before.cost
    attempts = now.attempt - before.attempt
    at_once = attempts == 1 and now.takeovers[-1].revision == now.ended_revision
    if attempts == 0 or (attempts == 1 and not now.ended) or at_once:
        return _Charge(scopes, cost, cost)
    return _Charge(scopes, 0, cost)


def _opens_and_removes(
    operations: Sequence[Operation], open_before: Mapping[_Place, Candidate]
) -> bool:
    """Whether a turn, or a stage of a council, may have come and gone within them, and what it cost
    with it."""
    councils = {name for (name, _, _), each in open_before.items() if each.stage}
    opened = _opened_in(operations) | {
        each.conversation
        for each in operations
        if isinstance(each, CloseStage | RecordCandidate | ReassignCandidate)
        and each.conversation in councils
    }
    return any(isinstance(each, Delete) and each.conversation in opened for each in operations)


def _opened_in(operations: Sequence[Operation]) -> set[str]:
    """The conversations of which a turn may have opened."""
    return {
        each.conversation
        for each in operations
        if isinstance(each, SubmitQuery | ConveneCouncil | RetryTurn)
    }
