"""Free looks at model servers, over real HTTP: what is found, and what bad servers cannot do."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from consensusllm.llm import guard
from consensusllm.llm.guard import Guarded
from consensusllm.llm.http import ERROR_BODY_MAX
from consensusllm.llm.port import (
    GenerateRequest,
    Malformed,
    Probe,
    ProviderError,
    RateLimited,
    Rejected,
    TimedOut,
    Turn,
    Unavailable,
)
from consensusllm.llm.registry import make_provider
from consensusllm.llm.settings import ProviderSettings

NAMES = ("m1", "m2:8b", "none", "hf.co/org/model")
QUESTION = GenerateRequest(turns=(Turn("user", "Why?"),))


def there(*names: str) -> dict[str, Any]:
    return {"models": [{"model": name, "name": name} for name in names]}


@pytest.fixture(params=["ollama", "openai"])
def dialect(request: pytest.FixtureRequest, dialects: Any) -> Any:
    return dialects[request.param]


@pytest.fixture
async def probing(server: Any, dialect: Any) -> AsyncIterator[Guarded]:
    """A provider of the server that answers by one dialect."""
    provider = make_provider(dialect.settings(server))
    yield provider
    await provider.aclose()


async def test_ollama_says_what_it_has_and_what_is_in_memory(server: Any, dialects: Any) -> None:
    dialect = dialects["ollama"]
    server.replies = [
        dialect.listing(there("m1:latest", "m2:8b", "hf.co/org/model:latest")),
        dialect.listing(there("m2:8b")),
    ]
    provider = make_provider(dialect.settings(server))
    *found, other = await provider.probe(NAMES)
    absent = "ollama: the server does not have the model: ollama pull it"
    assert found == [Probe(False), Probe(True), Probe(False, absent)]
    assert other == Probe(False)
    seen = [(each.method, each.path, each.body) for each in server.seen]
    assert seen == [("GET", "/api/tags", None), ("GET", "/api/ps", None)], "nothing is generated"
    await provider.aclose()


def listed(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "somebody", **more}


async def test_a_compatible_server_says_what_is_in_memory_where_it_can(
    server: Any, dialects: Any
) -> None:
    dialect = dialects["openai"]
    models = [
        listed("m1", owned_by="vllm"),
        listed("m2:8b", owned_by="llamacpp", status={"value": "unloaded"}),
        listed("hf.co/org/model"),
    ]
    server.replies = [dialect.listing({"object": "list", "data": models})]
    provider = make_provider(dialect.settings(server))
    found = await provider.probe(NAMES)
    assert found == [Probe(True), Probe(False), Probe(), Probe()], "no answer is no error"
    assert [(each.method, each.path) for each in server.seen] == [("GET", "/v1/models")]
    await provider.aclose()


async def test_a_model_in_process_is_in_memory_once_it_was_asked(llama: Any, gguf: Any) -> None:
    provider = make_provider(ProviderSettings("llamacpp", options={"path": str(gguf)}))
    assert await provider.probe(["tiny"]) == [Probe(False)]
    async for _ in provider.generate(QUESTION):
        pass
    assert await provider.probe(["tiny"]) == [Probe(True)]
    await provider.aclose()


@pytest.mark.parametrize("name", ["builtin", "scripted", "gemini"])
async def test_what_cannot_be_looked_at_for_free_is_not(name: str) -> None:
    provider = make_provider(ProviderSettings(name, api_key="k"))
    assert provider.server == ""
    await provider.aclose()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"not json", Malformed),
        (b"[" * 100_000, Malformed),
        (b'{"models": 7, "data": 7}', Malformed),
        (b"\xff\xfe", Malformed),
        (b'{"error": "broken"}', Unavailable),
    ],
)
async def test_a_server_that_talks_nonsense_fails(
    server: Any, dialect: Any, probing: Guarded, body: bytes, kind: type[ProviderError]
) -> None:
    server.replies = [replace(dialect.listing(), pieces=[body])]
    with pytest.raises(kind) as raised:
        await probing.probe(NAMES)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("feed", [b"", b"\n"])
async def test_a_gigabyte_is_not_read(
    server: Any, dialect: Any, probing: Guarded, content_type: str, feed: bytes
) -> None:
    piece = b"x" * 65_535 + (feed or b"x")
    reply = dialect.listing()
    reply.pieces = [piece] * ((1 << 30) // len(piece))
    reply.headers["content-type"] = content_type
    server.replies = [reply]
    with pytest.raises(Malformed, match=f"sent over {ERROR_BODY_MAX} bytes"):
        await probing.probe(NAMES)


@pytest.mark.parametrize(
    ("status", "kind"), [(500, Unavailable), (403, Rejected), (401, Rejected), (429, RateLimited)]
)
async def test_a_refusal_is_what_it_is(
    server: Any, dialect: Any, probing: Guarded, status: int, kind: type[ProviderError]
) -> None:
    server.replies = [dialect.failure(status, "no")]
    with pytest.raises(kind):
        await probing.probe(NAMES)


@pytest.mark.parametrize(("status", "kind"), [(404, Rejected), (301, Malformed), (400, Malformed)])
async def test_a_server_without_a_list_may_still_be_a_compatible_one(
    server: Any, dialects: Any, status: int, kind: type[ProviderError]
) -> None:
    server.replies = [dialects["openai"].failure(status, "no")]
    provider = make_provider(dialects["openai"].settings(server))
    with pytest.raises(kind):
        await provider.probe(NAMES)
    await provider.aclose()


async def test_a_server_without_its_list_is_no_ollama(server: Any, dialects: Any) -> None:
    server.replies = [dialects["ollama"].failure(404, "no")]
    settings = dialects["ollama"].settings(server, base_url=f"{server.url}/v1")
    provider = make_provider(settings)
    with pytest.raises(Malformed, match="404 refused"):
        await provider.probe(NAMES)
    assert [each.path for each in server.seen] == ["/v1/api/tags"]
    await provider.aclose()


async def test_what_no_request_can_be_sent_to_fails(server: Any, dialects: Any) -> None:
    provider = make_provider(dialects["ollama"].settings(server, base_url="ftp://gpu"))
    with pytest.raises(Malformed, match="cannot be sent to ftp://gpu: check base_url and key"):
        await provider.probe(NAMES)
    await provider.aclose()


async def test_a_silent_server_is_left(
    server: Any, dialect: Any, probing: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "PROBE_TIMEOUT_S", 0.1)
    server.replies = [dialect.reply([], end="hang")]
    began = time.monotonic()
    with pytest.raises(TimedOut):
        await probing.probe(NAMES)
    assert time.monotonic() - began < guard.CLOSE_TIMEOUT_S
    await asyncio.wait_for(server.left.wait(), 20)


async def test_a_closed_port_fails(server: Any, probing: Guarded) -> None:
    await server.close()
    with pytest.raises(Unavailable, match="no connection"):
        await probing.probe(NAMES)


async def test_a_probe_of_a_plugin_is_held_to_the_port(
    server: Any, dialects: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dialects["ollama"].settings(server)

    class Short:
        name = "short"
        model = ""
        continues = False
        server = "somewhere"
        found: object = None

        async def probe(self, models: Any) -> Any:
            return [self.found] * (1 if len(models) > 1 else len(models))

        async def aclose(self) -> None:
            pass

    provider = Guarded(Short(), settings.timeouts, settings.limits)  # type: ignore[arg-type]
    with pytest.raises(Malformed, match="looked at 1 models of 4"):
        await provider.probe(NAMES)
    for wrong in (None, {"loaded": True}, Probe(loaded="yes"), Probe(error=None)):  # type: ignore[arg-type]
        monkeypatch.setattr(Short, "found", wrong)
        with pytest.raises(Malformed, match="what it found is no Probe"):
            await provider.probe(["m"])
    monkeypatch.setattr(Short, "found", Probe(error="\ud800" * 1000))
    (found,) = await provider.probe(["m"])
    assert found.error.encode()
    assert len(found.error) == guard.PROBE_ERROR_CHARACTERS
    assert json.dumps(found.error)
    await provider.aclose()
    with pytest.raises(Unavailable, match="closed"):
        await provider.probe(NAMES)
