"""One event of a stream in the shape of OpenAI's chat completions, which many servers and packages
speak: a choice with a piece of text, and in the end a word for why it ended, and the usage."""

from __future__ import annotations

from typing import Any

from .faults import Faults
from .port import Chunk, FinishReason, Unavailable

_FINISH: dict[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "filtered",
    "safety": "filtered",
}
"""Every other word that ends a choice is taken for "stop": servers have many."""
_BROKEN_OFF = ("abort", "aborted", "cancelled", "error", "insufficient_system_resource")


def chunk_of(event: Any, faults: Faults) -> Chunk:
    """The event as the port has it; its types are not checked. Raises Unavailable where the server
    says that it broke the answer off."""
    text = ""
    finish: FinishReason = ""
    for choice in (event.choices or ())[:1]:
        delta = choice.delta
        text = getattr(delta, "content", None) or getattr(delta, "refusal", None) or ""
        if choice.finish_reason:
            word = choice.finish_reason.lower()
            if word in _BROKEN_OFF:
                raise Unavailable(faults.line("the server broke the answer off", word))
            finish = _FINISH.get(word, "stop")
    usage = getattr(event, "usage", None)
    return Chunk(
        text=text,
        finish_reason=finish,
        model=event.model or "",
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
    )
