"""A template and the models to ask become a council: who sits where, and who sums up. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from consensusllm.conversations.commands import PlannedCandidate
from consensusllm.conversations.council import Council, Member, Stage, StageKind

from .planning import Unplannable
from .templates import SEATS_MAX, Role, StagePlan, Template

Item = TypeVar("Item")

_NO_ROLE = Role("")
CHAIRMEN_MAX = 3
"""The chairman and its fallbacks, each on a node of its own."""


def convened(
    template: Template,
    places: Sequence[PlannedCandidate],
    *,
    serving: Collection[int] = (),
    seed: int,
    deadline_ms: int,
) -> Council:
    """``places`` (not empty) are nodes with a model and its fallbacks each, ``serving`` are those
    that are known to serve a model. ``deadline_ms`` is that of each stage whose template says none.

    Places that name their model sit in the order in which they were named, and the others in that
    of their nodes. Roles go round the places; with more roles than places one plays several.
    Samples are all of one place: the first that was named, or else one of all. The chairman has
    seats of its own, on different nodes. Which node is the first of them, of the roles where no
    models are named, and of samples, the ``seed`` says, so that many councils are not the work of
    one. Roles, samples and chairs go to nodes that serve a model, where there are any. Raises
    Unplannable where more models are named than there are seats, or than the one that samples are
    of.
    """
    named = any(place.model for place in places)
    ordered = sorted(places, key=lambda place: place.number if named else place.node)
    most = 1 if template.samples else len(template.roles) or SEATS_MAX
    if named and len(places) > most:
        raise Unplannable(
            f"{len(places)} models are asked for, and {template.name} takes {most}: ask for fewer"
        )
    able = [place for place in ordered if place.model or place.node in serving] or ordered
    players = ordered if named else _turned(able, seed)
    if template.samples:
        seats = [_member(players[0]) for _ in range(template.samples)]
    elif template.roles:
        seats = [
            _member(players[turn % len(players)], role) for turn, role in enumerate(template.roles)
        ]
    else:
        seats = [_member(place) for place in ordered[:SEATS_MAX]]
    members = [*seats]
    if template.sums_up:
        first_of_node = {place.node: place for place in reversed(able)}
        nodes = _turned(sorted(first_of_node), seed)[:CHAIRMEN_MAX]
        members += [_member(first_of_node[node], template.chairman) for node in nodes]
    sitting = tuple(range(1, len(seats) + 1))
    presiding = tuple(range(len(seats) + 1, len(members) + 1))
    stages = tuple(
        _stage(stage, template.roles, sitting, presiding, deadline_ms) for stage in template.stages
    )
    return Council(template.name, template.revision, seed, tuple(members), stages)


def _turned(among: Sequence[Item], seed: int) -> list[Item]:
    """``among`` in its order, from the one on that ``seed`` says."""
    first = seed % len(among)
    return [*among[first:], *among[:first]]


def _member(place: PlannedCandidate, role: Role = _NO_ROLE) -> Member:
    return Member(place.node, place.model, role.name, role.instructions, place.fallbacks)


def _stage(
    plan: StagePlan,
    roles: Sequence[Role],
    sitting: tuple[int, ...],
    presiding: tuple[int, ...],
    deadline_ms: int,
) -> Stage:
    if plan.kind is StageKind.MAJORITY:
        seats: tuple[int, ...] = ()
    elif plan.kind is StageKind.SYNTHESIS:
        seats = presiding
    elif plan.by:
        seats = tuple(seat for seat in sitting if roles[seat - 1].name in plan.by)
    else:
        seats = sitting
    return Stage(
        plan.kind,
        seats,
        min(plan.quorum, len(seats)),
        plan.deadline_ms or deadline_ms,
        plan.instructions,
    )
