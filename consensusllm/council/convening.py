"""A template and the models to ask become a council: who sits where, and who sums up. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from consensusllm.conversations.council import Council, Member, Stage, StageKind

from .templates import SEATS_MAX, Role, StagePlan, Template

CHAIRMEN_MAX = 3
"""The chairman and its fallbacks, each on a node of its own."""


def convened(
    template: Template,
    places: Sequence[tuple[int, str]],
    *,
    here: int,
    seed: int,
    deadline_ms: int,
) -> Council:
    """``places`` (not empty) are nodes with the name of a model each ("": the node's default), and
    ``here`` the node that was asked. ``deadline_ms`` is that of each stage whose template says
    none.

    Roles go round the places; with more roles than places one plays several. Samples are all of one
    place. The chairman has seats of its own, on different nodes: the first one is here.
    """
    ordered = sorted(places)
    later = [place for place in ordered if place[0] < here]
    chairs = [place for place in ordered if place[0] >= here] + later
    if template.samples:
        seats = [Member(*chairs[0]) for _ in range(template.samples)]
    elif template.roles:
        seats = [
            _member(ordered[turn % len(ordered)], role) for turn, role in enumerate(template.roles)
        ]
    else:
        seats = [Member(*place) for place in ordered[:SEATS_MAX]]
    members = [*seats]
    if any(stage.kind is StageKind.SYNTHESIS for stage in template.stages):
        first_of_node = {node: (node, model) for node, model in reversed(chairs)}
        nodes = list(dict.fromkeys(node for node, _ in chairs))[:CHAIRMEN_MAX]
        members += [_member(first_of_node[node], template.chairman) for node in nodes]
    sitting = tuple(range(1, len(seats) + 1))
    presiding = tuple(range(len(seats) + 1, len(members) + 1))
    stages = tuple(
        _stage(stage, template.roles, sitting, presiding, deadline_ms) for stage in template.stages
    )
    return Council(template.name, template.revision, seed, tuple(members), stages)


def _member(place: tuple[int, str], role: Role) -> Member:
    return Member(*place, role.name, role.instructions)


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
