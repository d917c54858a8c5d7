"""Models that are asked while their question is still being chosen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest
from council_fakes import Cluster, Port, until

from consensusllm.conversations import CreateConversation, PlannedCandidate, SubmitQuery
from consensusllm.conversations.commands import GenerationOptions, ServedModel
from consensusllm.council.answerer import Answerer
from consensusllm.llm.port import Chunk, GenerateRequest, Unavailable


class Thinking:
    """A model that says nothing before ``gate`` is set, and then its name and the call's number."""

    name = "thinking"
    continues = False

    def __init__(self, model: str = "m") -> None:
        self.model = model
        self.gate = asyncio.Event()
        self.failing = False
        self.requests: list[GenerateRequest] = []
        self.running = 0

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        call = len(self.requests)
        self.running += 1
        try:
            await self.gate.wait()
            if self.failing:
                raise Unavailable("thinking: gone")
            yield Chunk(f"{self.model}, call {call}", model=self.model)
            yield Chunk(finish_reason="stop", model=self.model)
        finally:
            self.running -= 1

    async def models(self) -> tuple[str, ...]:
        return (self.model,)

    async def aclose(self) -> None:
        """Nothing to close."""


@pytest.fixture
async def begin(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    monkeypatch.setattr("consensusllm.council.answerer.RETRY_S", 0.01)
    answerers: list[Answerer] = []

    async def begin(port: Port, *models: Thinking, early: bool = True, **options: Any) -> None:
        providers = {"": models[0], **{each.model: each for each in models}}
        served = tuple(ServedModel(each.model, each.name, each.model) for each in models)
        names = [each.model for each in models] if early else []
        answerer = Answerer(port, providers, models=served, early=names, poll_s=0.01, **options)
        answerers.append(answerer)
        await answerer.start()
        await until(lambda: port.polls)  # it has begun to look

    yield begin
    for answerer in answerers:
        await answerer.close()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


def query(question: str = "why?", *models: str, **more: Any) -> SubmitQuery:
    plan = tuple(
        PlannedCandidate(number, 1, model) for number, model in enumerate(models or ("",), start=1)
    )
    return SubmitQuery("c1", question, plan, **more)


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster(1)
    cluster.propose(CreateConversation("c1"))
    return cluster


async def test_the_model_is_asked_before_the_question_is_chosen_and_only_once(begin, cluster):
    model, port = Thinking(), cluster.ports[1]
    await begin(port, model)
    asked = query(options=GenerationOptions(temperature=0.5, system="be kind"))
    port.is_asking(asked)
    await until(lambda: model.running)
    cluster.propose(asked)
    model.gate.set()
    await until(lambda: cluster.turn().closed)
    assert cluster.candidate().text == "m, call 1"
    assert len(model.requests) == 1
    request = model.requests[0]
    assert (request.turns[-1].text, request.temperature, request.system) == ("why?", 0.5, "be kind")


async def test_what_it_says_is_seen_by_nobody_before_the_question_is_chosen(begin, cluster):
    model, port = Thinking(), cluster.ports[1]
    model.gate.set()
    await begin(port, model)
    asked = query()
    port.is_asking(asked)
    await until(lambda: model.requests)
    polls = port.polls
    await until(lambda: port.polls > polls + 3)
    assert port.deltas == []
    cluster.propose(asked)
    await until(lambda: cluster.turn().closed)
    assert "".join(each.text for each in port.deltas) == cluster.candidate().text == "m, call 1"
    assert len(model.requests) == 1


async def test_a_question_that_came_to_stand_otherwise_is_asked_anew(begin, cluster):
    model, port = Thinking(), cluster.ports[1]
    model.gate.set()
    await begin(port, model)
    port.is_asking(query("mine?"))
    await until(lambda: model.requests)
    cluster.propose(query("theirs?"))
    await until(lambda: cluster.turn().closed)
    assert [request.turns[-1].text for request in model.requests] == ["mine?", "theirs?"]
    assert cluster.candidate().text == "m, call 2"


async def test_a_question_that_is_not_chosen_in_time_is_asked_no_longer(
    begin, cluster, monkeypatch
):
    monkeypatch.setattr("consensusllm.council.early.EARLY_S", 0.01)
    model, port = Thinking(), cluster.ports[1]
    await begin(port, model)
    port.is_asking(query())
    await until(lambda: model.requests)
    await until(lambda: not model.running)
    assert port.deltas == []
    model.gate.set()
    cluster.propose(query())
    await until(lambda: cluster.turn().closed)
    assert cluster.candidate().text == "m, call 2"


async def test_a_failure_of_the_early_call_is_the_candidates(begin, cluster):
    model, port = Thinking(), cluster.ports[1]
    model.gate.set()
    model.failing = True
    await begin(port, model)
    port.is_asking(query())
    await until(lambda: model.requests and not model.running)
    cluster.propose(query())
    await until(lambda: cluster.turn().closed)
    assert (cluster.candidate().error, len(model.requests)) == ("thinking: gone", 1)


async def test_a_model_that_costs_is_asked_when_the_question_is_chosen(begin, cluster):
    model, port = Thinking(), cluster.ports[1]
    await begin(port, model, early=False)
    port.is_asking(query())
    polls = port.polls
    await until(lambda: port.polls > polls + 3)
    assert model.requests == []


async def test_what_is_foreseen_to_be_refused_is_not_asked(begin, cluster):
    model, port = Thinking(), cluster.ports[1]
    await begin(port, model)
    port.is_asking(SubmitQuery("nowhere", "why?", (PlannedCandidate(1, 1),)))
    port.is_asking(SubmitQuery("c1", "why?", (PlannedCandidate(1, 2),)))  # another node's
    polls = port.polls
    await until(lambda: port.polls > polls + 3)
    assert model.requests == []


async def test_a_node_asks_no_more_early_than_it_has_room_for(begin, cluster):
    models, port = [Thinking("a"), Thinking("b")], cluster.ports[1]
    await begin(port, *models, concurrency=1)
    asked = query("why?", "b", "a")
    port.is_asking(asked)
    await until(lambda: models[1].running)
    cluster.propose(query("first?", "a"))  # it takes the room, and its turn's number too
    await until(lambda: models[0].running and not models[1].running)
    cluster.propose(asked)
    for model in models:
        model.gate.set()
    await until(lambda: cluster.turn(2).closed)
    assert [each.text for each in cluster.turn(2).candidates] == ["b, call 2", "a, call 2"]


async def test_a_call_that_is_under_way_early_ends_with_the_answerer(cluster):
    model, port = Thinking(), cluster.ports[1]
    answerer = Answerer(port, {"": model}, early=[""], poll_s=0.01)
    await answerer.start()
    await until(lambda: port.polls)
    port.is_asking(query())
    await until(lambda: model.running)
    await answerer.close()
    assert model.running == 0
    port.is_asking(query())
    await asyncio.sleep(0)
    assert len(model.requests) == 1
