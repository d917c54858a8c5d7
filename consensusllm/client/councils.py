"""The templates of councils, which a `Plan` names."""

from __future__ import annotations

from dataclasses import dataclass

import grpc.aio

from consensusllm.client.calls import Deadline
from consensusllm.client.errors import Unavailable
from consensusllm.client.nodes import CONNECT_S, Nodes, Unreachable, denial, reason
from consensusllm.wire.generated import client_pb2

COUNCIL_TIMEOUT_S = 1800.0
"""How long a reader waits for a whole council, unless the call says otherwise."""


@dataclass(frozen=True, slots=True)
class TemplateRole:
    name: str
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class TemplateStage:
    """``kind`` is opinions, rebuttal, review, synthesis or majority. ``by`` names the roles that
    are asked (none: all), ``quorum`` answers close it (0: all), or ``deadline_ms`` after it opened
    (0: the query's)."""

    kind: str
    by: tuple[str, ...] = ()
    quorum: int = 0
    deadline_ms: int = 0
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class TemplateSummary:
    """``revision`` names its content; ``own``: it comes from the directory that the node's
    configuration names. Without ``roles`` and ``samples`` (0) every live node has a seat.
    ``chairman`` is None where nobody sums up."""

    name: str
    description: str
    revision: str
    stages: tuple[TemplateStage, ...]
    roles: tuple[TemplateRole, ...] = ()
    samples: int = 0
    chairman: TemplateRole | None = None
    own: bool = False


@dataclass(frozen=True, slots=True)
class Templates:
    """``problems``: a line for each file that is no template."""

    templates: tuple[TemplateSummary, ...]
    problems: tuple[str, ...]


class CouncilCalls:
    """The part of `Client` that is about councils."""

    _nodes: Nodes
    _timeout_s: float

    async def templates(self, *, timeout_s: float | None = None) -> Templates:
        """The templates that the node knows; it reads them anew. Raises Unavailable."""
        deadline = Deadline(self._timeout_s if timeout_s is None else timeout_s)
        failure = Unavailable("no node answers: check that the cluster runs")
        address = self._nodes.current
        for left in range(len(self._nodes.known), 0, -1):
            part = deadline.part(left)
            try:
                stub = await self._nodes.stub(address, part.bounded_s(CONNECT_S))
                found = await stub.ListTemplates(
                    client_pb2.TemplatesRequest(),
                    metadata=self._nodes.metadata,
                    timeout=part.bounded_s(),
                )
            except Unreachable as error:
                failure = Unavailable(f"{error}: check that the cluster runs")
            except grpc.aio.AioRpcError as error:
                if (denied := denial(address, error)) is not None:
                    raise denied from None
                failure = Unavailable(f"{reason(address, error)}: check that the cluster runs")
            else:
                return Templates(
                    tuple(
                        TemplateSummary(
                            each.name,
                            each.description,
                            each.revision,
                            tuple(map(_stage, each.stages)),
                            tuple(map(_role, each.roles)),
                            each.samples,
                            _role(each.chairman) if each.HasField("chairman") else None,
                            each.own,
                        )
                        for each in found.templates
                    ),
                    tuple(found.problems),
                )
            address = self._nodes.following(address)
        raise failure


def _role(role: client_pb2.TemplateRole) -> TemplateRole:
    return TemplateRole(role.name, role.instructions)


def _stage(stage: client_pb2.TemplateStage) -> TemplateStage:
    return TemplateStage(
        stage.kind, tuple(stage.by), stage.quorum, stage.deadline_ms, stage.instructions
    )
