"""What this machine has: a Gemini key, else an Ollama that runs and has a model, else nothing.

Owns the order and the wording of the reason. Asks Ollama for its models, which is free, and asks
nobody for text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .guard import Guarded
from .ollama import Ollama
from .port import ProviderError
from .sdk import require
from .settings import ProviderSettings

PROBE_TIMEOUT_S = 2.0
"""How long Ollama may take to list its models before it counts as absent."""

KEY_NAMES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")


async def resolve(
    settings: ProviderSettings, environment: Mapping[str, str]
) -> tuple[ProviderSettings, str]:
    """Settings that name a provider in place of "auto", and why in one line.

    Settings that name one already come back as they are. Raises nothing.
    """
    if settings.provider != "auto":
        return settings, f"{settings.provider} is configured"
    missing = []
    for name in KEY_NAMES:
        key = settings.api_key or environment.get(name, "")
        if key:
            try:
                require("gemini", "httpx", "google.genai")
            except ProviderError as error:
                missing.append(f"{name} is set, but {error}")
                break
            source = "an API key is configured" if settings.api_key else f"{name} is set"
            # base_url, where there is one, is Ollama's: no key goes there.
            gemini = replace(settings, provider="gemini", api_key=key, base_url="")
            return gemini, f"gemini: {source}"
    ollama = replace(settings, provider="ollama", api_key="")
    try:
        models = await _models(ollama)
    except ProviderError as error:
        missing.append(str(error))
    else:
        wanted = settings.model or next(iter(models), "")
        if wanted:
            reason = f"ollama: it runs and has the model {wanted}"
            return replace(ollama, model=wanted), reason
        missing.append("ollama: it runs but has no model: ollama pull one")
    reason = f"builtin: no Gemini key and no Ollama ({'; '.join(missing)})"
    return replace(settings, provider="builtin", model="", base_url="", api_key=""), reason


async def _models(settings: ProviderSettings) -> tuple[str, ...]:
    """The models that can chat: those for embeddings cannot."""
    timeouts = replace(settings.timeouts, connect_s=1.0, first_token_s=PROBE_TIMEOUT_S)
    provider = Guarded(Ollama(replace(settings, timeouts=timeouts)), timeouts, settings.limits)
    try:
        return tuple(name for name in await provider.models() if "embed" not in name)
    finally:
        await provider.aclose()
