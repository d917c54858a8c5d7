"""What the nodes' statuses come to: what `consensusllm status` and the REPL's status both say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .options import NOBODY

if TYPE_CHECKING:
    from consensusllm.client import Status
    from consensusllm.wire.generated import client_pb2

HASH_SHOWN = 12
LEADING, LEARNING, REMOVED = "leading", "learning", "removed"
NO_LEADER = "no node leads: a majority must be up and linked"


def leading(
    statuses: Iterable[Status | client_pb2.Status | None],
) -> Status | client_pb2.Status | None:
    """What the node says that leads by its own account, in the highest ballot where two still say
    so."""
    leaders = [status for status in statuses if status and status.role == LEADING]
    return max(leaders, key=lambda status: (status.ballot_seq_num, status.ballot_pid), default=None)


def leader_of(statuses: Iterable[Status | client_pb2.Status | None]) -> int | None:
    """The node that leads."""
    leader = leading(statuses)
    return leader.node if leader is not None else None


def trouble(statuses: Iterable[Status | client_pb2.Status | None]) -> str:
    """Why the cluster cannot serve, or must not, in one line; "" where all is well."""
    known = list(statuses)
    if not any(known):
        return NOBODY
    if found := divided(known):
        return found
    if found := difference(known):
        return f"{found}: stop those that are the fewer with theirs, and keep their data"
    if leading(known) is not None:
        return ""
    voteless = sorted(status.node for status in known if status and status.role == LEARNING)
    if 2 * len(voteless) < len(known):
        return NO_LEADER
    noun = "node" if len(voteless) == 1 else "nodes"
    return (
        f"no node leads, and only a leader gives a vote to {noun} "
        f"{', '.join(map(str, voteless))}, which had no data: start the others; in a new cluster "
        "stop all, remove what data they have and start them with --bootstrap"
    )


def divided(statuses: Iterable[Status | client_pb2.Status | None]) -> str:
    """In one line, that nodes lead with other voters each; "" where they do not. One that was
    deposed and does not know it yet has the same voters as its successor, and is no trouble."""
    leaders = [status for status in statuses if status and status.role == LEADING]
    voters = {frozenset(each.node for each in one.members if each.voting) for one in leaders}
    if len(voters) <= 1:
        return ""
    *others, last = sorted(leader.node for leader in leaders)
    both = "both" if len(others) == 1 else "all"
    return (
        f"nodes {', '.join(map(str, others))} and {last} {both} lead, each with other members: "
        "unless one has just been deposed, they are clusters of their own under one name; look at "
        "each alone with --connect, and stop what is not to be"
    )


def difference(statuses: Iterable[Status | client_pb2.Status | None]) -> str:
    """In one line, which nodes have other states at the last slot where some have; "" where none
    have. Only equal applied slots can be compared: a node behind them is late, not wrong."""
    hashed = [status for status in statuses if status and status.state_hash]
    for slot in sorted({status.applied_slot for status in hashed}, reverse=True):
        level = [status for status in hashed if status.applied_slot == slot]
        if len({status.state_hash for status in level}) > 1:
            held = ", ".join(f"node {one.node} {one.state_hash[:HASH_SHOWN]}" for one in level)
            return f"nodes DIFFER at slot {slot}: {held}"
    return ""


def cluster_document(nodes: Iterable[tuple[int | None, str, Status | None]]) -> dict[str, Any]:
    """The nodes as JSON values. Of each: its number (None: not known), where it is, and what it
    says of itself (None: nothing)."""
    known = list(nodes)
    return {
        "leader": leader_of(status for *_, status in known),
        "nodes": [node_document(*node) for node in known],
    }


def node_document(node: int | None, address: str, answer: Status | None) -> dict[str, Any]:
    """One node as JSON values."""
    if answer is None:
        return {"node": node, "address": address, "reachable": False}
    return {
        "node": answer.node,
        "address": address,
        "reachable": True,
        "role": answer.role,
        "leader": answer.leader or None,
        "ballot": [answer.ballot_seq_num, answer.ballot_pid],
        "chosen": answer.chosen_through,
        "applied": answer.applied_slot,
        "hash": answer.state_hash or None,
        "models": [
            ":".join(filter(None, (model.provider, model.model))) for model in answer.models
        ],
        "loop_lag_ms": round(answer.loop_lag_ms, 1),
        "loop_lag_max_ms": round(answer.loop_lag_max_ms, 1),
        "progress": asdict(answer.progress),
    }
