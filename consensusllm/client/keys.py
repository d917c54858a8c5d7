"""The calls on plain keys."""

from __future__ import annotations

from consensusllm.client import checks
from consensusllm.client.base import BaseCalls
from consensusllm.conversations.commands import CompareAndSwap, DeleteKey, Put
from consensusllm.wire.generated import client_pb2


class KeyCalls(BaseCalls):
    """The part of `Client` that reads and writes keys."""

    async def put(self, key: str, value: bytes, *, timeout_s: float | None = None) -> None:
        """Set ``key`` (1 to 512 characters) to ``value`` (at most 1 MiB)."""
        await self._command(Put(checks.key(key), checks.value(value)), timeout_s)

    async def get(
        self, key: str, *, stale: bool = False, timeout_s: float | None = None
    ) -> bytes | None:
        """The value of ``key``, or None where it is absent."""
        reply = await self._read(client_pb2.Read(stale=stale, key=checks.key(key)), timeout_s)
        return None if reply.not_found else reply.key_value.value

    async def compare_and_swap(
        self,
        key: str,
        expected: bytes | None,
        new: bytes | None,
        *,
        timeout_s: float | None = None,
    ) -> None:
        """Set ``key`` to ``new`` where it holds ``expected``; None stands for absent.

        Raises Conflict, whose ``.current`` is the value that stands."""
        expected = None if expected is None else checks.value(expected)
        new = None if new is None else checks.value(new)
        await self._command(CompareAndSwap(checks.key(key), expected, new), timeout_s)

    async def delete_key(self, key: str, *, timeout_s: float | None = None) -> None:
        """Remove ``key``. Raises NotFound."""
        await self._command(DeleteKey(checks.key(key)), timeout_s)

    async def keys(
        self,
        prefix: str = "",
        *,
        after: str = "",
        limit: int = 0,
        stale: bool = False,
        timeout_s: float | None = None,
    ) -> list[str]:
        """The keys that begin with ``prefix``, in order, after ``after``; ``limit`` 0 is all."""
        found: list[str] = []
        prefix, after = checks.text(prefix, "a prefix"), checks.text(after, "a key")
        limit = checks.number(limit, "limit")
        while True:
            wanted = client_pb2.ListKeys(
                prefix=prefix, after=after, limit=limit and limit - len(found)
            )
            reply = await self._read(client_pb2.Read(stale=stale, keys=wanted), timeout_s)
            page = list(reply.keys.keys)
            found += page
            if not (page and reply.keys.more) or 0 < limit <= len(found):
                return found
            after = page[-1]
