"""What the model of a candidate is asked: a function of the state and of the model alone, so that
whoever takes the candidate over asks the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from consensusllm.conversations.commands import GenerationOptions, ServedModel, Usage
from consensusllm.conversations.context_window import estimated_tokens, fitted
from consensusllm.conversations.council_prompts import answer_schema, sampling_seed
from consensusllm.conversations.machine import Machine
from consensusllm.conversations.prompt import candidate_system_prompt, prompt_hash
from consensusllm.conversations.records import Candidate, Turn
from consensusllm.llm.port import GenerateRequest
from consensusllm.llm.port import Turn as Message


class Asked(NamedTuple):
    """``left_out`` of the earlier turns are not in the request: they do not fit a model that has
    ``context_tokens`` (0: not known)."""

    request: GenerateRequest
    left_out: int = 0
    context_tokens: int = 0

    @property
    def prompt_hash(self) -> str:
        """Of what is sent, as in prompt.py."""
        request = self.request
        options = GenerationOptions(
            request.temperature, request.max_tokens, request.seed, request.system
        )
        return prompt_hash(tuple((turn.role, turn.text) for turn in request.turns), options)


def asked(
    machine: Machine,
    conversation: str,
    turn: Turn,
    candidate: Candidate,
    served: ServedModel,
    prefix: str,
) -> Asked:
    """What ``served`` is asked for ``candidate`` of ``turn``, to go on behind ``prefix``. The
    prompt is the same with and without one. Raises TooLong."""
    system = candidate_system_prompt(turn, candidate)
    schema = answer_schema(turn, candidate)
    limits = (turn.options.max_tokens, served.max_tokens)
    max_tokens = min((tokens for tokens in limits if tokens), default=None)
    prompt, left_out = fitted(
        machine.prompt(conversation, turn, candidate),
        (system or "", json.dumps(schema) if schema else ""),
        served.context_tokens,
        max_tokens,
    )
    request = GenerateRequest(
        turns=tuple(Message(role, text) for role, text in prompt),
        system=system,
        temperature=turn.options.temperature,
        max_tokens=max_tokens,
        seed=sampling_seed(turn, candidate),
        prefix=prefix,
        schema=schema,
    )
    return Asked(request, left_out, served.context_tokens)


def estimated(request: GenerateRequest, pieces: Sequence[str]) -> Usage:
    """What a call used whose provider did not say. One that failed before its first text has used
    nothing."""
    if not any(pieces):
        return Usage(0, 0, estimated=True)
    return Usage(_read(request), estimated_tokens(pieces), estimated=True)


def stopped(request: GenerateRequest) -> Usage:
    """What a call used that was stopped before its first text: its prompt was read by then."""
    return Usage(_read(request), 0, estimated=True)


def _read(request: GenerateRequest) -> int:
    read = (request.system or "", request.prefix, *(turn.text for turn in request.turns))
    return estimated_tokens(read)
