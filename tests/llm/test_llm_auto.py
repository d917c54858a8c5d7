"""What auto picks, and what it says about it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from consensusllm.llm.auto import resolve
from consensusllm.llm.settings import ProviderSettings

SECRET = "sk-very-secret-0123456789"


def tags(dialects, *models: str):
    body = json.dumps({"models": [{"model": model, "name": model} for model in models]}).encode()
    return replace(dialects["ollama"].reply([body]), headers={"content-type": "application/json"})


async def test_settings_that_name_a_provider_stay_as_they_are():
    settings = ProviderSettings("openai", model="m")
    assert (await resolve(settings, {"GEMINI_API_KEY": SECRET}))[0] is settings


@pytest.mark.parametrize("name", ["GEMINI_API_KEY", "GOOGLE_API_KEY"])
async def test_a_gemini_key_comes_first_and_goes_to_gemini_only(server, name):
    settings, why = await resolve(ProviderSettings("auto", base_url=server.url), {name: SECRET})
    assert (settings.provider, settings.api_key, settings.base_url) == ("gemini", SECRET, "")
    assert name in why
    assert SECRET not in why
    assert server.seen == []


async def test_an_ollama_with_a_model_that_can_chat_comes_next(server, dialects):
    server.replies = [tags(dialects, "nomic-embed-text:latest", "qwen3:0.6b", "llama3")]
    settings, why = await resolve(ProviderSettings("auto", base_url=server.url), {})
    assert (settings.provider, settings.model) == ("ollama", "qwen3:0.6b")
    assert "qwen3:0.6b" in why
    assert [(seen.method, seen.path) for seen in server.seen] == [("GET", "/api/tags")]


async def test_the_configured_model_is_kept(server, dialects):
    server.replies = [tags(dialects, "qwen3:0.6b")]
    settings, _ = await resolve(ProviderSettings("auto", model="mine", base_url=server.url), {})
    assert (settings.provider, settings.model) == ("ollama", "mine")


async def test_the_builtin_responder_stands_in_where_there_is_nothing(server, dialects):
    auto = ProviderSettings("auto", base_url=server.url, node=2)
    server.replies = [tags(dialects)]
    settings, why = await resolve(auto, {"GEMINI_API_KEY": ""})
    assert settings == ProviderSettings("builtin", node=2)
    assert "ollama pull" in why
    server.replies = [dialects["ollama"].failure(500, "broken")]
    assert (await resolve(auto, {}))[0].provider == "builtin"
    await server.close()
    settings, why = await resolve(auto, {})
    assert settings.provider == "builtin"
    assert server.url in why
    assert "\n" not in why


async def test_an_ollama_that_does_not_answer_counts_as_absent(server, dialects, monkeypatch):
    monkeypatch.setattr("consensusllm.llm.auto.PROBE_TIMEOUT_S", 0.05)
    server.replies = [dialects["ollama"].reply([], end="hang")]
    settings, _ = await resolve(ProviderSettings("auto", base_url=server.url), {})
    assert settings.provider == "builtin"


async def test_a_key_without_the_package_is_said_and_passed_over(server, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    settings, why = await resolve(ProviderSettings("auto"), {"GEMINI_API_KEY": SECRET})
    assert settings.provider == "builtin"
    assert "pip install 'consensusllm[gemini]'" in why
