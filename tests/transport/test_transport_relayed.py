"""The node's stream to the orchestrator, against one that records and says what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc.aio
import pytest

from consensusllm.transport import Envelope, RelayedTransport, listen, stream_options
from consensusllm.transport.envelopes import checksum
from consensusllm.wire.generated import orchestrator_pb2 as pb
from consensusllm.wire.generated import peer_pb2


def sealed(cluster_id: str, src: int, dst: int, body: bytes = b"b") -> peer_pb2.Envelope:
    seal = checksum(cluster_id, src, dst, "k", body)
    return peer_pb2.Envelope(
        cluster_id=cluster_id, src=src, dst=dst, kind="k", body=body, checksum=seal
    )


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"never came: {what}"
        await asyncio.sleep(0.005)


class FakeOrchestrator:
    """``received`` is what came on all streams; ``replies`` go to the node, None cancels."""

    def __init__(self) -> None:
        self.received: list[pb.FromNode] = []
        self.replies: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.ended = 0
        handler = grpc.stream_stream_rpc_method_handler(
            self._attach, request_deserializer=pb.FromNode.FromString
        )
        self._server = grpc.aio.server(options=stream_options())
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    "consensusllm.orchestrator.v1.Orchestrator", {"Attach": handler}
                )
            ]
        )
        self.address = listen(self._server, "127.0.0.1:0")

    async def _attach(self, request_iterator, context) -> None:
        self.received.append(await context.read())
        await context.write(b"")
        reader = asyncio.ensure_future(self._read(context))
        try:
            while (reply := await self.replies.get()) is not None:
                await context.write(reply)
            await context.abort(grpc.StatusCode.CANCELLED, "not any more")
        finally:
            self.ended += 1
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, context) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            self.received.append(message)

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)


@pytest.fixture
async def orchestrator() -> AsyncIterator[FakeOrchestrator]:
    fake = FakeOrchestrator()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def node(orchestrator) -> AsyncIterator[tuple[RelayedTransport, list[Envelope]]]:
    inbox: list[Envelope] = []
    transport = RelayedTransport(
        orchestrator.address, "c", 1, (1, 2, 3), client_address="127.0.0.1:5101"
    )
    await transport.start(inbox.append)
    await until(transport.connected, "the stream")
    yield transport, inbox
    await transport.close()


async def test_the_first_message_names_cluster_node_and_client_address(orchestrator, node) -> None:
    transport, _ = node
    assert transport.connected() == {2, 3}
    hello = pb.Hello(cluster_id="c", node=1, address="127.0.0.1:5101")
    assert orchestrator.received == [pb.FromNode(hello=hello)]


async def test_everything_sent_within_a_turn_of_the_loop_travels_in_one_message(
    orchestrator, node
) -> None:
    transport, _ = node
    for number in range(10):
        transport.send(2 + number % 2, "k", b"%d" % number)
    await until(lambda: len(orchestrator.received) == 2, "the message")
    batch = orchestrator.received[1].envelopes.envelopes
    assert [one.body for one in batch] == [b"%d" % number for number in range(10)]
    assert {(one.cluster_id, one.src, one.kind) for one in batch} == {("c", 1, "k")}


async def test_foreign_envelopes_are_refused_and_the_rest_delivered(orchestrator, node) -> None:
    _, inbox = node
    message = pb.ToNode()
    for cluster_id, src, dst in (("d", 2, 1), ("c", 0, 1), ("c", 1, 1), ("c", 2, 3), ("c", 2, 1)):
        message.envelopes.envelopes.append(sealed(cluster_id, src, dst))
    orchestrator.replies.put_nowait(message.SerializeToString())
    await until(lambda: inbox, "the good one")
    assert inbox == [Envelope(2, 1, "k", b"b")]


@pytest.mark.parametrize(
    "damage",
    [
        lambda envelope: setattr(envelope, "body", b"c"),
        lambda envelope: setattr(envelope, "kind", "l"),
        lambda envelope: setattr(envelope, "src", 3),
        lambda envelope: setattr(envelope, "checksum", envelope.checksum ^ 1),
    ],
    ids=["body", "kind", "sender", "checksum"],
)
async def test_an_envelope_that_was_damaged_on_its_way_is_refused(
    orchestrator, node, damage: Callable[[peer_pb2.Envelope], None]
) -> None:
    _, inbox = node
    damaged = sealed("c", 2, 1)
    damage(damaged)
    message = pb.ToNode()
    message.envelopes.envelopes.extend([damaged, sealed("c", 2, 1, b"good")])
    orchestrator.replies.put_nowait(message.SerializeToString())
    await until(lambda: inbox, "the good one")
    assert inbox == [Envelope(2, 1, "k", b"good")]


async def test_bytes_that_are_no_protobuf_cost_the_stream_and_a_new_one_is_opened(
    orchestrator, node
) -> None:
    transport, inbox = node
    orchestrator.replies.put_nowait(b"\xff\xff\xff\xff")
    await until(lambda: orchestrator.ended == 1, "the end of the stream")
    await until(lambda: len(orchestrator.received) == 2 and transport.connected(), "a new stream")
    assert inbox == []


async def test_a_stream_that_the_other_side_cancels_is_opened_again(orchestrator, node) -> None:
    transport, _ = node
    orchestrator.replies.put_nowait(None)
    await until(lambda: orchestrator.ended == 1, "the end of the stream")
    await until(lambda: len(orchestrator.received) == 2 and transport.connected(), "a new stream")


async def test_a_receiver_that_raises_is_reported_to_the_loop_and_not_swallowed(
    orchestrator,
) -> None:
    reports: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))

    def broken(envelope: Envelope) -> None:
        raise RuntimeError("a bug above the transport")

    transport = RelayedTransport(orchestrator.address, "c", 1, (1, 2, 3))
    await transport.start(broken)
    message = pb.ToNode()
    message.envelopes.envelopes.append(sealed("c", 2, 1))
    orchestrator.replies.put_nowait(message.SerializeToString())
    await until(lambda: reports, "the report")
    assert str(reports[0]["exception"]) == "a bug above the transport"
    assert not transport.connected()
    await transport.close()
