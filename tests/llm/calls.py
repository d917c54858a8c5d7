"""Calls of a provider, as the tests make them."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from consensusllm.llm.port import Chunk, GenerateRequest, Provider, ProviderError, Turn

REQUEST = GenerateRequest(
    turns=(Turn("user", "What is Paxos?"), Turn("assistant", "A protocol."), Turn("user", "Why?")),
    system="Be brief.",
    temperature=0.5,
    max_tokens=99,
    seed=7,
)


async def collect(provider: Provider, request: GenerateRequest = REQUEST) -> list[Chunk]:
    async with aclosing(provider.generate(request)) as chunks:
        return [chunk async for chunk in chunks]


async def gather_texts(provider: Provider, texts: list[str]) -> None:
    async for chunk in provider.generate(REQUEST):
        texts.append(chunk.text)


async def failure(provider: Provider) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await collect(provider)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(provider.name)
    return caught.value
