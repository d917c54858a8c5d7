"""A second model is asked where the first is slow: the log says which was first, and what both
cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensusllm.conversations import (
    Budget,
    CloseTurn,
    Code,
    CreateConversation,
    Delete,
    GenerationOptions,
    Hedge,
    HedgeCandidate,
    Limits,
    PlannedCandidate,
    ReassignCandidate,
    RecordCandidate,
    RecordCheckpoint,
    RegisteredModel,
    ServedModel,
    ServeModels,
    SetBudget,
    SubmitQuery,
    Usage,
    at_revision,
    encode,
    restore,
)
from consensusllm.conversations.chain import head, revisions_of_head
from consensusllm.conversations.documents import from_document, to_document
from consensusllm.conversations.history import contradiction
from consensusllm.conversations.records import Candidate, Turn

MILLION = 1_000_000
SLOW = ServedModel("slow", "p", "s", max_tokens=100, prompt_price=MILLION, completion_price=MILLION)
QUICK = replace(SLOW, name="quick", model="q", max_tokens=10)
READ = Usage(7, 0, estimated=True)
HEDGE = HedgeCandidate("c1", 1, 1, 1, 2, "quick")
CLAIM = ReassignCandidate("c1", 1, 1, 2, 2, 0, "quick", usage=READ, hedged=True)
ANSWER = RecordCandidate(
    *("c1", 1, 1, 1, "text", "s", "stop", Usage(5, 3)), served_as="slow", prompt_hash="ab"
)


@pytest.fixture
def asked(driver: Any) -> Any:
    """Node 1's model is asked, and node 2's can stand in; the cluster has a budget."""
    driver.done(SetBudget("cluster", 10_000))
    return ask(driver)


def ask(driver: Any) -> Any:
    driver.done(ServeModels(1, (SLOW,)))
    driver.done(ServeModels(2, (QUICK,)))
    driver.done(CreateConversation("c1"))
    plan = (PlannedCandidate(1, 1, "slow", ("quick", "other")),)
    driver.done(SubmitQuery("c1", "why?", plan, options=GenerationOptions(hedge_ms=5)))
    return driver


def candidate(driver: Any) -> Candidate:
    found: Candidate = driver.turn("c1", 1).candidate(1)
    return found


def budget(driver: Any) -> Budget:
    found: Budget = driver.machine.budgets["cluster"]
    return found


def registered(driver: Any, node: int) -> RegisteredModel:
    found: RegisteredModel = driver.machine.registry[node][0]
    return found


def test_a_hedge_is_recorded_and_what_it_can_cost_is_reserved(asked: Any) -> None:
    before = budget(asked).reserved
    asked.done(HEDGE)
    revision = asked.machine.conversation("c1").revision
    assert candidate(asked).hedge == Hedge(2, 2, "quick", revision)
    assert candidate(asked).attempt == 1, "the first goes on"
    more = budget(asked).reserved - before
    assert 0 < more < before, "the second may write less"
    assert candidate(asked).reserved == budget(asked).reserved


def test_the_hedge_that_is_first_takes_the_candidate_and_both_are_paid(asked: Any) -> None:
    asked.done(HEDGE)
    asked.done(CLAIM)
    now = candidate(asked)
    assert (now.node, now.model, now.attempt, now.hedge_won) == (2, "quick", 2, True)
    assert asked.refused(ANSWER).code is Code.STALE, "who was slower is fenced"
    asked.done(replace(ANSWER, attempt=2, model="q", served_as="quick"))
    ended = candidate(asked)
    assert (ended.text, ended.model, ended.hedge_won) == ("text", "q", True)
    assert ended.cost == 7 + 5 + 3
    assert budget(asked) == Budget(10_000, 15, 0)
    assert (registered(asked, 1).cost, registered(asked, 2).cost) == (7, 8)
    assert (registered(asked, 1).answers, registered(asked, 1).errors) == (0, 0)
    assert registered(asked, 2).answers == 1


def test_the_holder_that_is_first_answers_and_both_are_paid(asked: Any) -> None:
    asked.done(HEDGE)
    asked.done(RecordCheckpoint("c1", 1, 1, 1, 0, "te"))
    refusal = asked.refused(CLAIM)
    assert refusal.code is Code.STALE
    assert "has text" in refusal.message
    asked.done(replace(ANSWER, hedge_usage=READ))
    ended = candidate(asked)
    assert (ended.node, ended.text, ended.hedge_won) == (1, "text", False)
    assert ended.cost == 5 + 3 + 7
    assert budget(asked) == Budget(10_000, 15, 0)
    beaten = registered(asked, 2)
    assert (beaten.answers, beaten.errors, beaten.failures, beaten.cost) == (0, 0, 0, 7)


def test_a_hedge_goes_on_where_the_holder_fails(asked: Any) -> None:
    asked.done(HEDGE)
    asked.done(
        ReassignCandidate(
            *("c1", 1, 1, 2, 2, 0, "quick", "cut off", "slow", Usage(5, 0)), hedge_usage=READ
        )
    )
    now = candidate(asked)
    assert (now.node, now.attempt, now.cost, now.hedge_won) == (2, 2, 5, False)
    assert registered(asked, 1).errors == 1
    assert registered(asked, 2).cost == 0, "it goes on, and is paid when it ends"
    asked.done(replace(ANSWER, attempt=2, served_as="quick"))
    assert candidate(asked).cost == 5 + 8
    assert budget(asked) == Budget(10_000, 13, 0)


@pytest.mark.parametrize("spare", [0, 10_000])
def test_a_hedge_goes_on_with_what_it_has_reserved_where_the_holders_node_is_gone(
    driver: Any, spare: int
) -> None:
    """Nobody knows what the holder's call used: all that it reserved is charged, and no more."""
    driver.done(SetBudget("cluster", 10_000))
    ask(driver)
    holders = budget(driver).reserved
    driver.done(HEDGE)
    hedges = budget(driver).reserved - holders
    assert holders > hedges > 8
    driver.done(SetBudget("cluster", holders + hedges + spare))
    driver.done(ReassignCandidate("c1", 1, 1, 2, 2, 0, "quick"))
    now = candidate(driver)
    assert (now.error, now.cost, now.reserved) == ("", holders, hedges)
    driver.done(replace(ANSWER, attempt=2, served_as="quick"))
    assert (candidate(driver).text, candidate(driver).cost) == ("text", holders + 8)
    assert budget(driver) == Budget(holders + hedges + spare, holders + 8, 0)


@pytest.mark.parametrize("usage", [Usage(), Usage(5, 0)])
def test_a_hedge_goes_on_though_the_limit_was_lowered_meanwhile(asked: Any, usage: Usage) -> None:
    """Its call is under way, and was paid for."""
    holders = budget(asked).reserved
    asked.done(HEDGE)
    hedges = budget(asked).reserved - holders
    asked.done(SetBudget("cluster", 1))
    asked.done(ReassignCandidate("c1", 1, 1, 2, 2, 0, "quick", "cut off", "slow", usage))
    cost = 5 if usage == Usage(5, 0) else holders
    assert (candidate(asked).error, candidate(asked).reserved) == ("", hedges)
    assert budget(asked) == Budget(1, cost, hedges)
    asked.done(replace(ANSWER, attempt=2, served_as="quick"))
    assert budget(asked) == Budget(1, cost + 8, 0)


def test_a_hedge_that_became_dearer_keeps_no_more_than_its_holder_leaves(asked: Any) -> None:
    asked.done(HEDGE)
    both = budget(asked).reserved
    asked.done(SetBudget("cluster", both))
    dear = replace(QUICK, prompt_price=9 * MILLION, completion_price=9 * MILLION)
    asked.done(ServeModels(2, (dear,)))
    asked.done(ReassignCandidate("c1", 1, 1, 2, 2, 0, "quick", "cut off", "slow", Usage(5, 3)))
    assert budget(asked) == Budget(both, 8, both - 8)


def test_a_hedge_whose_model_is_bounded_no_more_is_charged_with_its_holder(asked: Any) -> None:
    asked.done(HEDGE)
    both = budget(asked).reserved
    asked.done(ServeModels(2, (replace(QUICK, max_tokens=0),)))
    asked.done(ReassignCandidate("c1", 1, 1, 2, 2, 0, "quick"))
    assert candidate(asked).error.startswith("not asked again: cluster has a budget, and nothing ")
    assert budget(asked) == Budget(10_000, both, 0)


def test_a_hedge_that_is_passed_over_is_paid(asked: Any) -> None:
    asked.done(HEDGE)
    asked.done(
        ReassignCandidate(
            *("c1", 1, 1, 2, 3, 0, "other", "cut off", "slow", Usage(5, 0)), hedge_usage=READ
        )
    )
    assert candidate(asked).cost == 5 + 7
    assert candidate(asked).hedged is None
    assert asked.refused(replace(CLAIM, attempt=3)).code is Code.STALE


@pytest.mark.parametrize("usages", [(Usage(), READ), (Usage(5, 3), Usage())])
def test_what_nobody_knows_is_charged_as_reserved(asked: Any, usages: tuple[Usage, Usage]) -> None:
    asked.done(HEDGE)
    reserved = budget(asked).reserved
    asked.done(replace(ANSWER, usage=usages[0], hedge_usage=usages[1]))
    assert candidate(asked).cost == budget(asked).spent == reserved


def test_a_turn_that_is_closed_charges_both_as_reserved(asked: Any) -> None:
    asked.done(HEDGE)
    reserved = budget(asked).reserved
    asked.done(CloseTurn("c1", 1, "cancelled"))
    assert budget(asked) == Budget(10_000, reserved, 0)
    assert asked.refused(CLAIM).code is Code.STALE


def test_no_budget_for_two_means_one_is_asked(asked: Any) -> None:
    asked.done(SetBudget("cluster", budget(asked).reserved + 1))
    assert asked.refused(HEDGE).code is Code.OVER_BUDGET
    asked.done(ANSWER)
    assert candidate(asked).cost == 8


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"model": "nobody"}, Code.INVALID),
        ({"model": "slow"}, Code.INVALID),
        ({"model": "other"}, Code.STALE),
        ({"node": 1}, Code.STALE),
        ({"attempt": 2}, Code.STALE),
        ({"candidate": 2}, Code.NOT_FOUND),
        ({"turn": 0}, Code.NOT_FOUND),
        ({"model": "x" * 300}, Code.TOO_LARGE),
    ],
)
def test_what_cannot_be_a_hedge_is_refused(asked: Any, change: dict[str, Any], code: Code) -> None:
    assert asked.refused(replace(HEDGE, **change)).code is code


def test_a_candidate_is_hedged_once_and_only_while_it_is_silent(asked: Any) -> None:
    asked.done(HEDGE)
    assert asked.refused(HEDGE).code is Code.STALE
    for claim in (replace(CLAIM, node=1), replace(CLAIM, model="other"), replace(CLAIM, attempt=3)):
        assert asked.refused(claim).code is Code.STALE
    asked.done(CLAIM)
    assert asked.refused(replace(HEDGE, attempt=2)).code is Code.STALE
    plan = (PlannedCandidate(1, 1, "slow", ("quick",)),)
    asked.done(SubmitQuery("c1", "again?", plan))
    asked.done(RecordCheckpoint("c1", 2, 1, 1, 0, "te"))
    assert asked.refused(replace(HEDGE, turn=2)).code is Code.STALE


@pytest.mark.parametrize("hedge_ms", [0, -1, Limits().deadline_ms + 1])
def test_a_time_that_is_none_is_refused(asked: Any, hedge_ms: int) -> None:
    options = GenerationOptions(hedge_ms=hedge_ms)
    query = SubmitQuery("c1", "?", (PlannedCandidate(1, 1),), options=options)
    assert asked.refused(query).code is Code.INVALID


def test_snapshot_history_chain_and_documents_have_the_hedge(driver: Any) -> None:
    asked = ask(driver)
    heads = [(1, head(asked.machine.conversation("c1")))]
    for command in (HEDGE, CLAIM, replace(ANSWER, attempt=2, served_as="quick")):
        asked.done(command)
        conversation = asked.machine.conversation("c1")
        heads.append((conversation.revision, head(conversation)))
    assert len({noted for _, noted in heads}) == len(heads)
    for revision, noted in heads[1:]:
        found = revisions_of_head(conversation, noted)
        assert found is not None
        assert found[0] == revision
    before = at_revision(conversation, candidate(asked).hedge.revision - 1)  # type: ignore[union-attr]
    assert before.turns[0].candidates[0].hedge is None
    restored = restore(encode(asked.machine.freeze()), Limits())
    assert restored.turn("c1", 1) == asked.turn("c1", 1)
    turn = conversation.turns[0]
    assert from_document(Turn, to_document(turn), "turn") == turn
    assert not contradiction(turn)
    wrong = replace(candidate(asked), hedge=Hedge(2, 2, "quick", 99))
    assert "hedge" in contradiction(replace(turn, candidates=(wrong,)))


def test_a_new_conversation_begins_above_the_hedges_of_the_one_that_had_its_id(asked: Any) -> None:
    asked.done(HEDGE)
    asked.done(Delete("c1"))
    asked.ask("c1", "another question")
    assert {each.attempt for each in asked.turn("c1", 1).candidates} == {3}


def test_a_hedge_reserves_nothing_in_a_budget_that_is_gone_or_comes_back(driver: Any) -> None:
    for scope in ("cluster", "user:ann"):
        driver.done(SetBudget(scope, 10_000))
    driver.done(ServeModels(1, (replace(SLOW, prompt_price=0, completion_price=0),)))
    driver.done(ServeModels(2, (QUICK,)))
    driver.done(CreateConversation("c1"))
    plan = (PlannedCandidate(1, 1, "slow", ("quick",)),)
    driver.done(SubmitQuery("c1", "why?", plan, user="ann"))
    driver.done(SetBudget("cluster", None))
    driver.done(HEDGE)
    driver.done(SetBudget("cluster", 10_000))
    assert driver.machine.budgets["user:ann"].reserved > 0
    driver.done(CloseTurn("c1", 1, "cancelled"))
    assert {each.reserved for each in driver.machine.budgets.values()} == {0}
