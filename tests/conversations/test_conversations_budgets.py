"""Budgets: reserved before a call, settled after it, and never exceeded."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from consensusllm.client.export import export, read_export
from consensusllm.conversations import (
    Budget,
    CloseStage,
    CloseTurn,
    Code,
    ConveneCouncil,
    Council,
    CreateConversation,
    Delete,
    Fork,
    GenerationOptions,
    Limits,
    Member,
    PlannedCandidate,
    ReassignCandidate,
    RecordCandidate,
    Refused,
    Rename,
    RetryTurn,
    ServedModel,
    ServeModels,
    SetBudget,
    Stage,
    StageKind,
    SubmitQuery,
    TurnOpened,
    Usage,
    budget_rules,
    encode,
    restore,
)
from consensusllm.conversations.budget_rules import PROMPT_OVERHEAD
from consensusllm.conversations.prompt import history

MILLION = 1_000_000
DEAR = ServedModel("dear", "p", "d", max_tokens=100, completion_price=MILLION)
CHEAP = ServedModel("cheap", "p", "c", max_tokens=10, completion_price=MILLION)
FREE = ServedModel("free", "p", "f")
ONE = (PlannedCandidate(1, 1, "dear"),)


def test_what_all_candidates_are_told_is_counted_once_a_command(
    spender: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[object] = []

    def count(turn: object, earlier: Any) -> Any:
        counted.append(turn)
        return history(turn, earlier)  # type: ignore[arg-type]

    spender.done(SetBudget("cluster", 10**9))
    monkeypatch.setattr(budget_rules, "history", count)
    plan = tuple(PlannedCandidate(number, 1, "dear") for number in range(1, 9))
    spender.do(SubmitQuery("c1", "why?", plan))
    assert len(counted) == 1


@pytest.fixture
def spender(driver: Any) -> Any:
    driver.done(ServeModels(1, (DEAR, CHEAP, FREE)))
    driver.done(ServeModels(2, (CHEAP,)))
    driver.done(CreateConversation("c1"))
    return driver


def budget(driver: Any, scope: str = "cluster") -> Budget:
    found: Budget = driver.machine.budgets[scope]
    return found


def record(driver: Any, turn: int, candidate: int, used: int, error: str = "", **more: Any) -> None:
    attempt = driver.turn("c1", turn).candidate(candidate).attempt
    usage = more.pop("usage", Usage(0, used))
    name = more.pop("served_as", "dear")
    driver.done(
        RecordCandidate(
            *("c1", turn, candidate, attempt, "text", "m", "stop", usage, error),
            *("p", name, "ab"),
        )
    )


def test_a_query_reserves_the_most_and_settles_what_it_was(spender: Any) -> None:
    spender.done(SetBudget("cluster", 1000))
    spender.done(SubmitQuery("c1", "why?", ONE))
    assert budget(spender) == Budget(1000, spent=0, reserved=100)
    record(spender, 1, 1, used=7)
    assert budget(spender) == Budget(1000, spent=7, reserved=0)
    assert spender.turn("c1", 1).candidate(1).cost == 7


def test_a_refused_query_says_which_budget_and_reserves_nothing(spender: Any) -> None:
    spender.done(SetBudget("cluster", 1000))
    spender.done(SetBudget("conversation:c1", 150))
    spender.done(SubmitQuery("c1", "why?", ONE))
    refused = spender.refused(SubmitQuery("c1", "and?", ONE))
    assert refused.code is Code.OVER_BUDGET
    assert refused.message.startswith("the budget of conversation:c1 is 0.00015: 0.00 is spent")
    assert budget(spender).reserved == 100


def test_a_user_has_a_budget_over_all_conversations(spender: Any) -> None:
    spender.done(SetBudget("user:ann", 150))
    spender.done(CreateConversation("c2"))
    spender.done(SubmitQuery("c1", "why?", ONE, user="ann"))
    assert spender.refused(SubmitQuery("c2", "why?", ONE, user="ann")).code is Code.OVER_BUDGET
    spender.done(SubmitQuery("c2", "why?", ONE, user="bob"))
    spender.done(SubmitQuery("c2", "why?", ONE))
    assert spender.turn("c1", 1).user == "ann"


def test_the_prompt_counts_with_its_history_and_system_prompt(driver: Any) -> None:
    reader = ServedModel("dear", "p", max_tokens=1, prompt_price=MILLION)
    driver.done(ServeModels(1, (reader,)))
    driver.done(CreateConversation("c1", "be kind"))
    driver.done(SetBudget("cluster", 10_000))
    driver.done(SubmitQuery("c1", "é?", ONE))
    # The question of three bytes, the system prompt of seven, and nothing written so far.
    assert budget(driver).reserved == 10 + 3 * PROMPT_OVERHEAD


def test_max_tokens_of_the_query_bound_what_is_reserved(spender: Any) -> None:
    spender.done(SetBudget("cluster", 1000))
    spender.done(SubmitQuery("c1", "a", ONE, options=GenerationOptions(max_tokens=5)))
    assert budget(spender).reserved == 5
    spender.done(SubmitQuery("c1", "a", ONE, options=GenerationOptions(max_tokens=500)))
    assert budget(spender).reserved == 5 + 100


def test_what_cannot_be_bounded_is_refused_and_what_is_free_is_not(spender: Any) -> None:
    endless = ServedModel("endless", "p", completion_price=1)
    spender.done(ServeModels(3, (endless,)))
    spender.done(SetBudget("cluster", 0))
    query = SubmitQuery("c1", "why?", (PlannedCandidate(1, 3, "endless"),))
    assert "nothing bounds what endless writes" in spender.refused(query).message
    spender.done(SubmitQuery("c1", "why?", (PlannedCandidate(1, 1, "free"),)))
    spender.done(SubmitQuery("c1", "why?", (PlannedCandidate(1, 9),)))
    assert budget(spender) == Budget(0)


def test_a_closed_turn_is_charged_as_reserved_where_nobody_said_what_it_used(spender: Any) -> None:
    spender.done(SetBudget("cluster", 1000))
    plan = (PlannedCandidate(1, 1, "dear"), PlannedCandidate(2, 2, "cheap"))
    spender.done(SubmitQuery("c1", "why?", plan, close_after=1))
    record(spender, 1, 2, used=3, served_as="cheap")
    assert budget(spender) == Budget(1000, spent=103, reserved=0)
    stopped = spender.turn("c1", 1).candidate(1)
    assert (stopped.cost, stopped.usage, stopped.budgets) == (
        100,
        Usage(1, 0, estimated=True),
        (),
    )
    spender.done(SubmitQuery("c1", "why?", plan))
    spender.done(CloseTurn("c1", 2, "enough"))
    assert budget(spender) == Budget(1000, spent=213, reserved=0)


def test_a_conversation_is_bounded_that_is_there(spender: Any) -> None:
    refused = spender.refused(SetBudget("conversation:c9", 5))
    assert (refused.code, refused.message) == (
        Code.NOT_FOUND,
        "no conversation 'c9': create it, then bound it",
    )
    spender.done(SetBudget("user:nobody-yet", 5))


def test_a_failed_call_costs_what_it_used(spender: Any) -> None:
    spender.done(SetBudget("cluster", 1000))
    spender.done(SubmitQuery("c1", "why?", ONE))
    record(spender, 1, 1, used=0, error="no connection")
    assert budget(spender) == Budget(1000)


def test_a_takeover_reserves_anew_and_the_lost_attempt_is_charged(spender: Any) -> None:
    spender.done(SetBudget("cluster", 1000))
    spender.done(SubmitQuery("c1", "why?", ONE))
    attempt = spender.turn("c1", 1).candidate(1).attempt
    spender.done(ReassignCandidate("c1", 1, 1, attempt + 1, 2, 0, "cheap"))
    assert budget(spender) == Budget(1000, spent=100, reserved=10)
    spender.done(ReassignCandidate("c1", 1, 1, attempt + 2, 2, 0, usage=Usage(0, 0)))
    assert budget(spender) == Budget(1000, spent=100, reserved=10)
    record(spender, 1, 1, used=4, served_as="cheap")
    assert budget(spender) == Budget(1000, spent=104, reserved=0)
    assert spender.turn("c1", 1).candidate(1).cost == 104


def test_a_takeover_that_no_budget_allows_ends_the_candidate(spender: Any) -> None:
    spender.done(SetBudget("cluster", 105))
    spender.done(SubmitQuery("c1", "why?", ONE))
    attempt = spender.turn("c1", 1).candidate(1).attempt
    failed = {"reason": "cut off", "served_as": "dear", "usage": Usage(0, 100)}
    spender.done(ReassignCandidate("c1", 1, 1, attempt + 1, 2, 0, "cheap", **failed))
    candidate = spender.turn("c1", 1).candidate(1)
    assert candidate.error.startswith("not asked again: the budget of cluster is 0.000105: 0.0001")
    assert spender.turn("c1", 1).closed
    assert budget(spender) == Budget(105, spent=100, reserved=0)


def test_a_retry_reserves_too(spender: Any) -> None:
    spender.done(SetBudget("cluster", 150))
    spender.done(SubmitQuery("c1", "why?", ONE))
    record(spender, 1, 1, used=60)
    assert spender.refused(RetryTurn("c1", 1, ONE)).code is Code.OVER_BUDGET
    spender.done(SetBudget("cluster", 160))
    spender.done(RetryTurn("c1", 1, ONE))
    assert budget(spender) == Budget(160, spent=60, reserved=100)


def test_a_fork_charges_nothing_and_a_deletion_what_was_reserved(spender: Any) -> None:
    spender.done(SetBudget("cluster", 1000))
    spender.done(SetBudget("conversation:c1", 500))
    spender.done(SubmitQuery("c1", "why?", ONE))
    spender.done(Fork("c1", "c2"))
    assert budget(spender) == Budget(1000, reserved=100)
    assert spender.turn("c2", 1).candidate(1).reserved == 0
    spender.done(Delete("c1"))
    assert spender.machine.budgets == {"cluster": Budget(1000, spent=100)}


def test_a_conversations_budget_moves_with_it(spender: Any) -> None:
    spender.done(SetBudget("conversation:c1", 500))
    spender.done(Rename("c1", "c2"))
    assert list(spender.machine.budgets) == ["conversation:c2"]


def test_a_budget_is_changed_and_removed(spender: Any) -> None:
    assert spender.refused(SetBudget("cluster", None)).code is Code.NOT_FOUND
    for scope in ("", "c1", "conversation:", "user:a b", "user:" + "x" * 65, "cluster:1"):
        assert spender.refused(SetBudget(scope, 1)).code is Code.INVALID
    spender.done(SetBudget("cluster", 1000))
    spender.done(SubmitQuery("c1", "why?", ONE))
    assert spender.refused(SetBudget("cluster", None)).code is Code.CONFLICT
    spender.done(SetBudget("cluster", 10))
    assert budget(spender) == Budget(10, reserved=100)
    record(spender, 1, 1, used=8)
    assert spender.refused(SubmitQuery("c1", "why?", ONE)).code is Code.OVER_BUDGET
    spender.done(SetBudget("cluster", None))
    spender.done(SubmitQuery("c1", "why?", ONE))


@pytest.mark.parametrize("again", [False, True])
def test_a_budget_goes_while_a_free_call_is_under_way_and_the_call_still_ends(
    spender: Any, again: bool
) -> None:
    spender.done(SetBudget("cluster", 1000))
    for _ in range(3):
        spender.done(SubmitQuery("c1", "why?", (PlannedCandidate(1, 1, "free"),)))
    spender.done(SetBudget("cluster", None))
    if again:
        spender.done(SetBudget("cluster", 500))
    record(spender, 1, 1, used=7, served_as="free")
    spender.done(ReassignCandidate("c1", 2, 1, 2, 2, 0, "free"))
    spender.done(CloseTurn("c1", 2, "too late"))
    spender.done(CloseTurn("c1", 3, "too late"))
    assert all(spender.turn("c1", number).closed for number in (1, 2, 3))
    left = spender.machine.budgets.get("cluster")
    assert left is None or left.reserved == 0


def test_budgets_are_limited_in_number(driver_class: Any) -> None:
    driver = driver_class(Limits(budgets=1))
    driver.done(SetBudget("cluster", 1))
    assert driver.refused(SetBudget("user:a", 1)).code is Code.TOO_LARGE
    driver.done(SetBudget("cluster", 2))


def council(*stages: Stage) -> Council:
    return Council("t", "r", 7, (Member(1, "dear"), Member(2, "cheap")), stages)


OPINIONS = Stage(StageKind.OPINIONS, (1, 2), 0, 1000)
SYNTHESIS = Stage(StageKind.SYNTHESIS, (2, 1), 0, 1000)


def test_a_council_reserves_for_each_stage_as_it_opens(spender: Any) -> None:
    spender.done(SetBudget("cluster", 1000))
    spender.done(ConveneCouncil("c1", "why?", council(OPINIONS, SYNTHESIS), user="ann"))
    assert budget(spender) == Budget(1000, reserved=110)
    record(spender, 1, 1, used=50)
    record(spender, 1, 2, used=5, served_as="cheap")
    assert budget(spender) == Budget(1000, spent=55, reserved=10)
    record(spender, 1, 3, used=9, served_as="cheap")
    assert budget(spender) == Budget(1000, spent=64)
    assert spender.turn("c1", 1).closed


def test_a_council_that_no_budget_allows_is_refused(spender: Any) -> None:
    spender.done(SetBudget("user:ann", 109))
    convene = ConveneCouncil("c1", "why?", council(OPINIONS), user="ann")
    assert spender.refused(convene).code is Code.OVER_BUDGET
    spender.done(ConveneCouncil("c1", "why?", council(OPINIONS)))


def test_a_stage_that_no_budget_allows_ends_with_that_reason(spender: Any) -> None:
    """The cheap chairman is refused, and so is the dear one behind it."""
    spender.done(SetBudget("cluster", 110))
    spender.done(ConveneCouncil("c1", "why?", council(OPINIONS, SYNTHESIS)))
    record(spender, 1, 1, used=100)
    record(spender, 1, 2, used=5, served_as="cheap")
    turn = spender.turn("c1", 1)
    assert turn.closed
    assert [each.stage for each in turn.candidates] == [1, 1, 2, 2]
    for each in turn.candidates[2:]:
        assert each.error.startswith("not asked: the budget of cluster is 0.00011: 0.000105 is")
    assert budget(spender) == Budget(110, spent=105)
    conversation = spender.machine.conversation("c1")
    assert read_export(export(conversation)).conversation == conversation


def test_a_stage_past_its_time_is_charged_and_the_next_one_reserves(spender: Any) -> None:
    spender.done(SetBudget("cluster", 1000))
    spender.done(ConveneCouncil("c1", "why?", council(OPINIONS, SYNTHESIS)))
    record(spender, 1, 2, used=5, served_as="cheap")
    spender.done(CloseStage("c1", 1, 2, "too late"))
    assert budget(spender) == Budget(1000, spent=105, reserved=10)
    assert spender.turn("c1", 1).candidate(1).cost == 100


def test_a_snapshot_has_budgets_and_reservations(spender: Any) -> None:
    spender.done(SetBudget("cluster", 1000))
    spender.done(SubmitQuery("c1", "why?", ONE, user="ann"))
    restored = restore(encode(spender.machine.freeze()), Limits())
    assert restored.budgets == spender.machine.budgets
    assert restored.turn("c1", 1) == spender.turn("c1", 1)
    assert restored.state_hash() == spender.machine.state_hash()


@pytest.mark.parametrize("seed", range(5))
def test_whatever_a_hundred_clients_do_no_budget_is_exceeded(driver_class: Any, seed: int) -> None:
    """Every step keeps spent + reserved within the limit, and the books add up at the end."""
    rng = Random(seed)
    driver = driver_class()
    driver.done(ServeModels(1, (DEAR, CHEAP, FREE)))
    driver.done(ServeModels(2, (CHEAP,)))
    names = ("c1", "c2")
    for name in names:
        driver.done(CreateConversation(name))
    limits = {"cluster": 5000, "conversation:c1": 3000, "user:u3": 400}
    for scope, limit in limits.items():
        driver.done(SetBudget(scope, limit))
    refused = 0
    for _ in range(600):
        open_candidates = [
            (name, turn.turn, each)
            for name, turn in driver.machine.open_turns()
            for each in turn.candidates
            if not each.ended
        ]
        dice = rng.random()
        if dice < 0.4 or not open_candidates:
            plan = tuple(
                PlannedCandidate(number, node, rng.choice(("dear", "cheap", "free")))
                for number, node in enumerate(rng.choices((1, 2), k=rng.randrange(1, 4)), 1)
            )
            user = f"u{rng.randrange(100)}"
            close_after = rng.choice((0, 1))
            query = SubmitQuery(rng.choice(names), "why?", plan, close_after, user=user)
            reply = driver.do(query)
            refused += isinstance(reply, Refused)
            assert isinstance(reply, TurnOpened) or reply.code is Code.OVER_BUDGET
        else:
            name, turn, each = rng.choice(open_candidates)
            if dice < 0.8:
                served = {"dear": 100, "cheap": 10, "free": 0}
                model = each.model if each.node == 1 else "cheap"
                used = Usage(0, rng.randrange(served[model] + 1))
                error = rng.choice(("", "", "failed"))
                driver.done(
                    RecordCandidate(
                        *(name, turn, each.number, each.attempt, "t", "m", "stop", used, error),
                        *("p", model, "ab"),
                    )
                )
            elif dice < 0.95:
                node = rng.choice((1, 2))
                driver.done(ReassignCandidate(name, turn, each.number, each.attempt + 1, node, 0))
            else:
                driver.done(CloseTurn(name, turn, "enough"))
        for scope, limit in limits.items():
            held = budget(driver, scope)
            assert held.spent + held.reserved <= limit
            assert min(held.spent, held.reserved) >= 0
    for name, turn in driver.machine.open_turns():
        driver.done(CloseTurn(name, turn.turn, "enough"))
    spent = {scope: budget(driver, scope) for scope in limits}
    assert {each.reserved for each in spent.values()} == {0}
    costs = {
        name: sum(
            each.cost
            for turn in driver.machine.conversation(name).turns
            for each in turn.candidates
        )
        for name in names
    }
    assert spent["conversation:c1"].spent == costs["c1"]
    assert spent["cluster"].spent == sum(costs.values())
    assert refused > 50


def test_a_budget_may_go_while_a_call_that_costs_nothing_is_under_way(spender: Any) -> None:
    spender.done(SetBudget("cluster", 1000))
    spender.done(SubmitQuery("c1", "a", (PlannedCandidate(1, 1, "free"),)))
    spender.done(SetBudget("cluster", None))
    spender.answer("c1", 1, 1)
    spender.done(SubmitQuery("c1", "b", (PlannedCandidate(1, 1, "free"),)))
    spender.done(CloseTurn("c1", 2, "enough"))
    assert spender.machine.budgets == {}
