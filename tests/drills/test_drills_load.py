"""The load: what clients are told becomes what is recorded, and a client that lies is found out."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncGenerator

import pytest

from consensusllm.client import (
    AlreadyExists,
    Candidate,
    CandidateDone,
    Chosen,
    Conflict,
    Delta,
    NotFound,
    OutcomeUnknown,
    Plan,
    Takeover,
    Turn,
    TurnClosed,
    Unavailable,
    WatchEvent,
)
from consensusllm.drills.history import Recorder, count
from consensusllm.drills.load import OPERATIONS_A_KEY, Keys, KeyWorker, Load
from consensusllm.drills.talk import Talk, Talker
from consensusllm.drills.verdict import Evidence, judge


class Store:
    """A store of keys that answers at once; ``lie`` may lose what it acknowledges."""

    def __init__(self, *, lie: float = 0.0, fail: float = 0.0) -> None:
        self.values: dict[str, bytes] = {}
        self.rng = random.Random(5)
        self.lie = lie
        self.fail = fail
        self.closed = False

    async def put(self, key: str, value: bytes) -> None:
        await self._trouble()
        if self.rng.random() >= self.lie:
            self.values[key] = value

    async def get(self, key: str) -> bytes | None:
        await self._trouble()
        return self.values.get(key)

    async def compare_and_swap(self, key: str, expected: bytes | None, new: bytes | None) -> None:
        await self._trouble()
        if self.values.get(key) != expected:
            raise Conflict("another value stands", current=self.values.get(key))
        assert new is not None
        if self.rng.random() >= self.lie:
            self.values[key] = new
        if self.rng.random() < self.fail:
            raise OutcomeUnknown("it did happen, but the answer was lost")

    async def close(self) -> None:
        self.closed = True

    async def _trouble(self) -> None:
        await asyncio.sleep(0)
        if self.rng.random() < self.fail:
            raise Unavailable("nobody is there")


async def history_of(store: Store, operations: int = 600) -> Recorder:
    """What five clients record of ``store``, with a read of every key in the end."""
    ticks = itertools.count()
    recorder = Recorder(lambda: float(next(ticks)))
    keys = Keys(3)
    workers = [
        KeyWorker(number, store, recorder, keys, random.Random(number)) for number in range(1, 6)
    ]
    broken: list[BaseException] = []
    load = Load(workers, random.Random(0), 0.0, broken.append)
    load.start()
    await recorder.until_succeeded(operations)
    await load.stop(1.0)
    store.fail = 0.0
    reader = KeyWorker(0, store, recorder, keys, random.Random(0))
    for key in list(keys.seen):
        await reader.get(key)
    assert broken == []
    assert store.closed
    return recorder


def verdict(recorder: Recorder) -> tuple[str, ...]:
    evidence = Evidence(recorder.operations, recorder.questions, problems=recorder.problems)
    return judge(evidence, time.monotonic)


async def test_an_honest_store_passes_with_failures_and_unknown_outcomes() -> None:
    recorder = await history_of(Store(fail=0.05))
    assert verdict(recorder) == ()
    counts = count(recorder.operations, recorder.questions)
    assert counts.operations == counts.ok + counts.failed + counts.unknown
    assert min(counts.ok, counts.failed, counts.unknown) > 0


async def test_a_store_that_loses_acknowledged_writes_is_found_out() -> None:
    recorder = await history_of(Store(lie=0.02))
    assert any("not linearizable" in each or "lost" in each for each in verdict(recorder))


async def test_a_key_is_left_before_its_history_is_long_and_values_are_written_once() -> None:
    recorder = await history_of(Store())
    keys = {each.key for each in recorder.operations}
    assert len(keys) > 3
    for key in keys:
        assert sum(each.key == key for each in recorder.operations) <= OPERATIONS_A_KEY + 1
    written = [str(each.value) for each in recorder.operations if each.op in ("put", "append")]
    assert len(set(written)) == len(written)


async def test_an_error_that_no_fault_explains_is_a_problem() -> None:
    recorder = Recorder(time.monotonic)

    async def call() -> int:
        raise NotFound("there is no conversation 'c'")

    assert await recorder.question("c", "why?", call()) is None
    assert recorder.problems == ["query c: NotFound: there is no conversation 'c'"]


async def test_what_is_cancelled_has_an_unknown_outcome() -> None:
    recorder = Recorder(time.monotonic)
    store = Store()
    store.put = lambda key, value: asyncio.get_running_loop().create_future()  # type: ignore[method-assign, assignment, return-value]
    worker = KeyWorker(1, store, recorder, Keys(1), random.Random(0))
    task = asyncio.create_task(worker.put("k"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [recorded] = recorder.operations
    assert recorded.unknown


async def test_a_client_that_breaks_is_reported_and_the_others_go_on() -> None:
    class Broken(Store):
        async def get(self, key: str) -> bytes | None:
            raise ZeroDivisionError("a bug")

    recorder = Recorder(time.monotonic)
    keys = Keys(1)
    keys.seen["k"] = None
    broken: list[BaseException] = []
    workers = [
        KeyWorker(1, Broken(), recorder, keys, random.Random(1)),
        KeyWorker(2, Store(), recorder, keys, random.Random(2)),
    ]
    load = Load(workers, random.Random(0), 0.0, broken.append)
    load.start()
    await recorder.until_succeeded(100)
    await load.stop(1.0)
    assert [repr(error) for error in broken] == ["ZeroDivisionError('a bug')"]


# Conversations ------------------------------------------------------------------------------------

ENDED = Candidate(1, 2, attempt=2, ended=True, text="no doubt")
CLOSED = Turn(1, "question 1.1", (ENDED,), closed=True)
EVENTS: list[WatchEvent] = [
    Delta(1, 1, 0, "it is", 1, "m"),
    Takeover(1, 2, 2, 0),
    Delta(1, 2, 0, "no ", 2, "m"),
    Delta(1, 2, 3, "doubt", 2, "m"),
    CandidateDone(ENDED),
    TurnClosed(CLOSED),
]


class Council:
    """One conversation that exists already, with one turn that is told by ``events``."""

    def __init__(self, events: list[WatchEvent], winner: int = 1) -> None:
        self.events = events
        self.winner = winner
        self.writing: list[dict[tuple[str, int, int], int]] = []
        self.talk = Talk()

    async def create(self, conversation: str) -> None:
        raise AlreadyExists(f"{conversation} exists")

    async def ask(self, conversation: str, question: str, *, plan: Plan | None = None) -> int:
        return 1

    async def watch(
        self, conversation: str, turn: int, *, timeout_s: float | None = None
    ) -> AsyncGenerator[WatchEvent, None]:
        for event in self.events:
            yield event
            self.writing.append(dict(self.talk.writing))

    async def choose(self, conversation: str, candidate: int, turn: int) -> Chosen:
        if candidate != self.winner:
            raise Conflict("another stands", turn=turn, winner=self.winner)
        return Chosen(turn, candidate)

    async def close(self) -> None: ...


async def talked(council: Council) -> Recorder:
    """Create, ask, read, and choose once."""
    recorder = Recorder(time.monotonic)
    talker = Talker(1, council, recorder, "c", council.talk, random.Random(3))
    while not any(each.op == "choose" for each in recorder.operations):
        await talker.one()
    return recorder


async def test_a_talker_records_creation_question_and_choice_and_reads_over_a_takeover() -> None:
    council = Council(EVENTS)
    recorder = await talked(council)
    assert recorder.problems == []
    creation, choice = recorder.operations[0], recorder.operations[-1]
    assert (creation.op, creation.ok, creation.output) == ("cas", False, False)
    assert (choice.key, choice.value, choice.ok) == ("c/1", 1, True)
    assert recorder.questions[0].turn == 1
    assert council.talk.recorded == {("c", 1, 1): ENDED}
    assert council.talk.takeovers == len(recorder.questions)
    assert {("c", 1, 1): 1} in council.writing
    assert council.talk.writing == {}


async def test_a_lost_race_is_recorded_with_the_winner() -> None:
    recorder = await talked(Council(EVENTS, winner=2))
    last = recorder.operations[-1]
    assert (last.ok, last.output) == (False, 2)


@pytest.mark.parametrize("missing", [2, 3])
async def test_text_that_a_reader_missed_is_found(missing: int) -> None:
    recorder = await talked(Council([*EVENTS[:missing], *EVENTS[missing + 1 :]]))
    assert "a reader saw" in recorder.problems[0]


async def test_an_acknowledged_turn_that_is_not_there_is_a_problem() -> None:
    class Forgetful(Council):
        async def watch(
            self, conversation: str, turn: int, *, timeout_s: float | None = None
        ) -> AsyncGenerator[WatchEvent, None]:
            raise NotFound("'c' has no turn 1")
            yield

    recorder = Recorder(time.monotonic)
    council = Forgetful(EVENTS)
    talker = Talker(1, council, recorder, "c", council.talk, random.Random(3))
    await talker.one()
    await talker.one()
    assert recorder.problems == ["read c/1: NotFound: 'c' has no turn 1"]
