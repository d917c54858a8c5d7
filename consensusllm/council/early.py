"""Calls of models that begin while their question is still being chosen.

Consensus then costs a reader nothing: its round trips pass while the model reads the prompt. What
such a call says is held back until the question stands in the applied state as it was foreseen, and
the call is that candidate's from then on; where the question came to stand otherwise, or not at
all, the call is ended unseen. So only models whose calls cost nothing are asked like this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from consensusllm.llm.port import Chunk, GenerateRequest, Provider

from .generation import Generation

EARLY_S = 1.0
"""How long a question may take to be chosen; then its early calls are ended."""


class EarlyCall:
    """One call of ``provider``, under way up to its first chunk. An iterator of its chunks."""

    def __init__(self, provider: Provider, request: GenerateRequest) -> None:
        self.provider = provider
        self.request = request
        self._chunks = provider.generate(request)
        self._first: asyncio.Task[Chunk] | None = asyncio.create_task(self._chunk())

    def __aiter__(self) -> EarlyCall:
        return self

    async def __anext__(self) -> Chunk:
        if self._first is None:
            return await self._chunk()
        first = await self._first
        self._first = None
        return first

    async def aclose(self) -> None:
        """End the call at the provider."""
        if self._first is not None:
            self._first.cancel()
            await asyncio.wait({self._first})
            if not self._first.cancelled():
                self._first.exception()  # else asyncio complains that nobody has seen it
        await self._chunks.aclose()

    async def _chunk(self) -> Chunk:
        return await anext(self._chunks)


class EarlyCalls:
    """Those of one node, by the generations that they are to become."""

    def __init__(self) -> None:
        self._calls: dict[Generation, tuple[EarlyCall, asyncio.TimerHandle]] = {}
        self._ending: dict[asyncio.Task[None], None] = {}  # in order, so that runs can be repeated

    def __len__(self) -> int:
        return len(self._calls)

    def begin(self, key: Generation, provider: Provider, request: GenerateRequest) -> None:
        """Ask ``provider`` for what will be ``key``, if nobody was asked for it yet."""
        if key not in self._calls:
            timer = asyncio.get_running_loop().call_later(EARLY_S, self.drop, key)
            self._calls[key] = EarlyCall(provider, request), timer

    def take(
        self, key: Generation, provider: Provider, request: GenerateRequest
    ) -> EarlyCall | None:
        """The call that began early for ``key``, now the caller's to close; None where there is
        none, or where it asked something else."""
        call, timer = self._calls.get(key, (None, None))
        if call is None or timer is None:
            return None
        if call.provider is not provider or call.request != request:
            self.drop(key)
            return None
        timer.cancel()
        del self._calls[key]
        return call

    def drop(self, key: Generation) -> None:
        """End the call for ``key``, where there is one."""
        call, timer = self._calls.pop(key, (None, None))
        if call is not None and timer is not None:
            timer.cancel()
            task = asyncio.create_task(call.aclose())
            self._ending[task] = None
            task.add_done_callback(self._ending.pop)

    def keep(self, most: int, kept: Collection[Generation]) -> None:
        """End the oldest calls but ``most`` (>= 0) of them; those for ``kept`` stay and do not
        count."""
        others = [key for key in self._calls if key not in kept]
        for key in others[: max(0, len(others) - most)]:
            self.drop(key)

    async def close(self) -> None:
        for key in list(self._calls):
            self.drop(key)
        await asyncio.gather(*self._ending, return_exceptions=True)
