"""A model that fails, and those that answer in its place."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from council_fakes import Cluster, until

from consensusllm.conversations import (
    CreateConversation,
    GenerationOptions,
    PlannedCandidate,
    RecordCandidate,
    ServedModel,
    SubmitQuery,
    Usage,
)
from consensusllm.conversations.asking import Asked
from consensusllm.council.answerer import Answerer
from consensusllm.council.asking import estimated
from consensusllm.llm.guard import Guarded
from consensusllm.llm.port import Chunk, GenerateRequest, Provider
from consensusllm.llm.scripted import Scripted
from consensusllm.llm.settings import ProviderSettings

DEAR = 1_000_000  # a token of the answer for a millionth


def served(name: str) -> ServedModel:
    return ServedModel(name, "scripted", f"{name}-exact", completion_price=DEAR)


@pytest.fixture
async def begin() -> AsyncIterator[Any]:
    answerers: list[Answerer] = []

    async def begin(
        cluster: Cluster, node: int, kind: type[Scripted] = Scripted, /, **models: dict[str, Any]
    ) -> None:
        serving = tuple(map(served, models))
        settings = {
            each.name: ProviderSettings("scripted", each.model, options=models[each.name])
            for each in serving
        }
        providers: dict[str, Provider] = {
            name: Guarded(kind(each), each.timeouts, each.limits) for name, each in settings.items()
        }
        providers[""] = providers[serving[0].name]
        answerer = Answerer(
            cluster.ports[node], providers, models=serving, poll_s=0.01, reassign_after_s=0.05
        )
        answerers.append(answerer)
        await answerer.start()
        await until(lambda: node in cluster.ports[node].machine.registry)

    yield begin
    for answerer in answerers:
        await answerer.close()


def ask(cluster: Cluster, node: int, model: str, *fallbacks: str) -> None:
    cluster.propose(CreateConversation("c1"))
    plan = (PlannedCandidate(1, node, model, fallbacks),)
    cluster.propose(SubmitQuery("c1", "why?", plan))


GOOD = {"texts": ["by {model} of {call}"]}
BAD = {"texts": ["one two three four"], "failures": {"unavailable": 1.0}}
CUT = {"texts": ["one two three four"], "failures": {"cut": 1.0}}


async def test_a_fallback_answers_on_the_same_node(begin: Any) -> None:
    cluster = Cluster()
    await begin(cluster, 1, bad=BAD, good=GOOD)
    ask(cluster, 1, "bad", "good")
    await until(lambda: cluster.turn().closed)
    candidate = cluster.candidate()
    assert (candidate.text, candidate.model) == ("by good-exact of 1", "good-exact")
    assert candidate.planned_model == "bad"
    (taken,) = candidate.takeovers
    assert (taken.node, taken.model, taken.reason) == (1, "good", "scripted: unavailable, as told")
    bad, good = cluster.ports[1].machine.registry[1]
    assert (bad.errors, bad.failures, bad.cost) == (1, 1, 0)
    assert (good.answers, good.failures) == (1, 0)


async def test_a_fallback_answers_on_another_node(begin: Any) -> None:
    cluster = Cluster()
    await begin(cluster, 1, bad=BAD)
    await begin(cluster, 2, worse=BAD)
    await begin(cluster, 3, good=GOOD)
    ask(cluster, 1, "bad", "nobodys", "worse", "good")
    await until(lambda: cluster.turn().closed)
    candidate = cluster.candidate()
    assert (candidate.node, candidate.model, candidate.error) == (3, "good-exact", "")
    assert [(each.node, each.model) for each in candidate.takeovers] == [(2, "worse"), (3, "good")]


@pytest.mark.parametrize(("fallback", "others"), [("good", True), ("nobodys", False)])
async def test_a_model_is_told_whether_somebody_else_can_be_asked(
    begin: Any, fallback: str, others: bool
) -> None:
    told: list[tuple[str, bool]] = []

    class Told(Scripted):
        async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
            told.append((self.model, request.others))
            async for chunk in super().generate(request):
                yield chunk

    cluster = Cluster()
    await begin(cluster, 1, Told, cut=CUT, good=GOOD)
    ask(cluster, 1, "cut", fallback)
    await until(lambda: cluster.turn().closed)
    assert told == [("cut-exact", others), *([("good-exact", False)] if others else [])]


async def test_a_broken_stream_falls_back_and_what_it_cost_is_counted(begin: Any) -> None:
    cluster = Cluster()
    await begin(cluster, 1, cut=CUT, good=GOOD)
    ask(cluster, 1, "cut", "good")
    await until(lambda: cluster.turn().closed)
    candidate = cluster.candidate()
    assert candidate.text == "by good-exact of 1"
    cut, good = cluster.ports[1].machine.registry[1]
    assert cut.completion_tokens == 2  # "one two", seven bytes
    assert candidate.cost == cut.cost + good.cost == 2 + 4


async def test_what_an_answer_without_a_word_used_is_charged(begin: Any) -> None:
    """A model that thinks may use up its tokens before its first word."""

    class Thinking(Scripted):
        async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
            yield Chunk(finish_reason="length", prompt_tokens=50, completion_tokens=100)

    cluster = Cluster()
    await begin(cluster, 1, Thinking, bad=GOOD)
    ask(cluster, 1, "bad")
    await until(lambda: cluster.turn().closed)
    candidate = cluster.candidate()
    assert candidate.error == "scripted: max_tokens was used up before the first word"
    assert (candidate.usage, candidate.cost) == (Usage(50, 100), 100)


async def test_where_all_fail_the_last_error_stands_and_the_others_are_there(begin: Any) -> None:
    cluster = Cluster()
    await begin(cluster, 1, bad=BAD, cut=CUT)
    ask(cluster, 1, "bad", "cut")
    await until(lambda: cluster.turn().closed)
    candidate = cluster.candidate()
    assert candidate.error == "scripted: cut, as told"
    assert not candidate.answered
    assert [each.reason for each in candidate.takeovers] == ["scripted: unavailable, as told"]


async def test_without_fallbacks_a_failure_is_recorded_at_once(begin: Any) -> None:
    cluster = Cluster()
    await begin(cluster, 1, bad=BAD, good=GOOD)
    ask(cluster, 1, "bad")
    await until(lambda: cluster.turn().closed)
    assert cluster.candidate().error == "scripted: unavailable, as told"
    assert len(cluster.operations(RecordCandidate)) == 1


async def test_the_candidate_of_a_dead_node_goes_to_one_that_serves_its_model(begin: Any) -> None:
    cluster = Cluster()
    await begin(cluster, 1, other=GOOD)
    await begin(cluster, 3, own=GOOD)
    cluster.live = frozenset({1, 3})
    ask(cluster, 2, "own")
    await until(lambda: cluster.turn().closed)
    candidate = cluster.candidate()
    assert (candidate.node, candidate.model) == (3, "own-exact")


def test_usage_is_estimated_where_the_provider_does_not_say() -> None:
    asked = Asked((("user", "12345"), ("assistant", "é")), GenerationOptions(system="123"))
    assert estimated(asked, "", "abcdé") == Usage(3, 2, estimated=True)
    assert estimated(asked, "1234", "ab") == Usage(4, 1, estimated=True)
    assert estimated(asked, "1234", "") == Usage(0, 0, estimated=True)
