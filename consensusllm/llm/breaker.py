"""A provider that is left alone for a while after it has failed again and again.

A circuit breaker (Nygard, *Release It!*, chapter 5): after THRESHOLD calls that failed in a row it
is open, and calls fail at once; after COOL_DOWN_S the next call is let through, and decides. Others
are let through again once it has written something.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import HALF_OPENED, OpenedState
from purgatory.service._async.circuitbreaker import AsyncCircuitBreaker

from .port import (
    Chunk,
    GenerateRequest,
    Provider,
    ProviderError,
    RateLimited,
    Rejected,
    Unavailable,
)

THRESHOLD = 5
COOL_DOWN_S = 30.0

_NO_WORD = (asyncio.CancelledError, GeneratorExit, Rejected, RateLimited)
"""Who stops a call, or asks for what the model does not do, or more often than it may, says nothing
of the provider: neither that it failed nor that it works."""


class Breaking:
    """``provider`` behind a breaker of its own. Implements port.Provider."""

    def __init__(
        self, provider: Provider, threshold: int = THRESHOLD, cool_down_s: float = COOL_DOWN_S
    ) -> None:
        self.name = provider.name
        self.model = provider.model
        self.continues = provider.continues
        self._provider = provider
        self._cause = ""
        self._deciding = False  # a call is under way that was let through
        self._works = False  # one that was let through has written something
        self._breakers = AsyncCircuitBreakerFactory(threshold, cool_down_s)

    def __repr__(self) -> str:
        return f"Breaking({self._provider!r})"

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        breaker = await self._breakers.get_breaker(self.name)
        if self._deciding:
            raise self._left_alone(breaker)
        try:
            await breaker.__aenter__()
        except OpenedState as opened:
            # It is the same one each time, and would keep every request that it refuses. It counts
            # on the wall clock: one that is set back shall not make the wait longer.
            opened.__traceback__ = None
            opened.opened_at = min(opened.opened_at, time.time())
            raise self._left_alone(breaker) from None
        decides = breaker.context.state == HALF_OPENED and not self._works
        self._deciding = decides
        try:
            async with aclosing(self._provider.generate(request)) as chunks:
                async for chunk in chunks:
                    if decides:
                        self._deciding = decides = False
                        self._works = breaker.context.state == HALF_OPENED
                    yield chunk
        except _NO_WORD:
            raise
        except BaseException as error:
            if isinstance(error, ProviderError):
                self._cause = str(error).removeprefix(f"{self.name}: ")
            self._works = False
            await breaker.__aexit__(type(error), error, None)
            raise
        else:
            await breaker.__aexit__(None, None, None)
        finally:
            if decides:
                self._deciding = False

    def _left_alone(self, breaker: AsyncCircuitBreaker) -> Unavailable:
        return Unavailable(
            f"{self.name}: left alone after {breaker.context.threshold} failures in a row, "
            f"the last one: {self._cause}"
        )

    async def models(self) -> tuple[str, ...]:
        return await self._provider.models()

    async def aclose(self) -> None:
        await self._provider.aclose()
