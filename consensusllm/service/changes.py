"""Changes of members and of the leader, as clients ask this node for a step towards one."""

from __future__ import annotations

from collections.abc import Mapping

from consensusllm.config import split_address
from consensusllm.paxos import (
    AddNode,
    Change,
    ChangeRefused,
    NotLeader,
    RemoveNode,
    Role,
    TransferLeader,
)
from consensusllm.paxos.membership import ADDRESS_MAX
from consensusllm.replica.runtime import Runtime
from consensusllm.wire.generated import client_pb2 as pb


async def step(
    runtime: Runtime, request: pb.ChangeRequest, addresses: Mapping[int, str]
) -> pb.ChangeReply:
    """Take the next step towards what is asked for, where this node leads. What it says for good
    it says as the leader: one that was deposed, and has not heard of it, may know of other members.
    """
    replica = runtime.replica
    try:
        change = _change(request)
    except ChangeRefused as error:
        return pb.ChangeReply(outcome=pb.ChangeReply.REFUSED, message=str(error))
    ballot = replica.ballot
    try:
        progress = runtime.change(change)
        outcome = pb.ChangeReply.UNDER_WAY if progress.waits_for else pb.ChangeReply.DONE
        reply = pb.ChangeReply(outcome=outcome, message=progress.waits_for, behind=progress.behind)
    except NotLeader as error:
        return _not_leader(error.leader, addresses)
    except ChangeRefused as error:
        reply = pb.ChangeReply(outcome=pb.ChangeReply.REFUSED, message=str(error))
    if reply.outcome != pb.ChangeReply.UNDER_WAY:
        unheard = await runtime.barrier(replica.paxos.patience_s)
        if unheard is not None or replica.role is not Role.LEADING or replica.ballot != ballot:
            return _not_leader(None if unheard else replica.leader, addresses)
    return reply


def _not_leader(leader: int | None, addresses: Mapping[int, str]) -> pb.ChangeReply:
    return pb.ChangeReply(
        outcome=pb.ChangeReply.NOT_LEADER,
        message="no node leads" if leader is None else f"node {leader} leads",
        leader_address=addresses.get(leader or 0, ""),
        members=addresses.values(),
    )


def _change(request: pb.ChangeRequest) -> Change:
    which = request.WhichOneof("change")
    if which is None:
        raise ChangeRefused("the request names no change that this node knows: upgrade it")
    wanted = getattr(request, which)
    if not 1 <= wanted.node < 1 << 31:
        raise ChangeRefused(f"{wanted.node} is no number for a node: give one from 1 on")
    if which == "remove":
        return RemoveNode(wanted.node, wanted.asked)
    if which == "transfer":
        return TransferLeader(wanted.node)
    try:
        split_address(wanted.address)
    except ValueError as error:
        raise ChangeRefused(f"the address of node {wanted.node} {error}") from None
    if len(wanted.address) > ADDRESS_MAX or not wanted.address.isprintable():
        raise ChangeRefused(f"the address of node {wanted.node} is too long, or no text")
    return AddNode(wanted.node, wanted.address)
