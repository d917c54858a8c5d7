"""Simulated model calls: quick, slow, failing, dying in the middle, silent.

No two calls say the same, so a recorded text tells which calls it came from. Models of some nodes
can go on with another's text.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from random import Random

from consensusllm.conversations.commands import ServedModel
from consensusllm.llm.port import Chunk, GenerateRequest, TimedOut, Unavailable
from consensusllm.llm.rankings import labels_of, ranking

ECHOED_CHARACTERS = 60
RANKS = 0.8
"""How often a model that is asked for a ranking gives one."""


MAX_TOKENS = 1000
PRICE = 1_000_000
"""Of a million tokens, so that a token costs 1."""

SHARED_NAMES = 2
"""Nodes whose numbers leave the same rest serve their models under the same name."""


@dataclass(slots=True)
class Mood:
    """How the models of a cluster do: rates from 0.0 to 1.0, and a factor on every wait."""

    failing: float = 0.02
    dying: float = 0.02
    silent: float = 0.01
    slowness: float = 1.0


class SimulatedModel:
    """The one model of ``node``. Implements llm.port.Provider. ``early``: it is asked while the
    question is still being chosen, whatever it costs."""

    name = "simulated"

    def __init__(self, node: int, rng: Random, mood: Mood, figures: Counter[str]) -> None:
        self.model = f"model-{node}"
        self.continues = rng.random() < 0.6
        self.early = node % 2 == 0
        self._node = node
        self._rng = rng
        self._mood = mood
        self._figures = figures

    def served(self, life: int) -> ServedModel:
        """What the registry is told of it: one price in a node's odd lives, twice that in others,
        as if the configuration were changed with each start."""
        price = PRICE * (2 - life % 2)
        return ServedModel(
            f"shared-{self._node % SHARED_NAMES}",
            self.name,
            self.model,
            max_tokens=MAX_TOKENS,
            prompt_price=price,
            completion_price=2 * price,
        )

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        mood, rng = self._mood, self._rng
        self._figures["model calls"] += 1
        call = self._figures["model calls"]
        dice = rng.random()
        pieces = rng.randrange(1, 6)
        waits_s = [mood.slowness * rng.expovariate(8.0) for _ in range(pieces)]
        if dice < mood.failing + mood.silent:
            self._figures["model failures"] += 1
            if dice < mood.silent:
                await asyncio.sleep(600.0)
                raise TimedOut("simulated: nothing came")
            raise Unavailable("simulated: no connection")
        dies = dice < mood.failing + mood.silent + mood.dying
        for piece, wait_s in enumerate(waits_s):
            await asyncio.sleep(wait_s)
            if dies and piece >= pieces // 2:
                self._figures["model failures"] += 1
                raise Unavailable("simulated: the stream was cut")
            said = request.turns[-1].text[:ECHOED_CHARACTERS]
            yield Chunk(text=f"[{call}.{piece}] {said} ", model=self.model)
        labels = list(labels_of(request))
        if labels and rng.random() < RANKS:  # others say nothing that can be read as a ranking
            rng.shuffle(labels)
            yield Chunk(text=ranking(f"{call}", labels), model=self.model)
        # Most do not say what they read; one that does may count a token a byte.
        read = _bytes_read(request) if call % 3 == 0 else None
        written = min(pieces, request.max_tokens or MAX_TOKENS)
        yield Chunk(
            finish_reason="stop", model=self.model, prompt_tokens=read, completion_tokens=written
        )

    async def models(self) -> tuple[str, ...]:
        return (self.model,)

    async def aclose(self) -> None:
        """There is nothing to close."""


def _bytes_read(request: GenerateRequest) -> int:
    read = (request.system or "", request.prefix, *(turn.text for turn in request.turns))
    return sum(len(text.encode()) for text in read)
