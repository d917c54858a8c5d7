"""The relay's core without a network: bounds, messages in flight, order of delays, the trace."""

from __future__ import annotations

import asyncio
import random

import pytest

from consensusllm.orchestrator.faults import FaultTable
from consensusllm.orchestrator.relay import (
    READERS_MAX,
    TRACE_LIMITS,
    Forged,
    Relay,
    TooManyReaders,
)
from consensusllm.transport import GONE, QueueLimits
from consensusllm.wire.generated import peer_pb2

HOUR_MS = 3_600_000


def envelope(src: int, dst: int, body: bytes = b"", cluster_id: str = "c") -> peer_pb2.Envelope:
    return peer_pb2.Envelope(cluster_id=cluster_id, src=src, dst=dst, kind="test", body=body)


def relay_of(**options) -> Relay:
    return Relay("c", FaultTable((1, 2, 3), random.Random(7)), **options)


async def bodies(place) -> list[bytes]:
    taken = await asyncio.wait_for(place.outbox.take(1 << 20), 10)
    return [one.body for one in taken]


async def test_a_node_that_does_not_read_loses_the_newest_and_they_are_counted() -> None:
    relay = relay_of(limits=QueueLimits(max_items=3))
    one, two = relay.attach(1, ""), relay.attach(2, "")
    relay.take_in(one, [envelope(1, 2, b"%d" % i) for i in range(5)])
    assert await bodies(two) == [b"0", b"1", b"2"]
    assert two.outbox.dropped == 2


async def test_a_queue_is_bounded_in_bytes() -> None:
    relay = relay_of(limits=QueueLimits(max_bytes=2500))
    one, two = relay.attach(1, ""), relay.attach(2, "")
    relay.take_in(one, [envelope(1, 2, bytes(1000))] * 5)
    assert len(two.outbox) == 2


@pytest.mark.parametrize("delay_ms", [0, HOUR_MS])
async def test_what_waits_is_no_part_of_the_message_that_it_came_in(delay_ms: int) -> None:
    """A part keeps all of its message in memory, and would count for a fraction of it."""
    relay = relay_of()
    relay.faults.delay(1, 2, delay_ms)
    one, two = relay.attach(1, ""), relay.attach(2, "")
    message = peer_pb2.Envelopes(envelopes=[envelope(1, 2, b"small"), envelope(1, 3, bytes(1000))])
    relay.take_in(one, message.envelopes)
    message.envelopes[0].body = b"another"
    relay.faults.heal()
    relay.faults_changed()
    assert await bodies(two) == [b"small"]


async def test_what_a_delay_holds_back_is_bounded() -> None:
    relay = relay_of(limits=QueueLimits(max_items=2))
    relay.faults.delay(1, 2, HOUR_MS)
    one, two = relay.attach(1, ""), relay.attach(2, "")
    relay.take_in(one, [envelope(1, 2, b"%d" % i) for i in range(4)])
    relay.faults.heal()
    relay.faults_changed()
    assert await bodies(two) == [b"0", b"1"]
    relay.close()


async def test_what_one_delay_holds_back_takes_no_room_from_another_link() -> None:
    relay = relay_of(limits=QueueLimits(max_items=2, max_bytes=2500))
    relay.faults.delay(1, 2, HOUR_MS)
    relay.faults.delay(1, 3, 1)
    one, three = relay.attach(1, ""), relay.attach(3, "")
    relay.take_in(one, [envelope(1, 2, bytes(1000))] * 3)
    for number in range(5):  # more than wait at a time
        relay.take_in(one, [envelope(1, 3, b"%d" % number)])
        assert await bodies(three) == [b"%d" % number]
    relay.close()


async def kinds(place) -> list[tuple[int, str]]:
    taken = await asyncio.wait_for(place.outbox.take(1 << 20), 10)
    return [(one.src, one.kind) for one in taken]


async def test_the_others_are_told_of_a_connection_that_ended_behind_its_last_message() -> None:
    relay = relay_of()
    places = {node: relay.attach(node, "") for node in (1, 2, 3)}
    relay.take_in(places[1], [envelope(1, 2)])
    relay.detach(places[1])
    assert await kinds(places[2]) == [(1, "test"), (1, GONE)]
    assert await kinds(places[3]) == [(1, GONE)]


async def test_a_connection_that_was_replaced_has_not_ended() -> None:
    relay = relay_of()
    one, two = relay.attach(1, ""), relay.attach(2, "")
    newer = relay.attach(1, "")
    relay.detach(one)
    assert len(two.outbox) == 0
    relay.detach(newer)
    assert await kinds(two) == [(1, GONE)]


async def test_the_end_of_a_connection_passes_where_a_message_would_also_of_a_dead_node() -> None:
    relay = relay_of()
    places = {node: relay.attach(node, "") for node in (1, 2, 3)}
    relay.faults.fail_link(1, 2)
    relay.faults.fail_node(1)
    relay.faults_changed()
    relay.detach(places[1])
    relay.faults_changed()
    assert len(places[2].outbox) == 0
    assert await kinds(places[3]) == [(1, GONE)]


async def test_the_longer_delay_arrives_later() -> None:
    relay = relay_of()
    relay.faults.delay(1, 2, 120)
    relay.faults.delay(3, 2, 1)
    one, two, three = (relay.attach(node, "") for node in (1, 2, 3))
    relay.take_in(one, [envelope(1, 2, b"long")])
    relay.take_in(three, [envelope(3, 2, b"short")])
    assert await bodies(two) == [b"short"]
    assert await bodies(two) == [b"long"]


async def test_equal_delays_keep_the_order_of_sending() -> None:
    relay = relay_of()
    relay.faults.delay(1, 2, 10)
    one, two = relay.attach(1, ""), relay.attach(2, "")
    relay.take_in(one, [envelope(1, 2, b"%d" % i) for i in range(20)])
    arrived: list[bytes] = []
    while len(arrived) < 20:
        arrived += await bodies(two)
    assert arrived == [b"%d" % i for i in range(20)]


async def test_a_delay_set_later_holds_what_is_already_in_flight() -> None:
    relay = relay_of()
    relay.faults.delay(1, 2, 1)
    one, two = relay.attach(1, ""), relay.attach(2, "")
    relay.take_in(one, [envelope(1, 2, b"held")])
    relay.faults.delay(1, 2, HOUR_MS)
    relay.faults_changed()
    relay.faults.delay(3, 2, 5)
    relay.take_in(relay.attach(3, ""), [envelope(3, 2, b"overtakes")])
    assert await bodies(two) == [b"overtakes"]
    relay.faults.delay(1, 2, 0)
    relay.faults_changed()
    assert await bodies(two) == [b"held"]


async def test_a_cut_loses_what_waits_for_a_slow_node() -> None:
    relay = relay_of()
    one, two, three = (relay.attach(node, "") for node in (1, 2, 3))
    relay.take_in(one, [envelope(1, 2, b"cut")])
    relay.take_in(three, [envelope(3, 2, b"kept")])
    relay.faults.fail_link(1, 2)
    relay.faults_changed()
    assert await bodies(two) == [b"kept"]


async def test_a_cut_that_is_mended_at_once_loses_what_a_delay_holds_back() -> None:
    relay = relay_of(limits=QueueLimits(max_items=2, max_bytes=2500))
    one, two, three = (relay.attach(node, "") for node in (1, 2, 3))
    trace = relay.subscribe([])
    relay.faults.delay(1, 2, HOUR_MS)
    relay.faults.delay(3, 2, HOUR_MS)
    relay.take_in(one, [envelope(1, 2, bytes(1000))])
    relay.take_in(three, [envelope(3, 2, b"kept")])
    relay.faults.fail_link(1, 2)
    relay.faults_changed()
    seen = await asyncio.wait_for(trace.take(), 10)
    assert [(event.src, event.fate) for event in seen] == [(1, "cut")]
    relay.faults.fix_link(1, 2)
    relay.faults.delay(1, 2, HOUR_MS)
    relay.faults_changed()
    relay.take_in(one, [envelope(1, 2, bytes(2000))])  # there is room for it again
    relay.faults.heal()
    relay.faults_changed()
    assert await bodies(two) == [b"kept", bytes(2000)]


async def test_a_replaced_stream_relays_nothing_more_and_takes_nothing_away() -> None:
    relay = relay_of()
    old, two = relay.attach(1, "old"), relay.attach(2, "")
    new = relay.attach(1, "new")
    assert "attached again, as new" in old.ended_because
    relay.take_in(old, [envelope(1, 2, b"stale")])
    relay.detach(old)
    assert relay.attached() == (1, 2)
    relay.take_in(new, [envelope(1, 2, b"fresh")])
    assert await bodies(two) == [b"fresh"]


@pytest.mark.parametrize("forged", [envelope(3, 2), envelope(1, 2, cluster_id="other")])
@pytest.mark.parametrize("faulty", [False, True])
async def test_an_envelope_in_another_name_is_forged(forged, faulty: bool) -> None:
    relay = relay_of()
    one, two = relay.attach(1, ""), relay.attach(2, "")
    if faulty:
        relay.faults.delay(1, 2, 1)
    with pytest.raises(Forged, match="sent an envelope as node"):
        relay.take_in(one, [forged])
    assert len(two.outbox) == 0


async def test_the_trace_tells_every_fate() -> None:
    relay = relay_of(limits=QueueLimits(max_items=3))
    one, two = relay.attach(1, ""), relay.attach(2, "")
    trace = relay.subscribe([])
    relay.take_in(one, [envelope(1, 2), envelope(1, 3), envelope(1, 9)])
    relay.faults.duplicate(1, 2, 100)
    relay.take_in(one, [envelope(1, 2), envelope(1, 2)])
    relay.faults.drop(1, 2, 100)
    relay.take_in(one, [envelope(1, 2)])
    relay.faults.fail_link(1, 2)
    relay.take_in(one, [envelope(1, 2)])
    relay.faults.fail_node(2)
    relay.take_in(one, [envelope(1, 2)])
    assert len(two.outbox) == 3
    assert [(event.dst, event.fate) for event in await trace.take() or []] == [
        (2, "delivered"),
        (3, "not attached"),
        (9, "no such node"),
        (2, "duplicated"),
        (2, "overflow"),
        (2, "dropped"),
        (2, "cut"),
        (2, "down"),
    ]


async def test_a_trace_that_is_not_read_skips_and_says_how_many() -> None:
    relay = relay_of()
    one = relay.attach(1, "")
    trace = relay.subscribe(["test"])
    relay.take_in(one, [envelope(1, 3)] * (TRACE_LIMITS.max_items + 5))
    assert len(await trace.take() or []) == TRACE_LIMITS.max_items
    relay.take_in(one, [envelope(1, 3)])
    assert [event.skipped for event in await trace.take() or []] == [5]


async def test_readers_share_what_is_made_of_a_message_and_are_bounded() -> None:
    made: list[str] = []

    def summarise(kind: str, body: bytes) -> str:
        made.append(kind)
        return "short"

    relay = relay_of(summarise=summarise)
    one = relay.attach(1, "")
    readers = [relay.subscribe([]) for _ in range(READERS_MAX)]
    with pytest.raises(TooManyReaders, match=f"{READERS_MAX} read the trace already: end one"):
        relay.subscribe([])
    relay.take_in(one, [envelope(1, 3)])
    assert len(made) == 1
    for reader in readers:
        assert [event.body_summary for event in await reader.take() or []] == ["short"]
    relay.unsubscribe(readers[0])
    relay.subscribe([])


async def test_bodies_are_summarised_for_a_subscriber_only_and_a_bad_one_harms_nothing() -> None:
    asked: list[bytes] = []

    def summarise(kind: str, body: bytes) -> str:
        asked.append(body)
        return f"{kind} of {body.decode()}"

    relay = relay_of(summarise=summarise)
    one, two = relay.attach(1, ""), relay.attach(2, "")
    relay.take_in(one, [envelope(1, 2, b"untraced")])
    other = relay.subscribe(["other kind"])
    relay.take_in(one, [envelope(1, 2, b"other")])
    relay.unsubscribe(other)
    trace = relay.subscribe(["test"])
    relay.take_in(one, [envelope(1, 2, b"good"), envelope(1, 2, b"\xff")])
    events = await trace.take() or []
    assert [event.body_summary for event in events] == ["test of good", "(unreadable)"]
    assert asked == [b"good", b"\xff"]
    assert len(two.outbox) == 4


async def test_what_messages_meet_is_counted_while_there_is_a_fault() -> None:
    relay = relay_of()
    one = relay.attach(1, "")
    relay.attach(2, "")
    relay.attach(3, "")
    relay.take_in(one, [envelope(1, 2)])
    assert relay.fates == {}
    relay.faults.fail_link(1, 2)
    relay.faults.delay(1, 3, HOUR_MS)
    relay.take_in(one, [envelope(1, 2), envelope(1, 2), envelope(1, 3)])
    assert relay.fates == {"cut": 2, "held": 1}
    relay.faults.drop(1, 3, 100)
    relay.faults.delay(1, 3, 0)
    relay.faults_changed()
    relay.take_in(one, [envelope(1, 3)])
    assert relay.fates["dropped"] == 1
    relay.close()
