"""A conversation as a JSON document with all that is known of it, and back.

    {
      "format": "consensusllm-conversation",
      "version": 2,
      "conversation": {
        "conversation": "c1",
        "revision": 7,
        "turns": [
          {
            "turn": 1,
            "question": "What is Paxos?",
            "choice": 2,                     the chosen candidate's number
            "candidates": [{"number": 1, "node": 1, "model": "m", "error": "timed out", ...}, ...],
            ...
          }
        ],
        ...
      },
      "councils": [{"turn": 1, "outcome": 7, "degraded": [...], ...}],   see tally.findings
      "links": ["9f...", ...],               of each turn
      "head": "3c..."                        the last link
    }

The conversation and all in it are the records of `conversations.records`, field by field; what has
its default is left out. Links and head make the hash chain of `conversations.chain`: a reader
refuses a document that they do not fit, and one whose councils did not find what it says. One
without them can be read, but not verified. A reader refuses a version and keys that it does not
know, so nothing is dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from consensusllm.client.errors import InvalidRequest
from consensusllm.conversations import chain
from consensusllm.conversations.documents import MalformedDocument, from_document, to_document
from consensusllm.conversations.history import contradiction, last_revision
from consensusllm.conversations.records import TIME_MAX_MS, Conversation
from consensusllm.conversations.tally import findings

FORMAT = "consensusllm-conversation"
VERSION = 2

_KEYS = {"format", "version", "conversation", "councils", "links", "head"}
_LINK = re.compile(r"[0-9a-f]{64}")


class Altered(InvalidRequest):
    """The document is not what was exported: some turn does not fit its link."""


@dataclass(frozen=True, slots=True)
class Export:
    """What a document holds. ``links`` is None where it has none."""

    conversation: Conversation
    links: tuple[str, ...] | None
    head: str


def export(conversation: Conversation) -> dict[str, Any]:
    """The JSON document of ``conversation``."""
    links = chain.links(conversation)
    return {
        "format": FORMAT,
        "version": VERSION,
        "conversation": to_document(conversation),
        **({"councils": found} if (found := _councils(conversation)) else {}),
        "links": links,
        "head": chain.head(conversation),
    }


def read_export(document: object) -> Export:
    """What ``document`` holds, verified as far as it has links.

    Raises Altered, naming the first turn that does not fit, and InvalidRequest, naming the place,
    for anything that `export` does not write.
    """
    if not isinstance(document, Mapping):
        raise InvalidRequest("the document must be a JSON object")
    if "format" not in document:
        raise InvalidRequest("the document says no format: give one that export made")
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        told = "version" in document
        version = f"version {document['version']!r:.40}" if told else "without a version"
        raise InvalidRequest(
            f"the document is {document['format']!r:.40} {version}: "
            f"only {FORMAT!r} version {VERSION} can be read"
        )
    for key in sorted(document.keys() - _KEYS, key=str):
        raise InvalidRequest(f"the document has {key!r:.80}, which is not known")
    try:
        found = from_document(Conversation, document.get("conversation"), "conversation")
    except MalformedDocument as error:
        raise InvalidRequest(str(error)) from None
    links, head = document.get("links"), document.get("head")
    if (links is None) is not (head is None):
        raise InvalidRequest("the document has one of 'links' and 'head': give both or neither")
    if links is not None:
        if not isinstance(links, list) or not all(map(_is_link, links)) or not _is_link(head):
            raise InvalidRequest("links and head must be strings of 64 hexadecimal digits")
        _check_links(found, links, str(head))
    _check_stamps(found)
    councils = document.get("councils")
    if councils is not None and councils != _councils(found):
        raise Altered("what the councils found does not fit what is said in them")
    return Export(found, None if links is None else tuple(links), chain.head(found))


def _councils(conversation: Conversation) -> list[dict[str, Any]]:
    return [findings(turn) for turn in conversation.turns if turn.council is not None]


def _is_link(value: object) -> bool:
    return isinstance(value, str) and _LINK.fullmatch(value) is not None


def _check_links(conversation: Conversation, links: list[str], head: str) -> None:
    actual = chain.links(conversation)
    for number, (link, recorded) in enumerate(zip(actual, links, strict=False), 1):
        if link != recorded:
            raise Altered(f"turn {number} does not fit: it, or its link, was altered")
    if len(links) != len(actual):
        number = min(len(links), len(actual)) + 1
        what = "has no link" if len(actual) > len(links) else "is missing"
        raise Altered(f"turn {number} does not fit: it {what}")
    if head != chain.head(conversation):
        raise Altered("the head does not fit: it is not the last link")


def _check_stamps(conversation: Conversation) -> None:
    created_ms, updated_ms = conversation.created_ms, conversation.updated_ms
    if not 0 <= created_ms <= updated_ms <= TIME_MAX_MS:
        raise Altered(f"it cannot be created at {created_ms} ms and updated at {updated_ms} ms")
    before = 0
    for index, turn in enumerate(conversation.turns):
        wrong = contradiction(turn)
        if turn.turn != index + 1:
            wrong = f"it says that it is turn {turn.turn}"
        elif turn.asked_revision <= before:
            wrong = "it was asked before the turn before it"
        elif last_revision(turn) > conversation.revision:
            wrong = f"it changed after revision {conversation.revision}, the conversation's"
        if wrong:
            raise Altered(f"turn {index + 1} does not fit: {wrong}")
        before = turn.asked_revision
