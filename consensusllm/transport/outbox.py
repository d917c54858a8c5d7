"""A queue between code that must not block and the one task that writes a stream.

It is bounded in count and in bytes. What does not fit is refused at the door (the newest is lost,
and counted): a reader that is slow sees old messages late rather than a hole in their middle, and
the protocol resends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

ENVELOPE_OVERHEAD_BYTES = 128
"""What an envelope may cost on the wire besides its body and kind; the cluster id is in it."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may wait for one reader: both bounds are at least 1."""

    max_items: int = 16_384
    max_bytes: int = 32 * 1024 * 1024

    @classmethod
    def for_messages(cls, max_message_bytes: int) -> QueueLimits:
        """Room for two of the largest messages."""
        return cls(max_bytes=2 * max_message_bytes)


class Outbox(Generic[Item]):
    """First in, first out, for one reader; everything is called on one event loop.

    ``dropped`` counts what was refused since the outbox was made.
    """

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._items: deque[tuple[int, Item]] = deque()
        self._size_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def put(self, item: Item, size_bytes: int) -> bool:
        """Queue ``item``; False when it was refused because the outbox is full or closed."""
        if (
            self._closed
            or len(self._items) >= self._limits.max_items
            or self._size_bytes + size_bytes > self._limits.max_bytes
        ):
            self.dropped += 1
            return False
        self._items.append((size_bytes, item))
        self._size_bytes += size_bytes
        if self._waiter is not None:
            self._wake()
        return True

    async def take(self, max_bytes: int) -> list[Item] | None:
        """Wait for something, take all up to ``max_bytes`` but at least one; None at the end."""
        while not self._items:
            if self._closed:
                return None
            assert self._waiter is None, "an outbox has one reader"
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._size_bytes <= max_bytes:
            taken = [item for _, item in self._items]
            self.clear()
            return taken
        taken = []
        taken_bytes = 0
        while self._items and (not taken or taken_bytes + self._items[0][0] <= max_bytes):
            size_bytes, item = self._items.popleft()
            taken_bytes += size_bytes
            taken.append(item)
        self._size_bytes -= taken_bytes
        return taken

    def discard(self, unwanted: Callable[[Item], bool]) -> None:
        """Take out every item that is ``unwanted``."""
        kept = [(size, item) for size, item in self._items if not unwanted(item)]
        self._items = deque(kept)
        self._size_bytes = sum(size for size, _ in kept)

    def clear(self) -> None:
        """Forget everything that waits."""
        self._items.clear()
        self._size_bytes = 0

    def close(self) -> None:
        """Take nothing more; the reader is told once it has taken what waits."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
