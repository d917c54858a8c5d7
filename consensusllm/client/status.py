"""What a node says of itself, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

import grpc.aio

from consensusllm.client.calls import Deadline
from consensusllm.client.errors import Unavailable
from consensusllm.client.nodes import CONNECT_S, Nodes, Unreachable, denial, reason
from consensusllm.conversations.records import RegisteredModel
from consensusllm.wire.generated import client_pb2
from consensusllm.wire.records import registered_from_proto

_REMEDY = "start the node or check its address"


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """A member of the cluster as the node sees it; one that is not ``voting`` still joins.
    ``queued_bytes`` wait here to be sent to it (to the orchestrator, where there is one)."""

    node: int
    address: str
    live: bool
    chosen_through: int
    connected: bool
    voting: bool = True
    queued_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model that the node serves (or, not ``served``, cannot), and its calls since the process
    began. ``note`` is what a person should know of it. Percentiles and speed are of the last
    answers, 0 where there are none; ``last_error`` is "" where the last call went well."""

    node: int
    provider: str
    model: str
    note: str
    name: str = ""
    in_flight: int = 0
    tokens_per_second: float = 0.0
    latency_p50_ms: int = 0
    latency_p99_ms: int = 0
    last_error: str = ""
    served: bool = True


@dataclass(frozen=True, slots=True)
class Progress:
    """How far long work is. ``known_slot`` is the last one that is known to be chosen anywhere;
    ``records`` is 0 where no snapshot is being taken, ``bytes`` 0 where none comes from a peer."""

    known_slot: int
    records_encoded: int
    records: int
    bytes_received: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """The state of one node. ``leader`` 0: none known. ``state_hash`` is that of ``applied_slot``
    ("": it is still being made), and so is ``registry``: the models of all nodes, each with its
    node.

    ``loop_lag_ms`` is the event loop's worst in the last ten seconds, ``loop_lag_max_ms`` since the
    process began; ``pending`` counts commands
    admitted and not yet applied; ``elections`` those the node began since its process started.
    """

    cluster_id: str
    node: int
    incarnation: int
    role: str
    leader: int
    ballot_seq_num: int
    ballot_pid: int
    chosen_through: int
    applied_slot: int
    state_hash: str
    snapshot_slot: int
    log_first_slot: int
    log_bytes: int
    members: tuple[MemberStatus, ...]
    models: tuple[ModelStatus, ...]
    conversations: int
    keys: int
    loop_lag_ms: float
    uptime_ms: int
    version: str
    transport: str
    orchestrator_address: str
    pending: int
    elections: int
    loop_lag_max_ms: float
    progress: Progress
    registry: tuple[tuple[int, RegisteredModel], ...] = ()


async def node_status(nodes: Nodes, address: str, deadline: Deadline) -> Status:
    """What the node at ``address`` says of itself. Raises Unavailable, Unauthenticated."""
    try:
        stub = await nodes.stub(address, deadline.bounded_s(CONNECT_S))
        status = await stub.GetStatus(
            client_pb2.StatusRequest(),
            metadata=nodes.metadata,
            timeout=deadline.bounded_s(),
        )
    except Unreachable as error:
        raise Unavailable(f"{error}: {_REMEDY}") from None
    except grpc.aio.AioRpcError as error:
        failure = denial(address, error) or Unavailable(f"{reason(address, error)}: {_REMEDY}")
        raise failure from None
    return status_from_proto(status)


def status_from_proto(status: client_pb2.Status) -> Status:
    """The fields have the same names on the wire."""
    fields = {name: getattr(status, name) for name in client_pb2.Status.DESCRIPTOR.fields_by_name}
    fields["members"] = tuple(
        MemberStatus(
            each.node,
            each.address,
            each.live,
            each.chosen_through,
            each.connected,
            each.voting,
            each.queued_bytes,
        )
        for each in status.members
    )
    names = client_pb2.ModelStatus.DESCRIPTOR.fields_by_name
    fields["models"] = tuple(
        ModelStatus(**{name: getattr(each, name) for name in names}) for each in status.models
    )
    fields["registry"] = tuple((each.node, registered_from_proto(each)) for each in status.registry)
    names = status.progress.DESCRIPTOR.fields_by_name
    fields["progress"] = Progress(**{name: getattr(status.progress, name) for name in names})
    return Status(**fields)
