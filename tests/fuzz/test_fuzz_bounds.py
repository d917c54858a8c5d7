"""Clients that take and never give back: the node serves the others, and stays within its bounds.

Memory is read from the kernel, with generous bounds: what is looked for is growth with the size of
the abuse, not the last megabyte.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from fuzzing import children, open_files, resident_mib
from real_cluster import RealCluster, eventually

from consensusllm.conversations.commands import OpenSession, Put, SessionCommand
from consensusllm.wire.commands import encode_command
from consensusllm.wire.generated import client_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

PIPELINE = "/consensusllm.client.v1.Client/Pipeline"
WATCH = "/consensusllm.client.v1.Client/Watch"
STATUS = "/consensusllm.client.v1.Client/GetStatus"
MIB = 1 << 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SLOW = {"provider": "scripted", "options": {"first_token_s": 3600}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealCluster]:
    directory = tmp_path_factory.mktemp("bounds")
    async with RealCluster(directory, models=[SLOW]) as cluster:
        await cluster.all_up()
        yield cluster


class Node:
    """One node's process as the kernel sees it."""

    def __init__(self, cluster: RealCluster, node: int = 1) -> None:
        assert cluster.process is not None
        found = children(cluster.process.pid)
        name = f"node {node} --config"
        (self.process,) = [pid for pid, command in found.items() if name in command]
        self.address = cluster.addresses[node]
        self.cluster = cluster
        self.client = cluster.client(node, pinned=True)

    async def serves(self) -> None:
        """Another client is answered, by a write and by a read."""
        key = os.urandom(4).hex()
        await self.client.put(f"serves/{key}", b"v")
        assert await self.client.get(f"serves/{key}") == b"v"

    @property
    def memory_mib(self) -> float:
        return resident_mib(self.process)

    @property
    def files(self) -> int:
        return open_files(self.process)

    async def is_back_at(self, files: int) -> None:
        gc.collect()  # a call that a traceback keeps alive holds its connection open

        async def back() -> bool:
            return self.files <= files

        await eventually(back, f"at most {files} descriptors, now {self.files}")


@pytest_asyncio.fixture(loop_scope="module")
async def node(cluster: RealCluster) -> AsyncIterator[Node]:
    """After each test the node is the process that it was, and holds nothing of the abuse."""
    node = Node(cluster)
    await node.serves()
    files = node.files
    yield node
    await node.serves()
    await node.is_back_at(files)
    assert Node(cluster).process == node.process
    for path in (cluster.data_dir / "logs").glob("*.log"):
        assert "Traceback" not in path.read_text(), path


def channel(node: Node) -> grpc.aio.Channel:
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
    ]
    return grpc.aio.insecure_channel(node.address, options=options)


def pipeline(raw: grpc.aio.Channel) -> Any:
    return raw.stream_stream(
        PIPELINE,
        request_serializer=client_pb2.Requests.SerializeToString,
        response_deserializer=client_pb2.Responses.FromString,
    )()


async def test_a_client_that_never_reads_costs_a_bounded_amount(node: Node) -> None:
    await node.client.put("large", os.urandom(MIB))
    before = node.memory_mib
    read = client_pb2.Read(key="large")
    number = 0

    async def ask(call: Any) -> None:
        nonlocal number
        while True:
            requests = [client_pb2.Request(id=number + i, read=read) for i in range(500)]
            number += 500
            await call.write(client_pb2.Requests(requests=requests))

    async with channel(node) as raw:
        calls = [pipeline(raw) for _ in range(2)]
        asking = [asyncio.create_task(ask(call)) for call in calls]

        async def stuck() -> bool:
            """The node reads no more of it, while it answers others many times."""
            seen = number
            for _ in range(50):
                await node.serves()
            return number == seen

        await eventually(stuck, "the node takes no more")
        assert number >= 2 * 8192, "it was not abused"
        await node.serves()
        assert node.memory_mib - before < 200, "16 GiB of answers were asked for"
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def test_what_waits_to_be_written_does_not_keep_the_message_that_it_came_in(
    node: Node,
) -> None:
    """A part of a message that is kept keeps all of it."""
    await node.client.put("large", os.urandom(MIB))
    before = node.memory_mib
    async with channel(node) as raw:
        call = pipeline(raw)  # whose answers nobody reads
        for number in range(300):
            read = client_pb2.Request(id=2 * number, read=client_pb2.Read(key="large"))
            refused = client_pb2.Request(id=2 * number + 1, command=bytes(MIB))
            await call.write(client_pb2.Requests(requests=[read, refused]))
        await node.serves()
        assert node.memory_mib - before < 150, "300 MiB were sent"


@pytest.mark.parametrize("count", [20_000, pytest.param(100_000, marks=pytest.mark.full)])
async def test_requests_without_a_pause_are_each_answered_and_others_are_served(
    node: Node, count: int
) -> None:
    batch = 1_000
    session = os.urandom(16)  # its name, until it is opened
    before = node.memory_mib

    def request(number: int) -> client_pb2.Request:
        command = SessionCommand(session, number, max(1, number - 1_000), Put("flood", b"x" * 100))
        return client_pb2.Request(id=number, timeout_ms=30_000, command=encode_command(command))

    async with channel(node) as raw:
        call = pipeline(raw)
        opening = encode_command(SessionCommand(session, 0, 0, OpenSession()))
        await call.write(client_pb2.Requests(requests=[client_pb2.Request(id=0, command=opening)]))
        (response,) = (await call.read()).responses
        session = response.reply.session_opened.session

        async def send() -> None:
            for first in range(1, count + 1, batch):
                await call.write(
                    client_pb2.Requests(requests=map(request, range(first, first + batch)))
                )
            await call.done_writing()

        sending = asyncio.create_task(send())
        answered: set[int] = set()
        peak = before
        while (message := await call.read()) is not grpc.aio.EOF:
            for identifier in (*message.done, *(each.id for each in message.responses)):
                assert identifier not in answered
                answered.add(identifier)
            peak = max(peak, node.memory_mib)
            if len(answered) > count // 2 and not sending.done():
                await node.serves()
        await sending
    assert answered == set(range(1, count + 1))
    assert peak - before < 300
    status = await node.client.status()
    assert status.pending == 0


async def test_200_readers_of_a_turn_that_never_ends_cost_little(node: Node) -> None:
    await node.client.create("watched")
    turn = await node.client.ask("watched", "Will you ever answer?")
    before, files = node.memory_mib, node.files
    request = client_pb2.WatchRequest(conversation="watched", turn=turn).SerializeToString()
    channels = [channel(node) for _ in range(20)]
    calls = [raw.unary_stream(WATCH)(request) for raw in channels for _ in range(10)]
    first = [asyncio.ensure_future(call.read()) for call in calls]

    async def connected() -> bool:
        return node.files >= files + 20

    await eventually(connected, "all readers are there")
    await node.serves()
    assert node.memory_mib - before < 100
    for task, call in zip(first, calls, strict=True):
        task.cancel()
        call.cancel()
    await asyncio.gather(*first, return_exceptions=True)
    for raw in channels:
        await raw.close()
    await node.client.delete("watched")


@pytest.mark.parametrize("method", [STATUS, WATCH])
async def test_a_giant_message_is_refused_by_its_size(node: Node, method: str) -> None:
    before = node.memory_mib
    async with channel(node) as raw:
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await raw.unary_unary(method)(b"x" * (64 * MIB))
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert node.memory_mib - before < 100


@pytest.mark.parametrize(
    "request_",
    [
        client_pb2.WatchRequest(conversation="c" * MIB),
        client_pb2.WatchRequest(positions=[client_pb2.Position()] * MIB),
    ],
    ids=["conversation", "positions"],
)
async def test_a_large_request_to_watch_is_refused(
    node: Node, request_: client_pb2.WatchRequest
) -> None:
    async with channel(node) as raw:
        call = raw.unary_stream(WATCH)(request_.SerializeToString())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "the most is 65536" in (refused.value.details() or "")


async def test_a_message_of_millions_of_empty_requests_is_refused_whole(node: Node) -> None:
    """Two bytes each on the wire, and a hundred times that as objects."""
    before = node.memory_mib
    async with channel(node) as raw:
        for _ in range(4):
            call = raw.stream_stream(PIPELINE)()
            await call.write(b"\x0a\x00" * (8 * MIB - 8))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call.read()
    assert node.memory_mib - before < 200
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "a message of more than 65536 parts" in (refused.value.details() or "")


@pytest.mark.parametrize("who_closes", ["client", pytest.param("node", marks=pytest.mark.full)])
async def test_half_open_connections_hold_nothing_up_and_are_closed(
    node: Node, who_closes: str
) -> None:
    """Connections that say nothing, or begin to say something and stop."""
    host, port = node.address.split(":")
    beginnings = (b"", b"PRI * HT", PREFACE[:-2], b"GET / HTTP/1.1\r\nHost: x\r\n", os.urandom(50))
    before, files = node.memory_mib, node.files
    sockets = []
    for number in range(300):
        connection = socket.create_connection((host, int(port)), timeout=30)
        connection.sendall(beginnings[number % len(beginnings)])
        sockets.append(connection)
    await node.serves()
    assert node.memory_mib - before < 100
    if who_closes == "node":  # after the time that it gives to a handshake
        await node.is_back_at(files)
    for connection in sockets:
        connection.close()


async def test_connections_that_are_cut_in_mid_stream_leave_nothing(node: Node) -> None:
    """Streams whose clients vanish without a word, with requests under way."""
    request = client_pb2.Request(id=1, read=client_pb2.Read(key="large"))
    message = client_pb2.Requests(requests=[request] * 100)
    for _ in range(20):
        raw = channel(node)
        call = pipeline(raw)
        await call.write(message)
        call.cancel()
        await raw.close()
    status = await node.client.status()
    assert status.pending == 0
