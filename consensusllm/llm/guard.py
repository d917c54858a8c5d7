"""What stands in front of every provider: time, size, retries and concurrency.

A call is tried again only until its first text was handed on, so that no reader ever sees text
twice; only where the error says that another try may succeed; and never sooner than the provider
asked. Whatever a provider raises, a `port.ProviderError` comes out. A call that ends without a word
is an error, since nobody can choose an empty answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import stamina

from .port import (
    Chunk,
    GenerateRequest,
    Malformed,
    Provider,
    ProviderError,
    Rejected,
    TimedOut,
    Unavailable,
)
from .settings import Limits, Timeouts

T = TypeVar("T")

CLOSE_TIMEOUT_S = 5.0
"""How long a provider may take to end a call that is no longer wanted."""


class Guarded:
    """``provider`` within ``timeouts`` and ``limits``. A call waits for one of ``concurrency``
    places before its time begins to run."""

    def __init__(self, provider: Provider, timeouts: Timeouts, limits: Limits) -> None:
        self.name = provider.name
        self.model = provider.model
        self.continues = provider.continues
        self._provider = provider
        self._timeouts = timeouts
        self._limits = limits
        self._places = asyncio.Semaphore(limits.concurrency)
        self._steps: set[asyncio.Task[Any]] = set()
        self._closings: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"Guarded({self._provider!r})"

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        async with self._places:
            deadline = _now() + self._timeouts.total_s
            stream, chunk = await self._begin(request, deadline)
            try:
                size_bytes = 0
                while True:
                    size_bytes += len(chunk.text.encode(errors="replace"))
                    if size_bytes > self._limits.max_answer_bytes:
                        limit = self._limits.max_answer_bytes
                        raise Malformed(f"{self.name}: the answer is over {limit} bytes")
                    if chunk.finish_reason and not size_bytes and not request.prefix:
                        raise self._empty(chunk.finish_reason)
                    yield chunk
                    if chunk.finish_reason:
                        return
                    chunk = await self._next(stream, _now() + self._timeouts.idle_s, deadline)
            finally:
                await self._release(stream)

    async def models(self) -> tuple[str, ...]:
        return await self._within(
            self._provider.models(), self._timeouts.first_token_s, "list its models"
        )

    async def aclose(self) -> None:
        self._closed = True
        for step in self._steps:
            step.cancel()
        under_way = self._steps | self._closings
        if under_way:
            await asyncio.wait(under_way, timeout=CLOSE_TIMEOUT_S)
        await self._provider.aclose()

    async def _begin(
        self, request: GenerateRequest, deadline: float
    ) -> tuple[AsyncGenerator[Chunk, None], Chunk]:
        """The stream and its first text (or its end), after as many tries as it takes."""

        def again(error: Exception) -> bool | float:
            if not isinstance(error, ProviderError) or not error.retryable or self._closed:
                return False
            wait_s = error.retry_after_s
            if wait_s is None:
                return _now() < deadline
            return wait_s <= min(self._limits.retry_after_max_s, deadline - _now()) and wait_s

        limits = self._limits
        async for attempt in stamina.retry_context(
            on=again,
            attempts=limits.attempts,
            timeout=None,
            wait_initial=limits.backoff_initial_s,
            wait_max=limits.backoff_max_s,
            wait_jitter=limits.backoff_initial_s,
        ):
            with attempt:
                stream = self._provider.generate(request)
                try:
                    first_by = _now() + self._timeouts.first_token_s
                    while True:
                        chunk = await self._next(stream, first_by, deadline)
                        if chunk.text or chunk.finish_reason:
                            return stream, chunk
                except BaseException:
                    await self._release(stream)
                    raise
        raise AssertionError("the last try returns or raises")

    async def _next(
        self, stream: AsyncGenerator[Chunk, None], chunk_by: float, deadline: float
    ) -> Chunk:
        whole = deadline <= chunk_by
        timeout_s = min(deadline, chunk_by) - _now()
        what = f"finish within {self._timeouts.total_s:g} s" if whole else "send text in time"
        chunk = await self._within(_advance(stream), timeout_s, what)
        if chunk is None:
            raise Unavailable(f"{self.name}: the answer was cut off")
        return chunk

    async def _within(self, work: Coroutine[Any, Any, T], timeout_s: float, what: str) -> T:
        """Run ``work`` in a task of its own, so that time, cancellation and closing can end it."""
        if self._closed:
            work.close()
            raise Unavailable(f"{self.name}: closed")
        step = self._spawn(work, self._steps)
        try:
            await asyncio.wait({step}, timeout=max(0.0, timeout_s))
            if not step.done():
                raise TimedOut(f"{self.name}: did not {what}")
        finally:
            # Waited for and not awaited: its end must not hide that this task is cancelled.
            if not step.done():
                step.cancel()
                await asyncio.wait({step}, timeout=CLOSE_TIMEOUT_S)
        if step.cancelled():
            raise Unavailable(f"{self.name}: closed")
        error = step.exception()
        if error is None:
            return step.result()
        if isinstance(error, ProviderError):
            raise error
        raise Malformed(f"{self.name}: failed unexpectedly ({type(error).__name__})") from None

    async def _release(self, stream: AsyncGenerator[Chunk, None]) -> None:
        """End the call at the provider; a provider that cannot even do that is left behind."""
        closing = self._spawn(_close(stream), self._closings)
        await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT_S)

    def _empty(self, finish_reason: str) -> ProviderError:
        if finish_reason == "filtered":
            return Rejected(f"{self.name}: the provider's filter withheld the answer")
        if finish_reason == "length":
            return Rejected(f"{self.name}: max_tokens was used up before the first word")
        return Malformed(f"{self.name}: gave an empty answer")

    def _spawn(
        self, work: Coroutine[Any, Any, T], tasks: set[asyncio.Task[Any]]
    ) -> asyncio.Task[T]:
        def ended(task: asyncio.Task[T]) -> None:
            tasks.discard(task)
            if not task.cancelled():
                task.exception()  # else asyncio complains where nobody waits any more

        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(ended)
        return task


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _advance(stream: AsyncGenerator[Chunk, None]) -> Chunk | None:
    return await anext(stream, None)


async def _close(stream: AsyncGenerator[Chunk, None]) -> None:
    with suppress(Exception):
        await stream.aclose()
