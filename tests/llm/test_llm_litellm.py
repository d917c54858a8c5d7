"""LiteLLM's own package against a local server; runs where it is installed (it is an extra)."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("litellm", reason="litellm is not installed")

from consensusllm.llm.port import (
    Chunk,
    GenerateRequest,
    ProviderError,
    RateLimited,
    Rejected,
    Turn,
    Unavailable,
)
from consensusllm.llm.registry import make_provider

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own

SECRET = "sk-very-secret-0123456789"
REQUEST = GenerateRequest(
    turns=(Turn("user", "Why?"),), system="Be brief.", temperature=0.5, max_tokens=99, seed=7
)


@pytest.fixture
async def provider(server: Any, dialects: Any) -> Any:
    made = make_provider(dialects["openai"].settings(server, provider="litellm", model="openai/m1"))
    yield made
    await made.aclose()


async def collect(provider: Any, request: GenerateRequest = REQUEST) -> list[Chunk]:
    async with aclosing(provider.generate(request)) as chunks:
        return [chunk async for chunk in chunks]


async def test_an_answer_is_streamed_and_the_request_is_whole(
    provider: Any, server: Any, dialects: Any
) -> None:
    server.replies = [dialects["openai"].stream(["A ", "quorum ", "is “enough”. 🗳"])]
    chunks = await collect(provider)
    assert "".join(chunk.text for chunk in chunks) == "A quorum is “enough”. 🗳"
    assert chunks[-1].finish_reason == "stop"
    assert (chunks[-1].prompt_tokens, chunks[-1].completion_tokens) == (7, 3)
    (seen,) = server.seen
    assert seen.headers["authorization"] == f"Bearer {SECRET}"
    assert seen.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
    ]
    assert (seen.body["model"], seen.body["max_tokens"]) == ("m1", 99)
    assert (seen.body["temperature"], seen.body["seed"]) == (0.5, 7)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, Rejected, "401 refused"),
        (429, RateLimited, "429 rate limited"),
        (500, ProviderError, ""),
    ],
)
async def test_a_failure_is_what_it_is_asked_once_and_hides_the_key(
    provider: Any, server: Any, dialects: Any, status: int, kind: type[ProviderError], words: str
) -> None:
    server.replies = [dialects["openai"].failure(status, f"the key {SECRET} is not right")]
    with pytest.raises(kind, match=f"^litellm: .*{words}") as caught:
        await collect(provider)
    assert SECRET not in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(server.seen) == 1


async def test_the_vendors_key_of_the_environment_is_used_and_hidden(
    server: Any, dialects: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_API_BASE", f"{server.url}/v1")
    settings = dialects["openai"].settings(server, provider="litellm", model="openai/m1")
    made = make_provider(replace(settings, api_key="", base_url=""))
    server.replies = [dialects["openai"].failure(401, f"the key {SECRET} is not right")]
    with pytest.raises(Rejected, match=r"the key \[key\] is not right"):
        await collect(made)
    (seen,) = server.seen
    assert seen.headers["authorization"] == f"Bearer {SECRET}"
    await made.aclose()


async def test_a_stream_that_is_cut_is_an_error(provider: Any, server: Any, dialects: Any) -> None:
    server.replies = [dialects["openai"].stream(["A ", "quorum"], finish="", end="cut")]
    with pytest.raises(ProviderError, match=r"^litellm: "):
        await collect(provider)


async def test_a_server_that_is_not_there_is_unavailable(dialects: Any, server: Any) -> None:
    provider = make_provider(
        dialects["openai"].settings(
            server, provider="litellm", model="openai/m1", base_url="http://127.0.0.1:9/v1"
        )
    )
    with pytest.raises(Unavailable, match=r"^litellm: "):
        await collect(provider)
    await provider.aclose()


@pytest.mark.parametrize(("model", "held"), [("openai/gpt-4o", True), ("openai/m1", False)])
async def test_an_answer_is_held_to_a_schema_by_models_that_are_known_to_take_one(
    server: Any, dialects: Any, model: str, held: bool
) -> None:
    made = make_provider(dialects["openai"].settings(server, provider="litellm", model=model))
    server.replies = [dialects["openai"].stream(["x"])]
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    await collect(made, replace(REQUEST, schema=schema))
    (seen,) = server.seen
    assert ("response_format" in seen.body) == held
    if held:
        assert seen.body["response_format"]["json_schema"]["schema"] == schema
    await made.aclose()
