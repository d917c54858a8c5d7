"""The providers by name: those of this package, and those that installed packages add.

A package adds one by an entry point of the group `GROUP`, whose name is the provider's and whose
object makes it of its `settings.ProviderSettings` (docs/PROVIDERS.md).
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

GROUP = "consensusllm.providers"
OURS = ("builtin", "gemini", "litellm", "llamacpp", "ollama", "openai", "scripted")


def plugin(name: str) -> EntryPoint | None:
    """Where an installed package has the provider ``name``, which is none of ours."""
    return next(iter(entry_points(group=GROUP, name=name)), None) if name not in OURS else None


def known() -> tuple[str, ...]:
    """The names of all providers, ours first."""
    return (*OURS, *sorted(entry_points(group=GROUP).names - {*OURS}))
