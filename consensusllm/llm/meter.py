"""A provider whose calls are counted and timed, for whoever wants to know how it does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from .port import Chunk, GenerateRequest, Provider, ProviderError

ANSWERS_KEPT = 200
ERROR_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class _Answer:
    latency_s: float
    writing_s: float
    tokens: int


class Metered:
    """``provider``, with its calls since the process began. Implements port.Provider.

    ``in_flight`` are calls under way, those that wait for a place included; ``last_error`` is ""
    where the last call to end went well.
    """

    def __init__(self, provider: Provider) -> None:
        self.name = provider.name
        self.model = provider.model
        self.continues = provider.continues
        self.in_flight = 0
        self.last_error = ""
        self._provider = provider
        self._answers: deque[_Answer] = deque(maxlen=ANSWERS_KEPT)

    def __repr__(self) -> str:
        return f"Metered({self._provider!r})"

    @property
    def tokens_per_second(self) -> float:
        """Of the last answers, from their first text to their end; 0.0: not known yet."""
        writing_s = sum(each.writing_s for each in self._answers)
        return sum(each.tokens for each in self._answers) / writing_s if writing_s else 0.0

    def latency_ms(self, percent: int) -> int:
        """The time that ``percent`` (1 to 100) of the last answers took at most; 0: none yet."""
        return round(1000 * _percentile([each.latency_s for each in self._answers], percent))

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        now = asyncio.get_running_loop().time
        begun = now()
        first: float | None = None
        pieces = 0
        self.in_flight += 1
        try:
            async with aclosing(self._provider.generate(request)) as chunks:
                async for chunk in chunks:
                    if chunk.text:
                        first = first or now()
                        pieces += 1
                    if chunk.finish_reason:
                        end = now()
                        tokens = chunk.completion_tokens or pieces
                        self._answers.append(_Answer(end - begun, end - (first or end), tokens))
                        self.last_error = ""
                    yield chunk
        except ProviderError as error:
            self.last_error = str(error)[:ERROR_CHARACTERS]
            raise
        finally:
            self.in_flight -= 1

    async def models(self) -> tuple[str, ...]:
        return await self._provider.models()

    async def aclose(self) -> None:
        await self._provider.aclose()


def _percentile(values: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile; 0.0 of nothing."""
    ordered = sorted(values)
    return ordered[-(-len(ordered) * percent // 100) - 1] if ordered else 0.0
