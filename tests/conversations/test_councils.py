"""The rules of councils: how one goes on from stage to stage, whatever its members do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imported import TEMPORARY

from consensusllm.conversations import (
    Candidate,
    Choose,
    Chosen,
    CloseStage,
    CloseTurn,
    Code,
    ConveneCouncil,
    Council,
    CreateConversation,
    Delete,
    Fork,
    GenerationOptions,
    ImportTurn,
    Limits,
    Member,
    ReassignCandidate,
    RecordCandidate,
    RetryTurn,
    Stage,
    StageKind,
    Turn,
    TurnOpened,
    outcome,
    shortfalls,
    tally,
)
from consensusllm.conversations.answers import idle_stages, labels, shown
from consensusllm.conversations.commands import PlannedCandidate
from consensusllm.conversations.council_steps import contradiction

OPINIONS = Stage(StageKind.OPINIONS, (1, 2, 3), deadline_ms=5000)
REVIEW = Stage(StageKind.REVIEW, (1, 2, 3), deadline_ms=6000)
SYNTHESIS = Stage(StageKind.SYNTHESIS, (4, 5), deadline_ms=7000)
MEMBERS = (Member(1, "m"), Member(2), Member(3), Member(1, role="chairman"), Member(2))
COUNCIL = Council("three-stage", "abc", 42, MEMBERS, (OPINIONS, REVIEW, SYNTHESIS))


def convene(driver: Any, council: Council = COUNCIL) -> TurnOpened:
    if driver.machine.conversation("c1") is None:
        driver.done(CreateConversation("c1"))
    opened = driver.done(ConveneCouncil("c1", "What?", council))
    assert isinstance(opened, TurnOpened)
    return opened


def record(driver: Any, candidate: int, text: str = "answer", error: str = "") -> None:
    attempt = driver.turn("c1", 1).candidate(candidate).attempt
    driver.done(RecordCandidate("c1", 1, candidate, attempt, text, "m", "stop", error=error))


def review(driver: Any, candidate: int) -> None:
    """A ranking in the order of the candidates' numbers."""
    turn = driver.turn("c1", 1)
    seen = sorted(
        shown(turn, 2, turn.candidate(candidate).seat), key=lambda each: each.candidate.number
    )
    ranking = ", ".join(f'"{each.label}"' for each in seen)
    record(driver, candidate, f'{{"ranking": [{ranking}]}}')


def open_candidates(turn: Turn) -> list[tuple[int, int, int, int]]:
    return [(c.number, c.stage, c.seat, c.node) for c in turn.candidates if not c.ended]


def test_a_council_goes_through_its_stages_to_a_synthesis(driver: Any) -> None:
    assert convene(driver) == TurnOpened(1, (1, 2, 3))
    turn = driver.turn("c1", 1)
    assert open_candidates(turn) == [(1, 1, 1, 1), (2, 1, 2, 2), (3, 1, 3, 3)]
    assert turn.candidate(1).model == "m"
    assert turn.deadline_ms == driver.machine.time_ms + 5000
    for candidate in (2, 3, 1):
        record(driver, candidate, f"answer {candidate}")
    turn = driver.turn("c1", 1)
    assert open_candidates(turn) == [(4, 2, 1, 1), (5, 2, 2, 2), (6, 2, 3, 3)]
    assert turn.deadline_ms == driver.machine.time_ms + 6000
    for candidate in (4, 5, 6):
        review(driver, candidate)
    turn = driver.turn("c1", 1)
    assert [c.ranking for c in turn.candidates[3:6]] == [(2, 3), (1, 3), (1, 2)]
    assert open_candidates(turn) == [(7, 3, 4, 1)]
    assert not turn.closed
    assert outcome(turn) == 0
    record(driver, 7, "in short")
    turn = driver.turn("c1", 1)
    assert turn.closed
    assert turn.stage == 3
    assert outcome(turn) == 7
    assert shortfalls(turn) == ()
    assert [(s.candidate, s.place, s.points, s.possible) for s in tally(turn)] == [
        (1, 1, 2, 2),
        (2, 2, 1, 2),
        (3, 3, 0, 2),
    ]


def test_a_stage_closes_at_its_quorum(driver: Any) -> None:
    convene(driver, replace(COUNCIL, stages=(replace(OPINIONS, close_after=2), REVIEW, SYNTHESIS)))
    record(driver, 1, error="failed")
    record(driver, 2)
    assert driver.turn("c1", 1).stage == 1
    record(driver, 3)
    # Nobody but the first, who failed, has two answers of others to rank.
    turn = driver.turn("c1", 1)
    assert open_candidates(turn) == [(4, 2, 1, 1)]
    review(driver, 4)
    record(driver, 5)
    reasons = [(each.stage, each.seat, each.reason) for each in shortfalls(driver.turn("c1", 1))]
    assert reasons == [
        (1, 1, "failed"),
        (2, 2, "had too few answers of others to read"),
        (2, 3, "had too few answers of others to read"),
    ]


def test_what_is_not_waited_for_is_a_shortfall_and_its_late_answer_is_refused(driver: Any) -> None:
    two = replace(OPINIONS, close_after=2)
    convene(driver, replace(COUNCIL, stages=(two, SYNTHESIS)))
    record(driver, 3)
    record(driver, 1)
    late = driver.refused(RecordCandidate("c1", 1, 2, 1, "late", "m", "stop"))
    assert late.code is Code.STALE
    record(driver, 4)
    turn = driver.turn("c1", 1)
    assert outcome(turn) == 4
    assert [(s.stage, s.seat) for s in shortfalls(turn)] == [(1, 2)]
    assert "not waited for" in shortfalls(turn)[0].reason


def test_a_chairman_that_fails_is_replaced_by_the_next(driver: Any) -> None:
    convene(driver, replace(COUNCIL, stages=(OPINIONS, SYNTHESIS)))
    for candidate in (1, 2, 3):
        record(driver, candidate)
    assert open_candidates(driver.turn("c1", 1)) == [(4, 2, 4, 1)]
    record(driver, 4, error="no connection")
    assert open_candidates(driver.turn("c1", 1)) == [(5, 2, 5, 2)]
    record(driver, 5, "sum")
    turn = driver.turn("c1", 1)
    assert turn.closed
    assert outcome(turn) == 5
    assert [(s.seat, s.reason) for s in shortfalls(turn)] == [(4, "no connection")]


def test_a_council_without_any_chairman_ends_without_an_outcome(driver: Any) -> None:
    convene(driver, replace(COUNCIL, stages=(OPINIONS, SYNTHESIS)))
    for candidate in (1, 2, 3):
        record(driver, candidate)
    for candidate in (4, 5):
        record(driver, candidate, error="no connection")
    turn = driver.turn("c1", 1)
    assert turn.closed
    assert outcome(turn) == 0
    assert shortfalls(turn)[-1].reason == "no chairman summed up"
    assert driver.done(Choose("c1", 1, 2)) == Chosen(1, 2)


def test_failures_are_neither_reviewed_nor_summed_up(driver: Any) -> None:
    convene(driver)
    for candidate in (1, 2, 3):
        record(driver, candidate, error="offline")
    turn = driver.turn("c1", 1)
    assert turn.closed
    assert len(turn.candidates) == 3
    assert [s.reason for s in shortfalls(turn)] == ["offline"] * 3 + ["was not held"] * 2
    assert driver.machine.summaries("", 9)[0].degraded


def test_a_stage_past_its_deadline_ends_once_and_each_chairman_has_a_time(driver: Any) -> None:
    convene(driver, replace(COUNCIL, stages=(OPINIONS, SYNTHESIS)))
    record(driver, 1)
    assert driver.refused(CloseStage("c1", 1, 3, "deadline passed")).code is Code.STALE
    driver.wait_past_the_deadline("c1", 1)
    driver.done(CloseStage("c1", 1, 3, "deadline passed"))
    turn = driver.turn("c1", 1)
    assert open_candidates(turn) == [(4, 2, 4, 1)]
    assert turn.deadline_ms == driver.machine.time_ms + 7000
    # Another leader that had looked before that does no harm.
    assert driver.refused(CloseStage("c1", 1, 3, "deadline passed")).code is Code.STALE
    driver.wait_past_the_deadline("c1", 1)
    driver.done(CloseStage("c1", 1, 4, "deadline passed"))
    assert open_candidates(driver.turn("c1", 1)) == [(5, 2, 5, 2)]
    driver.wait_past_the_deadline("c1", 1)
    driver.done(CloseStage("c1", 1, 5, "deadline passed"))
    assert driver.turn("c1", 1).closed
    assert driver.refused(CloseStage("c1", 1, 5, "deadline passed")).code is Code.STALE


def test_what_ends_a_stage_is_no_end_for_a_conversation_of_the_same_id(driver: Any) -> None:
    convene(driver)
    late = CloseStage("c1", 1, 3, "deadline passed")
    driver.done(Delete("c1"))
    convene(driver)
    assert driver.refused(late).code is Code.STALE
    driver.wait_past_the_deadline("c1", 1)
    driver.done(late)


def test_only_a_councils_stage_can_be_closed_and_with_a_reason(driver: Any) -> None:
    driver.ask("c2")
    assert driver.refused(CloseStage("c2", 1, 3, "why")).code is Code.INVALID
    convene(driver)
    assert driver.refused(CloseStage("c1", 1, 3, "")).code is Code.INVALID


def test_a_seat_that_was_taken_over_stays_with_its_new_node(driver: Any) -> None:
    convene(driver)
    driver.done(ReassignCandidate("c1", 1, 3, 2, 1, 0))
    for candidate in (1, 2, 3):
        record(driver, candidate)
    turn = driver.turn("c1", 1)
    assert [(c.seat, c.node) for c in turn.candidates[3:]] == [(1, 1), (2, 2), (3, 1)]
    assert {s.reason for s in shortfalls(turn)} == {"node 1 took the place of node 3"}


def test_a_model_that_stood_in_keeps_the_seat_and_is_named(driver: Any) -> None:
    members = (Member(1, "m", fallbacks=("other",)), *MEMBERS[1:])
    convene(driver, replace(COUNCIL, members=members))
    assert driver.turn("c1", 1).candidate(1).fallbacks == ("other",)
    driver.done(ReassignCandidate("c1", 1, 1, 2, 3, 0, model="other", reason="no connection"))
    for candidate in (1, 2, 3):
        record(driver, candidate)
    turn = driver.turn("c1", 1)
    review = turn.candidate(4)
    assert (review.node, review.planned_model, review.fallbacks) == (3, "other", ("other",))
    assert [each.reason for each in shortfalls(turn)] == [
        "node 3 took the place of node 1",
        "other stood in after: no connection",
        "node 3 took the place of node 1",
    ]


def test_what_a_council_of_two_cannot_do_is_known_and_said(driver: Any) -> None:
    assert idle_stages(COUNCIL) == ()
    two = replace(
        COUNCIL,
        stages=(replace(OPINIONS, seats=(1, 2)), replace(REVIEW, seats=(1, 2)), SYNTHESIS),
    )
    assert idle_stages(two) == (2,)
    judged = replace(two, stages=(two.stages[0], replace(REVIEW, seats=(3,)), SYNTHESIS))
    assert idle_stages(judged) == ()  # of two answers, neither the reader's own
    convene(driver, two)
    for candidate in (1, 2, 3):
        record(driver, candidate)
    reasons = [each.reason for each in shortfalls(driver.turn("c1", 1))]
    assert reasons == ["was not held: it takes 3 members who answer"]


def test_one_alone_has_nobody_to_rebut() -> None:
    alone = Stage(StageKind.REBUTTAL, (1,))
    stages = (replace(OPINIONS, seats=(1,)), alone, SYNTHESIS)
    assert idle_stages(replace(COUNCIL, stages=stages)) == (2,)


def test_cancelling_ends_the_whole_council(driver: Any) -> None:
    convene(driver)
    for candidate in (1, 2, 3):
        record(driver, candidate)
    driver.done(CloseTurn("c1", 0, "cancelled"))
    turn = driver.turn("c1", 1)
    assert turn.closed
    assert [s.reason for s in shortfalls(turn)] == ["cancelled"] * 3 + ["was not held"]


def test_a_review_cannot_be_chosen_and_a_council_is_not_asked_again(driver: Any) -> None:
    convene(driver)
    for candidate in (1, 2, 3):
        record(driver, candidate)
    review(driver, 4)
    refused = driver.refused(Choose("c1", 1, 4))
    assert refused.code is Code.INVALID
    assert "is a review" in refused.message
    again = driver.refused(RetryTurn("c1", 1, (PlannedCandidate(1, 1),)))
    assert again.code is Code.INVALID
    assert driver.done(Choose("c1", 1, 2)) == Chosen(1, 2)


@pytest.mark.parametrize("text", ["", "B is best", '{"ranking": ["A"]}', '{"ranking": ["X", "Y"]}'])
def test_a_review_that_cannot_be_read_abstains(driver: Any, text: str) -> None:
    convene(driver)
    for candidate in (1, 2, 3):
        record(driver, candidate)
    record(driver, 4, text or " ")
    turn = driver.turn("c1", 1)
    assert turn.candidate(4).ranking == ()
    assert [(s.seat, s.candidate) for s in shortfalls(turn)] == [(1, 4)]
    assert shortfalls(turn)[0].reason.startswith("abstained")


def test_a_debate_answers_again_and_its_judge_reads_everything(driver: Any) -> None:
    stages = (
        Stage(StageKind.OPINIONS, (1, 2)),
        Stage(StageKind.REBUTTAL, (1, 2)),
        Stage(StageKind.SYNTHESIS, (3,)),
    )
    convene(driver, replace(COUNCIL, stages=stages))
    record(driver, 1, "pro 1")
    record(driver, 2, "con 1")
    record(driver, 3, "pro 2")
    record(driver, 4, error="failed")
    turn = driver.turn("c1", 1)
    assert [each.candidate.number for each in shown(turn, 2, 1)] == [2]
    read = {(each.label, each.round, each.candidate.number) for each in shown(turn, 3, 3)}
    named = labels(turn.council)
    assert read == {(named[1], 1, 1), (named[1], 2, 3), (named[2], 1, 2)}
    record(driver, 5)
    assert outcome(driver.turn("c1", 1)) == 5


def test_a_forked_council_is_closed_and_says_what_it_lacks(driver: Any) -> None:
    convene(driver)
    record(driver, 1)
    driver.done(Fork("c1", "c2"))
    copy = driver.turn("c2", 1)
    assert copy.closed
    assert copy.council == COUNCIL
    assert [(s.stage, s.seat) for s in shortfalls(copy)] == [(1, 2), (1, 3), (2, 0), (3, 0)]


@pytest.mark.parametrize(
    ("council", "code"),
    [
        (replace(COUNCIL, members=()), Code.INVALID),
        (replace(COUNCIL, members=(Member(1),) * 9), Code.INVALID),
        (replace(COUNCIL, members=(Member(0), *MEMBERS[1:])), Code.INVALID),
        (replace(COUNCIL, members=(Member(1, role="r" * 65), *MEMBERS[1:])), Code.TOO_LARGE),
        (replace(COUNCIL, members=(Member(1, "m" * 300), *MEMBERS[1:])), Code.TOO_LARGE),
        (replace(COUNCIL, members=(Member(1, fallbacks=("f",) * 33), *MEMBERS[1:])), Code.INVALID),
        (
            replace(COUNCIL, members=(Member(1, fallbacks=("f" * 300,)), *MEMBERS[1:])),
            Code.TOO_LARGE,
        ),
        (replace(COUNCIL, stages=()), Code.INVALID),
        (replace(COUNCIL, stages=(OPINIONS,) * 5), Code.INVALID),
        (replace(COUNCIL, stages=(SYNTHESIS, OPINIONS)), Code.INVALID),
        (replace(COUNCIL, stages=(Stage(StageKind.OPINIONS),)), Code.INVALID),
        (replace(COUNCIL, stages=(OPINIONS, Stage(StageKind.MAJORITY, (1,)))), Code.INVALID),
        (replace(COUNCIL, stages=(Stage(StageKind.OPINIONS, (1, 1)),)), Code.INVALID),
        (replace(COUNCIL, stages=(Stage(StageKind.OPINIONS, (6,)),)), Code.INVALID),
        (replace(COUNCIL, stages=(Stage(StageKind.OPINIONS, (0,)),)), Code.INVALID),
        (replace(COUNCIL, stages=(Stage(StageKind.OPINIONS, (1,), 2),)), Code.INVALID),
        (replace(COUNCIL, stages=(Stage(StageKind.OPINIONS, (1,), deadline_ms=0),)), Code.INVALID),
        (replace(COUNCIL, seed=-1), Code.INVALID),
        (replace(COUNCIL, template="t" * 300), Code.TOO_LARGE),
        (
            replace(COUNCIL, stages=(Stage(StageKind.OPINIONS, (1,), instructions="i" * 101),)),
            Code.TOO_LARGE,
        ),
        (replace(COUNCIL, stages=(OPINIONS, REVIEW, REVIEW, REVIEW)), Code.TOO_LARGE),
    ],
)
def test_a_council_out_of_bounds_is_refused(
    driver_class: Any, council: Council, code: Code
) -> None:
    driver = driver_class(
        Limits(council_members=8, council_stages=4, council_bytes=100, candidates_per_turn=11)
    )
    driver.done(CreateConversation("c1"))
    assert driver.refused(ConveneCouncil("c1", "What?", council)).code is code


def test_a_council_is_asked_something_and_somewhere(driver: Any) -> None:
    assert driver.refused(ConveneCouncil("c1", "What?", COUNCIL)).code is Code.NOT_FOUND
    driver.done(CreateConversation("c1"))
    assert driver.refused(ConveneCouncil("c1", "", COUNCIL)).code is Code.INVALID
    hot = GenerationOptions(temperature=9)
    assert driver.refused(ConveneCouncil("c1", "What?", COUNCIL, hot)).code is Code.INVALID


def answered(number: int, stage: int, seat: int, ranking: tuple[int, ...] = ()) -> Candidate:
    return Candidate(
        number=number,
        node=1,
        ended=True,
        text="A, then B",
        planned_node=1,
        opened_revision=2,
        ended_revision=3,
        stage=stage,
        seat=seat,
        ranking=ranking,
    )


def test_an_import_with_a_seat_that_nobody_has_is_refused_whatever_was_ranked(driver: Any) -> None:
    # The ranking is read against all answers: those behind it too, which stand in wrong places.
    candidates = (answered(1, 1, 1), answered(2, 1, 2), answered(3, 2, 1, (1,)), answered(4, 1, 99))
    council = replace(COUNCIL, stages=(OPINIONS, REVIEW))
    turn = Turn(1, "?", candidates, closed=True, asked_revision=1, council=council)
    driver.done(CreateConversation(TEMPORARY))
    refused = driver.refused(ImportTurn(TEMPORARY, turn))
    assert refused.code is Code.INVALID
    assert "candidate 4 is of a wrong stage" in refused.message


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4), st.integers(0, 6), st.lists(st.integers(0, 5), max_size=3).map(tuple)
        ),
        max_size=6,
    )
)
def test_what_cannot_have_come_about_is_said_of_whatever_candidates(drawn: list[Any]) -> None:
    candidates = tuple(answered(number, *each) for number, each in enumerate(drawn, 1))
    turn = Turn(1, "?", candidates, closed=True, asked_revision=1, council=COUNCIL)
    places = [(each.stage, each.seat) for each in candidates]
    possible = places == sorted(places, key=lambda place: place[0]) and all(
        1 <= stage <= 3 and seat in COUNCIL.stage(stage).seats for stage, seat in places
    )
    assert possible or contradiction(turn)
