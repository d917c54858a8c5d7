"""The scripted provider: what its options say, the same each time."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace

import pytest

from consensusllm.llm.port import (
    GenerateRequest,
    Malformed,
    ProviderError,
    RateLimited,
    Rejected,
    TimedOut,
    Turn,
    Unavailable,
)
from consensusllm.llm.scripted import FAILURES, Scripted
from consensusllm.llm.settings import ProviderSettings

REQUEST = GenerateRequest((Turn("user", "what\n now"),))


def scripted(**options: object) -> Scripted:
    return Scripted(ProviderSettings("scripted", node=2, options=options))


async def outcome(provider: Scripted, request: GenerateRequest = REQUEST) -> str:
    try:
        return "".join([chunk.text async for chunk in provider.generate(request)])
    except ProviderError as error:
        return type(error).__name__


async def test_texts_are_given_in_turn_with_their_templates_filled():
    provider = scripted(texts=["{node}/{model}/{call}: {question}", "{other} {{x}}\n two  "])
    assert await outcome(provider) == "2/scripted/1: what\n now"
    assert await outcome(provider) == "{other} {{x}}\n two  "
    assert await outcome(provider) == "2/scripted/3: what\n now"


async def test_a_ranking_that_is_asked_for_is_given_and_goes_on_as_it_began():
    labels = {"ranking": {"items": {"enum": ["A", "B", "C"]}}}
    request = replace(REQUEST, schema={"properties": labels})
    said = await outcome(scripted(), request)
    assert sorted(json.loads(said)["ranking"]) == ["A", "B", "C"]
    assert said[:20] + await outcome(scripted(), replace(request, prefix=said[:20])) == said
    assert await outcome(scripted(ranks=False, texts=["no"]), request) == "no"
    other = replace(REQUEST, schema={"type": "object"})
    assert await outcome(scripted(texts=["no"]), other) == "no"


async def test_speed_and_latency_are_those_of_the_script(monkeypatch):
    waits: list[float] = []

    async def sleep(delay_s: float) -> None:
        waits.append(delay_s)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await outcome(scripted(texts=["a b c"], tokens_per_second=4, first_token_s=0.7))
    assert waits == [0.7, 0.25, 0.25]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("unavailable", Unavailable),
        ("timed_out", TimedOut),
        ("rejected", Rejected),
        ("malformed", Malformed),
        ("rate_limited", RateLimited),
    ],
)
async def test_a_failure_raises_its_error_before_the_first_token(kind, error):
    chunks = scripted(failures={kind: 1.0}, retry_after_s=3.5).generate(REQUEST)
    with pytest.raises(error) as caught:
        await anext(chunks)
    assert caught.value.retry_after_s == (3.5 if kind == "rate_limited" else None)


async def test_a_cut_comes_in_the_middle_and_a_hang_before_any_text():
    seen = []
    with pytest.raises(Unavailable):
        await gather(scripted(texts=["a b c d"], failures={"cut": 1}), seen)
    assert "".join(seen) == "a b"
    task = asyncio.create_task(outcome(scripted(failures={"hang": 1})))
    done, _ = await asyncio.wait({task}, timeout=0.05)
    assert not done
    task.cancel()
    await asyncio.wait({task})


async def gather(provider: Scripted, seen: list[str]) -> None:
    async for chunk in provider.generate(REQUEST):
        seen.append(chunk.text)


async def test_the_same_seed_fails_on_the_same_calls_at_the_given_rates():
    options = {"failures": {"rejected": 0.3, "unavailable": 0.2}, "texts": ["ok"], "seed": 5}
    first, second = scripted(**options), scripted(**options)
    one = [await outcome(first) for _ in range(400)]
    # Side by side, each call keeps the dice of its number.
    assert list(await asyncio.gather(*(outcome(second) for _ in range(400)))) == one
    counts = Counter(one)
    assert 90 < counts["Rejected"] < 150
    assert 50 < counts["Unavailable"] < 110
    assert [await outcome(scripted(**{**options, "seed": 6})) for _ in range(3)] != one[:3] or (
        [await outcome(first) for _ in range(50)] != one[:50]
    )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"speed": 1}, "speed"),
        ({"texts": []}, "texts"),
        ({"texts": "abc"}, "texts"),
        ({"texts": [1]}, "texts"),
        ({"tokens_per_second": -1}, "tokens_per_second"),
        ({"first_token_s": "1"}, "first_token_s"),
        ({"seed": "x"}, "seed"),
        ({"failures": {"fire": 0.1}}, "fire"),
        ({"failures": {"cut": 2}}, "cut"),
        ({"failures": {"cut": True}}, "cut"),
        ({"failures": {"cut": 0.6, "hang": 0.6}}, "1.0"),
        ({"failures": [1]}, "failures"),
    ],
)
def test_a_wrong_option_is_named(options, named):
    with pytest.raises(Rejected, match=named):
        scripted(**options)


def test_every_kind_of_failure_is_accepted():
    scripted(failures=dict.fromkeys(FAILURES, 0.1))
