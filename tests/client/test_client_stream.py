"""A question that was asked: what is said where its turn cannot be read."""

from __future__ import annotations

import grpc
import pytest

from consensusllm.client import Client, TurnUnread
from consensusllm.wire.generated import client_pb2

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
