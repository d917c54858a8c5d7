"""Answers that are held to a JSON schema, by the providers that can be."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import pytest

from consensusllm.llm.port import Chunk, GenerateRequest, Provider, ProviderError, Turn

REQUEST = GenerateRequest(turns=(Turn("user", "Why?"),))


async def collect(provider: Provider, request: GenerateRequest) -> list[Chunk]:
    async with aclosing(provider.generate(request)) as chunks:
        return [chunk async for chunk in chunks]


async def test_an_answer_is_held_to_a_schema_where_the_provider_can(server, dialects, provider_of):
    schema = {"type": "object", "properties": {"ranking": {"type": "array"}}}
    bodies = {}
    for name, dialect in dialects.items():
        for wanted in (schema, None):
            server.replies = [dialect.stream(["x"])]
            await collect(provider_of(dialect.settings(server)), replace(REQUEST, schema=wanted))
            bodies[name, wanted is not None] = server.seen[-1].body
    assert bodies["ollama", True]["format"] == schema
    config = bodies["gemini", True]["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert config["responseJsonSchema"] == schema
    held = bodies["openai", True]["response_format"]
    assert held["type"] == "json_schema"
    assert held["json_schema"] == {"name": "answer", "schema": schema, "strict": True}
    assert "response_format" not in bodies["openai", False]
    assert not bodies["ollama", False].get("format")
    assert "responseMimeType" not in bodies["gemini", False]["generationConfig"]


@pytest.mark.parametrize("status", [400, 422])
async def test_a_server_that_refuses_a_schema_is_asked_without_from_then_on(
    server, dialects, provider_of, status
):
    dialect = dialects["openai"]
    server.replies = [
        dialect.failure(status, "unknown field response_format"),
        dialect.stream(["x"]),
    ]
    provider = provider_of(dialect.settings(server))
    request = replace(REQUEST, schema={"type": "object"})
    for _ in range(2):
        chunks = await collect(provider, request)
        assert "".join(chunk.text for chunk in chunks) == "x"
    formats = ["response_format" in each.body for each in server.seen]
    assert formats == [True, False, False]


@pytest.mark.parametrize("status", [400, 401, 404, 500])
async def test_a_server_that_refuses_the_request_itself_may_still_take_schemas(
    server, dialects, provider_of, status
):
    dialect = dialects["openai"]
    provider = provider_of(dialect.settings(server))
    request = replace(REQUEST, schema={"type": "object"})
    server.replies = [dialect.failure(status, "no")]
    with pytest.raises(ProviderError, match=f"{status} .*no$"):
        await collect(provider, request)
    assert len(server.seen) == (2 if status == 400 else 1)
    server.replies = [dialect.stream(["x"])]
    await collect(provider, request)
    assert "response_format" in server.seen[-1].body
