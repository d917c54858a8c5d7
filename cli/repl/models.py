"""The command that looks at the cluster's models."""

from __future__ import annotations

import json
from typing import Any

from consensusllm.client import ClusterModel, cluster_models, money
from consensusllm.client.models import SILENT

from ..options import NOBODY
from .language import JSON, Command, Group
from .session import CommandFailed, Session

_COLUMNS = (
    "node",
    "name",
    "provider",
    "model",
    "loaded",
    "health",
    "probe",
    "in flight",
    "tokens/s",
    "p50 ms",
    "p99 ms",
    "answers",
    "errors",
    "spend",
    "note",
)

_NARROW = (
    *("node", "name", "model", "loaded", "health", "busy", "tok/s", "p50/p99 ms"),
    *("answers", "errors", "spend"),
)
"""What a terminal shows, which is to fit half a screen; the words that explain it stand below, once
for all that they are of."""


async def models(session: Session, json: bool = False) -> None:
    statuses = await session.statuses()
    if not any(statuses.values()):
        raise CommandFailed(NOBODY)
    found = cluster_models(statuses.values())
    if json:
        _print_json(session, found)
    elif session.output.terminal:
        session.output.table(_NARROW, [_narrow_row(each) for each in found])
        for words, whose in _explained(found).items():
            session.output.line((f"{', '.join(whose)}: ", "dim"), words)
    else:
        session.output.table(_COLUMNS, [_row(each) for each in found])


def _row(model: ClusterModel) -> list[str]:
    served, now = model.served, model.now
    names = [str(model.node), served.name, served.provider, served.model]
    looks = [model.loaded, model.health, model.probe]
    return [*names, *looks, *_figures(model), now.note if now else ""]


def _narrow_row(model: ClusterModel) -> list[str]:
    served = model.served
    exact = f"{served.provider}/{served.model}"
    called = served.provider if served.model in ("", served.provider) else exact
    health = (_troubles(model) or [model.health])[0].partition(": ")[0]
    if model.health == SILENT:
        health = "silent"
    busy, speed, p50, p99, *counted = _figures(model)
    names = [str(model.node), served.name, called]
    return [*names, model.loaded, health, busy, speed, f"{p50}/{p99}", *counted]


def _figures(model: ClusterModel) -> list[str]:
    now, total = model.now, model.total
    speed = f"{now.tokens_per_second:.1f}" if now and now.tokens_per_second else "-"
    return [
        str(now.in_flight) if now else "-",
        speed,
        str(now.latency_p50_ms or "-") if now else "-",
        str(now.latency_p99_ms or "-") if now else "-",
        str(total.answers),
        str(total.errors),
        money(total.cost),
    ]


def _troubles(model: ClusterModel) -> list[str]:
    return [each for each in (model.health, model.probe) if ": " in each or each == SILENT]


def _explained(found: list[ClusterModel]) -> dict[str, list[str]]:
    """What there is to say of the models, and of which."""
    said: dict[str, list[str]] = {}
    for model in found:
        words = _troubles(model)
        if model.now is not None and model.now.note and model.now.served:
            words.append(model.now.note)
        for each in words:
            said.setdefault(each, []).append(f"{model.served.name}@{model.node}")
    return said


def _print_json(session: Session, found: list[ClusterModel]) -> None:
    rows: list[dict[str, Any]] = []
    for model in found:
        served, total, now = model.served, model.total, model.now
        row: dict[str, Any] = {
            "node": model.node,
            "name": served.name,
            "provider": served.provider,
            "model": served.model,
            "loaded": total.loaded,
            "health": model.health,
            "probe": model.probe if total.probed_ms else None,
            "context_tokens": served.context_tokens or None,
            "max_tokens": served.max_tokens or None,
            "price": {
                "prompt": money(served.prompt_price),
                "completion": money(served.completion_price),
            },
            "tags": served.tags,
            "fallbacks": served.fallbacks,
            "answers": total.answers,
            "errors": total.errors,
            "prompt_tokens": total.prompt_tokens,
            "completion_tokens": total.completion_tokens,
            "spend": money(total.cost),
        }
        if now is not None:
            row |= {
                "in_flight": now.in_flight,
                "tokens_per_second": round(now.tokens_per_second, 1),
                "latency_p50_ms": now.latency_p50_ms or None,
                "latency_p99_ms": now.latency_p99_ms or None,
                "last_error": now.last_error or None,
                "note": now.note,
            }
        rows.append(row)
    session.output.line(json.dumps(rows, indent=2))


COMMANDS = (
    Command(
        "models",
        Group.CLUSTER,
        "show the nodes' models, how they do and what they cost",
        models,
        flags=(JSON,),
        detail=(
            "A query names a model by its name; name@node is that node's. health is that of its "
            "calls; loaded and probe are what a free look at its server found, - where there is "
            "none. answers, errors and "
            "spend are of all time, and recorded in the log; the times and speeds are of the last "
            "answers since the node's process began, p50 and p99 to the end of an answer."
        ),
        example="models",
    ),
)
