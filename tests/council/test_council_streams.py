"""Generations that outlive the node that runs them: checkpoints, and who goes on from them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest
from council_fakes import WAIT_S, Cluster, until

from consensusllm.conversations import ReassignCandidate
from consensusllm.conversations.commands import RecordCheckpoint
from consensusllm.council.answerer import Answerer
from consensusllm.council.port import SubmitFailed
from consensusllm.llm.port import Chunk, GenerateRequest


class Writer:
    """Writes what it is told to, piece by piece, then ends when it is told so."""

    name = "writer"

    def __init__(self, model: str, *, continues: bool) -> None:
        self.model = model
        self.continues = continues
        self.requests: list[GenerateRequest] = []
        self._said: asyncio.Queue[str | None] = asyncio.Queue()

    def say(self, *pieces: str | None) -> None:
        for piece in pieces:
            self._said.put_nowait(piece)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        while (piece := await self._said.get()) is not None:
            yield Chunk(piece, model=self.model)
        yield Chunk(finish_reason="stop", model=self.model)

    async def models(self) -> tuple[str, ...]:
        return (self.model,)

    async def aclose(self) -> None:
        """Nothing to close."""


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    monkeypatch.setattr("consensusllm.council.answerer.RETRY_S", 0.01)
    monkeypatch.setattr("consensusllm.council.checkpoints.CHECKPOINT_S", 0.01)
    answerers: list[Answerer] = []

    async def start(port: Any, provider: Writer) -> Answerer:
        answerer = Answerer(port, {"": provider}, poll_s=0.01, reassign_after_s=0.05)
        answerers.append(answerer)
        await answerer.start()
        await until(lambda: port.passed)
        return answerer

    yield start
    for answerer in answerers:
        await answerer.close()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_a_growing_text_is_recorded_in_pieces_that_follow_each_other(start):
    cluster = Cluster()
    writer = Writer("m", continues=True)
    await start(cluster.ports[1], writer)
    cluster.ask((1,))
    writer.say("one ", "two ")
    await until(lambda: cluster.candidate().text == "one two ")
    writer.say("three")
    await until(lambda: cluster.candidate().text == "one two three")
    writer.say(None)
    await until(lambda: cluster.turn().closed)
    assert cluster.candidate().text == "one two three"
    recorded = ""
    for each in cluster.operations(RecordCheckpoint):
        assert each.offset == len(recorded)
        recorded += each.text
    assert recorded == "one two three"


async def test_a_quick_answer_costs_no_checkpoint(start, monkeypatch):
    monkeypatch.setattr("consensusllm.council.checkpoints.CHECKPOINT_S", WAIT_S)
    cluster = Cluster()
    writer = Writer("m", continues=True)
    await start(cluster.ports[1], writer)
    cluster.ask((1,))
    writer.say("one ", "two", None)
    await until(lambda: cluster.turn().closed)
    assert cluster.operations(RecordCheckpoint) == []


async def test_much_text_is_recorded_before_the_time_is_up(start, monkeypatch):
    monkeypatch.setattr("consensusllm.council.checkpoints.CHECKPOINT_S", 600.0)
    monkeypatch.setattr("consensusllm.council.checkpoints.CHECKPOINT_CHARACTERS", 3)
    cluster = Cluster()
    writer = Writer("m", continues=True)
    await start(cluster.ports[1], writer)
    cluster.ask((1,))
    writer.say("a", "b")
    await until(lambda: len(cluster.ports[1].deltas) == 2)
    assert cluster.operations(RecordCheckpoint) == []
    writer.say("c")
    await until(lambda: cluster.candidate().text == "abc")


@pytest.mark.parametrize("happened", [True, False])
async def test_a_checkpoint_of_unknown_outcome_is_neither_lost_nor_repeated(start, happened):
    cluster = Cluster()
    port = cluster.ports[1]
    writer = Writer("m", continues=True)
    submit, failures = port.submit, 0

    async def unsure(operation: Any) -> Any:
        nonlocal failures
        if isinstance(operation, RecordCheckpoint) and not failures:
            failures += 1
            if happened:
                await submit(operation)
            raise SubmitFailed("nobody knows")
        return await submit(operation)

    port.submit = unsure
    await start(port, writer)
    cluster.ask((1,))
    writer.say("one ")
    await until(lambda: failures)
    writer.say("two")
    await until(lambda: cluster.candidate().text == "one two")


async def test_another_node_goes_on_behind_the_checkpoint(start):
    cluster = Cluster()
    first, second = Writer("first", continues=True), Writer("second", continues=True)
    dying = await start(cluster.ports[2], first)
    await start(cluster.ports[1], second)
    cluster.ask((2,))
    first.say("one ", "two ")
    await until(lambda: cluster.candidate().text == "one two ")
    first.say("not recorded")
    await dying.close()
    cluster.live -= {2}
    await until(lambda: second.requests)
    assert second.requests[0].prefix == "one two "
    second.say("three", None)
    await until(lambda: cluster.turn().closed)
    candidate = cluster.candidate()
    assert (candidate.text, candidate.model) == ("one two three", "second")
    assert [(each.attempt, each.node, each.kept) for each in candidate.takeovers] == [(2, 1, 8)]
    said = [(each.offset, each.text) for each in cluster.ports[1].deltas]
    assert said == [(0, "one two "), (8, "three")]


async def test_a_model_that_cannot_go_on_begins_anew_under_an_attempt_of_its_own(start):
    cluster = Cluster()
    first, second = Writer("first", continues=True), Writer("second", continues=False)
    dying = await start(cluster.ports[2], first)
    await start(cluster.ports[1], second)
    cluster.ask((2,))
    first.say("one ", "two ")
    await until(lambda: cluster.candidate().text == "one two ")
    await dying.close()
    cluster.live -= {2}
    await until(lambda: second.requests)
    assert second.requests[0].prefix == ""
    second.say("anew", None)
    await until(lambda: cluster.turn().closed)
    assert cluster.candidate().text == "anew"
    takeovers = [(each.attempt, each.node, each.kept) for each in cluster.candidate().takeovers]
    assert takeovers == [(2, 1, 8), (3, 1, 0)]
    assert {each.attempt for each in cluster.ports[1].deltas} == {3}


async def test_a_node_that_comes_back_goes_on_with_what_it_finds(start):
    cluster = Cluster()
    before, after = Writer("before", continues=True), Writer("after", continues=True)
    dying = await start(cluster.ports[1], before)
    cluster.ask((1,))
    before.say("one ")
    await until(lambda: cluster.candidate().text == "one ")
    await dying.close()
    after.say("two", None)
    await start(cluster.ports[1], after)
    await until(lambda: cluster.turn().closed)
    assert cluster.candidate().text == "one two"
    claims = cluster.operations(ReassignCandidate)
    assert [(each.attempt, each.node, each.keep) for each in claims] == [(2, 1, 4)]
