"""Councils in the REPL: how they are asked, and how stages, rankings and shortfalls are shown."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from consensusllm.client import (
    Candidate,
    CandidateDone,
    ConversationSummary,
    Council,
    Delta,
    Plan,
    StageOpened,
    Templates,
    Turn,
)
from consensusllm.conversations import Member, Stage, StageKind
from consensusllm.conversations.answers import labels
from consensusllm_cli.repl.output import Output
from consensusllm_cli.repl.render import show_conversations
from consensusllm_cli.repl.session import Outcome
from consensusllm_cli.repl.watch import LiveView
from tests.cli.desk import Desk

COUNCIL = Council(
    "three-stage",
    "r",
    3,
    (Member(1), Member(2, role="critic"), Member(3), Member(1, role="chairman")),
    (
        Stage(StageKind.OPINIONS, (1, 2, 3)),
        Stage(StageKind.REVIEW, (1, 2, 3)),
        Stage(StageKind.SYNTHESIS, (4,)),
    ),
)
A, B, C = (labels(COUNCIL)[seat] for seat in (1, 2, 3))


def said(number: int, stage: int, seat: int, text: str = "", **more: object) -> Candidate:
    known = {"node": COUNCIL.member(seat).node, "model": "m", "ended": True, **more}
    return Candidate(number=number, stage=stage, seat=seat, text=text, **known)  # type: ignore[arg-type]


TURN = Turn(
    1,
    "Why?",
    (
        said(1, 1, 1, "one"),
        said(2, 1, 2, "two"),
        said(3, 1, 3, "three"),
        said(4, 2, 1, "review 4", ranking=(3, 2)),
        said(5, 2, 2, "review 5"),
        said(6, 2, 3, error="offline"),
        said(7, 3, 4, "in short"),
    ),
    council=COUNCIL,
    closed=True,
)
SHOWN = f"""
stage 1 of 3: opinions

[1] node 1 · m · answer {A}
  one

[2] node 2 · m · answer {B} · critic
  two

[3] node 3 · m · answer {C}
  three

stage 2 of 3: review

[4] node 1 · m · ranks [3] > [2]
  review 4

[5] node 2 · m · no ranking
  review 5

[6] node 3 · m · no ranking · failed: offline

stage 3 of 3: synthesis

[7] node 1 · m · chairman
  in short

ranking (points: one for each answer that a review puts below)
place\tanswer\tcandidate\tnode\trole\tpoints\tmean rank\treviews
1\t{C}\t3\t3\t-\t1 of 1\t1.00\t1
2\t{B}\t2\t2\tcritic\t0 of 1\t2.00\t1
-\t{A}\t1\t1\t-\t0 of 0\t-\t0

degraded: the council lacked something
- review, seat 2 (critic) of node 2, candidate 5: abstained: no ranking of the answers that it \
was shown can be read
- review, seat 3 of node 3, candidate 6: offline
"""
STATE = "council three-stage · candidate 7 is its answer"


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.cluster.council = TURN
    return desk


def asked(desk: Desk) -> tuple[str, str]:
    """The question and the template of the last council."""
    assert desk.cluster.asked is not None
    plan = desk.cluster.asked[3]
    assert plan is not None
    return desk.cluster.held["c1"][-1].question, plan.council


async def test_a_council_is_shown_stage_by_stage_with_its_ranking_and_what_it_lacked(
    desk: Desk,
) -> None:
    out = await desk.done("query c1 --council=three-stage Why?")
    assert asked(desk) == ("Why?", "three-stage")
    assert out == (
        f"turn 1 of c1\n{SHOWN}\nturn 1 · {STATE} · DEGRADED\n"
        "choose c1 7 --turn 1 keeps that answer\n"
    )
    view = await desk.done("view c1")
    assert view == f"c1 · 1 turn · revision 7\n\nturn 1 · {STATE} · DEGRADED\n> Why?\n{SHOWN}"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("query c1 --council Why?", ("Why?", "three-stage")),
        ("query c1 --council debate Why now?", ("Why now?", "debate")),
        ("query c1 --council debates are what?", ("debates are what?", "three-stage")),
        ("query c1 --council=any debate Why?", ("debate Why?", "any")),
    ],
)
async def test_a_template_is_named_behind_the_flag_or_by_the_first_word(
    desk: Desk, line: str, expected: tuple[str, str]
) -> None:
    await desk.done(line)
    assert asked(desk) == expected


async def test_the_members_are_the_models_that_are_named(desk: Desk) -> None:
    await desk.done("query c1 --council=debate --models a,b Why?")
    assert desk.cluster.asked is not None
    assert desk.cluster.asked[3] == Plan(("a", "b"), council="debate")


async def test_as_json_a_council_comes_with_what_it_found(desk: Desk) -> None:
    document = json.loads(await desk.done("query c1 --council --json Why?"))
    assert document["council"]["stages"][1] == {"kind": "review", "seats": [1, 2, 3]}
    assert document["findings"]["outcome"] == 7
    assert document["findings"]["tally"][0]["candidate"] == 3
    assert document["findings"]["degraded"] == [line[2:] for line in SHOWN.splitlines()[-2:]]


async def test_a_template_alone_is_no_question(desk: Desk) -> None:
    assert await desk.run("query c1 --council debate") is Outcome.MISUSE
    assert desk.err == "query: the question is missing: debate is a template\n"


@pytest.mark.parametrize("terminal", [False, True])
async def test_a_council_that_is_too_small_for_a_stage_says_so_as_it_begins(terminal: bool) -> None:
    desk = Desk(terminal)
    assert TURN.council is not None
    opinions, review, synthesis = TURN.council.stages
    two = (replace(opinions, seats=(1, 2)), replace(review, seats=(1, 2)))
    small = replace(TURN.council, stages=(*two, synthesis))
    present = tuple(each for each in TURN.candidates if each.number in (1, 2, 7))
    desk.cluster.council = replace(TURN, council=small, candidates=present)
    told = "review will not be held: it takes 3 members who answer"
    out = await desk.done("query c1 --council Why?")
    assert out.count(told) == 1
    assert out.index(told) < out.index("node 1")


async def test_a_slip_in_a_templates_name_is_no_question(desk: Desk) -> None:
    assert await desk.run("query c1 --council thre-stage Why?") is Outcome.MISUSE
    assert desk.err == (
        "query: there is no template 'thre-stage': did you mean three-stage? "
        "To ask just these words, say --council=three-stage\n"
    )
    assert desk.cluster.asked is None


async def test_a_council_in_which_nobody_answered_fails(desk: Desk) -> None:
    nobody = tuple(replace(each, text="", error="offline") for each in TURN.candidates[:3])
    desk.cluster.council = replace(TURN, candidates=nobody)
    assert await desk.failed("query c1 --council Why?") == (
        "query: nobody in the council of turn 1 answered: ask again"
    )
    assert "synthesis: was not held" in desk.out


async def test_a_council_that_came_to_no_answer_fails_and_names_what_there_is(desk: Desk) -> None:
    failed = replace(TURN.candidates[-1], text="", error="offline")
    synthesis = [each for each in TURN.candidates if each.stage == TURN.candidates[-1].stage]
    others = tuple(each for each in TURN.candidates if each not in synthesis)
    desk.cluster.council = replace(TURN, candidates=(*others, failed))
    assert await desk.failed("query c1 --council Why?") == (
        "query: the council of turn 1 came to no answer: choose one of its candidates by its "
        "number, or ask again"
    )
    assert "keeps that answer" not in desk.out


async def test_after_a_retry_of_an_older_turn_the_hint_names_the_turn(desk: Desk) -> None:
    out = await desk.done("query c1 --council=three-stage Why?", "retry c1 --turn 1")
    assert out.endswith("\nchoose c1 10 --turn 1 keeps that answer\n")


async def test_samples_are_shown_by_their_agreement(desk: Desk) -> None:
    stages = (COUNCIL.stages[0], Stage(StageKind.MAJORITY))
    samples = (said(1, 1, 1, "7"), said(2, 1, 2, "Answer: 8."), said(3, 1, 3, "8"))
    desk.cluster.council = replace(
        TURN, candidates=samples, council=replace(COUNCIL, stages=stages)
    )
    out = await desk.done("query c1 --council Why?")
    assert "samples\tcandidates\tfinal answer\n2\t2,3\t8.\n1\t1\t7\n" in out
    assert out.endswith("candidate 2 is its answer\nchoose c1 2 --turn 1 keeps that answer\n")


async def test_templates_lists_them_and_what_is_wrong_with_a_file(desk: Desk) -> None:
    assert await desk.done("templates") == (
        "template\tstages\troles\trevision\tdescription\n"
        "debate\topinions\tpro con\tr1\tTwo argue. (own)\n"
        "three-stage\topinions\t-\tr2\tAll answer.\n"
    )
    desk.cluster.known_templates = Templates((), ("mine.yaml:3: unknown kind 'x'",))
    assert await desk.run("templates") is Outcome.FAILED
    assert desk.err.startswith(
        "mine.yaml:3: unknown kind 'x'\ntemplates: not all templates can be used"
    )


async def test_an_exported_council_says_what_it_was_and_lacked(desk: Desk) -> None:
    markdown = await desk.done("query c1 --council Why?", "export c1 --markdown")
    assert f"*{STATE} · DEGRADED*" in markdown
    assert f"### Candidate 2: node 2, `m`, answer {B} · critic" in markdown
    assert "- review, seat 3 of node 3, candidate 6: offline\n" in markdown


def test_a_list_of_conversations_marks_a_degraded_council() -> None:
    out = io.StringIO()
    summaries = [ConversationSummary("c1", 1, 0, "Why?", 0, True)]
    show_conversations(Output(out, io.StringIO(), terminal=False), summaries)
    assert "c1\t1\t0\t[degraded] Why?\t-\n" in out.getvalue()


def test_a_live_council_shows_the_stage_that_is_open() -> None:
    view = LiveView(Output(io.StringIO(), io.StringIO(), terminal=True), ())

    def drawn() -> str:
        screen = io.StringIO()
        view._console = Console(file=screen, width=120, height=24, color_system=None)
        view._console.print(view._draw())
        return screen.getvalue()

    view.show(StageOpened(1, COUNCIL, {1: 1, 2: 2, 3: 3}))
    view.show(Delta(2, 1, 0, "an opinion", 2, "m"))
    assert "stage 1 of 3: opinions" in drawn()
    assert f"2 · answer {B} · critic · node 2 · m" in drawn()
    view.show(StageOpened(2, COUNCIL, {4: 1, 5: 2}))
    view.show(CandidateDone(TURN.candidates[2]))
    view.show(Delta(5, 1, 0, "a review", 2, "m"))
    assert "stage 2 of 3: review" in drawn()
    assert "a review" in drawn()
    assert "opinion" not in drawn()
    view.show(StageOpened(3, COUNCIL, {7: 4}))
    view.show(StageOpened(3, COUNCIL, {8: 4}))
    assert "7 · chairman" in drawn()
    assert "8 · chairman" in drawn()
