"""From settings to a provider, always guarded. The one place that knows every provider's name."""

from __future__ import annotations

from collections.abc import Callable

from .builtin import Builtin
from .gemini import Gemini
from .guard import Guarded
from .ollama import Ollama
from .openai import OpenAI
from .port import Provider, Rejected
from .scripted import Scripted
from .settings import ProviderSettings

PROVIDERS: dict[str, Callable[[ProviderSettings], Provider]] = {
    "builtin": Builtin,
    "gemini": Gemini,
    "ollama": Ollama,
    "openai": OpenAI,
    "scripted": Scripted,
}


def make_provider(settings: ProviderSettings) -> Provider:
    """The provider that ``settings`` names, without touching the network.

    Raises Rejected: an unknown name, a missing package (naming the pip extra), key or option.
    "auto" is not a provider: `auto.resolve` turns it into one.
    """
    make = PROVIDERS.get(settings.provider)
    if make is None:
        known = ", ".join(sorted(PROVIDERS))
        raise Rejected(f'there is no provider "{settings.provider}": name one of {known}')
    return Guarded(make(settings), settings.timeouts, settings.limits)
