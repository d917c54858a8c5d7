"""Calls that end without a word of what they used are estimated, counted, and named."""

from __future__ import annotations

from typing import Any

import pytest

from consensusllm.conversations import (
    Budget,
    CloseStage,
    CloseTurn,
    ConveneCouncil,
    Council,
    CreateConversation,
    Delete,
    Fork,
    HedgeCandidate,
    Member,
    PlannedCandidate,
    ReassignCandidate,
    RecordCandidate,
    RecordCheckpoint,
    ServedModel,
    ServeModels,
    SetBudget,
    Stage,
    StageKind,
    SubmitQuery,
    Usage,
)
from consensusllm.conversations.records import RegisteredModel

MILLION = 1_000_000
PRICED = ServedModel("big", "p", "big-exact", prompt_price=MILLION, completion_price=10 * MILLION)
OTHER = ServedModel("other", "q", "other-exact", completion_price=MILLION)
PLAN = (PlannedCandidate(1, 1, "big", ("other",)), PlannedCandidate(2, 2, "other"))
QUESTION = "a question of 24 bytes.."  # 6 tokens
DEADLINE_MS = 60_000


@pytest.fixture
def asked(driver: Any) -> Any:
    driver.done(ServeModels(1, (PRICED,)))
    driver.done(ServeModels(2, (OTHER,)))
    driver.done(CreateConversation("c1"))
    driver.done(SubmitQuery("c1", QUESTION, PLAN, deadline_ms=DEADLINE_MS, close_after=1))
    return driver


def model(driver: Any, node: int) -> RegisteredModel:
    (found,) = driver.machine.registry[node]
    assert isinstance(found, RegisteredModel)
    return found


def attempt(driver: Any, number: int = 1) -> int:
    found: int = driver.turn("c1", 1).candidate(number).attempt
    return found


def pass_deadline(driver: Any, turn: int) -> None:
    machine = driver.machine
    machine.apply(machine.applied_slot + 1, driver.turn("c1", turn).deadline_ms + 1, [])


def write(driver: Any, text: str) -> None:
    offset = len(driver.turn("c1", 1).candidate(1).text)
    driver.done(RecordCheckpoint("c1", 1, 1, attempt(driver), offset, text))


def test_what_was_recorded_of_a_call_that_is_cancelled_is_counted(asked: Any) -> None:
    write(asked, "12345678")
    asked.done(CloseTurn("c1", 1, "cancelled"))
    candidate = asked.turn("c1", 1).candidate(1)
    assert candidate.usage == Usage(6, 2, estimated=True)
    assert (candidate.cost, candidate.provider, candidate.model) == (26, "p", "big-exact")
    assert candidate.text == "12345678"
    counted = model(asked, 1)
    assert (counted.prompt_tokens, counted.completion_tokens, counted.cost) == (6, 2, 26)
    # Nobody waited for it: that says nothing of the model.
    assert (counted.answers, counted.errors, counted.failures) == (0, 0, 0)


def test_it_names_what_it_was_asked_as_an_answer_does(asked: Any) -> None:
    candidate = asked.turn("c1", 1).candidate(1)
    expected = asked.machine.asked("c1", asked.turn("c1", 1), candidate, PRICED).hash
    asked.done(CloseTurn("c1", 1, "cancelled"))
    assert asked.turn("c1", 1).candidate(1).prompt_hash == expected


def test_a_call_that_is_not_waited_for_is_counted(asked: Any) -> None:
    asked.done(
        RecordCandidate(
            *("c1", 1, 2, attempt(asked, 2), "text", "other-exact", "stop", Usage(6, 3)),
            served_as="other",
        )
    )
    candidate = asked.turn("c1", 1).candidate(1)
    assert candidate.error.startswith("not waited for")
    assert (candidate.usage, candidate.cost) == (Usage(6, 0, estimated=True), 6)
    assert (model(asked, 1).errors, model(asked, 1).cost, model(asked, 2).cost) == (0, 6, 3)


def test_a_model_that_runs_into_the_deadline_has_failed(asked: Any) -> None:
    pass_deadline(asked, 1)
    asked.done(CloseTurn("c1", 1, "deadline passed"))
    late = model(asked, 1)
    assert (late.errors, late.failures, late.answers) == (1, 1, 0)
    assert late.failed_ms == asked.machine.time_ms


def test_the_calls_of_a_stage_that_runs_into_its_deadline_are_counted(asked: Any) -> None:
    stages = (Stage(StageKind.OPINIONS, (1, 2), 0, DEADLINE_MS),)
    council = Council("t", "r", 1, (Member(1, "big"), Member(2, "other")), stages)
    asked.done(ConveneCouncil("c1", QUESTION, council))
    pass_deadline(asked, 2)
    asked.done(CloseStage("c1", 2, 2, "deadline passed"))
    assert [each.usage.prompt_tokens for each in asked.turn("c1", 2).candidates] == [6, 6]
    assert [model(asked, node).failures for node in (1, 2)] == [1, 1]


def test_what_a_node_had_written_that_died_is_counted(asked: Any) -> None:
    write(asked, "12345678")
    asked.done(ReassignCandidate("c1", 1, 1, attempt(asked) + 1, 2, 4, "other"))
    moved = asked.turn("c1", 1).candidate(1)
    assert (moved.cost, moved.usage, moved.provider) == (26, Usage(), "")
    assert (model(asked, 1).cost, model(asked, 1).failures) == (26, 0)
    # What it goes on with was read by the next call, and not written by it.
    asked.done(CloseTurn("c1", 1, "cancelled"))
    ended = asked.turn("c1", 1).candidate(1)
    assert (ended.usage, ended.cost) == (Usage(7, 0, estimated=True), 26)


def test_a_call_that_was_never_made_is_not_counted(asked: Any) -> None:
    asked.done(ReassignCandidate("c1", 1, 1, attempt(asked) + 1, 1, 0, usage=Usage(0, 0)))
    assert (asked.turn("c1", 1).candidate(1).cost, model(asked, 1).cost) == (0, 0)


def test_a_hedge_is_counted_beside_the_call_that_it_was_to_help(asked: Any) -> None:
    asked.done(ServeModels(3, (ServedModel("other", "q", prompt_price=MILLION),)))
    asked.done(HedgeCandidate("c1", 1, 1, attempt(asked), 3, "other"))
    asked.done(CloseTurn("c1", 1, "cancelled"))
    assert (model(asked, 3).cost, model(asked, 3).errors) == (6, 0)
    assert asked.turn("c1", 1).candidate(1).cost == 6 + 6


def test_a_hedge_whose_holder_died_is_counted(asked: Any) -> None:
    asked.done(ServeModels(3, (ServedModel("other", "q", prompt_price=MILLION),)))
    asked.done(HedgeCandidate("c1", 1, 1, attempt(asked), 3, "other"))
    asked.done(ReassignCandidate("c1", 1, 1, attempt(asked) + 1, 2, 0, "other"))
    assert (model(asked, 1).cost, model(asked, 3).cost) == (6, 6)


def test_where_there_is_a_budget_it_is_charged_as_reserved(asked: Any) -> None:
    bounded = ServedModel("big", "p", "big-exact", max_tokens=10, completion_price=MILLION)
    asked.done(ServeModels(1, (bounded,)))
    asked.done(SetBudget("cluster", 1000))
    asked.done(SubmitQuery("c1", QUESTION, PLAN[:1], deadline_ms=DEADLINE_MS))
    asked.done(CloseTurn("c1", 2, "cancelled"))
    candidate = asked.turn("c1", 2).candidate(1)
    assert (candidate.cost, candidate.usage) == (10, Usage(6, 0, estimated=True))
    assert asked.machine.budgets["cluster"] == Budget(1000, spent=10)


def test_the_calls_of_a_conversation_that_is_deleted_are_counted(asked: Any) -> None:
    asked.done(Delete("c1"))
    assert model(asked, 1).cost == 6


def test_a_copy_of_an_open_turn_has_called_nobody(asked: Any) -> None:
    asked.done(Fork("c1", "c2"))
    assert asked.turn("c2", 1).candidate(1).usage == Usage()
    assert (asked.turn("c2", 1).candidate(1).cost, model(asked, 1).cost) == (0, 0)


def test_a_node_that_serves_nothing_has_called_nobody(driver: Any) -> None:
    driver.done(CreateConversation("c1"))
    driver.done(SubmitQuery("c1", QUESTION, PLAN))
    driver.done(CloseTurn("c1", 1, "cancelled"))
    candidate = driver.turn("c1", 1).candidate(1)
    assert (candidate.usage, candidate.provider, candidate.prompt_hash) == (Usage(), "", "")


def test_a_question_that_does_not_fit_was_not_asked(driver: Any) -> None:
    driver.done(ServeModels(1, (ServedModel("big", "p", context_tokens=8, prompt_price=MILLION),)))
    driver.done(CreateConversation("c1"))
    driver.done(SubmitQuery("c1", QUESTION * 10, PLAN[:1]))
    driver.done(CloseTurn("c1", 1, "cancelled"))
    assert (driver.turn("c1", 1).candidate(1).usage, model(driver, 1).cost) == (Usage(), 0)
