"""The providers by name: those of this package, and those that installed packages add.

A package adds one by an entry point of the group `GROUP`, whose name is the provider's and whose
object makes it of its `settings.ProviderSettings` (docs/PROVIDERS.md). They are looked for where a
name is not ours, and not before: that reads what is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "consensusllm.providers"
OURS = ("builtin", "gemini", "litellm", "llamacpp", "ollama", "openai", "scripted")
DEFAULT_MODELS = {"builtin": "builtin", "gemini": "gemini-flash-latest", "scripted": "scripted"}
"""The model that answers where the configuration names none, of those that have one."""
BY_HOST = ("auto", "ollama")
"""Those whose server may be given without ``http://``."""
BY_URL = (*BY_HOST, "gemini", "litellm", "openai")
"""Those that have a server."""


def plugin(name: str) -> EntryPoint | None:
    """Where an installed package has the provider ``name``, which is none of ours."""
    if name in OURS:
        return None
    from importlib.metadata import entry_points

    return next(iter(entry_points(group=GROUP, name=name)), None)


def known() -> tuple[str, ...]:
    """The names of all providers, ours first."""
    from importlib.metadata import entry_points

    return (*OURS, *sorted(entry_points(group=GROUP).names - {*OURS}))
