"""What a provider is asked for a candidate: the state's prompt as the provider's request."""

from __future__ import annotations

from consensusllm.conversations.asking import Asked
from consensusllm.conversations.commands import Usage
from consensusllm.llm.port import GenerateRequest, Turn


def request_of(asked: Asked, prefix: str, *, others: bool) -> GenerateRequest:
    """To go on behind ``prefix``; what is asked is the same with and without one. ``others``: there
    is who can stand in."""
    return GenerateRequest(
        turns=tuple(Turn(role, text) for role, text in asked.prompt),
        system=asked.options.system,
        temperature=asked.options.temperature,
        max_tokens=asked.options.max_tokens,
        seed=asked.options.seed,
        prefix=prefix,
        schema=asked.schema,
        others=others,
    )


def estimated(asked: Asked, prefix: str, written: str) -> Usage:
    """What a call used that has ended, and whose provider did not say. One that failed before its
    first text has used nothing."""
    return asked.usage(prefix, written) if written else Usage(0, 0, estimated=True)
