"""The transport of a node whose network is the orchestrator: one stream carries everything."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

import grpc.aio
import structlog

from ..wire.generated import orchestrator_pb2, orchestrator_pb2_grpc
from .envelopes import pack, refuse, unpack
from .link import Link
from .outbox import QueueLimits
from .port import Envelope, Receiver
from .streams import MAX_MESSAGE_BYTES

log = structlog.get_logger(__name__)


class RelayedTransport:
    """Moves envelopes between ``node`` and the other ``members`` through ``orchestrator``.

    ``orchestrator`` is its ``host:port``; ``client_address`` tells where clients reach this node.
    """

    def __init__(
        self,
        orchestrator: str,
        cluster_id: str,
        node: int,
        members: Iterable[int],
        *,
        client_address: str = "",
        limits: QueueLimits = QueueLimits(),  # noqa: B008 (frozen)
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        rng: random.Random | None = None,
    ) -> None:
        self._cluster_id = cluster_id
        self._node = node
        self._peers = frozenset(members) - {node}
        self._receiver: Receiver | None = None
        self._refused_a_message = False
        hello = orchestrator_pb2.Hello(cluster_id=cluster_id, node=node, address=client_address)
        self._link = Link(
            orchestrator,
            open_stream=_attach,
            first=orchestrator_pb2.FromNode(hello=hello),
            wrap=self._wrap,
            on_message=self._take_in,
            limits=limits,
            max_message_bytes=max_message_bytes,
            rng=rng or random.Random(),
        )

    @property
    def dropped(self) -> int:
        """Envelopes that were given to ``send`` and not sent."""
        return self._link.dropped

    async def start(self, receiver: Receiver) -> None:
        """Begin to connect and to deliver; returns without waiting for the orchestrator."""
        self._receiver = receiver
        self._link.start()

    def send(self, dst: int, kind: str, body: bytes) -> None:
        """Queue one envelope for ``dst``, another member; dropped while there is no stream."""
        self._link.put(Envelope(self._node, dst, kind, body))

    def meet(self, addresses: Mapping[int, str]) -> None:
        """The peers from now on; the orchestrator knows where they are."""
        self._peers = frozenset(addresses) - {self._node}

    def connected(self) -> frozenset[int]:
        """All peers while the orchestrator holds our stream: it does not say who else is there."""
        return self._peers if self._link.up else frozenset()

    def queued_bytes(self, dst: int) -> int:
        """What waits for the orchestrator's stream, whoever it is for."""
        return self._link.queued_bytes

    async def close(self) -> None:
        """End the stream and drop what waits."""
        await self._link.close()

    def _wrap(self, batch: list[Envelope]) -> orchestrator_pb2.FromNode:
        message = orchestrator_pb2.FromNode()
        pack(message.envelopes, self._cluster_id, batch)
        return message

    def _take_in(self, message: orchestrator_pb2.ToNode) -> None:
        assert self._receiver is not None
        for envelope in message.envelopes.envelopes:
            refusal = refuse(envelope, self._cluster_id, self._node)
            if not refusal:
                self._receiver(unpack(envelope))
            elif not self._refused_a_message:
                self._refused_a_message = True
                log.warning("refused an envelope", peer="orchestrator", why=refusal)


def _attach(
    channel: grpc.aio.Channel,
) -> grpc.aio.StreamStreamCall[orchestrator_pb2.FromNode, orchestrator_pb2.ToNode]:
    stub = orchestrator_pb2_grpc.OrchestratorStub(channel)  # type: ignore[no-untyped-call]
    call: grpc.aio.StreamStreamCall[orchestrator_pb2.FromNode, orchestrator_pb2.ToNode]
    call = stub.Attach(wait_for_ready=True)
    return call
