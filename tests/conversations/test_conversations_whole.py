"""Whole conversations: create, fork, rename, delete; lists, revisions, and the prompt's context."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from imported import TEMPORARY

from consensusllm.conversations import (
    Choose,
    CloseTurn,
    Code,
    CreateConversation,
    Delete,
    Fork,
    GenerationOptions,
    Limits,
    PlannedCandidate,
    RecordCheckpoint,
    Rename,
    RetryTurn,
    SubmitQuery,
    encode,
    restore,
    system_prompt,
)


@pytest.mark.parametrize("name", ["", "a b", "é", "a" * 65, "a/b", "a\n", "x\x1b[2J"])
def test_an_id_out_of_its_alphabet_is_refused(driver: Any, name: str) -> None:
    driver.ask("c1")
    driver.done(CloseTurn("c1", 1, "enough"))
    for operation in (CreateConversation(name), Fork("c1", name), Rename("c1", name)):
        refused = driver.refused(operation)
        assert refused.code is Code.INVALID
        assert refused.message.isprintable()


@pytest.mark.parametrize("name", [".", "-", "_", "a" * 64, "A.b-c_9"])
def test_an_id_of_its_alphabet_is_taken(driver: Any, name: str) -> None:
    driver.done(CreateConversation(name))
    assert driver.refused(CreateConversation(name)).code is Code.EXISTS


def test_conversations_are_limited_in_number(driver_class: Any) -> None:
    driver = driver_class(Limits(conversations=2))
    driver.done(CreateConversation("c1"))
    driver.done(CreateConversation("c2"))
    assert driver.refused(CreateConversation("c3")).code is Code.TOO_LARGE
    assert driver.refused(Fork("c1", "c3")).code is Code.TOO_LARGE
    driver.done(Rename("c1", "c3"))
    driver.done(Delete("c2"))
    driver.done(CreateConversation("c4"))


def test_a_fork_is_independent_of_its_source(driver: Any) -> None:
    for turn in (1, 2):
        driver.ask("c1", f"question {turn}")
        driver.answer("c1", turn, 1)
        driver.done(CloseTurn("c1", turn, "enough"))
    driver.done(Fork("c1", "c2", at_turn=1))
    copy = driver.machine.conversation("c2")
    assert [turn.question for turn in copy.turns] == ["question 1"]
    driver.done(Choose("c1", 1, 1))
    assert driver.machine.conversation("c2") == copy
    source = driver.machine.conversation("c1")
    driver.done(RetryTurn("c2", 1, (PlannedCandidate(1, 1),)))
    driver.done(Delete("c2"))
    assert driver.machine.conversation("c1") == source


def test_a_fork_of_an_open_turn_is_not_answered_twice(driver: Any) -> None:
    driver.ask("c1")
    driver.done(RecordCheckpoint("c1", 1, 1, 1, 0, "so far"))
    driver.done(Fork("c1", "c2"))
    assert [name for name, _ in driver.machine.open_turns()] == ["c1"]
    copied = driver.turn("c2", 1)
    assert copied.closed
    assert copied.candidate(1).text == "so far"
    assert copied.candidate(1).error
    assert not driver.turn("c1", 1).closed


def test_a_fork_refuses_what_is_not_there_and_what_is(driver: Any) -> None:
    driver.ask("c1")
    assert driver.refused(Fork("c9", "c2")).code is Code.NOT_FOUND
    assert driver.refused(Fork("c1", "c2", at_turn=2)).code is Code.NOT_FOUND
    assert driver.refused(Fork("c1", "c1")).code is Code.EXISTS


def test_a_rename_moves_everything_and_frees_the_id(driver: Any) -> None:
    driver.ask("c1", "asked")
    driver.answer("c1", 1, 2)
    assert driver.refused(Rename("c1", "c2")).code is Code.NOT_ANSWERED
    driver.done(CloseTurn("c1", 1, "enough"))
    before = driver.machine.conversation("c1")
    driver.machine.take_touched()
    driver.done(Rename("c1", "c2"))
    assert driver.machine.take_touched() == (("c1", 0), ("c2", 0))
    after = driver.machine.conversation("c2")
    assert driver.machine.conversation("c1") is None
    assert after.turns == before.turns
    assert after.created_ms == before.created_ms
    assert after.revision == before.revision + 1
    assert driver.machine.counts() == (1, 0, 1, 0)
    driver.done(CreateConversation("c1"))
    assert driver.refused(Rename("c1", "c2")).code is Code.EXISTS
    assert driver.refused(Rename("c1", "c1")).code is Code.EXISTS
    assert driver.refused(Rename("c9", "c8")).code is Code.NOT_FOUND


def test_a_deleted_conversation_is_gone_with_its_turns(driver: Any) -> None:
    empty = driver.content()[:3]
    driver.ask("c1")
    driver.done(Delete("c1"))
    assert driver.content()[:3] == empty
    assert driver.machine.open_turns() == []
    assert driver.machine.summaries("", 10) == []
    refused = driver.refused(Delete("c1"))
    assert refused.code is Code.NOT_FOUND
    assert refused.message == "there is no conversation 'c1': check its id"


def test_the_revision_counts_changes_only(driver: Any) -> None:
    driver.ask("c1")
    revision = driver.machine.conversation("c1").revision
    driver.refused(Choose("c1", 1, 1))
    assert driver.machine.conversation("c1").revision == revision
    driver.answer("c1", 1, 1)
    driver.done(Choose("c1", 1, 1))
    assert driver.machine.conversation("c1").revision == revision + 2
    assert driver.machine.conversation("c1").updated_ms == driver.machine.time_ms


def test_conversations_are_listed_in_order_page_by_page(driver: Any) -> None:
    for name in ("b", "a10", "a2", "C"):
        driver.ask(name, "question " * 100)
    driver.done(CloseTurn("b", 1, "enough"))
    listed = driver.machine.summaries("", 3)
    assert [summary.conversation for summary in listed] == ["C", "a10", "a2"]
    (last,) = driver.machine.summaries("a2", 3)
    assert (last.conversation, last.turns, last.open_turns) == ("b", 1, 0)
    assert listed[0].open_turns == 1
    assert last.last_question == ("question " * 100)[:200]


def ask_and_choose(driver: Any, conversation: str, question: str, candidate: int = 1) -> None:
    turn = driver.ask(conversation, question)
    driver.answer(conversation, turn, candidate, f"answer to {question}")
    driver.done(CloseTurn(conversation, turn, "enough"))
    driver.done(Choose(conversation, turn, candidate))


def test_the_prompt_is_the_chosen_history_in_order(driver: Any) -> None:
    ask_and_choose(driver, "c1", "one", 2)
    driver.ask("c1", "nobody chose")
    ask_and_choose(driver, "c1", "three")
    driver.ask("c1", "four")
    assert driver.prompt("c1", 4, 1) == (
        ("user", "one"),
        ("assistant", "answer to one"),
        ("user", "three"),
        ("assistant", "answer to three"),
        ("user", "four"),
    )


def test_a_choice_made_after_the_question_is_not_in_its_prompt(driver: Any) -> None:
    driver.ask("c1", "one")
    driver.answer("c1", 1, 1, "answer")
    driver.ask("c1", "two")
    driver.done(Choose("c1", 1, 1))
    driver.ask("c1", "three")
    driver.done(RetryTurn("c1", 2, (PlannedCandidate(1, 1),)))
    assert driver.prompt("c1", 2, 1) == (("user", "two"),)
    assert driver.prompt("c1", 3, 1)[:2] == (("user", "one"), ("assistant", "answer"))


def test_an_import_keeps_the_times_that_it_has_elsewhere(driver: Any) -> None:
    driver.done(CreateConversation(TEMPORARY))
    end_of_9999_ms = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc).timestamp()) * 1000
    for times in ((2, 1), (-1, 1), (1, end_of_9999_ms + 1000)):
        assert driver.refused(Rename(TEMPORARY, "c1", *times)).code is Code.INVALID
    driver.done(Rename(TEMPORARY, "c1", 7, 9))
    found = driver.machine.conversation("c1")
    assert (found.created_ms, found.updated_ms) == (7, 9)
    assert driver.refused(Rename("c1", "c2", 7, 9)).code is Code.INVALID


def test_what_was_imported_from_a_clock_ahead_is_not_updated_before_it_was_created(
    driver: Any,
) -> None:
    ahead_ms = driver.machine.time_ms + 3_600_000
    driver.done(CreateConversation(TEMPORARY))
    driver.done(Rename(TEMPORARY, "c1", ahead_ms, ahead_ms))
    driver.ask("c1")
    driver.done(CloseTurn("c1", 1, "enough"))
    driver.done(Rename("c1", "c2"))
    found = driver.machine.conversation("c2")
    assert (found.created_ms, found.updated_ms) == (ahead_ms, ahead_ms)
    driver.done(CreateConversation(TEMPORARY))
    driver.done(Rename(TEMPORARY, "c3", 0, 1))
    found = driver.machine.conversation("c3")
    assert found.created_ms == found.updated_ms > 1


def test_a_fork_and_a_rename_keep_every_prompt(driver: Any) -> None:
    driver.ask("c1", "one")
    driver.answer("c1", 1, 1, "answer")
    driver.done(SubmitQuery("c1", "two", (PlannedCandidate(1, 1),)))
    driver.done(Choose("c1", 1, 1))
    driver.done(SubmitQuery("c1", "three", (PlannedCandidate(1, 1),)))
    prompts = [driver.prompt("c1", turn, 1) for turn in (1, 2, 3)]
    driver.done(Fork("c1", "c2"))
    driver.done(Rename("c2", "c3"))
    assert [driver.prompt("c3", turn, 1) for turn in (1, 2, 3)] == prompts
    ask_and_choose(driver, "c3", "four")
    assert driver.prompt("c3", 4, 1)[:2] == (("user", "one"), ("assistant", "answer"))
    driver.ask("c3", "five")
    assert driver.prompt("c3", 5, 1) == (
        ("user", "one"),
        ("assistant", "answer"),
        ("user", "four"),
        ("assistant", "answer to four"),
        ("user", "five"),
    )


def test_slots_come_without_a_gap_and_time_never_goes_back(driver: Any) -> None:
    with pytest.raises(AssertionError):
        driver.machine.apply(driver.machine.applied_slot + 2, 0, ())
    with pytest.raises(AssertionError):
        driver.machine.apply(driver.machine.applied_slot, 0, ())
    time_ms = driver.machine.time_ms
    driver.machine.apply(driver.machine.applied_slot + 1, 5, ())
    assert driver.machine.time_ms == time_ms, "time went back"


def test_a_machine_goes_with_its_last_reference(driver: Any) -> None:
    driver.ask("c1")
    driver.answer("c1", 1, 1)
    state = weakref.ref(driver.machine._state)
    collecting = gc.isenabled()
    gc.disable()
    try:
        driver.machine = None
        assert state() is None, "something of the state refers back to it"
    finally:
        if collecting:
            gc.enable()


# The system prompt ------------------------------------------------------------------------------


def test_queries_that_bring_no_system_prompt_have_the_conversations(driver: Any) -> None:
    driver.done(CreateConversation("c1", "be kind"))
    assert driver.machine.conversation("c1").system == "be kind"
    plan = (PlannedCandidate(1, 1),)
    own = GenerationOptions(seed=3, system="be brief", role="You are a judge.")
    driver.done(SubmitQuery("c1", "a", plan))
    driver.done(SubmitQuery("c1", "b", plan, options=own))
    driver.done(SubmitQuery("c1", "c", plan, options=replace(own, system="")))
    asked = [system_prompt(driver.turn("c1", turn).options) for turn in (1, 2, 3)]
    assert asked == ["be kind", "You are a judge.\n\nbe brief", "You are a judge."]
    driver.done(CloseTurn("c1", 1, "enough"))
    driver.done(CloseTurn("c1", 2, "enough"))
    driver.done(CloseTurn("c1", 3, "enough"))
    driver.done(Fork("c1", "c2"))
    driver.done(Rename("c1", "c3"))
    assert driver.machine.conversation("c2").system == "be kind"
    assert driver.machine.conversation("c3").system == "be kind"
    restored = restore(encode(driver.machine.freeze()), Limits())
    assert restored.conversation("c2") == driver.machine.conversation("c2")


def test_system_prompts_and_roles_are_bounded(driver: Any) -> None:
    long = "x" * (Limits().system_bytes + 1)
    assert driver.refused(CreateConversation("c1", long)).code is Code.TOO_LARGE
    driver.done(CreateConversation("c1"))
    for options in (
        GenerationOptions(system="x" * (Limits().question_bytes + 1)),
        GenerationOptions(role="x" * (Limits().question_bytes + 1)),
    ):
        query = SubmitQuery("c1", "a", (PlannedCandidate(1, 1),), options=options)
        assert driver.refused(query).code is Code.TOO_LARGE


def test_an_empty_system_prompt_is_not_the_same_as_none() -> None:
    assert system_prompt(GenerationOptions()) is None
    assert system_prompt(GenerationOptions(system="")) == ""
    assert system_prompt(GenerationOptions(role="r")) == "r"
