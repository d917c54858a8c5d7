"""The membership in a snapshot: what the owner of a machine adds to the state.

It is that of the snapshot's own slot, so a node that begins from a snapshot counts votes as one
that applied the log.
"""

from __future__ import annotations

from collections.abc import Mapping

from consensusllm.conversations import MalformedSnapshot
from consensusllm.paxos.membership import MalformedMembership, Membership


def to_extra(membership: Membership, since: int) -> dict[str, object]:
    """``membership``, which slot ``since`` chose, as a snapshot holds it."""
    return {"membership": membership.encode().decode(), "since": since}


def from_extra(extra: Mapping[str, object]) -> tuple[Membership, int]:
    """``(membership, since)`` of a snapshot. Raises MalformedSnapshot."""
    membership, since = extra.get("membership"), extra.get("since")
    if type(membership) is not str or type(since) is not int:
        raise MalformedSnapshot("the snapshot names no members")
    try:
        return Membership.decode(membership.encode()), since
    except MalformedMembership as error:
        raise MalformedSnapshot(str(error)) from None
