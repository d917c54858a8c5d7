"""Whether a conversation is what it was: by the hash chain, over nodes and over time.

Every node computes nothing for it: a client reads the nodes' copies and hashes them itself. A copy
that lags is compared with the newer one as that was at the copy's revision.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from consensusllm.client.errors import ConsensusError, InvalidRequest
from consensusllm.conversations import chain
from consensusllm.conversations.history import at_revision
from consensusllm.conversations.records import Conversation

_HEAD = re.compile(r"[0-9a-fA-F]{64}")


class NotExtended(ConsensusError):
    """The conversation never had the head that was noted: it is another one, or was altered."""


@dataclass(frozen=True, slots=True)
class NodeCopy:
    """A node's copy at ``revision`` (0: it has none, None: it could not be read, for ``trouble``).

    ``differs_from`` is the first turn that is not as it was, or as it is now; 0: all agree.
    """

    address: str
    node: int
    revision: int | None = None
    differs_from: int = 0
    trouble: str = ""

    @staticmethod
    def compared(address: str, node: int, copy: Conversation, found: Conversation) -> NodeCopy:
        """The copy against what was ``found`` by a linearizable read, earlier or later."""
        revision = min(copy.revision, found.revision)
        mine = chain.links(at_revision(copy, revision))
        theirs = chain.links(at_revision(found, revision))
        pairs = zip([*mine, ""], [*theirs, ""], strict=False)
        differs = next((number for number, (a, b) in enumerate(pairs, 1) if a != b), 0)
        return NodeCopy(address, node, copy.revision, differs)


@dataclass(frozen=True, slots=True)
class Verification:
    """The conversation as it is, and the nodes' copies."""

    conversation: Conversation
    copies: tuple[NodeCopy, ...]

    @property
    def head(self) -> str:
        """64 hexadecimal digits: to be noted, and given to `found_at` another day."""
        return chain.head(self.conversation)


def found_at(conversation: Conversation, noted: str) -> tuple[int, int]:
    """The first and the last revision at which the conversation had the head that was ``noted``.

    What stood then still stands, and the rest was added. Raises NotExtended where there is none,
    and InvalidRequest where ``noted`` is no head."""
    if not isinstance(noted, str) or not _HEAD.fullmatch(noted):
        raise InvalidRequest(f"{noted!r:.80} is no head: give 64 hexadecimal digits")
    found = chain.revisions_of_head(conversation, noted.lower())
    if found is None:
        raise NotExtended(
            f"{conversation.conversation} never had the head {noted.lower()}: what stood then was"
            " altered, or it was the head of another conversation"
        )
    return found
