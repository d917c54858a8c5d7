"""Deadlines of calls, nodes that are silent or overloaded, and what is said then."""

from __future__ import annotations

import time

import pytest

from consensusllm.client import (
    Client,
    InvalidRequest,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
)
from consensusllm.client import pipeline as pipeline_
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
