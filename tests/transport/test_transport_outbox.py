"""The bounded queue in front of a stream."""

from __future__ import annotations

import asyncio

from consensusllm.transport import BATCH_BYTES, Outbox, QueueLimits
from consensusllm.transport.decoding import PARTS_MAX
from consensusllm.transport.outbox import ENVELOPE_OVERHEAD_BYTES
from consensusllm.wire.generated import peer_pb2 as pb
from consensusllm.wire.parts import parts


async def test_everything_put_within_a_turn_of_the_loop_is_taken_together() -> None:
    outbox: Outbox[int] = Outbox(QueueLimits())
    reader = asyncio.ensure_future(outbox.take(1000))
    await asyncio.sleep(0)
    for item in range(5):
        outbox.put(item, 1)
    assert await reader == [0, 1, 2, 3, 4]


async def test_a_batch_ends_before_its_bound_but_holds_one_item_at_least() -> None:
    outbox: Outbox[str] = Outbox(QueueLimits())
    for item, size_bytes in (("a", 4), ("b", 4), ("c", 4), ("big", 50), ("d", 4)):
        outbox.put(item, size_bytes)
    batches = [await outbox.take(10) for _ in range(4)]
    assert batches == [["a", "b"], ["c"], ["big"], ["d"]]


async def test_past_either_bound_the_newest_is_refused_until_something_is_taken() -> None:
    outbox: Outbox[int] = Outbox(QueueLimits(max_items=3, max_bytes=10))
    assert [outbox.put(item, 4) for item in range(3)] == [True, True, False]
    assert [outbox.put(item, 1) for item in range(2)] == [True, False]
    assert outbox.dropped == 2
    assert await outbox.take(5) == [0]
    assert outbox.put(9, 4)
    assert await outbox.take(100) == [1, 0, 9]


async def test_discarded_items_make_room() -> None:
    outbox: Outbox[int] = Outbox(QueueLimits(max_bytes=4))
    for item in range(4):
        outbox.put(item, 1)
    outbox.discard(lambda item: item % 2 == 0)
    assert outbox.put(5, 2)
    assert not outbox.put(6, 1)
    assert await outbox.take(100) == [1, 3, 5]


async def test_a_closed_outbox_gives_what_waits_and_then_its_end() -> None:
    outbox: Outbox[int] = Outbox(QueueLimits())
    outbox.put(1, 1)
    outbox.close()
    assert not outbox.put(2, 1)
    assert await outbox.take(10) == [1]
    assert await outbox.take(10) is None


async def test_closing_wakes_the_reader_and_a_cancelled_reader_loses_nothing() -> None:
    outbox: Outbox[int] = Outbox(QueueLimits())
    reader = asyncio.ensure_future(outbox.take(10))
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    outbox.put(1, 1)
    assert await outbox.take(10) == [1]
    reader = asyncio.ensure_future(outbox.take(10))
    await asyncio.sleep(0)
    outbox.close()
    assert await reader is None


def test_what_a_link_writes_at_once_is_never_refused_for_what_it_holds() -> None:
    """However small its envelopes are."""
    envelope = pb.Envelope(cluster_id="c", src=1, dst=2, kind="k", body=b"b", checksum=1)
    most = BATCH_BYTES // (ENVELOPE_OVERHEAD_BYTES + len(envelope.kind) + len(envelope.body))
    batch = pb.Envelopes(envelopes=[envelope] * most)
    assert parts(batch.SerializeToString(), pb.Envelopes.DESCRIPTOR, PARTS_MAX) <= PARTS_MAX
