"""What is counted and timed of a provider's calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from consensusllm.llm.meter import Metered
from consensusllm.llm.port import Chunk, GenerateRequest, Turn, Unavailable
from consensusllm.llm.scripted import Scripted
from consensusllm.llm.settings import ProviderSettings

REQUEST = GenerateRequest((Turn("user", "why?"),))


def metered(**options: object) -> Metered:
    return Metered(Scripted(ProviderSettings("scripted", model="m", options=options)))


async def call(provider: Metered) -> str:
    return "".join([chunk.text async for chunk in provider.generate(REQUEST)])


async def test_a_metered_provider_says_what_the_provider_says() -> None:
    provider = metered(texts=["a b c"])
    assert await call(provider) == "a b c"
    assert (provider.name, provider.model, provider.continues) == ("scripted", "m", True)
    assert await provider.models() == ("m",)
    await provider.aclose()


async def test_calls_under_way_are_counted() -> None:
    provider = metered(texts=["a"], failures={"hang": 1.0})
    assert provider.in_flight == 0
    tasks = [asyncio.create_task(call(provider)) for _ in range(3)]
    await asyncio.sleep(0)  # each begins
    assert provider.in_flight == 3
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert provider.in_flight == 0


async def test_latency_and_speed_are_those_of_the_answers() -> None:
    provider = metered(texts=["a b c d"], first_token_s=0.02, tokens_per_second=100)
    assert (provider.latency_ms(50), provider.tokens_per_second) == (0, 0.0)
    for _ in range(3):
        await call(provider)
    assert 50 <= provider.latency_ms(50) <= provider.latency_ms(99)
    # Four words in three waits of 10 ms: slower where the machine is, never quicker.
    assert 0 < provider.tokens_per_second <= 4 / 0.03


async def test_the_last_error_is_shown_until_a_call_goes_well() -> None:
    class Flaky(Scripted):
        failing = True

        async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
            if self.failing:
                raise Unavailable("no connection")
            async for chunk in super().generate(request):
                yield chunk

    flaky = Flaky(ProviderSettings("scripted"))
    provider = Metered(flaky)
    with pytest.raises(Unavailable):
        await call(provider)
    assert provider.last_error == "no connection"
    assert provider.latency_ms(99) == 0
    flaky.failing = False
    await call(provider)
    assert provider.last_error == ""
