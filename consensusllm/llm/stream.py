"""One call's chunks, taken from the provider as they come, for a reader that may be slower.

A task of its own takes them, so that the reader can stop waiting at any time without breaking into
the provider, and a chunk costs no task. What has gathered is read as one chunk: a node with many
streams reads each of them less often, and spends less on a token.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from .port import Chunk

AHEAD = 256
"""Chunks that are taken before they are read; then the provider waits."""


class Stream:
    """Owns ``chunks`` and closes it. `task` is done when the provider is done with the call."""

    def __init__(self, chunks: AsyncGenerator[Chunk, None]) -> None:
        self._source = chunks
        self._taken: deque[Chunk] = deque()
        self._closing = False
        self._wake_reader: Callable[[], None] = _nobody
        self._wake_taker: Callable[[], None] = _nobody
        self.task = asyncio.create_task(self._take_all())
        self.task.add_done_callback(lambda _: self._wake_reader())

    async def read(self, timeout_s: float) -> Chunk | None:
        """All that has come, as one chunk; None at the end of the stream, or where it was closed.
        Raises asyncio.TimeoutError, and what the provider raised, once all that came before has
        been read."""
        if not self._taken and not self.task.done():
            await self._news(timeout_s)
        if self._taken:
            self._wake_taker()
            return self._merged()
        if not self.task.done():
            raise asyncio.TimeoutError
        if not self.task.cancelled():
            self.task.result()
        return None

    def close(self) -> None:
        """End the call at the provider; `task` is done when that has happened."""
        self._closing = True
        self.task.cancel()

    async def _take_all(self) -> None:
        try:
            async for chunk in self._source:
                self._taken.append(chunk)
                self._wake_reader()
                if self._closing or chunk.finish_reason:
                    return
                if len(self._taken) >= AHEAD:
                    await self._room()
        finally:
            with suppress(Exception):
                await self._source.aclose()

    async def _news(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        woken = loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        timer = loop.call_later(max(0.0, timeout_s), wake)
        self._wake_reader = wake
        try:
            await woken
        finally:
            self._wake_reader = _nobody
            timer.cancel()

    async def _room(self) -> None:
        room = asyncio.Event()
        self._wake_taker = room.set
        await room.wait()
        self._wake_taker = _nobody

    def _merged(self) -> Chunk:
        if len(self._taken) == 1:
            return self._taken.popleft()
        *before, last = self._taken
        self._taken.clear()
        model = next((chunk.model for chunk in (last, *before) if chunk.model), "")
        return Chunk(
            "".join([*(chunk.text for chunk in before), last.text]),
            last.finish_reason,
            model,
            last.prompt_tokens,
            last.completion_tokens,
        )


def _nobody() -> None:
    """Nobody waits."""
