"""The models of one node: who is called for a name, and what the registry has of it."""

from __future__ import annotations

from collections.abc import Mapping

from consensusllm.conversations.commands import ServedModel
from consensusllm.llm.port import Provider


class OwnModels:
    """``providers`` are the node's, by the name of their model; "" is the default one. ``models``
    is what the registry is told of them."""

    def __init__(self, providers: Mapping[str, Provider], models: tuple[ServedModel, ...]) -> None:
        self._providers = providers
        self.models = models

    def provider(self, name: str) -> Provider | None:
        """Who is called for ``name``: the default where the node does not serve it, None where it
        serves nothing."""
        return self._providers.get(name) or self._providers.get("")

    def name_of(self, provider: Provider) -> str:
        """The name that ``provider`` has in the registry."""
        named = (name for name, each in self._providers.items() if name and each is provider)
        return next(named, "")

    def served(self, provider: Provider) -> ServedModel:
        """What the registry is told of ``provider``; nothing is known of one that is not there."""
        name = self.name_of(provider)
        unknown = ServedModel(name, provider.name)
        return next((each for each in self.models if each.name == name), unknown)
