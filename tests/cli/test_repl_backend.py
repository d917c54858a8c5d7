"""How a session finds its cluster: nodes that were not named are learnt from those that answer."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from consensusllm.client import Client, Status, Unauthenticated, Unavailable
from consensusllm.config import demo_document
from consensusllm.orchestrator.client import FaultsClient
from consensusllm_cli.addresses import ClusterAddresses, resolve_cluster
from consensusllm_cli.repl.backend import Cluster, NoSuchNode, connect
from tests.cli.repl_fakes import ADDRESSES, status


class FakeClient:
    """Answers for the nodes at ``up``, and keeps what it was asked."""

    def __init__(self, *up: int, **fields: Any) -> None:
        self._up = {ADDRESSES[node]: status(node, **fields) for node in up}
        self.asked: list[str] = []

    async def status(self, address: str, *, timeout_s: float) -> Status:
        assert timeout_s > 0
        self.asked.append(address)
        if address not in self._up:
            raise Unavailable(f"{address}: it does not accept connections")
        return self._up[address]


def cluster_of(client: FakeClient, addresses: ClusterAddresses) -> Cluster:
    return Cluster(cast(Client, client), addresses, AsyncExitStack())


async def test_one_address_is_enough_to_learn_the_others() -> None:
    client = FakeClient(1, 2)
    cluster = cluster_of(client, ClusterAddresses((ADDRESSES[2],)))
    assert cluster.nodes == []
    statuses = await cluster.statuses()
    assert [(node, each is not None) for node, each in statuses.items()] == [
        (1, True),
        (2, True),
        (3, False),
    ]
    assert sorted(client.asked) == sorted(ADDRESSES.values())
    assert cluster.nodes == [1, 2, 3]


async def test_configured_nodes_are_listed_though_none_answers() -> None:
    addresses = ClusterAddresses(tuple(ADDRESSES.values()), ADDRESSES)
    assert await cluster_of(FakeClient(), addresses).statuses() == {1: None, 2: None, 3: None}


async def test_an_unknown_address_that_does_not_answer_is_no_node() -> None:
    cluster = cluster_of(FakeClient(), ClusterAddresses(("127.0.0.1:1",)))
    assert await cluster.statuses() == {}


async def test_a_token_that_is_not_accepted_is_no_silence() -> None:
    client = AsyncMock()
    client.status.side_effect = Unauthenticated("who are you?")
    with pytest.raises(Unauthenticated, match="who are you"):
        await cluster_of(client, ClusterAddresses((ADDRESSES[1],))).statuses()


async def test_the_orchestrator_is_learnt_where_it_was_not_named() -> None:
    async with AsyncExitStack() as resources:
        addresses = ClusterAddresses((ADDRESSES[1],))
        cluster = Cluster(cast(Client, FakeClient(1)), addresses, resources)
        faults = await cluster.faults()
        assert faults is not None
        assert await cluster.faults() is faults


async def test_a_cluster_that_names_no_orchestrator_has_none() -> None:
    client = FakeClient(1, orchestrator_address="")
    assert await cluster_of(client, ClusterAddresses((ADDRESSES[1],))).faults() is None


async def test_a_fault_is_meant_for_the_cluster_of_the_nodes_that_answer() -> None:
    orchestrator = "127.0.0.1:5100"
    there = tuple(ADDRESSES.values())
    named = ClusterAddresses(there, ADDRESSES, orchestrator, cluster_id="named")
    unnamed = ClusterAddresses(there, ADDRESSES, orchestrator)
    for addresses, client, meant in (
        (unnamed, FakeClient(2, cluster_id="theirs"), "theirs"),
        (named, FakeClient(), "named"),
        (unnamed, FakeClient(), ""),
    ):
        async with AsyncExitStack() as resources:
            faults = await Cluster(cast(Client, client), addresses, resources).faults()
            assert isinstance(faults, FaultsClient)
            assert faults.cluster_id == meant


async def test_who_has_the_administrations_token_alone_still_injects_faults() -> None:
    client = AsyncMock()
    client.status.side_effect = Unauthenticated("who are you?")
    addresses = ClusterAddresses((ADDRESSES[1],), ADDRESSES, "127.0.0.1:5100")
    async with AsyncExitStack() as resources:
        assert await Cluster(client, addresses, resources).faults() is not None


def test_a_file_names_its_cluster_and_a_port_does_not(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({**demo_document(data_dir=tmp_path), "cluster_id": "council"}))
    assert resolve_cluster(path, None, None).cluster_id == "council"
    assert resolve_cluster(None, 5100, None).cluster_id == ""


async def test_pinning_speaks_to_that_node_alone() -> None:
    addresses = ClusterAddresses(tuple(ADDRESSES.values()), ADDRESSES)
    async with connect(addresses, 2) as backend:
        client = backend.client
        assert isinstance(client, Client)
        assert client.address == ADDRESSES[2]
    async with connect(addresses, None) as backend:
        assert isinstance(backend.client, Client)


async def test_pinning_to_a_node_that_is_not_there_names_those_that_are() -> None:
    cluster = cluster_of(FakeClient(1), ClusterAddresses((ADDRESSES[1],)))
    with pytest.raises(NoSuchNode, match="there is no node 7: the nodes are 1, 2, 3"):
        await cluster.pin(7)
    nobody = cluster_of(FakeClient(), ClusterAddresses((ADDRESSES[1],)))
    with pytest.raises(Unavailable, match="no node answers: start the cluster"):
        await nobody.pin(1)
