"""The stream to a node: what travels in one message, what waits for room, what closing ends."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from types import SimpleNamespace

import pytest

from consensusllm.client import (
    Client,
    Overloaded,
    TooLarge,
)
from consensusllm.client import calls as calls_
from consensusllm.client import pipeline as pipeline_
from consensusllm.client.calls import Calls, Deadline
from consensusllm.client.nodes import Nodes
from consensusllm.client.pipeline import Pipeline
from consensusllm.conversations import (
    CreateConversation,
    OpenSession,
    PlannedCandidate,
    Put,
    SubmitQuery,
)
from consensusllm.wire.generated import client_pb2
from tests.client.asked import applied, sent, until


async def test_concurrent_calls_travel_in_few_messages(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    async with Client(cluster.addresses) as client:
        await asyncio.gather(*(client.put(f"k{number}", b"v") for number in range(500)))
    assert cluster.machine.counts().keys == 500
    assert len(sent(node, OpenSession)) == 1
    assert len(node.messages) <= 5


async def test_messages_are_bounded_in_bytes(start_cluster):
    cluster = await start_cluster()
    value = bytes(400_000)
    async with Client(cluster.addresses) as client:
        await asyncio.gather(*(client.put(f"k{number}", value) for number in range(10)))
    sizes = [sum(each.ByteSize() for each in message) for message in cluster.nodes[0].messages]
    assert max(sizes) <= pipeline_.MESSAGE_BYTES_MAX
    assert sum(sizes) > 4_000_000


async def pipeline_to(node, **bounds):
    nodes = Nodes([node.address], token=None, pinned=False)
    return nodes, Pipeline(nodes, **bounds)


def get_request():
    return client_pb2.Request(read=client_pb2.Read(key="k"))


def send(pipeline, build=get_request, timeout_s=30.0):
    """One that has all of its time for its first try."""
    deadline_at = asyncio.get_running_loop().time() + timeout_s
    return asyncio.create_task(pipeline.send(build, deadline_at, lambda: (0, deadline_at)))


@pytest.mark.parametrize("bounds", [{"outstanding_max": 4}, {"outstanding_bytes_max": 20}])
async def test_what_is_outstanding_is_bounded_and_the_rest_waits_in_order(start_cluster, bounds):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    node.gate.clear()
    nodes, pipeline = await pipeline_to(node, **bounds)
    tasks = [send(pipeline) for _ in range(20)]
    await until(lambda: node.messages)
    assert 1 <= len(node.requests) <= 5
    for cancelled in tasks[10:15]:
        cancelled.cancel()
    node.gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [False] * 10 + [True] * 5 + [False] * 5
    ids = [each.id for each in node.requests]
    assert ids == sorted(ids)
    assert len(ids) == 15
    await pipeline.close()
    await nodes.close()


async def full(start_cluster):
    """A node, and a pipeline with room for one request, and that one, which is not answered."""
    cluster = await start_cluster()
    node = cluster.nodes[0]
    node.fault("silent")
    nodes, pipeline = await pipeline_to(node, outstanding_max=1)
    first = send(pipeline)
    await until(lambda: node.messages)
    return node, nodes, pipeline, first


async def test_a_cancelled_call_frees_its_place(start_cluster):
    _, nodes, pipeline, first = await full(start_cluster)
    second = send(pipeline)
    first.cancel()
    _, response = await second
    assert response.read.not_found
    await pipeline.close()
    await nodes.close()


async def test_a_call_that_finds_no_room_until_its_deadline_is_overloaded(start_cluster):
    _, nodes, pipeline, first = await full(start_cluster)
    with pytest.raises(Overloaded):
        await send(pipeline, timeout_s=0.05)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    large = client_pb2.Request(command=bytes(pipeline_.REQUEST_BYTES_MAX))
    with pytest.raises(TooLarge):
        await send(pipeline, lambda: large)
    await pipeline.close()
    await nodes.close()


async def test_a_try_begins_when_there_is_room(start_cluster, monkeypatch):
    monkeypatch.setattr(calls_, "TRY_S", 0.05)
    monkeypatch.setattr(calls_, "GRACE_S", 0.05)
    node, nodes, pipeline, first = await full(start_cluster)
    deadline = Deadline(30)
    calls = Calls(nodes, pipeline, random.Random(1))
    second = asyncio.create_task(calls.answered(get_request, deadline, changes=False))
    await until(lambda: second.done() or deadline.remaining_s() < 29.8)
    assert not second.done()
    monkeypatch.setattr(calls_, "TRY_S", 3.0)
    first.cancel()
    response, _ = await second
    assert response.read.not_found
    assert node.requests[-1].timeout_ms == 3000
    await pipeline.close()
    await nodes.close()


async def test_cancelled_callers_do_not_stop_the_session_from_opening(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    node.gate.clear()
    async with Client(cluster.addresses) as client:
        first = asyncio.create_task(client.put("a", b""))
        second = asyncio.create_task(client.put("b", b""))
        await until(lambda: node.messages)
        first.cancel()
        node.gate.set()
        await second
    assert [each.operation.key for each in applied(cluster, Put)] == ["b"]
    assert len(applied(cluster, OpenSession)) == 1


async def test_closing_ends_calls_in_flight_and_leaves_nothing_behind(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    client = Client(cluster.addresses)
    await client.put("a", b"")
    node.always_fault("silent")
    pending = asyncio.create_task(client.get("a"))
    await until(lambda: len(node.requests) == 3)
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await pending
    with pytest.raises(RuntimeError, match="closed"):
        await client.get("a")
    names = Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks())
    assert not [name for name in names if name.startswith(("_Stream", "Session"))]
    gc.collect()


async def test_closing_ends_a_stream_that_was_left_for_another_node(start_cluster):
    cluster = await start_cluster(2)
    first, second = cluster.nodes
    nodes = Nodes(cluster.addresses, token=None, pinned=False)
    pipeline = Pipeline(nodes)
    first.always_fault("silent")
    hung = send(pipeline)
    await until(lambda: first.requests)
    nodes.prefer(second.address)
    cluster.leader = 2
    await send(pipeline)
    await pipeline.close()
    with pytest.raises(pipeline_.Lost, match="the client was closed"):
        await hung
    await nodes.close()


class OneWrite:
    """A call of Pipeline that takes one message, and the next where it has ``room``."""

    def __init__(self):
        self.written, self.room = [], asyncio.Event()

    async def write(self, message):
        self.written += [each.id for each in message.requests]
        await self.room.wait()

    async def read(self):
        await asyncio.Event().wait()

    def cancel(self):
        pass


async def test_what_was_told_as_not_sent_does_not_leave_afterwards():
    call = OneWrite()

    async def stub(address):
        return SimpleNamespace(Pipeline=lambda metadata: call)

    stream = pipeline_._Stream(SimpleNamespace(metadata=(), stub=stub), "a:1")
    loop = asyncio.get_running_loop()
    stream.post(client_pb2.Request(id=1), 1, loop.time() + 60)
    await until(lambda: call.written)
    since = loop.time()
    late = stream.post(client_pb2.Request(id=2), 1, since)
    stream._heard_at = since + 1
    call.room.set()  # in the very turn of the loop in which its time is up
    stream._sweep()
    with pytest.raises(pipeline_.Lost) as lost:
        await late
    await asyncio.sleep(0)
    assert (lost.value.sent, call.written) == (False, [1])
    stream.end("done")


@pytest.mark.parametrize("connected", [True, False])
async def test_a_connection_that_is_still_coming_up_is_not_given_up_as_silent(connected):
    silent = []
    up = asyncio.Event()

    async def stub(address):
        if not connected:
            await up.wait()
        return SimpleNamespace(Pipeline=lambda metadata: call)

    call = OneWrite()
    nodes = SimpleNamespace(metadata=(), stub=stub, silent=silent.append)
    stream = pipeline_._Stream(nodes, "a:1")
    late = stream.post(client_pb2.Request(id=1), 1, asyncio.get_running_loop().time() + 60)
    if connected:
        await until(lambda: call.written)
    number, (future, since, _, size_bytes) = next(iter(stream._pending.items()))
    stream._heard_at = since - pipeline_.SILENCE_S
    stream._pending[number] = (future, since - pipeline_.SILENCE_S, 0.0, size_bytes)
    stream._sweep()
    with pytest.raises(pipeline_.Lost):
        await late
    assert (silent, stream.ended) == (["a:1"] * connected, True)


async def test_a_request_for_which_a_node_has_no_room_is_too_large_and_the_others_go_on(
    start_cluster,
):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    await node.die()
    node.address, node.options = "", (("grpc.max_receive_message_length", 100_000),)
    await node.start()
    async with Client(cluster.addresses) as client:
        await client.put("a", b"")
        large, small = client.put("b", bytes(200_000)), client.put("c", b"")
        refused, done = await asyncio.gather(large, small, return_exceptions=True)
        assert await client.get("b") is None
    assert isinstance(refused, TooLarge)
    assert "a node takes 100000 at most" in str(refused)
    assert done is None
    assert cluster.machine.get("c") == b""


async def test_closing_while_the_session_opens_or_a_turn_is_read_says_so(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    node.gate.clear()
    client = Client(cluster.addresses)
    cluster.internal(CreateConversation("c1"))
    cluster.internal(SubmitQuery("c1", "q", (PlannedCandidate(1, 1),)))

    async def read():
        async for _ in client.watch("c1", 1):
            pass

    pending = [asyncio.create_task(client.put("a", b"")), asyncio.create_task(read())]
    await until(lambda: node.messages and node.watches)
    await client.close()
    for ended in await asyncio.gather(*pending, return_exceptions=True):
        assert isinstance(ended, RuntimeError)
        assert "closed" in str(ended)
