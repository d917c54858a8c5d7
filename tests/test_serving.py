"""What a node makes of the models of its configuration."""

from __future__ import annotations

from typing import Any

import pytest

from consensusllm.config import Config
from consensusllm.llm import registry
from consensusllm.llm.builtin import Builtin
from consensusllm.llm.guard import Guarded
from consensusllm.llm.port import GenerateRequest, Turn
from consensusllm.llm.settings import ProviderSettings
from consensusllm.serving import make_models


@pytest.mark.parametrize(("configured", "known"), [({"context_tokens": 8192}, 8192), ({}, 0)])
async def test_the_registry_and_the_provider_know_the_same_context(
    monkeypatch: pytest.MonkeyPatch, configured: dict[str, Any], known: int
) -> None:
    made: list[ProviderSettings] = []

    def make(settings: ProviderSettings) -> Guarded:
        made.append(settings)
        return Guarded(Builtin(settings), settings.timeouts, settings.limits)

    monkeypatch.setattr(registry, "make_provider", make)
    model = {"provider": "ollama", "model": "m", **configured}
    node = {"id": 1, "address": "127.0.0.1:5101", "models": [model]}
    config = Config.from_document({"nodes": [node]}, source="c.json")
    (own,) = await make_models(config, config.nodes[0], {})
    assert own.provider is not None
    assert [each.context_tokens for each in made] == [own.served.context_tokens] == [known]
    await own.provider.aclose()


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ({"provider": "ollama", "base_url": "http://gpu:11434"}, "ollama http://gpu:11434"),
        ({"provider": "ollama", "base_url": "http://a:b@gpu/?k=s"}, "ollama http://gpu"),
        (
            {"provider": "ollama", "base_url": "http://127.0.0.1:11434"},
            "ollama http://127.0.0.1:11434 of node 2",
        ),
        (
            {"provider": "ollama", "base_url": "localhost:1"},
            "ollama http://localhost:1 of node 2",
        ),
        ({"provider": "openai", "base_url": "http://[::1]/v1"}, "openai http://[::1]/v1 of node 2"),
        ({"provider": "openai", "base_url": "http://10.0.0.1/v1/"}, "openai http://10.0.0.1/v1"),
        ({"provider": "builtin"}, ""),
        ({"provider": "scripted"}, ""),
        ({"provider": "gemini", "api_key": "k"}, ""),
    ],
)
async def test_nodes_that_mean_the_same_server_call_it_the_same(
    model: dict[str, Any], named: str
) -> None:
    node = {"id": 2, "address": "127.0.0.1:5101", "models": [{"model": "m", **model}]}
    config = Config.from_document({"nodes": [node]}, source="c.json")
    (own,) = await make_models(config, config.nodes[0], {})
    assert own.served.server == named
    assert (own.probing is not None) == bool(named)
    assert own.provider is not None
    await own.provider.aclose()


@pytest.mark.parametrize(
    ("model", "early"),
    [
        ({"provider": "builtin"}, True),
        ({"provider": "scripted"}, True),
        ({"provider": "ollama"}, True),
        ({"provider": "ollama", "price": {"prompt": 0.1}}, False),
        ({"provider": "scripted", "price": {"completion": 0.1}}, False),
        ({"provider": "builtin", "early": False}, False),
        ({"provider": "gemini", "api_key": "k"}, False),
        ({"provider": "openai", "base_url": "http://gpu/v1"}, False),
        ({"provider": "openai", "base_url": "http://gpu/v1", "early": True}, True),
    ],
)
async def test_a_model_is_asked_early_where_its_calls_cost_nothing(
    model: dict[str, Any], early: bool
) -> None:
    node = {"id": 2, "address": "127.0.0.1:5101", "models": [{"model": "m", **model}]}
    config = Config.from_document({"nodes": [node]}, source="c.json")
    (own,) = await make_models(config, config.nodes[0], {})
    assert own.early is early
    assert own.provider is not None
    await own.provider.aclose()


async def test_the_default_deadline_of_turns_is_not_that_of_a_call() -> None:
    slow = {"provider": "scripted", "options": {"first_token_s": 0.2}}
    node = {"id": 1, "address": "127.0.0.1:5101", "models": [slow]}
    document = {"nodes": [node], "answering": {"deadline_ms": 1}}
    config = Config.from_document(document, source="c.json")
    (own,) = await make_models(config, config.nodes[0], {})
    assert own.provider is not None
    chunks = [each async for each in own.provider.generate(GenerateRequest((Turn("user", "?"),)))]
    assert chunks[-1].finish_reason == "stop"
    await own.provider.aclose()


@pytest.mark.parametrize("fails", [True, False], ids=["is not made", "is none"])
async def test_a_model_that_cannot_be_made_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    def make(settings: ProviderSettings) -> object:
        if fails:
            raise RuntimeError("k-secret")
        return object()

    monkeypatch.setitem(registry.PROVIDERS, "openai", make)  # type: ignore[arg-type]
    models = [{"provider": "openai", "model": "m", "base_url": "http://gpu/v1"}]
    node = {"id": 1, "address": "127.0.0.1:5101", "models": [*models, {"provider": "builtin"}]}
    config = Config.from_document({"nodes": [node]}, source="c.json")
    broken, own = await make_models(config, config.nodes[0], {})
    assert broken.provider is None
    why = "RuntimeError" if fails else "AttributeError"
    assert broken.note == f"openai: cannot be made ({why}): check its options"
    assert (broken.served.provider, broken.served.model) == ("openai", "m")
    assert own.provider is not None
    await own.provider.aclose()
