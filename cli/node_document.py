"""A node's status as JSON values: what `consensusllm status` and the REPL's status print."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from consensusllm.client import Status


def node_document(address: str, answer: Status | None) -> dict[str, Any]:
    """Of the node at ``address``; None: it does not answer."""
    if answer is None:
        return {"address": address, "reachable": False}
    return {
        "address": address,
        "reachable": True,
        "node": answer.node,
        "role": answer.role,
        "leader": answer.leader or None,
        "ballot": [answer.ballot_seq_num, answer.ballot_pid],
        "chosen": answer.chosen_through,
        "applied": answer.applied_slot,
        "hash": answer.state_hash,
        "models": [
            ":".join(filter(None, (model.provider, model.model))) for model in answer.models
        ],
        "loop_lag_ms": round(answer.loop_lag_ms, 1),
        "loop_lag_max_ms": round(answer.loop_lag_max_ms, 1),
        "progress": asdict(answer.progress),
    }
