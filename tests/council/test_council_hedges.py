"""A model that is slow to begin, and the one that is asked beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from council_fakes import Cluster, until
from structlog.testing import capture_logs

from consensusllm.conversations import (
    Candidate,
    CreateConversation,
    Delete,
    GenerationOptions,
    HedgeCandidate,
    PlannedCandidate,
    ReassignCandidate,
    RecordCheckpoint,
    ServedModel,
    SetBudget,
    SubmitQuery,
    Usage,
)
from consensusllm.council import hedging
from consensusllm.council.answerer import Answerer
from consensusllm.llm.port import Chunk, GenerateRequest, Unavailable

SOON_MS = 20
NEVER_MS = 3_600_000


@dataclass
class Model:
    """Says ``pieces`` once it may begin, each once it may go on; or fails."""

    name: str
    pieces: tuple[str, ...] = ("one ", "two")
    fails: bool = False
    may_begin: asyncio.Event = field(default_factory=asyncio.Event)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0
    continues: bool = True

    @property
    def model(self) -> str:
        return f"{self.name}-exact"

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self.calls += 1
        self.asked.set()
        try:
            await self.may_begin.wait()
            if self.fails:
                raise Unavailable(f"{self.name}: down")
            for piece in self.pieces:
                yield Chunk(f"{self.name} {piece}")
                await self.may_go_on.wait()
            yield Chunk(finish_reason="stop", prompt_tokens=3, completion_tokens=2)
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped.set()
            raise

    def goes(self) -> None:
        self.may_begin.set()
        self.may_go_on.set()

    async def models(self) -> tuple[str, ...]:
        return (self.model,)

    async def aclose(self) -> None:
        """There is nothing to close."""


@dataclass
class Scene:
    """Nodes 1 to 3 serve slow, quick and last; a candidate of slow may go on to the others."""

    cluster: Cluster
    slow: Model
    quick: Model
    last: Model
    answerers: dict[int, Answerer] = field(default_factory=dict)

    async def begin(self, *, alone: bool = False, own_ms: int = 0, concurrency: int = 4) -> None:
        """``alone``: node 1 serves all of them."""
        models = (self.slow, self.quick, self.last)
        per_node = {1: models} if alone else dict(enumerate(((each,) for each in models), start=1))
        for node, serving in per_node.items():
            await self.start(node, *serving, own_ms=own_ms, concurrency=concurrency)

    async def start(self, node: int, *models: Model, own_ms: int = 0, concurrency: int = 4) -> None:
        served = tuple(
            ServedModel(
                *(each.name, "p", each.model),
                max_tokens=100,
                prompt_price=1_000_000,
                completion_price=1_000_000,
                hedge_ms=own_ms,
            )
            for each in models
        )
        providers: dict[str, Any] = {each.name: each for each in models}
        providers[""] = models[0]
        self.answerers[node] = Answerer(
            *(self.cluster.ports[node], providers),
            models=served,
            concurrency=concurrency,
            poll_s=0.01,
            reassign_after_s=0.05,
        )
        await self.answerers[node].start()
        await until(lambda: node in self.cluster.ports[1].machine.registry)

    def ask(self, hedge_ms: int | None = SOON_MS) -> None:
        self.cluster.propose(CreateConversation("c1"))
        plan = (PlannedCandidate(1, 1, "slow", ("quick", "last")),)
        options = GenerationOptions(hedge_ms=hedge_ms)
        self.cluster.propose(SubmitQuery("c1", "why?", plan, options=options))

    async def holder_dies_once_hedged(self) -> None:
        """Node 1 goes down with the question, which quick was asked too; node 3 leads."""
        self.cluster.leader = 3
        self.ask()
        await asyncio.wait_for(self.quick.asked.wait(), 10)
        self.cluster.ports[1].connected = False
        await self.answerers.pop(1).close()
        self.cluster.live = frozenset({2, 3})

    def candidate(self) -> Candidate:
        return self.cluster.candidate()

    async def closed(self) -> Candidate:
        await until(lambda: self.cluster.turn().closed)
        return self.candidate()

    def spent(self) -> int:
        registry = self.cluster.ports[1].machine.registry
        return sum(each.cost for models in registry.values() for each in models)

    def text_of(self, node: int, attempt: int) -> str:
        deltas = self.cluster.ports[node].deltas
        return "".join(each.text for each in deltas if each.attempt == attempt)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene(Cluster(), Model("slow"), Model("quick"), Model("last"))
    scene.cluster.propose(SetBudget("cluster", 1_000_000))
    yield scene
    for answerer in scene.answerers.values():
        await answerer.close()


def all_is_paid(scene: Scene) -> None:
    budget = scene.cluster.ports[1].machine.budgets["cluster"]
    assert (budget.spent, budget.reserved) == (scene.candidate().cost, 0)
    assert budget.spent == scene.spent(), "what all calls cost"


@pytest.mark.parametrize("alone", [False, True], ids=["another node's", "the same node's"])
async def test_the_hedge_answers_where_it_is_first(scene: Scene, alone: bool) -> None:
    scene.quick.goes()
    await scene.begin(alone=alone)
    scene.ask()
    candidate = await scene.closed()
    node = 1 if alone else 2
    assert (candidate.text, candidate.node) == ("quick one quick two", node)
    assert (candidate.model, candidate.planned_model) == ("quick-exact", "slow")
    assert candidate.hedge_won
    await asyncio.wait_for(scene.slow.stopped.wait(), 10)
    assert scene.last.calls == 0
    assert scene.text_of(node, 2) == candidate.text
    assert scene.text_of(1, 1) == "", "the slow one has said nothing"
    assert candidate.cost > 5, "the slow one's prompt was read"
    all_is_paid(scene)


async def test_the_holder_answers_where_it_is_first(scene: Scene) -> None:
    await scene.begin()
    scene.ask()
    await asyncio.wait_for(scene.quick.asked.wait(), 10)
    scene.slow.may_begin.set()
    await asyncio.wait_for(scene.quick.stopped.wait(), 10)
    assert scene.cluster.operations(RecordCheckpoint), "its first text is recorded at once"
    scene.slow.goes()
    candidate = await scene.closed()
    assert (candidate.text, candidate.node, candidate.attempt) == ("slow one slow two", 1, 1)
    assert candidate.hedge is not None
    assert not candidate.hedge_won
    assert scene.text_of(2, 2) == "", "nothing of a hedge is seen before it has won"
    assert candidate.cost > 5
    all_is_paid(scene)


async def test_a_hedge_never_answers_for_a_conversation_of_the_same_id(scene: Scene) -> None:
    await scene.begin()
    scene.ask()
    await asyncio.wait_for(scene.quick.asked.wait(), 10)
    scene.cluster.propose(Delete("c1"))
    scene.cluster.propose(CreateConversation("c1"))
    scene.cluster.propose(SubmitQuery("c1", "another", (PlannedCandidate(1, 2, "quick"),)))
    scene.quick.goes()
    await scene.closed()
    assert scene.quick.calls == 2, "what was asked before answered the other question"


async def test_nobody_else_is_asked_where_text_comes_in_time(scene: Scene) -> None:
    scene.slow.goes()
    await scene.begin()
    scene.ask(NEVER_MS)
    candidate = await scene.closed()
    assert (candidate.hedge, candidate.cost) == (None, 5)
    assert scene.cluster.operations(HedgeCandidate) == []
    all_is_paid(scene)


async def test_a_bug_in_asking_another_model_is_told_and_stops_no_answer(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()

    def broken(*_: object, **__: object) -> None:
        failed.set()
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(hedging, "stand_in", broken)
    await scene.begin()
    with capture_logs() as logs:
        scene.ask()
        await asyncio.wait_for(failed.wait(), 10)
        scene.slow.goes()
        assert (await scene.closed()).text == "slow one slow two"
    assert "a bug: nobody else is asked" in [each["event"] for each in logs]


@pytest.mark.parametrize(("asked_ms", "own_ms"), [(None, SOON_MS), (SOON_MS, NEVER_MS)])
async def test_the_configuration_says_when_where_the_query_does_not(
    scene: Scene, asked_ms: int | None, own_ms: int
) -> None:
    scene.quick.goes()
    await scene.begin(own_ms=own_ms)
    scene.ask(asked_ms)
    assert (await scene.closed()).model == "quick-exact"


async def test_without_either_nobody_else_is_asked(scene: Scene) -> None:
    scene.quick.goes()
    await scene.begin()
    scene.ask(None)
    await asyncio.wait_for(scene.slow.asked.wait(), 10)
    polls = scene.cluster.ports[1].polls
    await until(lambda: scene.cluster.ports[1].polls > polls + 5)
    assert scene.quick.calls == 0
    scene.slow.goes()
    assert (await scene.closed()).model == "slow-exact"


async def test_the_hedge_goes_on_where_the_holder_fails(scene: Scene) -> None:
    scene.slow.fails = True
    await scene.begin()
    scene.ask()
    await asyncio.wait_for(scene.quick.asked.wait(), 10)
    scene.slow.may_begin.set()
    await until(lambda: scene.candidate().attempt == 2)
    scene.quick.goes()
    candidate = await scene.closed()
    assert candidate.text == "quick one quick two"
    assert (candidate.takeovers[0].reason, scene.quick.calls) == ("slow: down", 1)
    all_is_paid(scene)


async def test_a_hedge_that_fails_first_harms_nobody(scene: Scene) -> None:
    scene.quick.fails = True
    scene.quick.may_begin.set()
    await scene.begin()
    scene.ask()
    await asyncio.wait_for(scene.quick.asked.wait(), 10)
    scene.slow.goes()
    candidate = await scene.closed()
    assert (candidate.text, candidate.takeovers) == ("slow one slow two", ())
    all_is_paid(scene)


async def test_a_hedge_that_has_failed_takes_nobodys_place(scene: Scene) -> None:
    scene.quick.fails = True
    scene.quick.may_begin.set()
    await scene.begin(concurrency=1)
    scene.ask()
    await asyncio.wait_for(scene.quick.asked.wait(), 10)
    scene.quick.fails = False
    scene.quick.goes()
    scene.cluster.propose(SubmitQuery("c1", "and?", (PlannedCandidate(1, 2, "quick"),)))
    await until(lambda: scene.cluster.turn(2).closed)
    assert not scene.cluster.turn(1).closed
    scene.slow.goes()
    await scene.closed()


async def test_where_both_fail_the_next_model_answers(scene: Scene) -> None:
    scene.quick.fails = scene.slow.fails = True
    scene.quick.may_begin.set()
    scene.last.goes()
    await scene.begin()
    scene.ask()
    await asyncio.wait_for(scene.quick.asked.wait(), 10)
    scene.slow.may_begin.set()
    candidate = await scene.closed()
    assert candidate.text == "last one last two"
    reasons = [each.reason for each in candidate.takeovers]
    assert reasons == ["slow: down", "quick: down"]
    assert scene.quick.calls == 1
    all_is_paid(scene)


async def test_the_hedge_goes_on_where_the_holders_node_dies(scene: Scene) -> None:
    await scene.begin()
    await scene.holder_dies_once_hedged()
    await until(lambda: scene.cluster.turn(node=2).candidates[0].attempt == 2)
    scene.quick.goes()
    await until(lambda: scene.cluster.turn(node=2).closed)
    (candidate,) = scene.cluster.turn(node=2).candidates
    assert (candidate.text, candidate.attempt) == ("quick one quick two", 2)
    assert scene.quick.calls == 1, "it was asked once, and went on"


async def test_a_hedge_that_had_failed_gives_back_what_the_holders_death_left_to_it(
    scene: Scene,
) -> None:
    """Another node serves the model that the question was for, which never failed."""
    scene.quick.fails = True
    scene.quick.may_begin.set()
    again = Model("slow")
    again.goes()
    scene.last = again
    await scene.begin()
    await scene.holder_dies_once_hedged()
    await until(lambda: scene.cluster.turn(node=2).closed)
    (candidate,) = scene.cluster.turn(node=2).candidates
    assert (candidate.text, candidate.error) == ("slow one slow two", "")
    assert [(each.node, each.model) for each in candidate.takeovers] == [(2, "quick"), (3, "slow")]


async def test_the_holder_answers_where_the_hedges_node_dies(scene: Scene) -> None:
    await scene.begin()
    scene.ask()
    await asyncio.wait_for(scene.quick.asked.wait(), 10)
    await scene.answerers.pop(2).close()
    scene.slow.goes()
    assert (await scene.closed()).text == "slow one slow two"


async def test_a_process_that_starts_again_leaves_a_hedge_to_the_holder(scene: Scene) -> None:
    await scene.begin()
    scene.ask()
    await asyncio.wait_for(scene.quick.asked.wait(), 10)
    await scene.answerers.pop(2).close()
    again = Model("quick")
    again.goes()
    await scene.start(2, again)
    polls = scene.cluster.ports[2].polls
    await until(lambda: scene.cluster.ports[2].polls > polls + 5)
    assert again.calls == 0
    scene.slow.fails = True
    scene.slow.may_begin.set()
    candidate = await scene.closed()
    assert candidate.text == "quick one quick two", "as a fallback it is asked"


async def test_a_hedge_that_cannot_be_proposed_leaves_the_holder_to_answer(scene: Scene) -> None:
    await scene.begin()
    scene.ask()
    await asyncio.wait_for(scene.slow.asked.wait(), 10)
    port = scene.cluster.ports[1]
    port.connected = False
    port.attempted.clear()
    await asyncio.wait_for(port.attempted.wait(), 10)
    port.connected = True
    port.catch_up()
    scene.slow.goes()
    assert (await scene.closed()).text == "slow one slow two"
    all_is_paid(scene)


@pytest.mark.parametrize("seed", range(30))
async def test_whoever_is_first_there_is_one_text_and_all_is_paid(scene: Scene, seed: int) -> None:
    """Both begin at about the same time, in every order that the event loop makes of it."""
    await scene.begin()
    scene.ask()
    await asyncio.wait_for(scene.quick.asked.wait(), 10)
    first, second = (scene.slow, scene.quick) if seed % 2 else (scene.quick, scene.slow)
    first.goes()
    for _ in range(seed // 2):
        await asyncio.sleep(0)
    second.goes()
    candidate = await scene.closed()
    winner = "quick" if candidate.hedge_won else "slow"
    assert candidate.text == f"{winner} one {winner} two"
    claims = [each for each in scene.cluster.operations(ReassignCandidate) if each.hedged]
    assert len(claims) >= candidate.hedge_won
    all_is_paid(scene)


async def test_a_hedge_that_is_handed_the_holders_text_goes_on_from_it(scene: Scene) -> None:
    """Its node was behind, and sees both at once: that the holder began, and that it handed on."""
    await scene.begin()
    scene.ask()
    await asyncio.wait_for(scene.quick.asked.wait(), 10)
    begun = "slow began, "
    scene.cluster.propose(RecordCheckpoint("c1", 1, 1, 1, 0, begun))
    scene.cluster.propose(
        ReassignCandidate(
            *("c1", 1, 1, 2, 2, len(begun), "quick", "slow: down", "slow"),
            usage=Usage(5, 6, estimated=True),
            hedge_usage=Usage(5, 0, estimated=True),
        )
    )
    scene.quick.goes()
    candidate = await scene.closed()
    assert candidate.text == "slow began, quick one quick two"
    assert scene.quick.calls == 2, "the first did not know what there was to go on from"
    assert candidate.takeovers[0].kept == len(begun)
    all_is_paid(scene)


@dataclass
class Lingering(Model):
    """A call of it that is stopped takes a while to end."""

    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        try:
            async for chunk in super().generate(request):
                yield chunk
        finally:
            await self.may_end.wait()


async def test_a_hedge_that_is_still_ending_does_not_keep_its_node_from_going_on(
    scene: Scene,
) -> None:
    scene.quick = quick = Lingering("quick")
    await scene.begin()
    scene.ask()
    await asyncio.wait_for(quick.asked.wait(), 10)
    begun = "slow began, "
    scene.cluster.propose(RecordCheckpoint("c1", 1, 1, 1, 0, begun))
    await until(lambda: not scene.answerers[2]._running)
    scene.cluster.propose(
        ReassignCandidate(
            *("c1", 1, 1, 2, 2, len(begun), "quick", "slow: down", "slow"),
            usage=Usage(5, 6, estimated=True),
            hedge_usage=Usage(5, 0, estimated=True),
        )
    )
    await until(lambda: quick.calls == 2)
    scene.answerers[2]._on_touched("c1", 1)  # it is looked at again
    quick.goes()
    quick.may_end.set()
    candidate = await scene.closed()
    assert quick.calls == 2
    assert candidate.takeovers[0].kept == len(begun)
