"""The network inside one process."""

from __future__ import annotations

import asyncio

import pytest

from consensusllm.transport import Envelope, MemoryNetwork


async def turn() -> None:
    """One turn of the loop: everything that was sent before is delivered."""
    await asyncio.sleep(0)


async def test_messages_arrive_on_a_later_turn_in_the_order_of_sending() -> None:
    network = MemoryNetwork([1, 2])
    one, two = network.transport(1), network.transport(2)
    inbox: list[Envelope] = []
    await one.start(inbox.append)
    await two.start(inbox.append)
    one.send(2, "k", b"a")
    two.send(1, "k", b"b")
    one.send(2, "k", b"c")
    assert inbox == []
    await turn()
    assert inbox == [
        Envelope(1, 2, "k", b"a"),
        Envelope(2, 1, "k", b"b"),
        Envelope(1, 2, "k", b"c"),
    ]


async def test_only_open_ends_are_connected_and_what_is_sent_to_others_is_counted() -> None:
    network = MemoryNetwork([1, 2, 3])
    one, two = network.transport(1), network.transport(2)
    inbox: list[Envelope] = []
    await one.start(inbox.append)
    await two.start(inbox.append)
    assert one.connected() == {2}
    one.send(3, "k", b"")
    one.send(2, "k", b"in flight")
    await two.close()
    await turn()
    assert (inbox, network.dropped, one.connected()) == ([], 2, frozenset())


async def test_a_restarted_node_replaces_its_former_self() -> None:
    network = MemoryNetwork([1, 2])
    one, old, new = network.transport(1), network.transport(2), network.transport(2)
    before: list[Envelope] = []
    after: list[Envelope] = []
    await one.start(lambda envelope: None)
    await old.start(before.append)
    await new.start(after.append)
    await old.close()
    one.send(2, "k", b"")
    await turn()
    assert (len(before), len(after)) == (0, 1)


async def test_sending_to_oneself_or_a_stranger_is_a_bug() -> None:
    network = MemoryNetwork([1, 2])
    one = network.transport(1)
    await one.start(lambda envelope: None)
    for dst in (1, 9):
        with pytest.raises(AssertionError):
            one.send(dst, "k", b"")
