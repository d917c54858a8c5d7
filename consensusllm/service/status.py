"""What a node says about itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from consensusllm import __version__
from consensusllm.replica.runtime import Runtime
from consensusllm.wire.generated import client_pb2 as pb
from consensusllm.wire.records import registered_to_proto

if TYPE_CHECKING:
    from consensusllm.serving import OwnModel


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while the node runs, but for ``models``, which is filled in later."""

    cluster_id: str
    node: int
    addresses: dict[int, str]
    transport: str
    orchestrator_address: str
    models: Sequence[OwnModel]


def status(runtime: Runtime, facts: Facts, *, hashed: bool) -> pb.Status:
    """The node's state as it is now; the hash is that of the state at ``applied_slot``, or "" where
    that is not ``hashed`` yet."""
    replica = runtime.replica
    paxos, machine = replica.paxos, replica.machine
    counts = machine.counts()
    live, connected, progress = paxos.live, runtime.transport.connected(), paxos.progress()
    membership = paxos.membership
    removed = facts.node in membership.removed
    progress[facts.node] = paxos.chosen_through
    members = [
        pb.MemberStatus(
            node=node,
            address=address,
            live=node in live or node == facts.node,
            chosen_through=progress.get(node, 0),
            connected=node in connected or node == facts.node,
            voting=node in membership.voters,
            queued_bytes=0 if node == facts.node else runtime.transport.queued_bytes(node),
        )
        for node, address in sorted(facts.addresses.items())
    ]
    ballot = paxos.ballot
    return pb.Status(
        cluster_id=facts.cluster_id,
        node=facts.node,
        incarnation=paxos.incarnation,
        role="removed" if removed else paxos.role.value,
        leader=paxos.leader or 0,
        ballot_seq_num=ballot.seq_num,
        ballot_pid=ballot.pid,
        chosen_through=paxos.chosen_through,
        applied_slot=machine.applied_slot,
        state_hash=machine.state_hash() if hashed else "",
        snapshot_slot=replica.snapshot_slot,
        log_first_slot=paxos.log_first_slot,
        log_bytes=paxos.log_size_bytes,
        members=members,
        models=[_model(facts.node, each) for each in facts.models],
        registry=[
            registered_to_proto(node, each)
            for node, models in sorted(machine.registry.items())
            for each in models
        ],
        conversations=counts.conversations,
        keys=counts.keys,
        loop_lag_ms=runtime.loop_lag_ms,
        uptime_ms=int((runtime.clock() - runtime.started_at) * 1000),
        version=__version__,
        transport=facts.transport,
        orchestrator_address=facts.orchestrator_address,
        pending=replica.pending,
        elections=paxos.elections,
        loop_lag_max_ms=runtime.loop_lag_max_ms,
        progress=pb.Progress(**asdict(replica.progress)),
    )


def _model(node: int, own: OwnModel) -> pb.ModelStatus:
    found = pb.ModelStatus(
        node=node,
        provider=own.served.provider,
        model=own.served.model,
        note=own.note,
        name=own.served.name,
        served=own.provider is not None,
    )
    if own.provider is not None:
        found.in_flight = own.provider.in_flight
        found.tokens_per_second = own.provider.tokens_per_second
        found.latency_p50_ms = own.provider.latency_ms(50)
        found.latency_p99_ms = own.provider.latency_ms(99)
        found.last_error = own.provider.last_error
    return found
