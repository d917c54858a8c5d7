"""Changes of members and of the leader: a step is asked for until the change is done.

Asking again does no harm, whoever leads by then, so nothing here needs a session: a node that was
added stays so, and an id that was removed is never used again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import grpc.aio

from consensusllm.client.calls import Deadline, pause
from consensusllm.client.checks import text
from consensusllm.client.errors import (
    ChangeRefused,
    InvalidRequest,
    OutcomeUnknown,
    Unavailable,
)
from consensusllm.client.nodes import CONNECT_S, Nodes, Unreachable, denial, reason
from consensusllm.client.status import Status, node_status
from consensusllm.wire.generated import client_pb2 as pb

CHANGE_TIMEOUT_S = 120.0
"""How long a change may take: a new node has everything to learn first."""
STEP_S = 2.0
"""How long a node may take for its first answer; each that takes longer gives the next twice as
long, since a leader hears a majority before it calls a change done."""
AGAIN_S = 0.1
LEADERLESS_S = 1.0
"""A change of members is followed by another ballot: that nobody leads is told where it lasts."""
_NODES_MAX = 1 << 31
_ASKED_BITS = 64


@dataclass(frozen=True, slots=True)
class ChangeProgress:
    """What a change waits for, in words; ``behind``: how many slots a node still lacks, where that
    is what is waited for."""

    waits_for: str
    behind: int | None


LEADERLESS = ChangeProgress("a leader: a majority must be up and linked", None)
"""Before any node has taken a step of the change, or between two."""

OnProgress = Callable[[ChangeProgress], None]


class MemberCalls:
    """The part of `Client` that changes who the members are, and who leads."""

    _nodes: Nodes

    async def add_node(
        self,
        node: int,
        address: str,
        *,
        timeout_s: float = CHANGE_TIMEOUT_S,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Make ``node``, whose process runs at ``address`` (``host:port``), a member: it learns
        first, then votes. Raises ChangeRefused, Unavailable, OutcomeUnknown."""
        add = pb.AddNode(node=_node(node), address=text(address, "an address"))
        request = pb.ChangeRequest(add=add)
        await self._change(request, timeout_s, on_progress)

    async def remove_node(
        self,
        node: int,
        *,
        timeout_s: float = CHANGE_TIMEOUT_S,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Make ``node`` no member any more, for ever; a leader hands over first. Its process may be
        ended afterwards. Raises ChangeRefused, Unavailable, OutcomeUnknown."""
        remove = pb.RemoveNode(node=_node(node), asked=secrets.randbits(_ASKED_BITS))
        request = pb.ChangeRequest(remove=remove)
        await self._change(request, timeout_s, on_progress)

    async def replace_node(
        self,
        node: int,
        successor: int,
        address: str,
        *,
        timeout_s: float = CHANGE_TIMEOUT_S,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Add ``successor`` at ``address``, then remove ``node``; again, it goes on where it was.
        Raises ChangeRefused, also where neither is a member, Unavailable, and OutcomeUnknown; where
        ``successor`` was added the message says so."""
        if node == successor:
            raise InvalidRequest(f"node {node} cannot replace itself: give the new one another id")
        require_replaceable(await self._known_statuses(), node, successor)
        await self.add_node(successor, address, timeout_s=timeout_s, on_progress=on_progress)
        try:
            await self.remove_node(node, timeout_s=timeout_s, on_progress=on_progress)
        except (ChangeRefused, Unavailable) as error:
            raise type(error)(
                f"node {successor} is a member now, and node {node} was not removed: {error}"
            ) from None
        except OutcomeUnknown as error:
            raise OutcomeUnknown(f"node {successor} is a member now: {error}") from None

    async def transfer_leader(
        self, node: int, *, timeout_s: float = 10.0, on_progress: OnProgress | None = None
    ) -> None:
        """Have the leader hand over to ``node``. Raises ChangeRefused, Unavailable,
        OutcomeUnknown."""
        request = pb.ChangeRequest(transfer=pb.TransferLeader(node=_node(node)))
        await self._change(request, timeout_s, on_progress)

    async def _known_statuses(self) -> list[Status | None]:
        """What each node says of itself that is known of."""

        async def one(address: str) -> Status | None:
            try:
                return await node_status(self._nodes, address, Deadline(CONNECT_S))
            except Unavailable:
                return None

        return await asyncio.gather(*map(one, self._nodes.known))

    async def _change(
        self, request: pb.ChangeRequest, timeout_s: float, on_progress: OnProgress | None
    ) -> None:
        deadline = Deadline(timeout_s)
        address, trouble, answered = self._nodes.current, "no node answers", False
        told: ChangeProgress | None = None
        followed = begun = False
        led_at = deadline.now()
        step_s = STEP_S
        while deadline.remaining_s() > 0:
            asked_at = deadline.now()
            reply, why, sent = await self._step(address, request, deadline.bounded_s(step_s))
            begun = begun or sent
            if reply is None and deadline.now() >= asked_at + step_s:
                step_s *= 2
            if reply is None or reply.outcome == pb.ChangeReply.NOT_LEADER:
                hint = ""
                if reply is not None:
                    trouble, hint, answered = reply.message, reply.leader_address, True
                    self._nodes.learn(reply.members)
                elif not answered:
                    trouble = why
                address = hint or self._nodes.following(address)
                led_at = deadline.now() if hint else led_at
                lasts = deadline.now() >= led_at + LEADERLESS_S
                if on_progress is not None and not hint and lasts and told != LEADERLESS:
                    told = LEADERLESS
                    on_progress(told)
                followed = bool(hint) and not followed  # nodes may name each other
                await pause(0.0 if followed else AGAIN_S, deadline)
                continue
            if reply.outcome == pb.ChangeReply.DONE:
                return
            if reply.outcome == pb.ChangeReply.REFUSED:
                raise ChangeRefused(reply.message)
            led_at = deadline.now()
            trouble, begun = f"it waits for {reply.message}", True
            behind = reply.behind if reply.HasField("behind") else None
            progress = ChangeProgress(reply.message, behind)
            if on_progress is not None and progress != told:
                told = progress
                on_progress(progress)
            await pause(AGAIN_S, deadline)
        words = f"done within {timeout_s:g} s ({trouble})"
        advice = "look at the status, and ask for it again"
        if begun:
            raise OutcomeUnknown(f"the change was not seen to be {words}, and may be yet: {advice}")
        raise Unavailable(f"the change was not {words}: {advice}")

    async def _step(
        self, address: str, request: pb.ChangeRequest, within_s: float
    ) -> tuple[pb.ChangeReply | None, str, bool]:
        """The node's answer, or None and why there is none, and whether the node may have begun all
        the same. Raises Unauthenticated."""
        try:
            stub = await self._nodes.stub(address, min(CONNECT_S, within_s))
        except Unreachable as error:
            return None, str(error), False
        try:
            reply: pb.ChangeReply = await stub.Change(
                request, metadata=self._nodes.metadata, timeout=within_s
            )
        except grpc.aio.AioRpcError as error:
            if (denied := denial(address, error)) is not None:
                raise denied from None
            return None, reason(address, error), True
        except asyncio.InvalidStateError:
            return None, f"{address}: the connection was lost", True
        return reply, "", False


def require_replaceable(statuses: Iterable[Status | None], node: int, successor: int) -> None:
    """By the newest word there is ``node`` is a member, or ``successor`` has come in its place
    already. Raises ChangeRefused."""
    present = [status for status in statuses if status is not None]
    newest = max(present, key=lambda status: status.applied_slot, default=None)
    if newest is not None and not {node, successor} & {each.node for each in newest.members}:
        raise ChangeRefused(f"node {node} is no member: add node {successor} instead")


def _node(node: int) -> int:
    if type(node) is not int or not 1 <= node < _NODES_MAX:
        raise InvalidRequest(f"{node!r} is no number for a node: give one from 1 on")
    return node
