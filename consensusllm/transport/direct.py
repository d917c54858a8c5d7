"""The transport of nodes that dial each other, without an orchestrator.

Each direction of a pair has a stream of its own, opened by the sender, who says so at once, and
where it is: who is heard of is dialled at once in return. So is a stranger, for as long as it has a
stream here: it may be a member of a list that this node has missed, or have missed that it is none.
The receiving half is a gRPC servicer that the node adds to its own server; it answers the first
envelope and then says nothing. A stream that carries a foreign envelope is ended with a status that
says why.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import grpc.aio
import structlog

from ..wire.generated import peer_pb2, peer_pb2_grpc
from .envelopes import pack, refuse, unpack
from .link import Link
from .outbox import QueueLimits
from .port import GONE, Envelope, Receiver
from .streams import MAX_MESSAGE_BYTES, StreamRefused, race, receive

HELLO = "hello"
"""The kind of the envelope that opens a stream: it says who opened it, and in its body at which
address that node is dialled."""

STRANGERS_MAX = 16
_ADDRESS = re.compile(r"[^\s/]{1,255}:\d{1,5}")

LEAVING_S = 2.0
"""How long a stream to one who is no peer any more is kept: what was sent before is on its way."""

log = structlog.get_logger(__name__)


class PeerServicer(peer_pb2_grpc.PeerServicer):
    """Takes the streams that peers open to this node. Add it to the node's server.

    ``heard_of`` is told who a stream is from, and the address that it gives ("": none), as soon as
    it says so; ``gone`` whose last stream has ended.
    """

    def __init__(
        self,
        cluster_id: str,
        node: int,
        heard_of: Callable[[int, str], None],
        gone: Callable[[int], None],
    ) -> None:
        self._cluster_id = cluster_id
        self._node = node
        self._heard_of = heard_of
        self._gone = gone
        self._receiver: Receiver | None = None
        self._streams: Counter[int] = Counter()  # that have carried something, by who sent it
        self._closing = asyncio.Event()
        self._told: set[str] = set()

    def deliver_to(self, receiver: Receiver) -> None:
        """Hand on what arrives from now on; before this, streams are refused."""
        self._receiver = receiver

    def hears(self, peer: int) -> bool:
        """Whether ``peer`` has a stream here."""
        return self._streams[peer] > 0

    def close(self) -> None:
        """End all streams, so that the server can stop without waiting for them."""
        self._closing.set()

    async def Link(
        self,
        _requests: Any,
        context: grpc.aio.ServicerContext[peer_pb2.Envelopes, peer_pb2.LinkAck],
    ) -> None:
        if self._receiver is None or self._closing.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the node is starting or stopping")
        try:
            await race(self._read(context, self._receiver), self._wait_for_close())
        except StreamRefused as refused:
            why = str(refused)
            if why not in self._told and len(self._told) < 64:
                self._told.add(why)
                log.warning("refused a peer's stream", peer=context.peer(), why=why)
            await context.abort(refused.code, why)
        if self._closing.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the node is stopping")

    async def _wait_for_close(self) -> None:
        await self._closing.wait()

    async def _read(
        self,
        context: grpc.aio.ServicerContext[peer_pb2.Envelopes, peer_pb2.LinkAck],
        receiver: Receiver,
    ) -> None:
        src = 0
        try:
            while (message := await receive(context)) is not None:
                for envelope in message.envelopes:
                    refusal = refuse(envelope, self._cluster_id, self._node)
                    if src and envelope.src != src:
                        refusal = f"it names node {envelope.src} on a stream of node {src}"
                    if refusal:
                        raise StreamRefused(
                            grpc.StatusCode.FAILED_PRECONDITION, f"envelope refused: {refusal}"
                        )
                    if not src:
                        src = envelope.src
                        self._streams[src] += 1
                        hello = envelope.body if envelope.kind == HELLO else b""
                        self._heard_of(src, hello.decode("utf-8", "replace"))
                        await context.write(peer_pb2.LinkAck())
                    if envelope.kind != HELLO:
                        receiver(unpack(envelope))
        finally:
            if src:
                self._streams[src] -= 1
                if not self._streams[src]:
                    del self._streams[src]
                    if not self._closing.is_set():
                        self._gone(src)
                        receiver(Envelope(src, self._node, GONE, b""))


class DirectTransport:
    """Moves envelopes between ``node`` and its peers over a stream of its own to each.

    ``addresses`` gives ``host:port`` of every peer's server; this node's may be among them.
    ``address`` is where those find it who do not know it ("": nowhere). Add ``servicer`` to this
    node's server (``peer_pb2_grpc.add_PeerServicer_to_server``).
    """

    def __init__(
        self,
        cluster_id: str,
        node: int,
        addresses: Mapping[int, str],
        *,
        address: str = "",
        limits: QueueLimits = QueueLimits(),  # noqa: B008 (frozen)
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        rng: random.Random | None = None,
    ) -> None:
        self._cluster_id = cluster_id
        self._node = node
        self._address = address
        self._limits = limits
        self._max_message_bytes = max_message_bytes
        self._rng = rng or random.Random()
        self._started = False
        self._links: dict[int, Link] = {}
        self._strangers: set[int] = set()  # who have a link without being peers
        self._leaving: set[asyncio.Task[None]] = set()
        self._dropped_before = 0  # by links that are gone, and for want of one
        self.servicer = PeerServicer(cluster_id, node, self._heard_of, self._gone)
        self.meet(addresses)

    @property
    def dropped(self) -> int:
        """Envelopes that were given to ``send`` and not sent."""
        return self._dropped_before + sum(link.dropped for link in self._links.values())

    async def start(self, receiver: Receiver) -> None:
        """Begin to connect and to deliver; returns without waiting for any peer."""
        self.servicer.deliver_to(receiver)
        self._started = True
        for link in self._links.values():
            link.start()

    def send(self, dst: int, kind: str, body: bytes) -> None:
        """Queue one envelope for ``dst``; dropped while its stream is down, or where there is none
        to one that is no peer here yet, or no more."""
        link = self._links.get(dst)
        if link is None:
            self._dropped_before += 1
        else:
            link.put(Envelope(self._node, dst, kind, body))

    def meet(self, addresses: Mapping[int, str]) -> None:
        """Dial those who are new, or have moved, and let go of those who are no peers any more,
        once they have had a while to hear so. Who still has a stream here becomes a stranger."""
        self._strangers.difference_update(addresses)
        for peer, link in list(self._links.items()):
            if addresses.get(peer) == link.address or peer in self._strangers:
                continue
            if peer not in addresses and self.servicer.hears(peer) and self._has_room():
                self._strangers.add(peer)
            else:
                self._drop(peer, LEAVING_S)
        for peer in sorted(addresses):
            if peer != self._node and peer not in self._links:
                self._dial(peer, addresses[peer])

    def _dial(self, peer: int, address: str) -> None:
        link = self._links[peer] = self._make_link(peer, address)
        if self._started:
            link.start()

    def _drop(self, peer: int, after_s: float) -> None:
        link = self._links.pop(peer)
        self._dropped_before += link.dropped
        if self._started:
            task = asyncio.create_task(_let_go(link, after_s))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def _make_link(self, peer: int, address: str) -> Link:
        return Link(
            address,
            open_stream=_link,
            first=self._wrap([Envelope(self._node, peer, HELLO, self._address.encode())]),
            wrap=self._wrap,
            on_message=_ignore,
            limits=self._limits,
            max_message_bytes=self._max_message_bytes,
            rng=self._rng,
        )

    def connected(self) -> frozenset[int]:
        """Peers to which our own stream is up."""
        return frozenset(
            peer for peer, link in self._links.items() if link.up and peer not in self._strangers
        )

    def queued_bytes(self, dst: int) -> int:
        """What waits for the stream to ``dst``, another member."""
        return self._links[dst].queued_bytes

    async def close(self) -> None:
        """End the streams in both directions and drop what waits."""
        self.servicer.close()
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await asyncio.gather(*(link.close() for link in self._links.values()))

    def _heard_of(self, peer: int, address: str) -> None:
        link = self._links.get(peer)
        if link is not None:
            link.hurry()
        elif _ADDRESS.fullmatch(address) and self._has_room():
            self._strangers.add(peer)
            self._dial(peer, address)

    def _has_room(self) -> bool:
        return len(self._strangers) < STRANGERS_MAX

    def _gone(self, peer: int) -> None:
        if peer in self._strangers:
            self._strangers.discard(peer)
            self._drop(peer, 0.0)

    def _wrap(self, batch: list[Envelope]) -> peer_pb2.Envelopes:
        message = peer_pb2.Envelopes()
        pack(message, self._cluster_id, batch)
        return message


def _link(
    channel: grpc.aio.Channel,
) -> grpc.aio.StreamStreamCall[peer_pb2.Envelopes, peer_pb2.LinkAck]:
    stub = peer_pb2_grpc.PeerStub(channel)  # type: ignore[no-untyped-call]
    call: grpc.aio.StreamStreamCall[peer_pb2.Envelopes, peer_pb2.LinkAck]
    call = stub.Link(wait_for_ready=True)
    return call


async def _let_go(link: Link, after_s: float) -> None:
    try:
        await asyncio.sleep(after_s)
    finally:
        await link.close()


def _ignore(message: peer_pb2.LinkAck) -> None:
    """Acknowledgements carry nothing."""
