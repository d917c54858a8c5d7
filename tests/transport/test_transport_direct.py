"""Nodes that dial each other, over real gRPC streams on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc.aio
import pytest

from consensusllm.transport import (
    GONE,
    DirectTransport,
    Envelope,
    PeerServicer,
    QueueLimits,
    direct,
    link,
    listen,
    stream_options,
)
from consensusllm.transport.envelopes import pack
from consensusllm.wire.generated import peer_pb2, peer_pb2_grpc


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"never came: {what}"
        await asyncio.sleep(0.005)


class Node:
    """A node's own server with the peer service, and its outgoing streams."""

    def __init__(self, node: int) -> None:
        self.node = node
        self.inbox: list[Envelope] = []
        self.server = grpc.aio.server(options=stream_options())
        self.address = listen(self.server, "127.0.0.1:0")
        self.transport: DirectTransport

    def sent(self) -> list[Envelope]:
        """What its peers sent it, without the ends of their connections."""
        return [envelope for envelope in self.inbox if envelope.kind != GONE]

    async def start(self, addresses: dict[int, str], cluster_id: str = "c") -> None:
        self.transport = DirectTransport(cluster_id, self.node, addresses, address=self.address)
        peer_pb2_grpc.add_PeerServicer_to_server(self.transport.servicer, self.server)
        await self.server.start()
        await self.transport.start(self.inbox.append)

    async def restart(self, addresses: dict[int, str]) -> None:
        self.server = grpc.aio.server(options=stream_options())
        assert listen(self.server, self.address) == self.address
        await self.start(addresses)

    async def stop(self) -> None:
        await self.transport.close()
        await self.server.stop(5)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Node, Node]]:
    one, two = Node(1), Node(2)
    addresses = {1: one.address, 2: two.address}
    await one.start(addresses)
    await two.start(addresses)
    await until(lambda: one.transport.connected() and two.transport.connected(), "both links")
    yield one, two
    await one.stop()
    await two.stop()


async def test_a_peer_that_is_heard_of_is_dialled_at_once(monkeypatch) -> None:
    """Whatever gRPC's wait before it dials an address again that refused the last time."""
    waiting = [
        (name, 600_000 if name.endswith("_reconnect_backoff_ms") else value)
        for name, value in stream_options()
    ]
    monkeypatch.setattr(link, "stream_options", lambda max_message_bytes: waiting)
    one, two = Node(1), Node(2)
    addresses = {1: one.address, 2: two.address}
    refused = asyncio.Event()

    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        refused.set()

    host, _, port = two.address.rpartition(":")
    await two.server.start()
    await two.server.stop(None)  # its port is free again
    stranger = await asyncio.start_server(refuse, host, int(port))
    await one.start(addresses)
    await asyncio.wait_for(refused.wait(), 10)
    stranger.close()
    await stranger.wait_closed()
    await two.restart(addresses)
    await until(lambda: one.transport.connected() and two.transport.connected(), "both links")
    await one.stop()
    await two.stop()


async def test_an_address_that_cannot_be_reached_is_looked_up_again_and_again(monkeypatch) -> None:
    """Its name leads somewhere else by now: the same channel would not look for it for long."""
    monkeypatch.setattr(link, "RENEW_S", 0.02)
    one, two = Node(1), Node(2)
    leads_to = {"two.test:1": "127.0.0.1:1"}
    insecure_channel = grpc.aio.insecure_channel

    def channel(address: str, **options) -> grpc.aio.Channel:
        looked_up.append(address)
        return insecure_channel(leads_to.get(address, address), **options)

    looked_up: list[str] = []
    monkeypatch.setattr(grpc.aio, "insecure_channel", channel)
    await one.start({1: one.address, 2: "two.test:1"})
    await until(lambda: "two.test:1" in looked_up, "the first look")
    leads_to["two.test:1"] = two.address
    await two.start({2: two.address})
    await until(lambda: one.transport.connected(), "the link")
    await one.stop()
    await two.stop()


async def test_a_stranger_is_answered_for_as_long_as_its_stream_is_open() -> None:
    """Node 2 was added while node 1, whose list it is not on, was away."""
    one, two = Node(1), Node(2)
    await one.start({1: one.address})
    await two.start({1: one.address, 2: two.address})
    await until(lambda: two.transport.connected(), "the stranger's link")
    two.transport.send(1, "k", b"may I lead?")
    await until(one.sent, "the question")

    def answered() -> bool:
        one.transport.send(2, "k", b"tell me what is chosen")
        return bool(two.sent())

    await until(answered, "an answer")
    assert one.transport.connected() == frozenset()  # it is no peer
    await two.transport.close()
    await until(lambda: one.inbox[-1].kind == GONE, "the end")
    before = one.transport.dropped
    one.transport.send(2, "k", b"nobody is there")
    assert one.transport.dropped == before + 1
    await one.stop()
    await two.stop()


async def test_a_stranger_that_becomes_a_peer_keeps_its_link() -> None:
    one, two = Node(1), Node(2)
    await one.start({1: one.address})
    await two.start({1: one.address, 2: two.address})

    def heard() -> bool:
        one.transport.send(2, "k", b"?")
        return bool(two.sent())

    await until(heard, "the link to the stranger")
    one.transport.meet({2: two.address})
    assert one.transport.connected() == {2}
    await two.stop()
    await until(lambda: not one.transport.connected(), "the loss")
    await two.restart({1: one.address, 2: two.address})
    await until(lambda: one.transport.connected(), "the link to a peer that came back")
    await one.stop()
    await two.stop()


async def test_a_peer_that_is_no_member_any_more_is_answered_while_its_stream_is_open(pair) -> None:
    """Node 2 stood still while it was removed: what told it so was lost."""
    one, two = pair
    one.transport.send(2, "k", b"before")
    two.transport.send(1, "k", b"before")
    await until(lambda: one.sent() and two.sent(), "the messages before")
    one.transport.meet({1: one.address})
    assert one.transport.connected() == frozenset()
    two.transport.send(1, "k", b"may I lead?")
    await until(lambda: len(one.sent()) == 2, "the question")
    one.transport.send(2, "k", b"you were removed")
    await until(lambda: len(two.sent()) == 2, "the answer")
    await two.transport.close()
    await until(lambda: one.inbox[-1].kind == GONE, "the end")
    before = one.transport.dropped
    one.transport.send(2, "k", b"nobody is there")
    assert one.transport.dropped == before + 1


async def test_the_link_to_a_stranger_ends_with_its_stream(monkeypatch) -> None:
    """Strangers that come and go would leave many that are counted as none."""
    monkeypatch.setattr(direct, "LEAVING_S", 3600.0)
    one, stranger = Node(1), Node(3)
    inbox: list[Envelope] = []
    heard: list[int] = []
    servicer = PeerServicer("c", 3, lambda peer, _: heard.append(peer), lambda _: None)
    servicer.deliver_to(inbox.append)
    peer_pb2_grpc.add_PeerServicer_to_server(servicer, stranger.server)
    await stranger.server.start()
    await one.start({1: one.address})
    hello = peer_pb2.Envelopes()
    pack(hello, "c", [Envelope(3, 1, "hello", stranger.address.encode())])
    async with grpc.aio.insecure_channel(one.address) as channel:
        call = peer_pb2_grpc.PeerStub(channel).Link()
        await call.write(hello)
        await until(lambda: heard == [1], "the link to it")
    await until(lambda: inbox == [Envelope(1, 3, GONE, b"")], "the end of the link")
    await one.stop()
    await stranger.server.stop(None)


@pytest.mark.parametrize("address", [b"", b"nowhere", b"a/b:1", b"h:123456", b"\xff\xfe"])
async def test_a_stranger_that_says_no_address_is_not_dialled(pair, address: bytes) -> None:
    one, _ = pair
    batch = peer_pb2.Envelopes()
    pack(batch, "c", [Envelope(3, 1, "hello", address), Envelope(3, 1, "k", b"x")])
    async with grpc.aio.insecure_channel(one.address) as channel:
        call = peer_pb2_grpc.PeerStub(channel).Link()
        await call.write(batch)
        await until(one.sent, "its message")
        before = one.transport.dropped
        one.transport.send(3, "k", b"")
        assert one.transport.dropped == before + 1


async def test_messages_pass_in_both_directions_and_in_order(pair) -> None:
    one, two = pair
    for number in range(100):
        one.transport.send(2, "k", b"%d" % number)
        two.transport.send(1, "k", b"%d" % number)
    await until(lambda: len(one.inbox) == len(two.inbox) == 100, "all messages")
    assert two.inbox == [Envelope(1, 2, "k", b"%d" % number) for number in range(100)]
    assert one.inbox == [Envelope(2, 1, "k", b"%d" % number) for number in range(100)]


async def test_the_end_of_a_peers_connection_is_told_behind_its_last_message(pair) -> None:
    one, two = pair
    for number in range(100):
        one.transport.send(2, "k", b"%d" % number)
    await until(lambda: two.inbox, "the first messages")
    assert GONE not in [envelope.kind for envelope in two.inbox]
    await one.transport.close()
    await until(lambda: two.inbox[-1].kind == GONE, "the end")
    assert two.inbox[-1] == Envelope(1, 2, GONE, b"")
    kinds = [envelope.kind for envelope in two.inbox]
    assert kinds.count(GONE) == 1


@pytest.mark.parametrize("abrupt", [False, True])
async def test_a_peer_that_restarts_on_its_port_is_found_again(pair, abrupt: bool) -> None:
    one, two = pair
    if abrupt:
        await two.server.stop(None)
    await two.stop()
    await until(lambda: not one.transport.connected(), "the loss")
    one.transport.send(2, "k", b"lost")
    assert one.transport.dropped == 1
    await two.restart({1: one.address, 2: two.address})
    await until(lambda: one.transport.connected() and two.transport.connected(), "both links")
    one.transport.send(2, "k", b"found")
    two.transport.send(1, "k", b"found too")
    await until(lambda: two.sent() and one.sent(), "the messages")
    assert two.sent() == [Envelope(1, 2, "k", b"found")]


async def test_one_dead_peer_costs_the_others_nothing(pair) -> None:
    one, two = pair
    silent = Node(3)  # bound, never started: it takes no stream
    await one.transport.close()
    sender = DirectTransport("c", 1, {1: one.address, 2: two.address, 3: silent.address})
    await sender.start(one.inbox.append)
    await until(lambda: sender.connected() == {2}, "the live peer")
    for _ in range(10):
        sender.send(3, "k", b"")
        sender.send(2, "k", b"")
    await until(lambda: len(two.sent()) == 10, "all messages to the live peer")
    assert sender.dropped == 10
    await sender.close()
    await silent.server.stop(None)


async def test_a_message_over_the_bound_is_dropped_and_the_stream_goes_on(pair) -> None:
    one, two = pair
    one.transport.send(2, "k", bytes(17 * 1024 * 1024))
    one.transport.send(2, "k", bytes(9 * 1024 * 1024))
    one.transport.send(2, "k", bytes(9 * 1024 * 1024))
    await until(lambda: len(two.inbox) == 2, "the messages within the bound")
    assert one.transport.dropped == 1


async def test_past_the_queue_bound_messages_are_dropped_and_counted(pair) -> None:
    one, two = pair
    await one.transport.close()
    addresses = {1: one.address, 2: two.address}
    sender = DirectTransport("c", 1, addresses, limits=QueueLimits(max_items=5))
    await sender.start(one.inbox.append)
    await until(sender.connected, "the link")
    for _ in range(8):
        sender.send(2, "k", b"")
    assert sender.dropped == 3
    await until(lambda: len(two.sent()) == 5, "what was within the bound")
    await sender.close()


@pytest.mark.parametrize(
    ("envelope", "why"),
    [
        (peer_pb2.Envelope(cluster_id="d", src=2, dst=1), "it is of cluster 'd'"),
        (peer_pb2.Envelope(cluster_id="c", src=0, dst=1), "names node 0 as its sender"),
        (peer_pb2.Envelope(cluster_id="c", src=1, dst=1), "names node 1 as its sender"),
        (peer_pb2.Envelope(cluster_id="c", src=2, dst=3), "it is for node 3, this is node 1"),
        (peer_pb2.Envelope(cluster_id="c", src=2, dst=1, checksum=7), "damaged on its way from"),
    ],
)
async def test_a_foreign_envelope_ends_the_stream_and_is_not_delivered(pair, envelope, why) -> None:
    one, _ = pair
    async with grpc.aio.insecure_channel(one.address) as channel:
        call = peer_pb2_grpc.PeerStub(channel).Link()
        await call.write(peer_pb2.Envelopes(envelopes=[envelope]))
        with pytest.raises(grpc.aio.AioRpcError) as error:  # and no answer before: it is not up
            await call.read()
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert why in error.value.details()
    assert one.inbox == []


async def test_a_stream_speaks_for_the_node_that_opened_it_and_for_no_other(pair) -> None:
    one, _ = pair
    batch = peer_pb2.Envelopes()
    pack(batch, "c", [Envelope(2, 1, "k", b"mine"), Envelope(3, 1, "k", b"forged")])
    async with grpc.aio.insecure_channel(one.address) as channel:
        call = peer_pb2_grpc.PeerStub(channel).Link()
        await call.write(batch)
        assert await call.read() == peer_pb2.LinkAck()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await asyncio.wait_for(call.read(), 10)
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "it names node 3 on a stream of node 2" in error.value.details()
    assert one.sent() == [Envelope(2, 1, "k", b"mine")]


async def test_bytes_that_are_no_protobuf_end_the_stream(pair) -> None:
    one, _ = pair
    async with grpc.aio.insecure_channel(one.address) as channel:
        call = channel.stream_stream("/consensusllm.peer.v1.Peer/Link")()
        await call.write(b"\xff\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.read()
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_closing_node_ends_its_peers_streams_so_that_its_server_can_stop(pair) -> None:
    one, two = pair
    await two.transport.close()
    await asyncio.wait_for(two.server.stop(300), 10)
    await until(lambda: not one.transport.connected(), "the end of the stream")


async def test_a_link_to_what_grpc_cannot_read_does_not_spin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such a channel has failed from the start."""
    made = []
    insecure_channel = grpc.aio.insecure_channel

    def make(address: str, options: object) -> grpc.aio.Channel:
        made.append(address)
        return insecure_channel("ipv4:1", options=stream_options())

    monkeypatch.setattr("consensusllm.transport.link.grpc.aio.insecure_channel", make)
    transport = DirectTransport("c", 1, {2: "127.0.0.1:1"})
    await transport.start(lambda envelope: None)
    await until(lambda: made, "a channel")
    for _ in range(2000):
        await asyncio.sleep(0)
    assert len(made) == 1
    await transport.close()
