"""Changes of members, where nobody can make them."""

from __future__ import annotations

from typing import Any

import pytest

from consensusllm.client import ChangeProgress, Client, Unavailable, members
from consensusllm.wire.generated import client_pb2 as pb


async def test_who_asks_for_a_change_is_told_that_no_leader_answers() -> None:
    told: list[ChangeProgress] = []
    async with Client(["127.0.0.1:9"]) as client:
        with pytest.raises(Unavailable, match="was not done within"):
            await client.remove_node(1, timeout_s=0.3, on_progress=told.append)
    assert told
    assert told[0].waits_for.startswith("a leader: 127.0.0.1:9")


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
