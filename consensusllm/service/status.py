"""What a node says about itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from consensusllm import __version__
from consensusllm.paxos import Role
from consensusllm.replica.runtime import Runtime
from consensusllm.wire.generated import client_pb2 as pb


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while the node runs, but for ``models``, which is filled in later."""

    cluster_id: str
    node: int
    addresses: dict[int, str]
    transport: str
    orchestrator_address: str
    models: Sequence[pb.ModelStatus]


def status(runtime: Runtime, facts: Facts) -> pb.Status:
    """The node's state as it is now; the hash is that of the state at ``applied_slot``."""
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
        state_hash=machine.state_hash(),
        snapshot_slot=replica.snapshot_slot,
        log_first_slot=paxos.log_first_slot,
        log_bytes=paxos.log_size_bytes,
        members=members,
        models=facts.models,
        conversations=counts.conversations,
        keys=counts.keys,
        loop_lag_ms=runtime.loop_lag_ms,
        uptime_ms=int((runtime.clock() - runtime.started_at) * 1000),
        version=__version__,
        transport=facts.transport,
        orchestrator_address=facts.orchestrator_address,
        pending=replica.pending if paxos.role is not Role.LEARNING else 0,
        elections=paxos.elections,
        loop_lag_max_ms=runtime.loop_lag_max_ms,
        progress=pb.Progress(**asdict(replica.progress)),
    )
