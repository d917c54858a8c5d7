"""An exported document made into a conversation: whole, or not at all.

It is built under a temporary id and renamed at the end, so nobody sees half of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from consensusllm.client import export
from consensusllm.client.errors import ConsensusError, NotFound, OutcomeUnknown
from consensusllm.conversations.commands import CreateConversation, Operation, Rename


async def import_document(
    document: Mapping[str, Any],
    name: str,
    *,
    carry_out: Callable[[Operation], Awaitable[object]],
    discard: Callable[[str], Awaitable[object]],
    tell: Callable[[int, int], None],
) -> None:
    """Make ``document`` the conversation ``name`` by ``carry_out``; ``discard`` removes what was
    begun. ``tell`` is given how many steps of how many are done.

    Raises InvalidRequest for the document, and what ``carry_out`` raises.
    """
    temporary = f".import-{os.urandom(8).hex()}"
    turns = export.from_document(document, temporary)
    rename = Rename(temporary, name)
    steps: list[Operation] = [CreateConversation(temporary), *turns, rename]
    for number, step in enumerate(steps, 1):
        try:
            await carry_out(step)
            tell(number, len(steps))
        except (ConsensusError, asyncio.CancelledError) as error:
            removed = await _discard(discard, temporary, error)
            if step is rename and isinstance(error, OutcomeUnknown) and not removed:
                return  # nothing was left to remove, so the rename did happen
            raise


async def _discard(
    discard: Callable[[str], Awaitable[object]], temporary: str, error: BaseException
) -> bool:
    """Whether there was something to remove; ``error`` is told where it could not be."""
    try:
        await discard(temporary)
    except NotFound:
        return False
    except ConsensusError:
        error.args = (f"{error}; what was imported is left as {temporary}: delete it",)
    return True
