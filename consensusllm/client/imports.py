"""A conversation from elsewhere made one of this cluster: whole, or not at all.

It is built under a temporary id and renamed at the end, so nobody sees half of it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from consensusllm.client import foreign
from consensusllm.client.errors import ConsensusError, InvalidRequest, NotFound, OutcomeUnknown
from consensusllm.client.export import read_export
from consensusllm.conversations.commands import (
    IMPORT_PREFIX,
    CreateConversation,
    ImportTurn,
    Operation,
    Rename,
)
from consensusllm.conversations.records import Conversation
from consensusllm.wire.records import turn_to_proto

STILL_OPEN = "not answered yet when it was exported: retry it to ask again"


def read_conversations(document: Any) -> list[Conversation]:
    """The conversations of a JSON ``document``: one of ours, or ChatGPT's or Open WebUI's export.

    Which it is is told by its content. Raises InvalidRequest, naming the place.
    """
    if isinstance(document, Mapping) and "format" in document:
        return [read_export(document).conversation]
    conversations = foreign.read(document)
    if conversations is None:
        raise InvalidRequest(
            "the document is no conversation: export makes one, and ChatGPT's conversations.json"
            " and Open WebUI's export can be read"
        )
    return conversations


async def import_conversation(
    conversation: Conversation,
    name: str,
    *,
    carry_out: Callable[[Operation], Awaitable[object]],
    discard: Callable[[str], Awaitable[object]],
    tell: Callable[[int, int], None],
) -> None:
    """Make ``conversation`` the one of the id ``name`` by ``carry_out``; ``discard`` removes what
    was begun. ``tell`` is given how many steps of how many are done.

    Candidates that are open are imported as ended. Raises InvalidRequest for a conversation that
    cannot be, and what ``carry_out`` raises.
    """
    temporary = f"{IMPORT_PREFIX}{os.urandom(8).hex()}"
    turns = _import_turns(conversation, temporary)
    times = (conversation.created_ms, conversation.updated_ms)
    rename = Rename(temporary, name, *(times if all(times) else ()))
    steps: list[Operation] = [CreateConversation(temporary, conversation.system), *turns, rename]
    for number, step in enumerate(steps, 1):
        try:
            await carry_out(step)
            if step is not rename:
                tell(number, len(steps))
        except BaseException as error:
            removed = await _discard(discard, temporary, error)
            if step is rename and isinstance(error, OutcomeUnknown) and not removed:
                break  # nothing was left to remove, so the rename did happen
            raise
    tell(len(steps), len(steps))


def _import_turns(conversation: Conversation, temporary: str) -> list[ImportTurn]:
    steps = []
    for turn in conversation.turns:
        if not turn.closed:
            turn = turn.closed_because(STILL_OPEN, conversation.revision + 1)
        try:
            turn_to_proto(turn)
        except (ValueError, TypeError) as error:
            raise InvalidRequest(f"turn {turn.turn} cannot be imported: {error}") from None
        steps.append(ImportTurn(temporary, turn))
    return steps


async def _discard(
    discard: Callable[[str], Awaitable[object]], temporary: str, error: BaseException
) -> bool:
    """Whether there was something to remove; ``error``, or a cancellation that comes meanwhile, is
    told where it could not be."""
    left = f"what was imported is left as {temporary}: delete it"
    try:
        await discard(temporary)
    except NotFound:
        return False
    except ConsensusError:
        error.args = (f"{error}; {left}" if str(error) else left,)
    except asyncio.CancelledError as cancelled:
        cancelled.args = (left,)
        raise
    return True
