"""From settings to a provider, always guarded. The one place that knows every provider's name."""

from __future__ import annotations

from collections.abc import Callable

from consensusllm.provider_names import known, plugin

from .builtin import Builtin
from .gemini import Gemini
from .guard import Guarded
from .litellm import LiteLLM
from .llamacpp import LlamaCpp
from .ollama import Ollama
from .openai import OpenAI
from .port import Provider, ProviderError, Rejected
from .scripted import Scripted
from .settings import ProviderSettings

PROVIDERS: dict[str, Callable[[ProviderSettings], Provider]] = {
    "builtin": Builtin,
    "gemini": Gemini,
    "litellm": LiteLLM,
    "llamacpp": LlamaCpp,
    "ollama": Ollama,
    "openai": OpenAI,
    "scripted": Scripted,
}


def make_provider(settings: ProviderSettings) -> Guarded:
    """The provider that ``settings`` names, without touching the network.

    Raises Rejected: an unknown name, a missing package (naming the pip extra), key or option.
    "auto" is not a provider: `auto.resolve` turns it into one.
    """
    make = PROVIDERS.get(settings.provider) or _of_plugin(settings.provider)
    return Guarded(make(settings), settings.timeouts, settings.limits)


def _of_plugin(name: str) -> Callable[[ProviderSettings], Provider]:
    """What makes the provider ``name`` of an installed package. Raises Rejected."""
    found = plugin(name)
    if found is None:
        raise Rejected(f'there is no provider "{name}": name one of {", ".join(known())}')
    package = found.dist.name if found.dist else found.value

    def make(settings: ProviderSettings) -> Provider:
        try:
            made: Provider = found.load()(settings)
        except ProviderError:
            raise
        except Exception as error:
            raise Rejected(
                f"{name}: the package {package} cannot make it ({type(error).__name__}): "
                "install the version that fits"
            ) from error
        return made

    return make
