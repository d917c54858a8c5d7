"""The command that shows the messages between the nodes as they pass: trace."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from datetime import datetime, timezone
from json import dumps

from consensusllm.orchestrator.client import TraceEvent

from .language import JSON, NUMBER, WORD, Command, Flag, Group, Parameter
from .lexer import Misuse
from .session import Session

KINDS = (
    "pre_vote",
    "pre_vote_reply",
    "heartbeat",
    "heartbeat_reply",
    "prepare",
    "promise",
    "nack",
    "accept",
    "accepted",
    "commit",
    "catch_up",
    "catch_up_reply",
    "compacted",
    "snapshot_request",
    "snapshot_chunk",
    "rejoin",
    "rejoined",
    "timeout_now",
    "forward",
    "forward_refused",
    "read_index",
    "read_index_reply",
    "stream",
)
"""The kinds of messages, as envelopes name them."""

_FATE_STYLES = {"delivered": "green", "duplicated": "yellow"}


async def trace(
    session: Session, what: tuple[str, ...] = (), count: int = 0, json: bool = False
) -> None:
    kinds = [word.lower() for word in what if word.lower() in KINDS]
    conversations = [word for word in what if word.lower() not in KINDS]
    await _check_conversations(session, conversations)
    shown = 0
    events = (await session.faults()).trace(kinds)
    assert isinstance(events, AsyncGenerator), "a trace can be closed"
    async with aclosing(events) as stream:
        async for event in stream:
            if event.skipped and not json:
                session.output.line((f"… {event.skipped} more came too fast to show", "dim"))
            if conversations and not any(_names(event, each) for each in conversations):
                continue
            if json:
                session.output.line(dumps(asdict(event)))
            else:
                _show(session, event)
            shown += 1
            if shown == count:
                return


async def _check_conversations(session: Session, conversations: list[str]) -> None:
    """Raise Misuse for a word that is neither a kind nor a conversation: it would show nothing."""
    if not conversations:
        return
    existing = {each.conversation for each in await session.client.conversations(stale=True)}
    for word in conversations:
        if word not in existing:
            raise Misuse(f"{word!r} is no conversation and no kind: kinds are {', '.join(KINDS)}")


def _names(event: TraceEvent, conversation: str) -> bool:
    return conversation in event.summary.replace(",", " ").replace(":", " ").split()


def _show(session: Session, event: TraceEvent) -> None:
    moment = datetime.fromtimestamp(event.time_ms / 1000, timezone.utc)
    session.output.line(
        (f"{moment:%H:%M:%S}.{event.time_ms % 1000:03}", "dim"),
        f"  {event.src} → {event.dst}  ",
        (f"{event.kind:<16}", "cyan"),
        "  ",
        (f"{event.fate:<10}", _FATE_STYLES.get(event.fate, "red")),
        f"  {event.size_bytes} B  {event.summary}",
    )


COMMANDS = (
    Command(
        "trace",
        Group.CLUSTER,
        "show the nodes' messages as they pass, until Ctrl-C",
        trace,
        (Parameter("what", WORD, optional=True, repeated=True, metavar="KIND|ID"),),
        (Flag("count", NUMBER), JSON),
        detail=(
            f"The kinds are {', '.join(KINDS)}. With a conversation, only messages whose summary "
            "names it. --count ends it after so many messages. --json prints an object a line."
        ),
        example="trace prepare promise --count 10",
    ),
)
