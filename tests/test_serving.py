"""What a node makes of the models of its configuration."""

from __future__ import annotations

from typing import Any

import pytest

from consensusllm.config import Config
from consensusllm.llm import registry
from consensusllm.llm.builtin import Builtin
from consensusllm.llm.port import Provider
from consensusllm.llm.settings import ProviderSettings
from consensusllm.serving import make_models


@pytest.mark.parametrize(("configured", "known"), [({"context_tokens": 8192}, 8192), ({}, 0)])
async def test_the_registry_and_the_provider_know_the_same_context(
    monkeypatch: pytest.MonkeyPatch, configured: dict[str, Any], known: int
) -> None:
    made: list[ProviderSettings] = []

    def make(settings: ProviderSettings) -> Provider:
        made.append(settings)
        return Builtin(settings)

    monkeypatch.setattr(registry, "make_provider", make)
    model = {"provider": "ollama", "model": "m", **configured}
    node = {"id": 1, "address": "127.0.0.1:5101", "models": [model]}
    config = Config.from_document({"nodes": [node]}, source="c.json")
    (own,) = await make_models(config, config.nodes[0], {})
    assert own.provider is not None
    assert [each.context_tokens for each in made] == [own.served.context_tokens] == [known]
    await own.provider.aclose()
