"""The verdict finds what is wrong with a history, one planted fault at a time."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from consensusllm.client import Candidate, Conversation, Progress, Status, Turn
from consensusllm.drills.history import READER, Question, longest_gap_s
from consensusllm.drills.observer import Observer
from consensusllm.drills.verdict import Evidence, judge
from consensusllm.linearizability import Operation
from consensusllm.linearizability.history import Json, OperationName


def op(
    name: OperationName,
    value: Json,
    start: float,
    end: float,
    *,
    key: str = "k",
    ok: bool | None = True,
    output: Json = None,
    process: int = 1,
) -> Operation:
    return Operation(process, name, key, value, start, end, ok, output)


CANDIDATE = Candidate(1, 1, ended=True, text="yes")
TURN = Turn(1, "why?", (CANDIDATE,), choice=1, closed=True)
SOUND = Evidence(
    operations=(
        op("put", "a", 0, 1),
        op("cas", ["a", "b"], 2, 3),
        op("cas", ["a", "c"], 4, 5, ok=False, output=False),
        op("get", None, 6, 7, output="b"),
        op("append", "1.1 ", 0, 1, key="l", process=2),
        op("append", "1.2 ", 2, 3, key="l", ok=None, process=2),
        op("get", None, 6, 7, key="l", output="1.1 1.2 ", process=2),
        op("choose", 1, 0, 1, key="c/1", process=3),
        op("choose", 2, 2, 3, key="c/1", ok=False, output=1, process=3),
        op("get", None, 6, 7, key="c/1", output=1, process=3),
    ),
    questions=(Question("c", "why?", True, 1), Question("c", "how?", None)),
    conversations={"c": Conversation("c", 3, (TURN,))},
    answers={("c", 1, 1): CANDIDATE},
)


def problems(evidence: Evidence) -> str:
    return " | ".join(judge(evidence, time.monotonic))


def with_turn(turn: Turn) -> Evidence:
    return replace(SOUND, conversations={"c": Conversation("c", 3, (turn,))})


def with_operation(number: int, operation: Operation) -> Evidence:
    operations = list(SOUND.operations)
    operations[number] = operation
    return replace(SOUND, operations=operations)


def test_a_sound_drill_has_no_problem() -> None:
    assert problems(SOUND) == ""


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (with_operation(3, op("get", None, 6, 7, output="a")), "not linearizable"),
        (with_operation(3, op("get", None, 6, 7)), "not linearizable"),
        (
            with_operation(8, op("choose", 2, 2, 3, key="c/1", ok=False, output=3, process=3)),
            "operations on c/1",
        ),
        (
            with_operation(6, op("get", None, 6, 7, key="l", output="1.2 ", process=2)),
            "lost: 1.1, acknowledged as appended to l",
        ),
        (
            with_operation(6, op("get", None, 6, 7, key="l", output="1.1 1.1 ", process=2)),
            "1.1 is in l more than once",
        ),
        (
            with_operation(5, op("append", "1.2 ", 2, 3, key="l", ok=False, process=2)),
            "1.2 is in l, although its append was refused",
        ),
        (
            replace(SOUND, operations=[each for each in SOUND.operations if each.op == "append"]),
            "never read in the end",
        ),
        (replace(SOUND, operations=()), "nothing was checked"),
        (
            Evidence((op("put", "a", 0, 1, ok=False), op("get", None, 2, 3, process=READER))),
            "none of 1 operations under load succeeded",
        ),
        (with_turn(replace(TURN, closed=False)), "turn 1 of c never closed"),
        (with_turn(replace(TURN, question="what?")), "lost: 'why?' in c, acknowledged as turn 1"),
        (
            replace(SOUND, conversations={"c": None}),
            "lost: 'why?' in c",
        ),
        (
            replace(SOUND, questions=(Question("c", "why?", False),)),
            "is turn 1, although it was refused",
        ),
        (
            replace(
                SOUND,
                conversations={"c": Conversation("c", 3, (TURN, replace(TURN, turn=2)))},
            ),
            "asked once, and is in turns 1, 2",
        ),
        (
            with_turn(replace(TURN, candidates=(replace(CANDIDATE, text="no"),))),
            "candidate 1 of turn 1 of c has changed",
        ),
        (replace(SOUND, problems=("node 2 died by itself",)), "node 2 died by itself"),
    ],
)
def test_each_planted_fault_is_found(evidence: Evidence, words: str) -> None:
    assert words in problems(evidence)


def test_a_history_that_cannot_be_checked_in_time_is_no_success() -> None:
    assert judge(SOUND, iter(range(10**6)).__next__, 0.5)[0].startswith("undecided: ")


def test_of_a_drill_that_broke_off_the_history_is_judged_and_nothing_is_missed() -> None:
    part = Evidence(SOUND.operations[:6], questions=SOUND.questions, whole=False)
    assert problems(part) == ""
    wrong = Evidence((op("get", None, 0, 1, output="x"),), whole=False)
    assert "not linearizable" in problems(wrong)


# Figures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tries", "gap"),
    [
        ([], 0.0),
        # Nobody tried from 1 to 7, nor from 9 on, so nothing was amiss.
        ([op("put", "a", 0, 1), op("put", "b", 7, 9)], 2.0),
        # One was tried at 2 and failed at 4; the next success is at 8.
        ([op("put", "a", 0, 1), op("put", "b", 2, 4, ok=False), op("put", "c", 5, 8)], 6.0),
        # It was under way already when the last success came.
        ([op("put", "a", 0, 3), op("put", "b", 1, 9, ok=None, process=2)], 7.0),
        # Reads and refused comparisons: the former do not count, the latter are answers.
        ([op("get", None, 0, 10), op("put", "a", 9, 10)], 1.0),
        ([op("cas", ["a", "b"], 0, 4, ok=False, output=False), op("put", "a", 4, 10)], 6.0),
    ],
)
def test_the_gap_is_the_longest_time_without_an_answer_while_somebody_tried(
    tries: list[Operation], gap: float
) -> None:
    assert longest_gap_s(tries, until_s=10.0) == gap


# States -------------------------------------------------------------------------------------------


def status(node: int, slot: int, state_hash: str, ballot: int = 1) -> Status:
    return Status(
        cluster_id="drill",
        node=node,
        incarnation=1,
        role="following",
        leader=1,
        ballot_seq_num=ballot,
        ballot_pid=1,
        chosen_through=slot,
        applied_slot=slot,
        state_hash=state_hash,
        snapshot_slot=0,
        log_first_slot=1,
        log_bytes=0,
        members=(),
        models=(),
        conversations=0,
        keys=0,
        loop_lag_ms=0.0,
        uptime_ms=0,
        version="",
        transport="orchestrated",
        orchestrator_address="",
        pending=0,
        elections=0,
        loop_lag_max_ms=0.0,
        progress=Progress(slot, 0, 0, 0, 0),
    )


async def test_unequal_states_at_one_slot_are_found_even_when_seen_one_after_the_other() -> None:
    found: list[str] = []

    async def nobody() -> dict[int, Status | None]:
        return {}

    observer = Observer(nobody, found.append)
    observer.see({1: status(1, 5, "aaa"), 2: status(2, 4, "bbb"), 3: None})
    observer.see({1: status(1, 6, "ccc"), 2: status(2, 5, "aaa", ballot=4)})
    assert found == []
    assert observer.elections == 3
    observer.see({1: status(1, 7, "ddd"), 2: status(2, 6, "xxx")})
    assert found == ["states differ at slot 6: node 1 has ccc, node 2 has xxx"]
