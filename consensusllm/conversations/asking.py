"""What the model of a candidate is asked: a function of the state and of the model alone, so that
whoever takes the candidate over asks the same, and what a stopped call read can be told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from .commands import GenerationOptions, ServedModel, Usage
from .context_window import estimated_tokens, fitted
from .council_prompts import answer_schema, sampling_seed
from .prompt import Prompt, candidate_system_prompt, prompt, prompt_hash
from .records import Candidate, Turn


@dataclass(frozen=True, slots=True)
class Asked:
    """``prompt`` with ``options`` (temperature, max_tokens, seed and system only); a review is
    held to ``schema`` where that can be. ``left_out`` of the earlier turns are not in it: they do
    not fit a model that has ``context_tokens`` (0: not known)."""

    prompt: Prompt
    options: GenerationOptions
    schema: dict[str, object] | None = None
    left_out: int = 0
    context_tokens: int = 0

    @property
    def hash(self) -> str:
        """As in prompt.py."""
        return prompt_hash(self.prompt, self.options)

    def usage(self, prefix: str, written: str) -> Usage:
        """An estimate of what a call used that was to go on behind ``prefix`` and has ``written``
        this so far."""
        read = (self.options.system or "", prefix, *(text for _, text in self.prompt))
        return Usage(estimated_tokens(read), estimated_tokens([written]), estimated=True)


def asked(
    turn: Turn, candidate: Candidate, served: ServedModel, earlier: Callable[[int], Turn]
) -> Asked:
    """What ``served`` is asked for ``candidate`` of ``turn``, however much of it is written yet;
    ``earlier(number)`` gives a turn of the same conversation. Raises TooLong."""
    system = candidate_system_prompt(turn, candidate)
    schema = answer_schema(turn, candidate)
    limits = (turn.options.max_tokens, served.max_tokens)
    max_tokens = min((tokens for tokens in limits if tokens), default=None)
    sent, left_out = fitted(
        prompt(turn, candidate, earlier),
        (system or "", json.dumps(schema) if schema else ""),
        served.context_tokens,
        max_tokens,
    )
    options = GenerationOptions(
        turn.options.temperature, max_tokens, sampling_seed(turn, candidate), system
    )
    return Asked(sent, options, schema, left_out, served.context_tokens)
