"""What the nodes' statuses come to: what `consensusllm status` and the REPL's status both say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .options import NOBODY

if TYPE_CHECKING:
    from consensusllm.client import Status
    from consensusllm.wire.generated import client_pb2

LEADING = "leading"
NO_LEADER = "no node leads: a majority must be up and linked"


def leader_of(statuses: Iterable[Status | client_pb2.Status | None]) -> int | None:
    """The node that leads by its own account, in the highest ballot where two still say so."""
    leaders = [status for status in statuses if status and status.role == LEADING]
    if not leaders:
        return None
    return max(leaders, key=lambda status: (status.ballot_seq_num, status.ballot_pid)).node


def trouble(statuses: Iterable[Status | client_pb2.Status | None]) -> str:
    """Why the cluster cannot serve, in one line; "" where a node leads."""
    known = list(statuses)
    if not any(known):
        return NOBODY
    return NO_LEADER if leader_of(known) is None else ""


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
