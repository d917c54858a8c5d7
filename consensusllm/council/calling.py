"""One call of a model for a candidate, and the record of how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import structlog

from consensusllm.conversations.asking import Asked
from consensusllm.conversations.commands import RecordCandidate, Usage
from consensusllm.llm.port import Chunk, GenerateRequest, Provider, ProviderError

from .asking import estimated
from .checkpoints import Checkpoints
from .early import EarlyCall
from .generation import Generation
from .port import Delta, ReplicaPort

log = structlog.get_logger()

ERROR_CHARACTERS = 2000
MODEL_CHARACTERS = 64

FREE_STREAMS = 8
STREAM_PAUSE_S = 0.001
STREAM_PAUSE_MAX_S = 0.25
"""Up to so many generations are passed on piece by piece. Of more, each pauses for so long, times
their number, from one piece to the next, so that what they cost the node does not grow with them:
text gathers meanwhile, and no vote waits behind it."""


async def call(
    port: ReplicaPort,
    key: Generation,
    provider: Provider,
    served_as: str,
    what: Asked,
    request: GenerateRequest,
    *,
    early: EarlyCall | None = None,
    checkpoints: Checkpoints,
    begins: Callable[[], Awaitable[None]],
    gather_s: Callable[[], float],
) -> RecordCandidate:
    """Ask ``provider``, which the registry has as ``served_as``, for ``what``, the
    candidate of ``key``, by ``request``, and pass on what it says. ``early`` is that call where it
    is under way already.

    ``begins`` is awaited with the first text, before anybody sees it, and ``gather_s`` says how
    long text is left to gather then. Closes ``checkpoints``.
    """
    prefix = request.prefix
    called = RecordCandidate(
        *key,
        text="",
        model=provider.model[:MODEL_CHARACTERS],
        finish_reason="",
        provider=provider.name,
        served_as=served_as,
        prompt_hash=what.hash,
        left_out=what.left_out,
        context_tokens=what.context_tokens,
    )
    pieces = [prefix]
    offset = len(prefix)
    if offset:
        port.publish(Delta(*key, 0, prefix, ""))
    last = Chunk()
    now = asyncio.get_running_loop().time
    first_at = 0.0
    try:
        async with aclosing(early or provider.generate(request)) as chunks:
            async for last in chunks:
                if last.text:
                    if not first_at:
                        first_at = now()
                        await begins()
                    port.publish(Delta(*key, offset, last.text, last.model))
                    checkpoints.add(last.text)
                    pieces.append(last.text)
                    offset += len(last.text)
                    if pause_s := gather_s():
                        await asyncio.sleep(pause_s)
    except ProviderError as error:
        usage = _usage(error.ended or Chunk(), what, prefix, "".join(pieces[1:]))
        return replace(failed(called, str(error)), usage=usage)
    except Exception as error:
        log.exception("a provider raised what it must not", provider=provider.name)
        record = failed(called, f"{provider.name}: failed unexpectedly ({type(error).__name__})")
        return replace(record, usage=estimated(what, prefix, "".join(pieces[1:])))
    finally:
        checkpoints.close()
    usage = _usage(last, what, prefix, "".join(pieces[1:]))
    writing_s = now() - first_at
    return replace(
        called,
        text="".join(pieces),
        model=last.model[:MODEL_CHARACTERS] or called.model,
        finish_reason=last.finish_reason,
        usage=usage,
        speed=round(1000 * (usage.completion_tokens or 0) / max(writing_s, 0.001)),
    )


def _usage(end: Chunk, what: Asked, prefix: str, text: str) -> Usage:
    """What the provider says, where it says both."""
    if end.prompt_tokens is None or end.completion_tokens is None:
        return estimated(what, prefix, text)
    return Usage(end.prompt_tokens, end.completion_tokens)


def gather_s(running: int) -> float:
    """How long each of ``running`` generations lets text gather before it passes it on."""
    return min(STREAM_PAUSE_MAX_S, running * STREAM_PAUSE_S) if running > FREE_STREAMS else 0.0


def failed(called: RecordCandidate, error: str) -> RecordCandidate:
    """The call ended without an answer."""
    return replace(called, text="", finish_reason="", error=error[:ERROR_CHARACTERS] or "no answer")
