"""A question that was asked: what is said where its turn cannot be read, and what becomes of the
turn where its asker goes away."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from consensusllm.client import Client, NotFound, TurnUnread
from consensusllm.client import client as client_
from consensusllm.conversations import CreateConversation, Delete, PlannedCandidate, SubmitQuery
from consensusllm.wire.generated import client_pb2
from tests.client.asked import until

Failure = client_pb2.Failure


async def unknown(request, context):
    await context.abort(grpc.StatusCode.NOT_FOUND, "no such turn")
    yield


@pytest.mark.parametrize("kind", [Failure.NO_QUORUM, Failure.OVERLOADED, Failure.INVALID])
@pytest.mark.parametrize("wait", [False, True])
async def test_where_a_turn_cannot_be_read_it_is_said_that_it_was_asked(start_cluster, kind, wait):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    node.serve_watch = unknown
    cluster.on_turn = lambda *turn: node.always_fault(kind)
    said = r"within 0\.5 s .*: its answers are kept" if wait else "was asked, and cannot be read"
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        with pytest.raises(TurnUnread, match=f"^turn 1 of c1 .*{said}.*look at it later") as unread:
            await client.query("c1", "q", wait=wait, timeout_s=0.5)
    assert unread.value.turn == 1


async def test_a_stream_that_ends_at_its_deadline_leaves_its_turn_open(start_cluster):
    cluster = await start_cluster()
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        with pytest.raises(TurnUnread, match="its answers are kept"):
            [event async for event in client.stream("c1", "q", cancel=True, timeout_s=0.3)]
        assert not (await client.view("c1")).turns[0].closed


async def asker(cluster, client):
    """A task whose question has left, and is not acknowledged before the node's gate opens."""
    node = cluster.nodes[0]
    await client.create("c1")
    node.gate.clear()

    async def ask():
        async for _ in client.stream("c1", "q", cancel=True):
            pass

    asking = asyncio.create_task(ask())
    await until(lambda: any(each.HasField("ask") for each in node.requests))
    return asking


async def gone_away(asking):
    asking.cancel()
    await asyncio.wait({asking}, timeout=30)
    assert asking.cancelled()


async def test_who_goes_away_before_its_turn_is_known_has_it_cancelled_later(
    start_cluster, monkeypatch
):
    monkeypatch.setattr(client_, "CANCEL_S", 0.05)
    cluster = await start_cluster()
    async with Client(cluster.addresses, timeout_s=60) as client:
        await gone_away(await asker(cluster, client))
        cluster.nodes[0].gate.set()
        await until(lambda: (turn := cluster.machine.turn("c1", 1)) and turn.closed)


async def test_who_goes_away_waits_for_a_moment_until_its_turn_is_cancelled(
    start_cluster, monkeypatch
):
    monkeypatch.setattr(client_, "CANCEL_S", 60)
    cluster = await start_cluster()
    async with Client(cluster.addresses) as client:
        asking = await asker(cluster, client)
        leaving = asyncio.create_task(gone_away(asking))
        cluster.nodes[0].gate.set()
        await leaving
        assert cluster.machine.turn("c1", 1).closed


async def test_closing_gives_up_a_cancellation_under_way(start_cluster, monkeypatch):
    monkeypatch.setattr(client_, "CANCEL_S", 0.05)
    cluster = await start_cluster()
    async with Client(cluster.addresses, timeout_s=60) as client:
        await gone_away(await asker(cluster, client))
    names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
    assert not [name for name in names if name.startswith(("Client.", "Session."))]


@pytest.mark.parametrize("wait", [True, False])
async def test_the_answers_to_another_question_are_nobodys(start_cluster, wait):
    cluster = await start_cluster()

    def made_anew(conversation, turn, candidates):
        cluster.on_turn = None
        cluster.internal(Delete("c1"))
        cluster.internal(CreateConversation("c1"))
        cluster.internal(SubmitQuery("c1", "2 + 2?", (PlannedCandidate(1, 1),)))
        cluster.record("c1", 1, 1, "yes, sure")

    cluster.on_turn = made_anew
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        with pytest.raises((NotFound, TurnUnread), match="another conversation has the id 'c1'"):
            await client.query("c1", "is it safe to delete prod?", wait=wait)
