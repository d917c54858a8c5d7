"""The part of the client that carries conversations in and out of a cluster, and verifies them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from consensusllm.client import checks
from consensusllm.client.base import BaseCalls
from consensusllm.client.errors import ConsensusError, NotFound
from consensusllm.client.export import export
from consensusllm.client.imports import import_conversation
from consensusllm.client.nodes import Nodes
from consensusllm.client.status import Status
from consensusllm.client.verify import NodeCopy, Verification
from consensusllm.conversations.records import Conversation


class HistoryCalls(BaseCalls):
    """What it needs of `Client`: its plain calls, and one for each node alone."""

    _nodes: Nodes
    _pinned_to: Callable[[list[str]], AbstractAsyncContextManager[HistoryCalls]]
    delete: Callable[..., Awaitable[None]]
    status: Callable[..., Awaitable[Status]]
    view: Callable[..., Awaitable[Conversation]]

    async def export_conversation(
        self, conversation: str, *, stale: bool = False, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """The conversation as a JSON document with all that is known of it (see `export`);
        ``stale`` as in `view`."""
        return export(await self.view(conversation, stale=stale, timeout_s=timeout_s))

    async def import_conversation(
        self,
        conversation: Conversation,
        name: str,
        *,
        timeout_s: float | None = None,
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Make ``conversation``, from `read_conversations`, the one of the id ``name``, whole or
        not at all. What was still open in it is imported as not answered.

        It is built under a temporary id, which begins with ``.import-``, and renamed at the end.
        ``timeout_s`` is for each step; after each, ``tell`` is given how many of how many are done.
        What could not be removed after a failure or a cancellation is named in the error's text.
        Raises InvalidRequest, AlreadyExists, TooLarge.
        """
        checks.conversation_id(name)
        await import_conversation(
            conversation,
            name,
            carry_out=lambda step: self._command(step, timeout_s),
            discard=self.delete,
            tell=tell,
        )

    async def verify(self, conversation: str, *, timeout_s: float | None = None) -> Verification:
        """The conversation as it is now, and whether the copy of each member that answers is the
        same, or the same up to where it lags (see `verify`).

        Raises NotFound, and Unavailable where no majority answers."""
        found = await self.view(conversation, timeout_s=timeout_s)
        members = (await self.status(timeout_s=timeout_s)).members
        told = [each.address for each in members if each.address]
        copies = await asyncio.gather(
            *(
                self._copy(address, found, timeout_s)
                for address in dict.fromkeys([*self._nodes.addresses, *told])
            )
        )
        # A node may have two addresses, and one that was given may be of a node that was removed.
        nodes = {each.node for each in members}
        by_node = {
            copy.node or copy.address: copy
            for copy in copies
            if copy.node in nodes or (not copy.node and copy.address in told)
        }
        return Verification(found, tuple(by_node.values()))

    async def _copy(self, address: str, found: Conversation, timeout_s: float | None) -> NodeCopy:
        """What the node at ``address`` has of the conversation that was ``found``."""
        node = 0
        async with self._pinned_to([address]) as client:
            try:
                node = (await client.status(timeout_s=timeout_s)).node
                copy = await client.view(found.conversation, stale=True, timeout_s=timeout_s)
            except NotFound:
                return NodeCopy(address, node, 0)
            except ConsensusError as error:
                return NodeCopy(address, node, trouble=str(error))
        return NodeCopy.compared(address, node, copy, found)
