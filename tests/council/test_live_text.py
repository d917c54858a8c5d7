"""Live text between nodes: whatever is lost, repeated or late, a watcher gets every character."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.council import live_text
from consensusllm.council.generation import Generation
from consensusllm.council.live_text import (
    AGAIN_S,
    FLUSH_S,
    FREE_READERS,
    READER_PAUSE_MAX_S,
    READER_PAUSE_S,
    RENEW_S,
    LiveText,
    Text,
)
from consensusllm.transport.port import Envelope
from consensusllm.wire.generated import peer_pb2

KEY = Generation("c1", 1, 2, 1)


class Pair:
    """Node 2 produces, node 1 watches; messages wait in a list until they are delivered."""

    def __init__(self) -> None:
        self.wire: list[tuple[int, int, bytes]] = []
        self.producer = LiveText(2, lambda dst, body: self.wire.append((2, dst, body)))
        self.watcher = LiveText(1, lambda dst, body: self.wire.append((1, dst, body)))

    def deliver(self, *, lose: bool = False, twice: bool = False) -> None:
        wire, self.wire = self.wire, []
        for src, dst, body in wire:
            for _ in range(0 if lose else 2 if twice else 1):
                node = self.watcher if dst == 1 else self.producer
                node.receive(Envelope(src, dst, "stream", body))

    def text(self) -> str:
        held = self.watcher.follow(KEY, 2)
        return held.since(0) if held is not None else ""


async def elapse(pair: Pair) -> None:
    """Let the producer's flush, which is on the loop's timer, happen."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_later(FLUSH_S * 1.5, done.set_result, None)
    await done


async def test_the_texts_of_a_node_are_bounded_together(monkeypatch) -> None:
    monkeypatch.setattr(live_text, "MAX_CHARACTERS", 10)
    held = LiveText(2, lambda dst, body: None)
    keys = [Generation("c1", 1, number, 1) for number in (1, 2, 3)]
    for key in keys:
        held.publish(key, 0, "four", "m")
    assert [held.follow(key, 2).since(0) for key in keys] == ["four", "four", "fo"]
    held.forget("c1", 1, lambda key: key != keys[0])
    held.publish(keys[2], 0, "four", "m")
    assert held.follow(keys[2], 2).since(0) == "four"


@pytest.mark.parametrize("full", ["MAX_CHARACTERS", "MAX_TEXTS", "MAX_TEXT_CHARACTERS"])
async def test_text_that_has_no_room_here_is_not_asked_for_again_and_again(
    monkeypatch, full: str
) -> None:
    """Each answer would have all of it."""
    monkeypatch.setattr(live_text, "AGAIN_S", 0.0)
    monkeypatch.setattr(live_text, "RENEW_S", 0.0)
    pair = Pair()
    pair.producer.publish(KEY, 0, "x" * 8, "m")
    pair.watcher.publish(Generation("own", 1, 1, 1), 0, "y" * 4, "m")
    monkeypatch.setattr(live_text, full, {"MAX_CHARACTERS": 10, "MAX_TEXTS": 1}.get(full, 6))
    kept = "" if full == "MAX_TEXTS" else "x" * 6
    for count in range(8, 20):
        assert pair.text() in ("", kept)
        pair.deliver()
        pair.producer.publish(KEY, count, "x", "m")
        await elapse(pair)
        pair.deliver()
    assert pair.text() == kept
    assert not pair.wire, "nothing was asked for"
    monkeypatch.undo()
    monkeypatch.setattr(live_text, "RENEW_S", 0.0)
    pair.watcher.forget("own", 1, lambda key: False)
    whole = pair.producer.follow(KEY, 2).since(0)
    assert len(whole) > len(kept)
    pair.text()  # there is room, so it is asked for
    pair.deliver()
    pair.deliver()
    assert pair.text() == whole


def followed(pair: Pair, count: int) -> list[Generation]:
    """So many texts, of each of which the watcher has the one character that there is."""
    keys = [Generation("c1", 1, number, 1) for number in range(1, count + 1)]
    for key in keys:
        pair.producer.publish(key, 0, "a", "m")
        pair.watcher.follow(key, 2)
    pair.deliver()
    pair.deliver()
    return keys


async def test_what_is_new_of_many_texts_travels_in_one_message() -> None:
    pair = Pair()
    keys = followed(pair, 50)
    for key in keys:
        pair.producer.publish(key, 1, "b", "m")
    while not pair.wire:
        await elapse(pair)
    assert len(pair.wire) == 1
    pair.deliver()
    assert {pair.watcher.follow(key, 2).since(0) for key in keys} == {"ab"}


async def test_a_message_of_texts_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(live_text, "MAX_MESSAGE_CHARACTERS", 10)
    pair = Pair()
    keys = followed(pair, 5)
    texts = ["b" * count for count in (3, 6, 25, 2, 10)]
    for key, text in zip(keys, texts, strict=True):
        pair.producer.publish(key, 1, text, "m")
    while not pair.wire:
        await elapse(pair)
    sizes = [
        [len(each.text) for each in peer_pb2.StreamMessage.FromString(body).deltas]
        for _, _, body in pair.wire
    ]
    assert sizes == [[3, 6], [10], [10], [5, 2], [10]]
    pair.deliver()
    assert [pair.watcher.follow(key, 2).since(1) for key in keys] == texts


async def test_text_reaches_a_watcher_on_another_node() -> None:
    pair = Pair()
    pair.producer.publish(KEY, 0, "Hello, ", "m")
    assert pair.text() == ""
    pair.deliver()  # the subscription
    pair.deliver()  # its answer
    assert pair.text() == "Hello, "
    pair.producer.publish(KEY, 7, "world", "m")
    await elapse(pair)
    pair.deliver()
    assert pair.text() == "Hello, world"


async def test_a_watcher_that_came_before_the_first_word_gets_it_at_once() -> None:
    pair = Pair()
    assert pair.text() == ""
    pair.deliver()  # the subscription, to a node that has nothing to say yet
    pair.producer.publish(KEY, 0, "Hello", "m")
    pair.deliver()  # without a wait for more text
    assert pair.text() == "Hello"
    pair.producer.publish(KEY, 5, ", world", "m")
    await elapse(pair)
    pair.deliver()
    assert pair.text() == "Hello, world"


async def test_who_waits_for_a_text_that_never_comes_is_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(live_text, "MAX_TEXTS", 10)
    pair = Pair()
    for number in range(50):
        pair.watcher.follow(Generation("c1", number, 1, 1), 2)
    pair.deliver()
    assert len(pair.producer._awaiting) == 10
    monkeypatch.setattr(live_text, "SUBSCRIPTION_S", -1.0)
    for number in range(50, 70):
        pair.watcher.follow(Generation("c1", number, 1, 1), 2)
    pair.deliver()
    monkeypatch.undo()
    for number in range(70, 90):
        pair.watcher.follow(Generation("c1", number, 1, 1), 2)
    pair.deliver()
    assert len(pair.producer._awaiting) == 20, "only those whose time is not over"


async def test_what_was_lost_is_asked_for_again() -> None:
    pair = Pair()
    pair.producer.publish(KEY, 0, "a", "m")
    asked_at = asyncio.get_running_loop().time()
    pair.text()
    pair.deliver()
    pair.deliver()
    pair.producer.publish(KEY, 1, "b", "m")
    await elapse(pair)
    pair.deliver(lose=True)
    loop = asyncio.get_running_loop()
    while loop.time() < asked_at + AGAIN_S:
        await elapse(pair)
    pair.producer.publish(KEY, 2, "c", "m")
    await elapse(pair)
    pair.deliver(twice=True)  # shows the gap, so it is asked for
    assert len(pair.wire) == 1, "once, however often that shows"
    pair.deliver(twice=True)
    pair.deliver(twice=True)
    assert pair.text() == "abc"


async def test_a_watcher_is_woken_by_its_turn_only() -> None:
    live = LiveText(1, lambda dst, body: None)
    calls: list[str] = []
    stop = live.watch("c1", 1, lambda itself: calls.append("c1"))
    live.watch("c2", 1, lambda itself: calls.append("c2"))
    live.publish(KEY, 0, "x", "m")
    assert calls == ["c1"]
    stop()
    live.publish(KEY, 1, "y", "m")
    assert calls == ["c1"]


async def test_the_text_of_an_older_attempt_is_dropped_with_it() -> None:
    live = LiveText(2, lambda dst, body: None)
    live.publish(KEY, 0, "old", "m")
    live.forget("c1", 1, lambda key: key.attempt == 2)
    assert live.follow(KEY, 2) is None


async def test_a_delta_that_nobody_here_asked_for_takes_no_room() -> None:
    pair = Pair()
    pair.producer.publish(KEY, 0, "x", "m")
    pair.text()
    pair.deliver()
    answer = pair.wire
    other = LiveText(1, lambda dst, body: None)
    for src, dst, body in answer:
        other.receive(Envelope(src, dst, "stream", body))
    assert other._texts == {}


@pytest.mark.parametrize("body", [b"", b"\xff\xff", b"\x0a\x03abc"])
async def test_malformed_envelopes_are_dropped(body: bytes) -> None:
    LiveText(1, lambda dst, body: None).receive(Envelope(2, 1, "stream", body))


@given(st.lists(st.text(max_size=5)), st.data())
def test_since_gives_exactly_what_comes_after_the_offset(
    pieces: list[str], data: st.DataObject
) -> None:
    text = Text()
    for piece in pieces:
        text.append(piece)
    whole = "".join(pieces)
    offset = data.draw(st.integers(0, len(whole) + 2))
    assert text.since(offset) == whole[offset:]


def test_subscriptions_are_renewed_before_they_end() -> None:
    from consensusllm.council.live_text import SUBSCRIPTION_S

    assert RENEW_S * 2 < SUBSCRIPTION_S


async def test_many_readers_let_text_gather_and_few_do_not() -> None:
    live = LiveText(1, lambda dst, body: None)
    stops = [live.watch("c1", 1, lambda itself: None) for _ in range(FREE_READERS)]
    assert live.reader_pause_s == 0.0
    stops += [live.watch(f"c{number}", 1, lambda itself: None) for number in range(100)]
    assert live.reader_pause_s == pytest.approx((FREE_READERS + 100) * READER_PAUSE_S)
    stops += [live.watch(f"c{number}", 2, lambda itself: None) for number in range(1000)]
    assert live.reader_pause_s == READER_PAUSE_MAX_S
    for stop in stops:
        stop()
    assert live.reader_pause_s == 0.0


async def test_a_watcher_is_told_a_change_of_the_turn_from_more_text() -> None:
    live = LiveText(1, lambda dst, body: None)
    told: list[bool] = []
    live.watch("c1", 1, told.append)
    live.publish(KEY, 0, "text", "m")
    live.forget("c1", 1, lambda key: False)
    assert told == [False, True]
