"""Nodes, orchestrator and fault commands over real gRPC streams on loopback."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from consensusllm.orchestrator import FaultRefused, FaultsClient, serve_orchestrator

PAIRS = list(itertools.permutations((1, 2, 3), 2))
HOUR_MS = 3_600_000


async def test_every_node_reaches_every_other_in_order(cluster, wait_until) -> None:
    for src, dst in PAIRS:
        for number in range(50):
            cluster.send(src, dst, b"%d %d" % (src, number))
    for dst, node in cluster.nodes.items():
        await wait_until(lambda node=node: len(node.inbox) == 100, f"100 at node {dst}")
        for src in {1, 2, 3} - {dst}:
            numbers = [int(b.split()[1]) for b in node.bodies() if b.startswith(b"%d " % src)]
            assert numbers == list(range(50))
            assert all(envelope.dst == dst for envelope in node.inbox)


@pytest.mark.parametrize(
    ("command", "cut", "fate"),
    [
        (lambda c: c.fail_link(1, 2), {(1, 2), (2, 1)}, "cut"),
        (lambda c: c.fail_link(1, 2, one_way=True), {(1, 2)}, "cut"),
        (lambda c: c.partition([[1, 2], [3]]), {(1, 3), (3, 1), (2, 3), (3, 2)}, "cut"),
        (lambda c: c.isolate(2), {(1, 2), (2, 1), (3, 2), (2, 3)}, "cut"),
        (lambda c: c.drop(2, 3, 100), {(2, 3), (3, 2)}, "dropped"),
        (lambda c: c.duplicate(1, 3, 100), {(1, 3), (3, 1)}, "duplicated"),
    ],
)
async def test_a_fault_touches_its_links_only_until_heal(cluster, command, cut, fate) -> None:
    await command(cluster.client)
    expected = {pair: fate if pair in cut else "delivered" for pair in PAIRS}
    assert await cluster.fates(PAIRS) == expected
    listed = await cluster.client.faults()
    assert len(listed.faults) == 1
    assert listed.fates[fate] >= len(cut)
    assert await cluster.client.heal() == "every fault is lifted"
    assert set((await cluster.fates(PAIRS)).values()) == {"delivered"}


async def test_a_failed_link_delivers_nothing_and_a_fixed_one_does_again(
    cluster, wait_until
) -> None:
    await cluster.client.fail_link(1, 2)
    cluster.send(1, 2, b"lost")
    await cluster.settled(1)
    await cluster.client.fix_link(1, 2)
    cluster.send(1, 2, b"found")
    await wait_until(lambda: cluster.nodes[2].bodies(), "a message")
    assert cluster.nodes[2].bodies() == [b"found"]


async def test_a_message_in_flight_over_a_link_that_fails_is_lost(cluster, wait_until) -> None:
    await cluster.client.delay(1, 2, HOUR_MS)
    cluster.send(1, 2, b"in flight")
    cluster.send(1, 3, b"marker")
    await wait_until(lambda: cluster.nodes[3].bodies() == [b"marker"], "the marker")
    await cluster.client.fail_link(1, 2)
    await cluster.client.delay(1, 2, 0)
    await cluster.client.fix_link(1, 2)
    cluster.send(1, 2, b"after")
    await wait_until(lambda: cluster.nodes[2].bodies(), "a message")
    assert cluster.nodes[2].bodies() == [b"after"]


@pytest.mark.parametrize("cluster", [64 * 1024], indirect=True)
async def test_what_waits_is_two_of_the_largest_messages_that_are_configured(cluster) -> None:
    await cluster.trace()
    await cluster.client.delay(1, 2, HOUR_MS)
    for _ in range(3):
        cluster.send(1, 2, bytes(60 * 1024), "large")
        await cluster.fates([(1, 3)])
    assert [event.fate for event in cluster.events if event.kind == "large"] == ["overflow"]


async def test_a_lifted_delay_lets_go_what_it_held(cluster, wait_until) -> None:
    await cluster.client.delay(1, 2, HOUR_MS)
    cluster.send(1, 2, b"held")
    cluster.send(1, 3, b"marker")
    await wait_until(lambda: cluster.nodes[3].bodies() == [b"marker"], "the marker")
    assert cluster.nodes[2].bodies() == []
    await cluster.client.delay(1, 2, 0)
    await wait_until(lambda: cluster.nodes[2].bodies() == [b"held"], "the message held")


async def test_a_duplicating_link_delivers_twice(cluster, wait_until) -> None:
    await cluster.client.duplicate(1, 2, 100)
    cluster.send(1, 2, b"a")
    cluster.send(1, 2, b"b")
    await wait_until(lambda: len(cluster.nodes[2].bodies()) == 4, "two of each")
    assert cluster.nodes[2].bodies() == [b"a", b"a", b"b", b"b"]


async def test_a_reordering_link_delivers_everything_in_another_order(cluster, wait_until) -> None:
    await cluster.client.reorder(1, 2, 100)
    sent = [b"%02d" % number for number in range(30)]
    for body in sent:
        cluster.send(1, 2, body)
    await wait_until(lambda: len(cluster.nodes[2].bodies()) == 30, "all of them")
    assert cluster.nodes[2].bodies() != sent
    assert sorted(cluster.nodes[2].bodies()) == sent


async def test_nodes_come_back_after_the_orchestrator_restarts_on_its_port(
    cluster, wait_until
) -> None:
    await cluster.server.stop()
    nodes = cluster.nodes.values()
    await wait_until(lambda: not any(n.transport.connected() for n in nodes), "the loss")
    cluster.send(1, 2, b"while it is gone")
    assert cluster.nodes[1].transport.dropped == 1
    cluster.server = await serve_orchestrator(cluster.server.address, "c", (1, 2, 3))
    await cluster.connected()
    cluster.send(1, 2, b"again")
    await wait_until(lambda: cluster.nodes[2].bodies(), "a message")
    assert cluster.nodes[2].bodies() == [b"again"]


async def test_a_node_that_leaves_is_no_longer_listed(cluster, wait_until) -> None:
    assert (await cluster.client.faults()).attached == [1, 2, 3]
    await cluster.nodes[2].transport.close()
    attached = [1, 2, 3]
    for _ in range(1000):
        attached = (await cluster.client.faults()).attached
        if attached == [1, 3]:
            break
    assert attached == [1, 3]


async def test_the_faults_are_listed_in_the_words_of_the_commands(cluster) -> None:
    client = cluster.client
    assert await client.fail_link(2, 1, one_way=True) == "nothing passes from 2 to 1"
    await client.partition([[1], [2, 3]])
    await client.delay(1, 3, 20, 5)
    assert (await client.faults()).faults == [
        "failLink 2 1 --one-way",
        "partition 1 2,3",
        "delay 1 3 20 5",
    ]
    assert (await client.faults()).cut == [(1, 2), (1, 3), (2, 1), (3, 1)]


async def test_a_trace_shows_its_kinds_as_they_pass(cluster, wait_until) -> None:
    seen = []

    async def watch() -> None:
        async for event in cluster.client.trace(["prepare"]):
            seen.append(event)

    watcher = asyncio.ensure_future(watch())

    def traced() -> bool:
        cluster.send(1, 2, b"", "accept")
        cluster.send(1, 2, b"12345", "prepare")
        return bool(seen)

    await wait_until(traced, "the trace")
    cluster.send(3, 2, b"1", "prepare")
    await wait_until(lambda: any(event.src == 3 for event in seen), "the message of node 3")
    watcher.cancel()
    await asyncio.gather(watcher, return_exceptions=True)
    first = seen[0]
    assert {event.kind for event in seen} == {"prepare"}
    assert (first.src, first.dst, first.size_bytes, first.fate) == (1, 2, 5, "delivered")
    assert first.time_ms > 1_700_000_000_000


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (lambda c: c.fail_link(1, 9), "no node 9: the nodes are 1, 2, 3"),
        (lambda c: c.drop(1, 2, 500), "percent must be between 0 and 100, not 500"),
        (lambda c: c.delay(1, 2, -1), "delay must be between 0 and 3600000 ms, not -1"),
        (lambda c: c.fail_link(1, -1), "a node is named by its number, from 1 on"),
        (lambda c: c.partition([[1, 2, 3]]), "a partition has two groups at least, as in 1,2 3"),
        (lambda c: c.fail_node(7), "no node 7: the nodes are 1, 2, 3"),
    ],
)
async def test_a_bad_command_is_refused_with_its_line_and_changes_nothing(
    cluster, command, line
) -> None:
    with pytest.raises(FaultRefused) as refusal:
        await command(cluster.client)
    assert str(refusal.value) == line
    assert (await cluster.client.faults()).faults == []


async def test_a_client_without_an_orchestrator_is_told_where_none_answers(server) -> None:
    await server.stop()
    async with FaultsClient(server.address) as client:
        with pytest.raises(FaultRefused, match=f"no orchestrator answers at {server.address}"):
            await client.heal()
        with pytest.raises(FaultRefused, match="no orchestrator answers"):
            async for _ in client.trace():
                pass
