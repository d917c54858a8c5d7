"""What nodes tell the registry of themselves, and what is recorded of who answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from council_fakes import Cluster, until

from consensusllm.conversations import (
    GenerationOptions,
    RecordCandidate,
    ServedModel,
    ServeModels,
    prompt_hash,
)
from consensusllm.council.answerer import Answerer
from consensusllm.llm.scripted import Scripted
from consensusllm.llm.settings import ProviderSettings

SMALL = ServedModel("small", "scripted", "small-1", completion_price=2_000_000)
LARGE = ServedModel("large", "scripted", "large-1")


def provider(served: ServedModel, **options: Any) -> Scripted:
    options = {"texts": ["by {model}"], **options}
    return Scripted(ProviderSettings("scripted", served.model, options=options))


@pytest.fixture
async def begin() -> AsyncIterator[Any]:
    answerers: list[Answerer] = []

    async def begin(cluster: Cluster, node: int, *models: ServedModel, **options: Any) -> None:
        providers = {each.name: provider(each, **options) for each in models}
        providers[""] = providers[models[0].name]
        answerer = Answerer(
            cluster.ports[node], providers, models=models, poll_s=0.01, reassign_after_s=0.05
        )
        answerers.append(answerer)
        await answerer.start()

    yield begin
    for answerer in answerers:
        await answerer.close()


async def test_a_node_registers_its_models_once(begin: Any) -> None:
    cluster = Cluster()
    await begin(cluster, 1, SMALL, LARGE)
    await begin(cluster, 2, SMALL)
    await until(lambda: len(cluster.ports[3].machine.registry) == 2)
    cluster.ask((1, 2))
    await until(lambda: cluster.turn().closed)
    polls = cluster.ports[1].polls
    await until(lambda: cluster.ports[1].polls > polls + 5)
    assert cluster.operations(ServeModels) == [
        ServeModels(1, (SMALL, LARGE)),
        ServeModels(2, (SMALL,)),
    ]


async def test_a_node_whose_models_changed_says_so_before_it_answers(begin: Any) -> None:
    cluster = Cluster()
    cluster.propose(ServeModels(1, (LARGE,)))
    cluster.ask((1,))
    await begin(cluster, 1, SMALL)
    await until(lambda: cluster.turn().closed)
    kinds = [type(each.operation) for each in cluster.log]
    last = max(place for place, kind in enumerate(kinds) if kind is ServeModels)
    assert last < kinds.index(RecordCandidate)
    assert cluster.candidate().cost == 4  # two words at 2 for a million


async def test_a_candidate_names_the_exact_model_and_what_it_was_asked(begin: Any) -> None:
    cluster = Cluster()
    await begin(cluster, 1, SMALL, LARGE)
    options = GenerationOptions(temperature=0.5, system="be kind")
    cluster.ask((1,), question="why?", options=options)
    await until(lambda: cluster.turn().closed)
    candidate = cluster.candidate()
    assert (candidate.provider, candidate.model) == ("scripted", "small-1")
    assert candidate.prompt_hash == prompt_hash((("user", "why?"),), options)
    (small, large) = cluster.ports[2].machine.registry[1]
    assert (small.answers, small.completion_tokens, large.answers) == (1, 2, 0)


async def test_a_failed_call_is_counted_as_an_error_of_its_model(begin: Any) -> None:
    cluster = Cluster()
    await begin(cluster, 1, SMALL, failures={"rejected": 1.0})
    cluster.ask((1,))
    await until(lambda: cluster.turn().closed)
    (small,) = cluster.ports[1].machine.registry[1]
    assert (small.answers, small.errors) == (0, 1)
    assert cluster.candidate().prompt_hash


async def test_who_is_no_member_leaves_the_registry(begin: Any) -> None:
    cluster = Cluster()
    cluster.propose(ServeModels(3, (LARGE,)))
    await begin(cluster, 1, SMALL)
    await begin(cluster, 2, SMALL)
    await until(lambda: 2 in cluster.ports[1].machine.registry)
    cluster.live = frozenset({1})
    polls = cluster.ports[1].polls
    await until(lambda: cluster.ports[1].polls > polls + 5)
    assert 3 in cluster.ports[1].machine.registry, "a node that is down is a member all the same"
    cluster.members = frozenset({1, 2})
    await until(lambda: 3 not in cluster.ports[1].machine.registry)
    assert cluster.operations(ServeModels).count(ServeModels(3, ())) == 1
