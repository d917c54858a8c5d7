"""The rules of the registry: which models the nodes serve, and what each has answered and cost.

Every node proposes its own models; so all nodes can plan for all models, and count alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from .commands import ServedModel, ServeModels, Usage
from .limits import Limits
from .records import RegisteredModel
from .refusal import Refusal, check_size, named
from .replies import Code, Reply
from .sessions import DONE
from .state import State

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,127}")
"""What a query may call a model: no space, comma or @."""

PRICE_UNIT_TOKENS = 1_000_000
_TOKENS_MAX = 1 << 40
_PRICE_MAX = 1 << 40
FALLBACKS_MAX = 32


class RegistryRules:
    """Applies one operation at a time; a rule raises Refusal before it has changed anything."""

    def __init__(self, state: State, limits: Limits) -> None:
        self._state = state
        self._limits = limits

    def handlers(self) -> Mapping[type, Callable[[Any], Reply]]:
        """What applies each kind of operation."""
        return {ServeModels: self._serve}

    def _serve(self, serve: ServeModels) -> Reply:
        registry = self._state.registry
        if serve.node < 1:
            raise Refusal(Code.INVALID, f"node {serve.node} serves no models: use 1 or more")
        if serve.node not in registry and len(registry) >= self._limits.registered_nodes:
            raise Refusal(
                Code.TOO_LARGE, f"{len(registry)} nodes are registered, the limit: remove some"
            )
        if len(serve.models) > self._limits.models_per_node:
            raise Refusal(
                Code.TOO_LARGE,
                f"node {serve.node} serves {len(serve.models)} models, over the limit of "
                f"{self._limits.models_per_node}: configure fewer",
            )
        for each in serve.models:
            self._check(each)
        names = [each.name for each in serve.models]
        for name in names:
            if names.count(name) > 1:
                raise Refusal(
                    Code.INVALID, f"two models of node {serve.node} are named {named(name)}"
                )
        known = {each.served.name: each for each in registry.get(serve.node, ())}
        self._state.set_models(
            serve.node, tuple(_registered(each, known.get(each.name)) for each in serve.models)
        )
        return DONE

    def _check(self, served: ServedModel) -> None:
        if not MODEL_NAME.fullmatch(served.name):
            raise Refusal(Code.INVALID, f"{named(served.name)} cannot be a model's name")
        limit = self._limits.name_bytes
        texts = (served.provider, served.model, served.server, *served.tags, *served.fallbacks)
        for text in texts:
            check_size("a name of the registry", text, limit)
        if max(len(served.tags), len(served.fallbacks)) > FALLBACKS_MAX:
            raise Refusal(
                Code.TOO_LARGE,
                f"{served.name} has over {FALLBACKS_MAX} tags or fallbacks: use fewer",
            )
        tokens = (served.context_tokens, served.max_tokens, served.hedge_ms)
        prices = (served.prompt_price, served.completion_price)
        if not all(0 <= each <= _TOKENS_MAX for each in tokens) or not all(
            0 <= each <= _PRICE_MAX for each in prices
        ):
            raise Refusal(Code.INVALID, f"{served.name} has tokens or prices that are out of range")


def cost_of(served: ServedModel, usage: Usage) -> int:
    """What ``usage`` of ``served`` costs, in millionths of the currency, rounded up."""
    prompt = (usage.prompt_tokens or 0) * served.prompt_price
    completion = (usage.completion_tokens or 0) * served.completion_price
    return -(-(prompt + completion) // PRICE_UNIT_TOKENS)


class Call(NamedTuple):
    """A call that ended, of the model that ``node`` serves as ``served_as``; ``speed`` as in
    RecordCandidate. It was ``beaten`` where it was stopped since another had text first: that says
    nothing of the model."""

    node: int
    served_as: str
    usage: Usage
    failed: bool = False
    speed: int = 0
    beaten: bool = False


def count_call(state: State, call: Call) -> int:
    """Count ``call`` under its model; what it cost. A model that is not (or no longer) registered
    has no price."""
    models = state.registry.get(call.node, ())
    usage = call.usage
    for place, each in enumerate(models):
        if each.served.name == call.served_as:
            cost = cost_of(each.served, usage)
            counted = replace(
                each,
                prompt_tokens=each.prompt_tokens + (usage.prompt_tokens or 0),
                completion_tokens=each.completion_tokens + (usage.completion_tokens or 0),
                cost=each.cost + cost,
                speed=_smoothed(each.speed, call.speed),
            )
            if call.failed:
                counted = replace(
                    counted,
                    errors=each.errors + 1,
                    failures=each.failures + 1,
                    failed_ms=state.time_ms,
                )
            elif not call.beaten:
                counted = replace(
                    counted,
                    answers=each.answers + 1,
                    failures=0,
                    # It can be asked, and is in memory, whatever a look has found.
                    probe_error="",
                    loaded=None if each.loaded is None else True,
                )
            state.set_models(call.node, (*models[:place], counted, *models[place + 1 :]))
            return cost
    return 0


def _smoothed(average: int, latest: int) -> int:
    if not (average and latest):
        return average or latest
    return (3 * average + latest) // 4


def _registered(served: ServedModel, before: RegisteredModel | None) -> RegisteredModel:
    if before is not None:
        same = (before.served.provider, before.served.model) == (served.provider, served.model)
        if same and before.served.server == served.server:
            return replace(before, served=served)
        if same:
            return replace(before, served=served, loaded=None, probe_error="", probed_ms=0)
    return RegisteredModel(served)
