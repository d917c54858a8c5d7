"""The models of a cluster: what is replicated of each, and what its node says of it now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from consensusllm.client.status import ModelStatus, Status
from consensusllm.conversations.commands import ServedModel
from consensusllm.conversations.records import RegisteredModel

SILENT = "its node does not answer"
UNSEEN = "its node has just started"


@dataclass(frozen=True, slots=True)
class ClusterModel:
    """``total`` is of all time, from the replicated state; ``now`` what its node says of it, None
    where the node does not answer, or has not come to its models yet (``answers``)."""

    node: int
    total: RegisteredModel
    now: ModelStatus | None
    answers: bool = True

    @property
    def served(self) -> ServedModel:
        return self.total.served

    @property
    def health(self) -> str:
        """One line for a person."""
        if self.now is None:
            return UNSEEN if self.answers else SILENT
        if not self.now.served:
            return f"not served: {self.now.note}"
        if self.now.last_error:
            return f"failing: {self.now.last_error}"
        return "well" if self.now.latency_p50_ms or self.total.answers else "not asked yet"

    @property
    def loaded(self) -> str:
        """Whether the model is in its server's memory."""
        return {None: "-", True: "yes", False: "no"}[self.total.loaded]

    @property
    def probe(self) -> str:
        """What the last free look at its server found, in one line for a person."""
        if not self.total.probed_ms:
            return "-"
        return f"failing: {self.total.probe_error}" if self.total.probe_error else "well"


def cluster_models(statuses: Iterable[Status | None]) -> list[ClusterModel]:
    """One for each model of each node, in the order of the nodes and of their configurations.

    The registry is that of the node which has applied most; a model that is in nobody's registry
    (it cannot be served, or its node has only just begun) is there too.
    """
    present = [status for status in statuses if status is not None]
    if not present:
        return []
    newest = max(present, key=lambda status: status.applied_slot)
    now = {
        (status.node, model.name): model
        for status in present
        for model in status.models
        if model.node in (0, status.node)
    }
    answering = {status.node for status in present}
    found = [
        ClusterModel(node, model, now.pop((node, model.served.name), None), node in answering)
        for node, model in newest.registry
    ]
    for (node, name), model in now.items():
        unregistered = RegisteredModel(ServedModel(name, model.provider, model.model))
        found.append(ClusterModel(node, unregistered, model))
    return sorted(found, key=lambda each: each.node)


def money(cost: int) -> str:
    """``cost`` (>= 0, in millionths) in the currency, with two to six digits behind the point."""
    whole, part = divmod(cost, 1_000_000)
    digits = f"{part:06}".rstrip("0")
    return f"{whole}.{digits:0<2}"
