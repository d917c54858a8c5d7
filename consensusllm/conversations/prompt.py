"""The prompt of a candidate, rebuilt from the replicated history: the same on every node."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Literal, TypeAlias

from .commands import GenerationOptions
from .council_prompts import council_question, instructions
from .records import Candidate, Turn

Prompt: TypeAlias = tuple[tuple[Literal["user", "assistant"], str], ...]
"""(role, text) in order; the last one of a whole prompt is the user's question."""


def context(turn: Turn, earlier: Callable[[int], Turn]) -> tuple[tuple[int, int], ...]:
    """``(turn, candidate)`` of the choices that stood when the question was asked, in order.

    ``earlier(number)`` gives a turn of the same conversation. Choices made later do not count, so
    that a second attempt, or a retry, sees what the first one saw.
    """
    return tuple(
        (number, before.choice)
        for number in range(1, turn.turn)
        if 0 < (before := earlier(number)).choice_revision <= turn.asked_revision
    )


def prompt(turn: Turn, candidate: Candidate, earlier: Callable[[int], Turn]) -> Prompt:
    """The questions of the context with their chosen answers, then what is asked now."""
    return (*history(turn, earlier), ("user", question(turn, candidate)))


def history(turn: Turn, earlier: Callable[[int], Turn]) -> Prompt:
    """The questions of the context with their chosen answers: the same for all candidates."""
    messages: list[tuple[Literal["user", "assistant"], str]] = []
    for number, choice in context(turn, earlier):
        before = earlier(number)
        chosen = before.candidate(choice)
        assert chosen is not None, "a choice names a candidate of its turn"
        messages += [("user", before.question), ("assistant", chosen.text)]
    return tuple(messages)


def question(turn: Turn, candidate: Candidate) -> str:
    """The turn's own question, or what the candidate's seat in a council is to do about it."""
    return turn.question if turn.council is None else council_question(turn, candidate)


def system_prompt(options: GenerationOptions) -> str | None:
    """What the model is told before the conversation: its role, then the system prompt."""
    parts = [part for part in (options.role, options.system) if part]
    return "\n\n".join(parts) if parts else options.system


def candidate_system_prompt(turn: Turn, candidate: Candidate) -> str | None:
    """What the candidate's model is told beside the conversation: what the query asks for, then
    what its seat in a council is told. None where there is nothing."""
    parts = [system_prompt(turn.options) or "", *instructions(turn, candidate)]
    return "\n\n".join(filter(None, parts)) or None


def prompt_hash(prompt: Prompt, options: GenerationOptions) -> str:
    """64 hexadecimal digits: SHA-256 of all that a model is asked, as canonical JSON (sorted keys,
    no spaces, ASCII). Whoever has the question, its context without what was left out of it, and
    its options can take it again."""
    asked = {
        "messages": [list(message) for message in prompt],
        "system": system_prompt(options),
        "temperature": options.temperature,
        "max_tokens": options.max_tokens,
        "seed": options.seed,
    }
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode("ascii")).hexdigest()
