"""The hash chain of a conversation's turns: a head that vouches for all of it.

A turn's link is SHA-256(the link of the turn before ‖ SHA-256(the turn's canonical JSON)); the
first turn follows 32 zero bytes. Canonical JSON is the turn's document (see documents.py), keys
sorted, no blanks, ASCII. The head is the last link, in hexadecimal. It does not cover the
conversation's id, so a rename keeps it and a fork shares the links of what it copied; nor the text
of a candidate that is open, which a takeover may still drop.

A turn goes on changing: it is answered, retried, chosen. But its past can be rebuilt (history.py),
so a head that was noted at one revision can be looked for in every later state: where it is found,
all that stood then still stands, and the rest was added.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from itertools import groupby

from .documents import to_document
from .history import turn_at
from .records import Conversation, Turn

BEGINNING = bytes(32)


def links(conversation: Conversation) -> list[str]:
    """The link of each turn in order, 64 hexadecimal digits each."""
    return [link.hex() for link in _extended([], map(_digest, conversation.turns))]


def head(conversation: Conversation) -> str:
    """The last link; of a conversation without turns, 64 zeros."""
    return (links(conversation) or [BEGINNING.hex()])[-1]


def heads(conversation: Conversation) -> Iterator[tuple[int, str]]:
    """``(revision, head)`` as it was from that revision on, for each that changed it, in order.

    A revision costs a hash for each turn from the first that it changed: little, where turns are
    chosen one after the other.
    """
    chain: list[bytes] = []
    digests: list[bytes] = []
    yield 1, BEGINNING.hex()
    changes = sorted(
        (revision, index)
        for index, turn in enumerate(conversation.turns)
        for revision in _revisions(turn)
    )
    for revision, group in groupby(changes, key=lambda change: change[0]):
        changed = [index for _, index in group]
        for index in changed:
            digests[index : index + 1] = [_digest(turn_at(conversation.turns[index], revision))]
        chain = _extended(chain[: changed[0]], iter(digests[changed[0] :]))
        yield revision, chain[-1].hex()


def revisions_of_head(conversation: Conversation, noted: str) -> tuple[int, int] | None:
    """The first and the last revision at which the head was ``noted``; None where it never was."""
    changes = heads(conversation)
    for first, found in changes:
        if found == noted:
            following = next((revision for revision, each in changes if each != noted), 0)
            return first, following - 1 if following else conversation.revision
    return None


def _extended(chain: list[bytes], digests: Iterator[bytes]) -> list[bytes]:
    """``chain`` with a link for each turn that ``digests`` are of."""
    link = chain[-1] if chain else BEGINNING
    for digest in digests:
        link = sha256(link + digest).digest()
        chain.append(link)
    return chain


def _digest(turn: Turn) -> bytes:
    """The hash of the turn's canonical JSON."""
    settled = replace(
        turn,
        candidates=tuple(
            each if each.ended else replace(each, text="", cost=0) for each in turn.candidates
        ),
    )
    text = json.dumps(to_document(settled), sort_keys=True, separators=(",", ":"))
    return sha256(text.encode("ascii")).digest()


def _revisions(turn: Turn) -> set[int]:
    """The revisions at which what is hashed of the turn changed."""
    found = {turn.asked_revision + 1, *(each.revision for each in turn.retries)}
    if turn.choice_revision:
        found.add(turn.choice_revision)
    for candidate in turn.candidates:
        found |= {candidate.opened_revision, *(each.revision for each in candidate.takeovers)}
        if candidate.hedge is not None:
            found.add(candidate.hedge.revision)
        if candidate.ended:
            found.add(candidate.ended_revision)
    return found
