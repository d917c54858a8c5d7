"""The models that a node serves, made of its configuration.

Each is a provider to be called, an entry for the replicated registry, and a line of the node's
status; one that cannot be made is only the last of these.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import structlog

from consensusllm.config import Config, ModelConfig, NodeConfig
from consensusllm.conversations import Limits as StateLimits
from consensusllm.conversations.commands import ServedModel
from consensusllm.llm import auto, registry
from consensusllm.llm.breaker import Breaking
from consensusllm.llm.meter import Metered
from consensusllm.llm.port import Probing, ProviderError
from consensusllm.llm.settings import Limits, ProviderSettings, Timeouts

log = structlog.get_logger()

NAME_BYTES = 256
"""What the registry takes of a model's exact name, and of its server's."""

OWN_MACHINES = frozenset({"builtin", "llamacpp", "ollama", "scripted"})
"""Providers whose models run on machines of the cluster's owner, where a call that nobody needs
costs nothing."""

MICRO = 1_000_000
"""Prices are configured in the currency, and counted in millionths of it."""


@dataclass(frozen=True, slots=True)
class OwnModel:
    """``provider`` is None where the model cannot be served, and ``note`` then says why.
    ``probing`` looks at the model's server for free; None where that cannot be done. ``early``: it
    is asked while a question is still being chosen."""

    served: ServedModel
    note: str
    provider: Metered | None
    probing: Probing | None = None
    early: bool = False


async def make_models(
    config: Config, own: NodeConfig, environment: Mapping[str, str]
) -> list[OwnModel]:
    """One for each of the node's configured models, in their order. Raises nothing: one that
    cannot be made costs the others nothing."""
    made: list[OwnModel] = []
    for model in own.models:
        settings = _settings(config, own, model)
        taken = {each.served.name for each in made}
        try:
            settings, reason = await auto.resolve(settings, environment)
            made.append(_made(own, model, settings, reason, taken))
        except Exception as error:
            why = f"{settings.provider}: cannot be made ({type(error).__name__}): check its options"
            if isinstance(error, ProviderError):  # whose words hold no key
                why = str(error)
            log.error("a model cannot be served", model=settings.model, error=why)
            served = _served(model, settings.provider, settings.model, taken)
            made.append(OwnModel(served, why, None))
    return made


def _made(
    own: NodeConfig,
    model: ModelConfig,
    settings: ProviderSettings,
    reason: str,
    taken: Collection[str],
) -> OwnModel:
    guarded = registry.make_provider(settings)
    provider = Metered(Breaking(guarded))
    server = _server(settings.provider, guarded.server, own.id)
    served = _served(model, settings.provider, provider.model, taken)
    early = model.early
    if early is None:
        early = settings.provider in OWN_MACHINES and not model.has_price
    log.info("serving a model", provider=settings.provider, reason=reason)
    probing = guarded if server else None
    return OwnModel(replace(served, server=server), reason, provider, probing, early)


def _served(model: ModelConfig, provider: str, exact: str, taken: Collection[str]) -> ServedModel:
    wanted = model.known_name or re.sub(r"[^A-Za-z0-9._:/+-]", "-", exact) or provider
    name = wanted = wanted.lstrip("._:/+-")[:120] or provider
    number = 1
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return ServedModel(
        name=name,
        provider=provider,
        model=exact.encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore"),
        context_tokens=model.context_tokens or 0,
        max_tokens=model.max_tokens or 0,
        prompt_price=round(model.price.prompt * MICRO),
        completion_price=round(model.price.completion * MICRO),
        tags=model.tags,
        fallbacks=model.fallbacks,
        hedge_ms=round(1000 * (model.hedge_after_s or 0)),
    )


def _server(provider: str, server: str, node: int) -> str:
    """What the registry calls the ``server`` of a provider: nodes that mean the same one, and only
    they, call it the same. "": it cannot be looked at."""
    if not server:
        return ""
    try:
        host = urlsplit(server).hostname or "localhost"
    except ValueError:
        return ""
    own = host == "localhost" or host.endswith(".localhost")
    try:
        address = ipaddress.ip_address(host)
        own = address.is_loopback or address.is_unspecified
    except ValueError:
        pass
    name = f"{provider} {server} of node {node}" if own else f"{provider} {server}"
    return name if len(name.encode("utf-8", "replace")) <= NAME_BYTES else ""


def _settings(config: Config, own: NodeConfig, model: ModelConfig) -> ProviderSettings:
    answering = config.answering
    return ProviderSettings(
        provider=model.provider,
        model=model.model,
        base_url=model.base_url or "",
        api_key=model.api_key.reveal() if model.api_key else "",
        node=own.id,
        context_tokens=model.context_tokens or 0,
        timeouts=Timeouts(
            first_token_s=answering.first_token_timeout_ms / 1000,
            idle_s=answering.idle_timeout_ms / 1000,
            # A call ends with its turn, whose deadline may be any up to this, and move meanwhile.
            total_s=StateLimits().deadline_ms / 1000,
        ),
        limits=Limits(
            max_answer_bytes=config.limits.answer_bytes,
            concurrency=answering.concurrency,
            attempts=answering.retries + 1,
        ),
        options=model.options,
    )
