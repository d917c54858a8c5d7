"""Deadlines of calls, nodes that are silent or overloaded, and what is said then."""

from __future__ import annotations

import asyncio
import time

import pytest

from consensusllm.client import (
    Client,
    InvalidRequest,
    OutcomeUnknown,
    Overloaded,
    TooLarge,
    TurnUnread,
    Unavailable,
)
from consensusllm.client import pipeline as pipeline_
from consensusllm.client import watch as watch_
from consensusllm.conversations import (
    Put,
)
from consensusllm.wire.generated import client_pb2
from tests.client.asked import sent

Failure = client_pb2.Failure


async def test_all_nodes_down_says_so_in_one_line(start_cluster):
    cluster = await start_cluster(2)
    for node in cluster.nodes:
        await node.die()
    async with Client(cluster.addresses, timeout_s=1) as client:
        for call in (client.get("k"), client.query("c1", "q")):
            with pytest.raises(Unavailable) as unavailable:
                await call
            text = str(unavailable.value)
            assert text.startswith("no answer within 1 s (127.0.0.1:")
            assert "does not accept connections" in text
            assert "check that a majority of the nodes runs" in text
            assert "\n" not in text


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Failure.NO_QUORUM, Unavailable),
        (Failure.NOT_LEADER, Unavailable),
        (Failure.OVERLOADED, Overloaded),
        (Failure.UNKNOWN, OutcomeUnknown),
        ("cut", OutcomeUnknown),
        ("silent", OutcomeUnknown),
    ],
)
async def test_what_a_command_raises_at_its_deadline(start_cluster, kind, error):
    cluster = await start_cluster()
    async with Client(cluster.addresses) as client:
        await client.put("a", b"")
        cluster.nodes[0].always_fault(kind)
        with pytest.raises(error):
            await client.put("a", b"", timeout_s=0.3)


@pytest.mark.parametrize("kind", [Failure.UNKNOWN, "cut", "silent"])
async def test_a_read_is_never_of_unknown_outcome(start_cluster, kind):
    cluster = await start_cluster()
    cluster.nodes[0].always_fault(kind)
    async with Client(cluster.addresses, timeout_s=0.2) as client:
        with pytest.raises(Unavailable):
            await client.get("a")


async def test_the_time_that_an_overloaded_node_asks_for_is_given_to_it(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    async with Client(cluster.addresses) as client:
        await client.put("a", b"")
        node.always_fault(Failure.OVERLOADED, retry_after_ms=60_000)
        with pytest.raises(Overloaded):
            await client.put("b", b"", timeout_s=0.3)
        assert len(sent(node, Put)) == 2
        node.always = None
        node.fault(Failure.OVERLOADED, retry_after_ms=200)
        began = time.monotonic()
        await client.put("b", b"")
        assert time.monotonic() - began >= 0.2


async def test_a_request_that_the_node_finds_malformed_is_not_sent_again(start_cluster):
    cluster = await start_cluster()
    cluster.nodes[0].always_fault(Failure.INVALID)
    async with Client(cluster.addresses) as client:
        with pytest.raises(InvalidRequest):
            await client.get("a")
    assert len(cluster.nodes[0].requests) == 1


async def test_a_refusal_does_not_hide_that_an_earlier_try_may_have_happened(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    async with Client(cluster.addresses) as client:
        await client.put("a", b"")
        node.fault("cut", applied=True)
        node.fault(Failure.INVALID)
        with pytest.raises(OutcomeUnknown):
            await client.put("a", b"1")


async def test_a_try_that_has_grown_too_large_does_not_hide_that_an_earlier_one_may_have_happened(
    start_cluster, monkeypatch
):
    cluster = await start_cluster()
    node = cluster.nodes[0]

    def first_try(command):
        monkeypatch.setattr(pipeline_, "REQUEST_BYTES_MAX", 10)
        return True

    async with Client(cluster.addresses) as client:
        await client.put("a", b"")
        node.faulty = first_try
        node.fault("cut", applied=True)
        with pytest.raises(OutcomeUnknown, match="bytes: the most is 10; it may or may not"):
            await client.put("a", b"1")
        with pytest.raises(TooLarge):
            await client.put("a", b"2")
    assert cluster.machine.get("a") == b"1"


async def test_a_node_that_is_silent_is_given_up_for_the_next_one(start_cluster, monkeypatch):
    monkeypatch.setattr("consensusllm.client.calls.TRY_S", 0.1)
    monkeypatch.setattr("consensusllm.client.calls.GRACE_S", 0.1)
    monkeypatch.setattr(pipeline_, "SILENCE_S", 0.1)
    cluster = await start_cluster(2)
    cluster.leader = 2
    cluster.nodes[0].always_fault("silent")
    async with Client(cluster.addresses) as client:
        assert await client.get("a") is None


async def test_a_silent_stream_is_opened_anew_where_there_is_no_other_node(
    start_cluster, monkeypatch
):
    monkeypatch.setattr("consensusllm.client.calls.TRY_S", 0.1)
    monkeypatch.setattr("consensusllm.client.calls.GRACE_S", 0.1)
    monkeypatch.setattr(pipeline_, "SILENCE_S", 0.1)
    cluster = await start_cluster()
    node = cluster.nodes[0]
    node.fault("silent")
    async with Client(cluster.addresses, pinned=True) as client:
        assert await client.get("a") is None
    assert node.streams == 2


async def test_an_answer_that_is_late_gives_the_next_try_longer(start_cluster, monkeypatch):
    monkeypatch.setattr("consensusllm.client.calls.TRY_S", 0.1)
    monkeypatch.setattr("consensusllm.client.calls.GRACE_S", 0.1)
    monkeypatch.setattr(pipeline_, "SILENCE_S", 0.1)
    cluster = await start_cluster()
    node = cluster.nodes[0]
    for _ in range(3):
        node.fault("silent")
    async with Client(cluster.addresses) as client:
        assert await client.get("a", timeout_s=60) is None
    assert [request.timeout_ms for request in node.requests] == [100, 200, 400, 800]


async def never(*_):
    await asyncio.Event().wait()


async def test_a_node_that_hangs_is_asked_how_it_is_only_until_the_deadline(
    start_cluster, monkeypatch
):
    monkeypatch.setattr(watch_, "QUIET_S", 0.5)
    cluster = await start_cluster()
    node = cluster.nodes[0]
    left_s = []

    async def silent(request, context):
        await never()
        yield

    async def hang(request, context):
        left_s.append(context.time_remaining())
        await never()

    await node.die()
    node.serve_watch, node.GetStatus = silent, hang
    await node.start()
    async with Client(cluster.addresses) as client:
        with pytest.raises(TurnUnread, match=r"within 0\.8 s"):
            [event async for event in client.watch("c1", 1, timeout_s=0.8)]
    assert all(each <= 0.35 for each in left_s)


async def test_a_reader_connects_no_longer_than_to_its_deadline(monkeypatch):
    monkeypatch.setattr("consensusllm.client.nodes._connected", never)
    async with Client(["127.0.0.1:9"]) as client:
        with pytest.raises(TurnUnread, match=r"no connection within 0\.[0-2] s"):
            [event async for event in client.watch("c1", 1, timeout_s=0.2)]


async def test_a_step_of_a_change_ends_at_the_deadline_of_the_change(start_cluster):
    cluster = await start_cluster()
    left_s = []

    async def hang(request, context):
        left_s.append(context.time_remaining())
        await never()

    cluster.nodes[0].change = hang
    async with Client(cluster.addresses) as client:
        with pytest.raises(OutcomeUnknown, match=r"within 0\.3 s"):
            await client.transfer_leader(1, timeout_s=0.3)
    assert all(each <= 0.35 for each in left_s)


@pytest.mark.parametrize("call", [Client.status, Client.templates])
async def test_a_node_that_hangs_leaves_time_to_ask_the_next_one(start_cluster, call):
    cluster = await start_cluster(2)
    hung, second = cluster.nodes
    left_s = []

    async def hang(request, context):
        left_s.append(context.time_remaining())
        await never()

    async def answer(request, context):
        return client_pb2.Templates(problems=["of node 2"])

    for node in cluster.nodes:
        await node.die()
    hung.GetStatus = hung.ListTemplates = hang
    second.ListTemplates = answer
    for node in cluster.nodes:
        await node.start()
    async with Client(cluster.addresses) as client:
        found = await call(client, timeout_s=2)
    assert getattr(found, "problems", ("of node 2",)) == ("of node 2",)
    assert getattr(found, "node", 2) == 2
    assert all(each <= 1.1 for each in left_s)
