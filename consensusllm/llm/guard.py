"""What stands in front of every provider: time, size, retries and concurrency.

A call is tried again only until its first text was handed on, so that no reader ever sees text
twice; only where the error says that another try may succeed; and never sooner than the provider
asked, nor does another call begin before, where that is soon. Where somebody else can be asked, a
silence is waited for once, and a limit a moment only. Whatever a provider raises, an error of
`port` comes out, and whatever it says can be written as UTF-8. A call that ends without a word, or
with blanks alone, is an error, since nobody can choose an empty answer.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import stamina

from .port import (
    Bounded,
    Chunk,
    GenerateRequest,
    Malformed,
    Probe,
    Probing,
    Provider,
    ProviderError,
    RateLimited,
    Rejected,
    TimedOut,
    Unavailable,
    token_count,
)
from .settings import Limits, Timeouts
from .stream import Stream

T = TypeVar("T")

OTHERS_WAIT_S = 5.0
"""How long a provider may ask to wait where somebody else can be asked."""

CLOSE_TIMEOUT_S = 5.0
"""How long a provider may take to end a call that is no longer wanted."""


PROBE_TIMEOUT_S = 5.0
PROBE_ERROR_CHARACTERS = 200


class Guarded:
    """``provider`` within ``timeouts`` and ``limits``. A call waits for one of ``concurrency``
    places, or as many as the provider has, before its time begins to run. ``server`` is "" where
    the provider is no port.Probing."""

    def __init__(self, provider: Provider, timeouts: Timeouts, limits: Limits) -> None:
        self.name = provider.name
        self.model = provider.model
        self.continues = provider.continues
        self.server = provider.server if isinstance(provider, Probing) else ""
        self._provider = provider
        self._timeouts = timeouts
        self._limits = limits
        places = provider.places if isinstance(provider, Bounded) else limits.concurrency
        self._places = asyncio.Semaphore(min(places, limits.concurrency))
        self._ask_from = -math.inf  # as it said itself: no call begins before
        self._tasks: set[asyncio.Task[Any]] = set()
        self._streams: set[Stream] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"Guarded({self._provider!r})"

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        async with self._places:
            deadline = _now() + self._timeouts.total_s
            stream, chunk = await self._begin(request, deadline)
            try:
                size_bytes = 0
                said = bool(request.prefix)
                while True:
                    size_bytes += len(chunk.text.encode())
                    self._check_size(size_bytes)
                    said = said or not _is_blank(chunk)
                    if chunk.finish_reason and not said:
                        raise self._empty(chunk)
                    if chunk.text or chunk.finish_reason:
                        yield chunk
                    if chunk.finish_reason:
                        return
                    chunk = await self._next(stream, _now() + self._timeouts.idle_s, deadline)
            finally:
                await self._release(stream)

    async def models(self) -> tuple[str, ...]:
        limit_s = self._timeouts.first_token_s
        return await self._looked(self._provider.models(), limit_s, "did not list its models")

    async def probe(self, models: Sequence[str]) -> Sequence[Probe]:
        """Within PROBE_TIMEOUT_S. Raises ProviderError."""
        assert isinstance(self._provider, Probing), "what has a server can be looked at"
        found = await self._looked(
            self._provider.probe(models), PROBE_TIMEOUT_S, f"nothing within {PROBE_TIMEOUT_S:g} s"
        )
        if len(found) != len(models):
            raise Malformed(f"{self.name}: looked at {len(found)} models of {len(models)}")
        if not all(map(_is_probe, found)):
            raise Malformed(f"{self.name}: what it found is no Probe")
        return [
            Probe(each.loaded, _encodable(each.error)[:PROBE_ERROR_CHARACTERS]) for each in found
        ]

    async def aclose(self) -> None:
        self._closed = True
        for stream in self._streams:
            stream.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT_S)
        await self._provider.aclose()

    async def _looked(self, look: Coroutine[Any, Any, T], limit_s: float, late: str) -> T:
        """What ``look`` finds within ``limit_s``."""
        if self._closed:
            look.close()
            raise Unavailable(f"{self.name}: closed")
        looking = self._watched(asyncio.create_task(look))
        try:
            await asyncio.wait({looking}, timeout=limit_s)
            if not looking.done():
                raise TimedOut(f"{self.name}: {late}")
        finally:
            # Waited for and not awaited: its end must not hide that this task is cancelled.
            looking.cancel()
            await asyncio.wait({looking}, timeout=CLOSE_TIMEOUT_S)
        try:
            return looking.result()
        except asyncio.CancelledError:
            raise Unavailable(f"{self.name}: closed") from None
        except Exception as error:
            raise self._explained(error) from None

    async def _begin(self, request: GenerateRequest, deadline: float) -> tuple[Stream, Chunk]:
        """The stream and its first text (or its end), after as many tries as it takes.

        Blanks alone are no text yet. Who comes to no text in time is not asked again where somebody
        else can be; nor a model that has sent something all along, as one that thinks does: each
        time it would be paid for.
        """
        heard, first_by = False, math.inf

        def again(error: Exception) -> bool | float:
            if not isinstance(error, ProviderError) or not error.retryable or self._closed:
                return False
            if (heard or request.others) and _now() >= first_by:
                return False
            wait_s = error.retry_after_s
            if wait_s is None:
                return _now() < deadline
            if wait_s > limits.retry_after_max_s:
                return False
            self._ask_from = max(self._ask_from, _now() + wait_s)
            return wait_s <= min(most_s, deadline - _now()) and wait_s + self._apart_s(wait_s)

        limits = self._limits
        most_s = OTHERS_WAIT_S if request.others else limits.retry_after_max_s
        async for attempt in stamina.retry_context(
            on=again,
            attempts=limits.attempts,
            timeout=None,
            wait_initial=limits.backoff_initial_s,
            wait_max=limits.backoff_max_s,
            wait_jitter=limits.backoff_initial_s,
        ):
            with attempt:
                await self._hold(min(most_s, deadline - _now()))
                stream = self._open(request)
                heard = False
                try:
                    first_by = _now() + self._timeouts.first_token_s
                    blanks = ""
                    while True:
                        chunk = await self._next(stream, first_by, deadline)
                        heard = True
                        chunk = replace(chunk, text=blanks + chunk.text)
                        if chunk.finish_reason or not _is_blank(chunk):
                            return stream, chunk
                        blanks = chunk.text
                        self._check_size(len(blanks))
                except BaseException:
                    await self._release(stream)
                    raise
        raise AssertionError("the last try returns or raises")

    async def _hold(self, most_s: float) -> None:
        """Until the provider may be asked, as it told any call. Raises RateLimited where that is
        not within ``most_s``."""
        until = _now() + most_s
        while (wait_s := self._ask_from - _now()) > 0:
            if self._ask_from > until:
                why = f"{self.name}: it is not to be asked for {wait_s:.1f} s more, as it said"
                raise RateLimited(why, retry_after_s=wait_s)
            await asyncio.sleep(wait_s + self._apart_s(wait_s))

    def _apart_s(self, wait_s: float) -> float:
        """How much longer one of many waits that were told the same time."""
        return random.uniform(0.0, max(self._limits.backoff_initial_s, wait_s / 4))

    def _check_size(self, size_bytes: int) -> None:
        limit = self._limits.max_answer_bytes
        if size_bytes > limit:
            raise Malformed(f"{self.name}: the answer is over {limit} bytes")

    def _open(self, request: GenerateRequest) -> Stream:
        if self._closed:
            raise Unavailable(f"{self.name}: closed")
        stream = Stream(self._provider.generate(request))
        self._watched(stream.task)
        self._streams.add(stream)
        stream.task.add_done_callback(lambda _: self._streams.discard(stream))
        return stream

    async def _next(self, stream: Stream, chunk_by: float, deadline: float) -> Chunk:
        whole = deadline <= chunk_by
        what = f"finish within {self._timeouts.total_s:g} s" if whole else "send text in time"
        try:
            chunk = await stream.read(min(deadline, chunk_by) - _now())
            if chunk is not None:
                return replace(
                    chunk,
                    text=_encodable(chunk.text),
                    model=_encodable(chunk.model),
                    prompt_tokens=token_count(chunk.prompt_tokens),
                    completion_tokens=token_count(chunk.completion_tokens),
                )
        except asyncio.TimeoutError:
            raise TimedOut(f"{self.name}: did not {what}") from None
        except Exception as error:
            raise self._explained(error) from None
        why = "closed" if self._closed else "the answer was cut off"
        raise Unavailable(f"{self.name}: {why}")

    async def _release(self, stream: Stream) -> None:
        """End the call at the provider; a provider that cannot even do that is left behind."""
        stream.close()
        await asyncio.wait({stream.task}, timeout=CLOSE_TIMEOUT_S)

    def _explained(self, error: Exception) -> ProviderError:
        if isinstance(error, ProviderError):
            error.args = (_encodable(str(error)),)
            return error
        return Malformed(f"{self.name}: failed unexpectedly ({type(error).__name__})")

    def _empty(self, end: Chunk) -> ProviderError:
        error: ProviderError = Malformed(f"{self.name}: gave an empty answer")
        if end.finish_reason == "filtered":
            error = Rejected(f"{self.name}: the provider's filter withheld the answer")
        elif end.finish_reason == "length":
            error = Rejected(f"{self.name}: max_tokens was used up before the first word")
        error.ended = end
        return error

    def _watched(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        """``task``, to be ended by `aclose`."""

        def ended(task: asyncio.Task[T]) -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                task.exception()  # else asyncio complains where nobody waits any more

        self._tasks.add(task)
        task.add_done_callback(ended)
        return task


def _is_blank(chunk: Chunk) -> bool:
    return not chunk.text or chunk.text.isspace()


def _encodable(text: str) -> str:
    """``text``, with a question mark for each half of a surrogate pair: JSON can hold one, and
    nothing that travels between nodes can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _is_probe(found: object) -> bool:
    return (
        isinstance(found, Probe)
        and (found.loaded is None or isinstance(found.loaded, bool))
        and isinstance(found.error, str)
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
