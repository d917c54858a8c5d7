"""The codec of councils, as they stand in the log and in turns that are read."""

from __future__ import annotations

from consensusllm.conversations import Council, Member, Stage, StageKind
from consensusllm.wire.errors import MalformedMessage
from consensusllm.wire.generated import client_pb2 as pb


def council_to_proto(council: Council) -> pb.Council:
    return pb.Council(
        template=council.template,
        revision=council.revision,
        seed=council.seed,
        members=[
            pb.CouncilMember(
                node=each.node,
                model=each.model,
                role=each.role,
                instructions=each.instructions,
                fallbacks=each.fallbacks,
            )
            for each in council.members
        ],
        stages=[
            pb.CouncilStage(
                kind=each.kind.value,
                seats=each.seats,
                close_after=each.close_after,
                deadline_ms=each.deadline_ms,
                instructions=each.instructions,
            )
            for each in council.stages
        ],
    )


def council_from_proto(message: pb.Council) -> Council:
    """Raises MalformedMessage where a stage is of no kind that this version knows."""
    return Council(
        message.template,
        message.revision,
        message.seed,
        tuple(
            Member(each.node, each.model, each.role, each.instructions, tuple(each.fallbacks))
            for each in message.members
        ),
        tuple(map(_stage, message.stages)),
    )


def _stage(message: pb.CouncilStage) -> Stage:
    try:
        kind = StageKind(message.kind)
    except ValueError:
        raise MalformedMessage(f"a stage has the unknown kind {message.kind[:40]!r}") from None
    return Stage(
        kind,
        tuple(message.seats),
        message.close_after,
        message.deadline_ms,
        message.instructions,
    )
