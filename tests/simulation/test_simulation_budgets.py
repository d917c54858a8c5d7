"""What the simulation asks of budgets and of the registry: each of it can fail."""

from __future__ import annotations

import pytest

from consensusllm.conversations import (
    Budget,
    CloseStage,
    CloseTurn,
    Code,
    ConveneCouncil,
    Council,
    CreateConversation,
    Delete,
    HedgeCandidate,
    Limits,
    Machine,
    Member,
    OpenSession,
    Operation,
    PlannedCandidate,
    ReassignCandidate,
    RecordCandidate,
    Refused,
    Reply,
    RetryTurn,
    ServedModel,
    ServeModels,
    SessionCommand,
    SessionOpened,
    SetBudget,
    Stage,
    StageKind,
    SubmitQuery,
    Usage,
)
from consensusllm.simulation.budgets import BudgetInvariants, unnamed
from consensusllm.simulation.registry import RegistryInvariants

MODEL = ServedModel("m", "p", max_tokens=100, completion_price=1_000_000)
MODELS = (MODEL, ServedModel("n", "p", max_tokens=200, completion_price=1_000_000))
PLAN = (PlannedCandidate(1, 1),)
ASK = SubmitQuery("c", "why?", PLAN)
COUNCIL = Council(
    "t", "1", 0, (Member(1), Member(1)),
    (Stage(StageKind.OPINIONS, (1, 2)), Stage(StageKind.SYNTHESIS, (1,))),
)  # fmt: skip
CONVENE = ConveneCouncil("c", "why?", COUNCIL)
ASK_TWO = SubmitQuery("c", "why?", (PlannedCandidate(1, 1, fallbacks=("n",)),))
HEDGE = HedgeCandidate("c", 1, 1, 1, 1, "n")


class Watched:
    """A state machine with somebody who keeps its books."""

    def __init__(self) -> None:
        self.machine = Machine(Limits())
        self.books = BudgetInvariants()
        self._sequence = -1
        self._session = bytes(16)
        (opened,) = self.apply(OpenSession())
        assert isinstance(opened, SessionOpened)
        self._session = opened.session
        self.do(ServeModels(1, MODELS), CreateConversation("c"), SetBudget("cluster", 1000))

    def do(self, *operations: Operation) -> tuple[list[Reply], str]:
        """The replies to ``operations``, in one batch, and what is wrong after it."""
        return self.apply(*operations), self.books.broken(operations, self.machine)

    def apply(self, *operations: Operation) -> list[Reply]:
        commands = []
        for operation in operations:
            self._sequence += 1
            commands.append(SessionCommand(self._session, self._sequence, 0, operation))
        return self.machine.apply(self.machine.applied_slot + 1, 0, commands)

    def set(self, budget: Budget) -> None:
        self.machine._state.set_budget("cluster", budget)


def answered(used: int | None, turn: int = 1, attempt: int = 1) -> RecordCandidate:
    usage = Usage(used, used)
    return RecordCandidate(
        "c", turn, 1, attempt, "text", "m", "stop", usage, served_as="m", prompt_hash="ab"
    )


@pytest.mark.parametrize(
    "batches",
    [
        [[ASK], [answered(7)]],
        [[ASK], [answered(None)]],
        [[ASK], [ReassignCandidate("c", 1, 1, 2, 1, 0)], [answered(7, attempt=2)]],
        [[ASK], [ReassignCandidate("c", 1, 1, 2, 1, 0), answered(7, attempt=2)]],
        [[ASK], [CloseTurn("c", 1, "late")]],
        [[ASK], [Delete("c")]],
        [[ASK], [answered(7), Delete("c")]],
        [[ASK, Delete("c")]],
        [[ASK, CloseTurn("c", 1, "late")]],
        [[ASK], [RetryTurn("c", 1, PLAN), CloseTurn("c", 1, "late")]],
        [[ASK], [answered(7)], [RetryTurn("c", 1, PLAN), CloseTurn("c", 1, "late")]],
        [[ASK], [SetBudget("cluster", 5)], [answered(100)]],
        [[ASK], [SetBudget("cluster", 5)], [ReassignCandidate("c", 1, 1, 2, 1, 0)]],
        [[SetBudget("cluster", 5), ASK, SetBudget("cluster", 100), ASK, SetBudget("cluster", 0)]],
        [[ASK, ASK], [answered(7), answered(8, turn=2)], [SetBudget("cluster", None)], [ASK]],
        [[CONVENE], [answered(7)], [CloseStage("c", 1, 2, "late")], [Delete("c")]],
        [[CONVENE], [answered(7)], [CloseStage("c", 1, 2, "late"), Delete("c")]],
        [[CONVENE], [CloseStage("c", 1, 2, "late"), Delete("c")]],
        [[ASK_TWO], [HEDGE], [Delete("c")]],
        [[ASK_TWO], [HEDGE, Delete("c")]],
    ],
)
def test_whatever_the_rules_do_adds_up(batches: list[list[Operation]]) -> None:
    watched = Watched()
    for batch in batches:
        _, wrong = watched.do(*batch)
        assert wrong == ""


def test_a_reservation_that_nobody_holds_is_seen() -> None:
    watched = Watched()
    watched.set(Budget(1000, reserved=1))
    assert "the open candidates hold 0" in watched.do(SetBudget("user:ann", 1))[1]


def test_a_charge_that_no_call_came_to_is_seen() -> None:
    watched = Watched()
    watched.do(ASK)
    watched.set(Budget(1000, spent=1, reserved=100))
    assert "what ended cost 7 to 7" in watched.do(answered(7))[1]


def test_what_no_budget_allows_is_seen() -> None:
    watched = Watched()
    watched.do(SetBudget("cluster", 150))
    watched.do(ASK)
    watched.set(Budget(1000, reserved=100))
    watched.apply(ASK)
    watched.set(Budget(150, reserved=200))
    assert "is over its limit" in watched.books.broken((ASK,), watched.machine)


def test_a_refusal_says_whose_budget_it_was() -> None:
    watched = Watched()
    watched.do(SetBudget("cluster", 5))
    (reply,), _ = watched.do(ASK)
    assert isinstance(reply, Refused)
    assert unnamed(ASK, reply) == ""
    assert "is not told whose" in unnamed(ASK, Refused(Code.OVER_BUDGET, "too dear"))


def test_a_registry_of_strangers_or_of_what_nobody_serves_is_seen() -> None:
    watched = Watched()
    machine, registry = watched.machine, RegistryInvariants()
    serve = ServeModels(1, (MODEL,))
    watched.apply(serve)
    assert "which it never served" in registry.broken(serve, machine, {1, 2})
    registry.serves(1, MODEL)
    assert registry.broken(serve, machine, {1, 2}) == ""
    assert "never was a member" in registry.broken(serve, machine, {2})
    assert registry.unsettled(machine, (1,)) == ""
    assert "the members are" in registry.unsettled(machine, (1, 2))
    registry.serves(1, ServedModel("other", "p"))
    assert "has not what node 1 serves" in registry.unsettled(machine, (1,))
