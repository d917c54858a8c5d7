"""What a provider is configured with: plain frozen data, already validated and expanded.

Keys come in here as values, from the environment or the config; they are kept out of every repr.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Timeouts:
    """All in seconds, above 0.

    ``first_token_s`` runs until the first text of a try, ``idle_s`` between two pieces of text,
    ``total_s`` over the whole call with its retries.
    """

    connect_s: float = 5.0
    first_token_s: float = 60.0
    idle_s: float = 30.0
    total_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Limits:
    """``attempts`` >= 1 counts the first try; ``concurrency`` >= 1 is calls at a time.

    Where a provider asks to wait longer than ``retry_after_max_s``, its refusal is the outcome.
    """

    max_answer_bytes: int = 4 << 20
    concurrency: int = 4
    attempts: int = 3
    backoff_initial_s: float = 0.5
    backoff_max_s: float = 8.0
    retry_after_max_s: float = 30.0


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """``provider`` is a name of `registry.PROVIDERS`. Empty strings are "not said".

    ``node`` is the replica that this provider answers for; ``options`` are the provider's own.
    ``context_tokens`` is what the model is to read and write in all (0: not said), for a provider
    that makes room for it.
    """

    provider: str
    model: str = ""
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    node: int = 0
    context_tokens: int = 0
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    options: Mapping[str, object] = field(default_factory=dict)
