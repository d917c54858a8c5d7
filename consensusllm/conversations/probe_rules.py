"""The rules of probes: who looks at a model server, and what its look says of the models there.

A look costs nothing, but many nodes that all look cost the server something: so each server has one
node that looks, by a lease in the replicated clock, and all nodes have what it finds. What real
calls say counts more than a look: see count_call in registry_rules.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .commands import ProbedModel, RecordProbe
from .limits import Limits
from .records import ProbeLease, RegisteredModel
from .refusal import Refusal, check_size, named
from .replies import Code, Reply
from .sessions import DONE
from .state import State

PROBE_LEASE_MS = 30_000


class ProbeRules:
    """Applies one operation at a time; a rule raises Refusal before it has changed anything."""

    def __init__(self, state: State, limits: Limits) -> None:
        self._state = state
        self._limits = limits

    def handlers(self) -> Mapping[type, Callable[[Any], Reply]]:
        """What applies each kind of operation."""
        return {RecordProbe: self._record}

    def _record(self, probe: RecordProbe) -> Reply:
        state = self._state
        served = state.registry.get(probe.node, ())
        if not probe.server or not any(each.served.server == probe.server for each in served):
            raise Refusal(
                Code.INVALID,
                f"node {probe.node} serves no model of {named(probe.server)}: register it first",
            )
        for each in probe.models:
            check_size("a probe's error", each.error, self._limits.name_bytes)
        lease = state.probe_leases.get(probe.server)
        if lease is not None and lease.node != probe.node and state.time_ms <= lease.until_ms:
            raise Refusal(
                Code.STALE,
                f"node {lease.node} looks at {named(probe.server)}: leave it to that one",
            )
        until_ms = state.time_ms + PROBE_LEASE_MS
        state.set_probe_lease(probe.server, ProbeLease(probe.node, until_ms))
        answers = answers_by_model(state.registry, probe.server)
        found = {
            each.model: each
            for each in probe.models
            if not each.error or each.answers == answers.get(each.model)
        }
        for node, models in tuple(state.registry.items()):
            marked = tuple(
                _marked(each, found[each.served.model], state.time_ms)
                if each.served.server == probe.server and each.served.model in found
                else each
                for each in models
            )
            if marked != models:
                state.set_models(node, marked)
        return DONE


def answers_by_model(
    registry: Mapping[int, tuple[RegisteredModel, ...]], server: str
) -> dict[str, int]:
    """The exact models of ``server`` in the registry, each with its answers, of all nodes."""
    answers: dict[str, int] = {}
    for models in registry.values():
        for each in models:
            if each.served.server == server:
                model = each.served.model
                answers[model] = answers.get(model, 0) + each.answers
    return answers


def _marked(model: RegisteredModel, found: ProbedModel, time_ms: int) -> RegisteredModel:
    if model.probed_ms and (model.loaded, model.probe_error) == (found.loaded, found.error):
        return model
    return replace(model, loaded=found.loaded, probe_error=found.error, probed_ms=time_ms)
