"""Changes of members, where nobody can make them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from consensusllm.client import (
    ChangeProgress,
    ChangeRefused,
    Client,
    OutcomeUnknown,
    Unavailable,
    members,
)
from consensusllm.wire.generated import client_pb2 as pb
from consensusllm.wire.generated import client_pb2_grpc

GONE = "127.0.0.1:9"
WAITS = ChangeProgress("a leader: a majority must be up and linked", None)


class Follower(client_pb2_grpc.ClientServicer):
    """The only member. It knows no leader until it was asked for a removal ``patience`` times."""

    patience = 4

    def __init__(self) -> None:
        self.address = ""
        self.asked: list[str | None] = []
        self.askings: set[int] = set()

    async def Change(self, request: Any, context: Any) -> pb.ChangeReply:
        self.asked.append(request.WhichOneof("change"))
        self.askings.add(request.remove.asked)
        if self.asked[-1] == "add" or self.asked.count("remove") == self.patience:
            return pb.ChangeReply(outcome=pb.ChangeReply.DONE)
        return pb.ChangeReply(
            outcome=pb.ChangeReply.NOT_LEADER, message="no node leads", members=[self.address]
        )

    async def GetStatus(self, request: Any, context: Any) -> pb.Status:
        return pb.Status(node=1, members=[pb.MemberStatus(node=1, address=self.address)])


@pytest.fixture
async def follower() -> AsyncIterator[Follower]:
    node, server = Follower(), grpc.aio.server()
    client_pb2_grpc.add_ClientServicer_to_server(node, server)  # type: ignore[no-untyped-call]
    node.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield node
    await server.stop(None)


async def test_who_asks_for_a_change_is_told_that_no_leader_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(members, "LEADERLESS_S", 0.1)
    told: list[ChangeProgress] = []
    async with Client([GONE]) as client:
        with pytest.raises(Unavailable, match=r"was not done within 0.3 s \(127.0.0.1:9"):
            await client.remove_node(1, timeout_s=0.3, on_progress=told.append)
    assert told == [WAITS]


async def test_what_is_waited_for_is_said_once_whoever_does_not_answer(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "LEADERLESS_S", 0.0)
    told: list[ChangeProgress] = []
    async with Client([GONE, follower.address]) as client:
        await client.remove_node(1, timeout_s=60, on_progress=told.append)
    assert told == [WAITS]


async def test_a_removal_that_is_asked_for_again_and_again_is_one_and_the_next_one_another(
    follower: Follower,
) -> None:
    async with Client([follower.address]) as client:
        await client.remove_node(1, timeout_s=60)
        (first,) = follower.askings
        follower.asked.clear()
        await client.remove_node(1, timeout_s=60)
    assert follower.asked == ["remove"] * follower.patience
    assert len(follower.askings - {first}) == 1


async def test_the_ballot_that_follows_a_change_is_not_told_of(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "LEADERLESS_S", 60.0)
    told: list[ChangeProgress] = []
    async with Client([follower.address]) as client:
        await client.remove_node(1, timeout_s=60, on_progress=told.append)
    assert told == []


async def test_nobody_replaces_a_node_that_is_no_member(follower: Follower) -> None:
    async with Client([follower.address]) as client:
        with pytest.raises(ChangeRefused, match="node 3 is no member: add node 6 instead"):
            await client.replace_node(3, 6, "127.0.0.1:1")
        assert follower.asked == []
        await client.replace_node(3, 1, follower.address)  # it has come: the rest is to be done
    assert follower.asked == ["add"] + ["remove"] * follower.patience


async def test_a_node_that_may_not_leave_is_told_of_with_its_successor(start_cluster: Any) -> None:
    cluster = await start_cluster(1)
    node = cluster.nodes[0]

    async def change(request: pb.ChangeRequest, context: Any) -> pb.ChangeReply:
        if request.HasField("add"):
            return pb.ChangeReply(outcome=pb.ChangeReply.DONE)
        return pb.ChangeReply(outcome=pb.ChangeReply.REFUSED, message="start the others first")

    node.change = change
    said = "^node 4 is a member now, and node 1 was not removed: start the others first$"
    async with Client([node.address]) as client:
        with pytest.raises(ChangeRefused, match=said):
            await client.replace_node(1, 4, "127.0.0.1:9")


@pytest.mark.parametrize("answers", [True, False])
async def test_a_change_that_may_have_begun_is_of_unknown_outcome(
    start_cluster: Any, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    cluster = await start_cluster(1)
    node = cluster.nodes[0]

    async def change(request: pb.ChangeRequest, context: Any) -> pb.ChangeReply:
        if request.HasField("add"):
            return pb.ChangeReply(outcome=pb.ChangeReply.DONE)
        if not answers:
            await asyncio.Event().wait()
        return pb.ChangeReply(outcome=pb.ChangeReply.UNDER_WAY, message="a vote of node 2")

    node.change = change
    monkeypatch.setattr(members, "STEP_S", 0.05)
    async with Client([node.address]) as client:
        with pytest.raises(OutcomeUnknown, match=r"not seen to be done within 0\.3 s .*may be yet"):
            await client.remove_node(1, timeout_s=0.3)
        with pytest.raises(OutcomeUnknown, match=r"^node 4 is a member now: the change was not"):
            await client.replace_node(1, 4, "127.0.0.1:9", timeout_s=0.3)


async def test_nodes_that_name_each_other_are_not_asked_without_a_pause(
    start_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = await start_cluster(2)
    first, second = cluster.nodes
    pauses: list[float] = []

    class Enough(Exception):
        pass

    async def pause(pause_s: float, deadline: object) -> None:
        pauses.append(pause_s)
        if len(pauses) == 6:
            raise Enough

    def naming(address: str) -> Any:
        async def change(request: pb.ChangeRequest, context: Any) -> pb.ChangeReply:
            return pb.ChangeReply(outcome=pb.ChangeReply.NOT_LEADER, leader_address=address)

        return change

    first.change, second.change = naming(second.address), naming(first.address)
    monkeypatch.setattr(members, "pause", pause)
    async with Client(cluster.addresses) as client:
        with pytest.raises(Enough):
            await client.remove_node(1)
    assert pauses == [0.0, members.AGAIN_S] * 3


async def test_a_node_that_takes_long_to_answer_is_given_longer_the_next_time(
    start_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = await start_cluster(1)
    node = cluster.nodes[0]
    given_s: list[float] = []
    step = Client._step

    async def timed(self: Client, address: str, request: pb.ChangeRequest, within_s: float) -> Any:
        given_s.append(within_s)
        return await step(self, address, request, within_s)

    async def change(request: pb.ChangeRequest, context: Any) -> pb.ChangeReply:
        if given_s[-1] < 4 * members.STEP_S:
            await asyncio.Event().wait()  # until the client gives up
        return pb.ChangeReply(outcome=pb.ChangeReply.DONE)

    node.change = change
    monkeypatch.setattr(members, "STEP_S", 0.1)
    monkeypatch.setattr(Client, "_step", timed)
    async with Client([node.address]) as client:
        await client.remove_node(1, timeout_s=60)
    assert sorted(given_s) == given_s
    assert {*given_s} == {0.1, 0.2, 0.4}
