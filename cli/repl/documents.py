"""What commands print with --json: one object or one array, of all that they know."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from consensusllm.client import Conversation, Turn, money
from consensusllm.conversations.documents import to_document
from consensusllm.conversations.tally import findings

from .output import Output


def print_json(output: Output, document: object) -> None:
    output.line(json.dumps(document, indent=2))


def tell(output: Output, as_json: bool, line: str, **document: object) -> None:
    """Say what was done: as a ``line``, or as an object of what it was done to."""
    if as_json:
        print_json(output, document)
    else:
        output.line(line)


def turn_document(turn: Turn) -> dict[str, Any]:
    """Amounts are in the currency; a council comes with what it found."""
    document = asdict(turn)
    for candidate in document["candidates"]:
        for amount in ("cost", "reserved"):
            candidate[amount] = money(candidate[amount])
    if turn.council is not None:
        document |= {"council": to_document(turn.council), "findings": findings(turn)}
    return document


def conversation_document(found: Conversation) -> dict[str, Any]:
    return {
        "conversation": found.conversation,
        "revision": found.revision,
        "system": found.system,
        "created_ms": found.created_ms,
        "updated_ms": found.updated_ms,
        "turns": [turn_document(turn) for turn in found.turns],
    }
