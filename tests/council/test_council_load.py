"""Candidates that a node gives away at once: none of them is in the state yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator

import pytest
from council_fakes import Cluster, until

from consensusllm.conversations import (
    CreateConversation,
    Done,
    GenerationOptions,
    HedgeCandidate,
    Operation,
    PlannedCandidate,
    ReassignCandidate,
    RecordCheckpoint,
    Reply,
    ServedModel,
    ServeModels,
    SubmitQuery,
)
from consensusllm.council.answerer import Answerer
from consensusllm.council.load import Load
from consensusllm.llm.port import Chunk, GenerateRequest, Unavailable


class Model:
    """``first`` never begins ("slow") or fails ("down"); any other answers."""

    def __init__(self, name: str) -> None:
        self.name = self.model = name
        self.continues = True

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        if self.name == "slow":
            await asyncio.Event().wait()
        if self.name == "down":
            raise Unavailable("down: as ever")
        yield Chunk("an answer", finish_reason="stop", prompt_tokens=1, completion_tokens=1)

    async def models(self) -> tuple[str, ...]:
        return (self.name,)

    async def aclose(self) -> None:
        """There is nothing to close."""


@pytest.mark.parametrize("first", ["down", "slow"])
async def test_candidates_that_are_given_away_at_once_are_spread_over_the_nodes(
    first: str,
) -> None:
    cluster = Cluster()
    answerers = []
    for node, name in ((1, first), (2, "good"), (3, "good")):
        model = Model(name)
        answerer = Answerer(
            cluster.ports[node],
            {name: model, "": model},
            models=(ServedModel(name, "p", name),),
            poll_s=0.01,
        )
        answerers.append(answerer)
        await answerer.start()
    await until(lambda: len(cluster.ports[1].machine.registry) == 3)
    given: list[int] = []
    may_go = asyncio.Event()
    port = cluster.ports[1]
    submit = port.submit

    async def held(operation: Operation) -> Reply:
        if isinstance(operation, ReassignCandidate | HedgeCandidate):
            given.append(operation.node)
            await may_go.wait()
        return await submit(operation)

    port.submit = held  # type: ignore[method-assign]
    names = [f"c{number}" for number in range(4)]
    for name in names:
        cluster.propose(CreateConversation(name))
        plan = (PlannedCandidate(1, 1, first, ("good",)),)
        options = GenerationOptions(hedge_ms=20 if first == "slow" else None)
        cluster.propose(SubmitQuery(name, "why?", plan, options=options))
    await until(lambda: len(given) == 4)
    assert Counter(given) == {2: 2, 3: 2}
    may_go.set()
    await until(lambda: all(cluster.turn(conversation=name).closed for name in names))
    for answerer in answerers:
        await answerer.close()


async def test_what_was_given_counts_until_it_is_applied_or_will_not_be() -> None:
    cluster = Cluster()
    load = Load(lambda: cluster.ports[1].machine)
    with load.giving(2):
        ends = load.give([2, 2, 3])
        assert load.by_node() == {2: 3, 3: 1}
    assert load.by_node() == {2: 2, 3: 1}
    ends()
    with contextlib.suppress(asyncio.CancelledError), load.giving(3):
        assert load.by_node() == {3: 1}
        raise asyncio.CancelledError
    cluster.ask((1, 2, 2))
    assert load.by_node() == {1: 1, 2: 2}


async def test_who_is_asked_as_a_hedge_has_something_to_do() -> None:
    cluster = Cluster()
    cluster.propose(ServeModels(3, (ServedModel("good", "p"),)))
    cluster.propose(CreateConversation("c1"))
    plan = (PlannedCandidate(1, 1, "slow", ("good",)),)
    cluster.propose(SubmitQuery("c1", "why?", plan))
    assert (
        cluster.propose(HedgeCandidate("c1", 1, 1, cluster.candidate().attempt, 3, "good"))
        == Done()
    )
    load = Load(lambda: cluster.ports[1].machine)
    assert load.by_node() == {1: 1, 3: 1}
    key = ("c1", 1, 1, cluster.candidate().attempt)
    cluster.propose(RecordCheckpoint(*key, 0, "text"))
    assert load.by_node() == {1: 1}, "who has text is not waited for"
