"""The rules of turns: what a query opens, who may record, when it closes, who wins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from imported import TEMPORARY, imported_turn

from consensusllm.conversations import (
    Choose,
    Chosen,
    CloseTurn,
    Code,
    CreateConversation,
    Delete,
    Done,
    GenerationOptions,
    ImportTurn,
    Limits,
    PlannedCandidate,
    ReassignCandidate,
    RecordCandidate,
    RecordCheckpoint,
    Retried,
    RetryTurn,
    SubmitQuery,
    TakenOver,
    Turn,
    TurnOpened,
    Usage,
)

PLAN = (PlannedCandidate(1, 1), PlannedCandidate(2, 2))


def test_a_query_opens_a_turn_with_the_planned_candidates(driver: Any) -> None:
    driver.done(CreateConversation("c1"))
    options = GenerationOptions(temperature=0.5, max_tokens=9, seed=-1, system="brief")
    plan = (PlannedCandidate(7, 2, "m"), PlannedCandidate(3, 1))
    reply = driver.done(SubmitQuery("c1", "What?\n→", plan, 1, 5000, options))
    assert reply == TurnOpened(1, (3, 7))
    turn = driver.turn("c1", 1)
    assert [(c.number, c.node, c.model, c.attempt) for c in turn.candidates] == [
        (3, 1, "", 1),
        (7, 2, "m", 1),
    ]
    assert turn.question == "What?\n→"
    assert turn.options == options
    assert turn.deadline_ms == turn.opened_ms + 5000 == driver.machine.time_ms + 5000
    assert driver.machine.open_turns() == [("c1", turn)]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (SubmitQuery("c9", "?", PLAN), Code.NOT_FOUND),
        (SubmitQuery("no such\x1b[31mid", "?", PLAN), Code.NOT_FOUND),
        (SubmitQuery("c1", "", PLAN), Code.INVALID),
        (SubmitQuery("c1", "é" * 6, PLAN), Code.TOO_LARGE),
        (SubmitQuery("c1", "?", ()), Code.INVALID),
        (SubmitQuery("c1", "?", (PlannedCandidate(0, 1),)), Code.INVALID),
        (SubmitQuery("c1", "?", (PlannedCandidate(1, 0),)), Code.INVALID),
        (SubmitQuery("c1", "?", PLAN + PLAN[:1]), Code.INVALID),
        (SubmitQuery("c1", "?", (*PLAN, PlannedCandidate(3, 3))), Code.TOO_LARGE),
        (SubmitQuery("c1", "?", PLAN, close_after=-1), Code.INVALID),
        (SubmitQuery("c1", "?", PLAN, deadline_ms=0), Code.INVALID),
        (SubmitQuery("c1", "?", PLAN, deadline_ms=3_600_001), Code.INVALID),
        (
            SubmitQuery("c1", "?", PLAN, options=GenerationOptions(temperature=float("nan"))),
            Code.INVALID,
        ),
        (SubmitQuery("c1", "?", PLAN, options=GenerationOptions(max_tokens=0)), Code.INVALID),
        (SubmitQuery("c1", "?", PLAN, options=GenerationOptions(system="x" * 11)), Code.TOO_LARGE),
    ],
)
def test_a_query_out_of_bounds_is_refused(
    driver_class: Any, query: SubmitQuery, code: Code
) -> None:
    driver = driver_class(Limits(question_bytes=10, candidates_per_turn=2))
    driver.done(CreateConversation("c1"))
    refused = driver.refused(query)
    assert refused.code is code
    assert "\x1b" not in refused.message


def test_a_conversation_takes_no_more_turns_than_its_limit(driver_class: Any) -> None:
    driver = driver_class(Limits(turns_per_conversation=1))
    driver.ask(TEMPORARY)
    assert driver.refused(SubmitQuery(TEMPORARY, "?", PLAN)).code is Code.TOO_LARGE
    imported = ImportTurn(TEMPORARY, imported_turn(2, "text"))
    assert driver.refused(imported).code is Code.TOO_LARGE


def test_a_turn_closes_when_its_last_candidate_ends(driver: Any) -> None:
    driver.ask("c1", candidates=2)
    driver.answer("c1", 1, 1)
    assert not driver.turn("c1", 1).closed
    driver.done(RecordCandidate("c1", 1, 2, 1, "part", "", "", Usage(5), error="cut off"))
    turn = driver.turn("c1", 1)
    assert turn.closed
    failed = turn.candidate(2)
    assert (failed.ended, failed.answered, failed.text, failed.error) == (
        True,
        False,
        "part",
        "cut off",
    )
    assert failed.usage == Usage(5)
    assert driver.machine.open_turns() == []


def test_a_turn_closes_after_k_answers_not_counting_errors(driver: Any) -> None:
    driver.ask("c1", candidates=4, close_after=2)
    driver.done(RecordCandidate("c1", 1, 1, 1, "", "", "", error="no key"))
    driver.answer("c1", 1, 2)
    assert not driver.turn("c1", 1).closed
    driver.answer("c1", 1, 3)
    turn = driver.turn("c1", 1)
    assert turn.closed
    assert turn.candidate(4).error == "not waited for: the turn closed after 2 answers"


def test_the_first_answer_of_an_attempt_is_kept(driver: Any) -> None:
    driver.ask("c1")
    driver.answer("c1", 1, 1, "first")
    again = RecordCandidate("c1", 1, 1, 1, "second", "model", "stop")
    assert driver.refused(again).code is Code.STALE
    assert driver.turn("c1", 1).candidate(1).text == "first"


def test_reassigning_fences_the_old_attempt(driver: Any) -> None:
    driver.ask("c1")
    driver.done(RecordCheckpoint("c1", 1, 2, 1, 0, "old attempt's"))
    assert driver.refused(ReassignCandidate("c1", 1, 2, 1, 3, 0)).code is Code.STALE
    assert driver.refused(ReassignCandidate("c1", 1, 2, 3, 3, 0)).code is Code.STALE
    assert driver.refused(ReassignCandidate("c1", 1, 2, 2, 0, 0)).code is Code.INVALID
    driver.done(ReassignCandidate("c1", 1, 2, 2, 3, 0))
    moved = driver.turn("c1", 1).candidate(2)
    assert (moved.node, moved.attempt, moved.text) == (3, 2, "")
    late = RecordCandidate("c1", 1, 2, 1, "late", "m", "stop")
    assert driver.refused(late).code is Code.STALE
    assert driver.refused(RecordCheckpoint("c1", 1, 2, 1, 0, "late")).code is Code.STALE
    driver.answer("c1", 1, 2, "new attempt's")
    assert driver.turn("c1", 1).candidate(2).text == "new attempt's"
    assert driver.refused(ReassignCandidate("c1", 1, 2, 3, 1, 0)).code is Code.STALE


def test_a_new_attempt_keeps_what_it_is_told_to_of_the_recorded_text(driver: Any) -> None:
    driver.ask("c1")
    driver.done(RecordCheckpoint("c1", 1, 1, 1, 0, "one two"))
    assert driver.refused(ReassignCandidate("c1", 1, 1, 2, 2, 8)).code is Code.STALE
    assert driver.refused(ReassignCandidate("c1", 1, 1, 2, 2, -1)).code is Code.STALE
    driver.done(ReassignCandidate("c1", 1, 1, 2, 2, 7))
    driver.done(RecordCheckpoint("c1", 1, 1, 2, 7, " three"))
    driver.done(ReassignCandidate("c1", 1, 1, 3, 3, 3))
    driver.done(RecordCheckpoint("c1", 1, 1, 3, 3, " more"))
    driver.done(ReassignCandidate("c1", 1, 1, 4, 1, 8))
    candidate = driver.turn("c1", 1).candidate(1)
    assert candidate.text == "one more"
    assert candidate.kept == 8
    assert [candidate.shared_with(attempt) for attempt in (1, 2, 3, 4)] == [3, 3, 8, None]
    assert [(each.attempt, each.node, each.kept) for each in candidate.takeovers] == [
        (2, 2, 7),
        (3, 3, 3),
        (4, 1, 8),
    ]


def test_a_checkpoint_goes_on_exactly_where_the_recorded_text_ends(driver: Any) -> None:
    driver.ask("c1")
    driver.done(RecordCheckpoint("c1", 1, 1, 1, 0, "one"))
    for offset in (0, 2, 4):
        late = RecordCheckpoint("c1", 1, 1, 1, offset, " two")
        assert driver.refused(late).code is Code.STALE
    assert driver.refused(RecordCheckpoint("c1", 1, 1, 1, 3, "")).code is Code.INVALID
    driver.done(RecordCheckpoint("c1", 1, 1, 1, 3, " two"))
    assert driver.turn("c1", 1).candidate(1).text == "one two"


def test_checkpoints_together_stay_within_the_limit(driver_class: Any) -> None:
    driver = driver_class(Limits(text_bytes=4))
    driver.ask("c1")
    driver.done(RecordCheckpoint("c1", 1, 1, 1, 0, "123"))
    assert driver.refused(RecordCheckpoint("c1", 1, 1, 1, 3, "45")).code is Code.TOO_LARGE


def test_an_answer_over_the_limit_is_refused(driver_class: Any) -> None:
    driver = driver_class(Limits(text_bytes=4, name_bytes=8))
    driver.ask("c1")
    for record in (
        RecordCandidate("c1", 1, 1, 1, "12345", "m", "stop"),
        RecordCandidate("c1", 1, 1, 1, "", "m", "stop", error="12345"),
        RecordCandidate("c1", 1, 1, 1, "", "m" * 9, "stop"),
        RecordCandidate("c1", 1, 1, 1, "", "m", "s" * 9),
        RecordCheckpoint("c1", 1, 1, 1, 0, "12345"),
        CloseTurn("c1", 1, "12345"),
    ):
        assert driver.refused(record).code is Code.TOO_LARGE
    driver.done(RecordCandidate("c1", 1, 1, 1, "é€"[:1] * 2, "m" * 8, "s" * 8))


def test_an_answer_for_a_deleted_conversation_never_lands_in_its_namesake(driver: Any) -> None:
    driver.ask("c1")
    driver.done(ReassignCandidate("c1", 1, 1, 2, 2, 0))
    driver.done(Delete("c1"))
    driver.ask("c1", "another question")
    for attempt in (1, 2):
        late = RecordCandidate("c1", 1, 1, attempt, "late", "m", "stop")
        assert driver.refused(late).code is Code.STALE
    driver.answer("c1", 1, 1)


def test_a_deadline_that_passed_closes_no_conversation_of_the_same_id(driver: Any) -> None:
    driver.ask("c1")
    late = CloseTurn("c1", 1, "deadline passed", last_candidate=3)
    driver.done(Delete("c1"))
    driver.ask("c1", "another question")
    assert driver.refused(late).code is Code.STALE
    driver.wait_past_the_deadline("c1", 1)
    driver.done(late)
    assert driver.turn("c1", 1).closed


def test_closing_ends_every_open_candidate_with_the_reason(driver: Any) -> None:
    driver.ask("c1")
    driver.answer("c1", 1, 2, "in time")
    driver.done(RecordCheckpoint("c1", 1, 3, 1, 0, "so far"))
    assert driver.refused(CloseTurn("c1", 1, "")).code is Code.INVALID
    driver.done(CloseTurn("c1", 1, "deadline passed"))
    turn = driver.turn("c1", 1)
    assert turn.closed
    assert [(c.ended, c.text, c.error) for c in turn.candidates] == [
        (True, "", "deadline passed"),
        (True, "in time", ""),
        (True, "so far", "deadline passed"),
    ]
    assert driver.refused(CloseTurn("c1", 1, "again")).code is Code.STALE


@pytest.mark.parametrize(
    ("choose", "code"),
    [
        (Choose("c9", 1, 1), Code.NOT_FOUND),
        (Choose("empty", 0, 1), Code.NOT_FOUND),
        (Choose("c1", 2, 1), Code.NOT_FOUND),
        (Choose("c1", 1, 9), Code.NOT_FOUND),
        (Choose("c1", 1, 2), Code.NOT_ANSWERED),
        (Choose("c1", 1, 3), Code.NOT_ANSWERED),
    ],
)
def test_choosing_what_has_no_answer_is_refused(driver: Any, choose: Choose, code: Code) -> None:
    driver.done(CreateConversation("empty"))
    driver.ask("c1")
    driver.answer("c1", 1, 1)
    driver.done(RecordCandidate("c1", 1, 3, 1, "", "m", "", error="failed"))
    assert driver.refused(choose).code is code


def test_the_second_choice_is_told_who_won(driver: Any) -> None:
    driver.ask("c1")
    driver.answer("c1", 1, 1)
    driver.answer("c1", 1, 2)
    assert driver.done(Choose("c1", 0, 2)) == Chosen(1, 2)
    for candidate in (1, 2, 3, 9):
        refused = driver.refused(Choose("c1", 1, candidate))
        assert (refused.code, refused.turn, refused.winner) == (Code.CONFLICT, 1, 2)
    assert refused.message == "turn 1 of c1 was already chosen: candidate 2 won"
    assert driver.turn("c1", 1).choice == 2


def test_a_retry_adds_candidates_and_overwrites_nothing(driver: Any) -> None:
    driver.ask("c1", candidates=2, close_after=1)
    driver.answer("c1", 1, 1, "kept")
    before = driver.turn("c1", 1)
    assert before.closed
    reply = driver.done(RetryTurn("c1", 0, PLAN, deadline_ms=7000))
    assert reply == TurnOpened(1, (3, 4))
    turn = driver.turn("c1", 1)
    assert not turn.closed
    assert turn.candidates[:2] == before.candidates
    assert driver.machine.open_turns() == [("c1", turn)]
    driver.answer("c1", 1, 3)
    assert not driver.turn("c1", 1).closed, "a retried turn waits for all"
    driver.answer("c1", 1, 4)
    assert driver.turn("c1", 1).closed
    driver.done(Choose("c1", 1, 3))
    assert driver.refused(RetryTurn("c1", 1, PLAN)).winner == 3


def test_a_retry_of_a_closed_turn_has_its_own_deadline(driver: Any) -> None:
    driver.ask("c1", deadline_ms=100_000)
    driver.done(CloseTurn("c1", 1, "enough"))
    driver.done(RetryTurn("c1", 1, PLAN, deadline_ms=5000))
    assert driver.turn("c1", 1).deadline_ms == driver.machine.time_ms + 5000


def test_a_retry_never_brings_the_deadline_of_an_open_turn_forward(driver: Any) -> None:
    driver.ask("c1", deadline_ms=100_000)
    deadline_ms = driver.turn("c1", 1).deadline_ms
    driver.done(RetryTurn("c1", 1, PLAN, deadline_ms=1))
    assert driver.turn("c1", 1).deadline_ms == deadline_ms
    driver.done(RetryTurn("c1", 1, PLAN, deadline_ms=200_000))
    assert driver.turn("c1", 1).deadline_ms == driver.machine.time_ms + 200_000


def test_an_imported_turn_is_taken_as_it_is(driver: Any) -> None:
    driver.done(CreateConversation(TEMPORARY))
    turn = imported_turn(1, "", "two", question="asked", choice=2)
    assert driver.done(ImportTurn(TEMPORARY, turn)) == TurnOpened(1, (1, 2))
    assert driver.turn(TEMPORARY, 1) == turn
    assert driver.machine.conversation(TEMPORARY).revision == 2
    driver.ask(TEMPORARY, "and now?")
    assert driver.prompt(TEMPORARY, 2, 1) == (
        ("user", "asked"),
        ("assistant", "two"),
        ("user", "and now?"),
    )


def test_a_conversation_that_was_seen_takes_no_imported_turn(driver: Any) -> None:
    driver.done(CreateConversation("c1"))
    refused = driver.refused(ImportTurn("c1", imported_turn(1, "text")))
    assert refused.code is Code.INVALID
    assert ".import-" in refused.message
    assert driver.refused(ImportTurn(".import-2", imported_turn(1, "text"))).code is Code.NOT_FOUND


def answer_of(turn: Turn, **changes: Any) -> Turn:
    """``turn`` with its only candidate changed."""
    return replace(turn, candidates=(replace(turn.candidates[0], **changes),))


GOOD = imported_turn(2, "text", choice=1)
TAKEN_OVER = answer_of(GOOD, attempt=3, takeovers=(TakenOver(3, 0, 0, 3),))


def test_an_import_may_say_that_it_was_taken_over_and_retried(driver: Any) -> None:
    driver.done(CreateConversation(TEMPORARY))
    driver.done(ImportTurn(TEMPORARY, imported_turn(1, "")))
    driver.done(ImportTurn(TEMPORARY, replace(TAKEN_OVER, retries=(Retried(3, 0, 0, 0),))))


@pytest.mark.parametrize(
    "turn",
    [
        imported_turn(1, "text"),
        imported_turn(3, "text"),
        imported_turn(2),
        imported_turn(2, "text", choice=2),
        imported_turn(2, "", choice=1),
        imported_turn(2, "text", question="far too long"),
        imported_turn(2, "far too long"),
        replace(GOOD, closed=False),
        replace(GOOD, asked_revision=1),
        replace(GOOD, asked_revision=0),
        replace(GOOD, asked_revision=3),
        replace(GOOD, choice_revision=2),
        replace(GOOD, choice=0),
        replace(GOOD, choice_revision=1 << 60),
        replace(GOOD, candidates=GOOD.candidates * 2),
        replace(GOOD, options=GenerationOptions(temperature=9.0)),
        replace(GOOD, options=GenerationOptions(system="far too long")),
        replace(GOOD, retries=(Retried(3, 0, 0, 0), Retried(3, 0, 0, 0))),
        replace(answer_of(GOOD, ended=False), closed=False, choice=0, choice_revision=0),
        answer_of(GOOD, number=0),
        answer_of(GOOD, ended_revision=0),
        answer_of(GOOD, ended_revision=2),
        answer_of(GOOD, opened_revision=4),
        answer_of(GOOD, node=1),
        answer_of(GOOD, planned_node=1),
        answer_of(GOOD, attempt=0),
        answer_of(GOOD, attempt=1 << 40),
        answer_of(GOOD, model="far too long"),
        answer_of(GOOD, planned_model="far too long"),
        answer_of(GOOD, finish_reason="far too long"),
        answer_of(GOOD, error="far too long"),
        answer_of(GOOD, left_out=2),
        answer_of(TAKEN_OVER, attempt=1),
        answer_of(TAKEN_OVER, attempt=4),
        answer_of(TAKEN_OVER, node=2),
        answer_of(TAKEN_OVER, takeovers=(TakenOver(3, 0, 0, 9),)),
        answer_of(TAKEN_OVER, takeovers=(TakenOver(3, 0, 0, 3, model="far too long"),)),
        answer_of(TAKEN_OVER, takeovers=(TakenOver(3, 0, 0, 3, reason="far too long"),)),
        answer_of(GOOD, fallbacks=("far too long",)),
        answer_of(GOOD, fallbacks=("m",) * 33),
        replace(GOOD, opened_ms=-1),
        replace(GOOD, deadline_ms=1 << 62),
        replace(GOOD, retries=(Retried(3, -1, 0, 0),)),
        replace(GOOD, retries=(Retried(3, 0, 1 << 62, 0),)),
    ],
)
def test_an_imported_turn_that_cannot_have_come_about_is_refused(
    driver_class: Any, turn: Turn
) -> None:
    driver = driver_class(Limits(question_bytes=8, text_bytes=8, name_bytes=8))
    driver.done(CreateConversation(TEMPORARY))
    driver.done(ImportTurn(TEMPORARY, imported_turn(1, "text")))
    assert driver.refused(ImportTurn(TEMPORARY, turn)).code in (Code.INVALID, Code.TOO_LARGE)
    driver.done(ImportTurn(TEMPORARY, GOOD))


def test_a_turn_of_number_0_cannot_be_recorded_in(driver: Any) -> None:
    driver.ask("c1")
    record = RecordCandidate("c1", 0, 1, 1, "text", "m", "stop")
    assert driver.refused(record).code is Code.NOT_FOUND
    driver.done(CloseTurn("c1", 0, "the latest one, which has a number"))
    assert driver.turn("c1", 1).closed


def test_what_changed_is_told_once(driver: Any) -> None:
    driver.ask("c1")
    assert driver.machine.take_touched() == (("c1", 0), ("c1", 1))
    assert driver.machine.take_touched() == ()
    driver.answer("c1", 1, 1)
    driver.refused(Choose("c1", 1, 2))
    assert driver.machine.take_touched() == (("c1", 1),)
    assert driver.done(Delete("c1")) == Done()
    assert driver.machine.take_touched() == (("c1", 0),)
