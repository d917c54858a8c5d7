"""Conversations that are longer than what a model can read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from council_fakes import Cluster, until

from consensusllm.conversations import (
    Choose,
    ConveneCouncil,
    Council,
    GenerationOptions,
    Member,
    PlannedCandidate,
    ReassignCandidate,
    RecordCandidate,
    RecordCheckpoint,
    ServedModel,
    SetBudget,
    Stage,
    StageKind,
    SubmitQuery,
    prompt_hash,
)
from consensusllm.council.answerer import Answerer
from consensusllm.llm.port import Chunk, GenerateRequest

SMALL = ServedModel("small", "kept", "small-1", context_tokens=120, max_tokens=20, prompt_price=1)
LARGE = ServedModel("large", "kept", "large-1")
LONG = "x" * 90


class Kept:
    """A provider that keeps its requests."""

    name = "kept"
    continues = True

    def __init__(self, model: str) -> None:
        self.model = model
        self.requests: list[GenerateRequest] = []

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        yield Chunk("so it is")
        yield Chunk(finish_reason="stop", model=self.model)

    async def models(self) -> tuple[str, ...]:
        return (self.model,)

    async def aclose(self) -> None:
        pass


@pytest.fixture
async def begin() -> AsyncIterator[Any]:
    answerers: list[Answerer] = []

    async def begin(cluster: Cluster, node: int, *models: ServedModel) -> dict[str, Kept]:
        providers = {each.name: Kept(each.model) for each in models}
        providers[""] = providers[models[0].name]
        answerer = Answerer(
            cluster.ports[node], providers, models=models, poll_s=0.01, reassign_after_s=0.05
        )
        answerers.append(answerer)
        await answerer.start()
        await until(lambda: node in cluster.ports[node].machine.registry)
        return providers

    yield begin
    for answerer in answerers:
        await answerer.close()


def talk(cluster: Cluster, turns: int) -> None:
    """Turns of 30 + 9 bytes, chosen, which node 2 answered without an answerer."""
    for number in range(1, turns + 1):
        assert cluster.ask((2,), question=f"q{number:029}") == number
        cluster.propose(RecordCandidate("c1", number, 1, 1, f"answer {number}", "m", "stop"))
        cluster.propose(Choose("c1", number, 1))


def ask(cluster: Cluster, question: str, model: str = "", *fallbacks: str) -> None:
    plan = (PlannedCandidate(1, 1, model, fallbacks),)
    cluster.propose(SubmitQuery("c1", question, plan))


def sent(request: GenerateRequest) -> tuple[tuple[str, str], ...]:
    return tuple((turn.role, turn.text) for turn in request.turns)


async def test_the_oldest_turns_are_left_out_and_the_candidate_says_so(begin: Any) -> None:
    cluster = Cluster()
    talk(cluster, 5)
    models = await begin(cluster, 1, SMALL)
    ask(cluster, "why?")
    await until(lambda: cluster.turn(6).closed)
    (request,) = models["small"].requests
    whole = cluster.prompt("c1", 6, 1)
    # 120 tokens, of which 20 are the answer's and 10 the question's; a turn takes 18 + 11.
    assert sent(request) == whole[4:] == (*whole[4:10], ("user", "why?"))
    candidate = cluster.candidate(1, 6)
    assert (candidate.left_out, candidate.context_tokens, candidate.error) == (2, 120, "")
    assert candidate.prompt_hash == prompt_hash(whole[4:], GenerationOptions(max_tokens=20))


async def test_what_fits_is_sent_whole(begin: Any) -> None:
    cluster = Cluster()
    talk(cluster, 3)
    models = await begin(cluster, 1, SMALL, LARGE)
    ask(cluster, "why?")
    await until(lambda: cluster.turn(4).closed)
    assert sent(models["small"].requests[0]) == cluster.prompt("c1", 4, 1)
    candidate = cluster.candidate(1, 4)
    assert (candidate.left_out, candidate.context_tokens) == (0, 120)


async def test_a_model_whose_context_is_not_known_is_sent_all(begin: Any) -> None:
    cluster = Cluster()
    talk(cluster, 12)
    models = await begin(cluster, 1, LARGE)
    ask(cluster, LONG * 100)
    await until(lambda: cluster.turn(13).closed)
    assert len(models["large"].requests[0].turns) == 25
    candidate = cluster.candidate(1, 13)
    assert (candidate.left_out, candidate.context_tokens) == (0, 0)


async def test_a_question_that_is_too_long_is_neither_cut_nor_asked(begin: Any) -> None:
    cluster = Cluster()
    cluster.propose(SetBudget("cluster", 1000))
    talk(cluster, 1)
    models = await begin(cluster, 1, SMALL)
    ask(cluster, LONG * 4)
    await until(lambda: cluster.turn(2).closed)
    candidate = cluster.candidate(1, 2)
    assert candidate.error.startswith("what is asked takes some 128 tokens, even without")
    assert (candidate.model, candidate.prompt_hash, candidate.cost) == ("small-1", "", 0)
    assert models["small"].requests == []
    machine = cluster.ports[2].machine
    assert (machine.budgets["cluster"].reserved, machine.budgets["cluster"].spent) == (0, 0)
    assert machine.registry[1][0].errors == 0, "the model has failed at nothing"


async def test_a_model_with_a_longer_context_stands_in_for_one_that_is_too_small(
    begin: Any,
) -> None:
    cluster = Cluster()
    talk(cluster, 1)
    models = await begin(cluster, 1, SMALL, LARGE)
    ask(cluster, LONG * 4, "small", "large")
    await until(lambda: cluster.turn(2).closed)
    candidate = cluster.candidate(1, 2)
    assert (candidate.model, candidate.error, candidate.left_out) == ("large-1", "", 0)
    assert "what is asked takes some 128 tokens" in candidate.takeovers[-1].reason
    assert len(models["large"].requests[0].turns) == 3


async def test_who_takes_a_candidate_over_sends_the_same_prompt(begin: Any) -> None:
    cluster = Cluster()
    talk(cluster, 5)
    cluster.propose(SubmitQuery("c1", "why?", (PlannedCandidate(1, 2, "small"),)))
    cluster.propose(RecordCheckpoint("c1", 6, 1, 1, 0, "I think " + LONG))
    models = await begin(cluster, 1, SMALL)
    cluster.propose(ReassignCandidate("c1", 6, 1, 2, 1, keep=8))
    await until(lambda: cluster.turn(6).closed)
    request = models["small"].requests[-1]
    assert request.prefix == "I think "
    assert sent(request) == cluster.prompt("c1", 6, 1)[4:]
    candidate = cluster.candidate(1, 6)
    assert (candidate.text, candidate.left_out) == ("I think so it is", 2)


async def test_a_review_leaves_earlier_turns_out_and_fails_where_that_is_not_enough(
    begin: Any,
) -> None:
    cluster = Cluster()
    talk(cluster, 3)
    roomy = replace(SMALL, context_tokens=450)
    models = await begin(cluster, 1, roomy)
    await begin(cluster, 2, SMALL)
    stages = (
        Stage(StageKind.OPINIONS, (1, 2, 3), deadline_ms=5000),
        Stage(StageKind.REVIEW, (1, 2, 3), deadline_ms=5000),
        Stage(StageKind.SYNTHESIS, (1,), deadline_ms=5000),
    )
    council = Council("t", "r", 1, (Member(1), Member(2), Member(1)), stages)
    cluster.propose(ConveneCouncil("c1", "why?", council))
    await until(lambda: cluster.turn(4).closed)
    opinions = cluster.turn(4).candidates[:3]
    assert [each.left_out for each in opinions] == [0, 0, 0]
    first, second, third = cluster.turn(4).candidates[3:6]
    assert (first.answered, second.answered, third.answered) == (True, False, True)
    assert 0 < first.left_out == third.left_out <= 3
    reviews = [each for each in models["small"].requests if each.schema]
    assert [len(each.turns) for each in reviews] == [7 - 2 * first.left_out] * 2
    assert "even without the earlier turns, and the model has 120" in second.error
