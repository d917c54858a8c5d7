"""The text of running generations, on its way to whoever watches, on whichever node.

The node that produces a candidate keeps its text while the candidate is open; a node whose clients
watch it subscribes there, from the offset that it already has. Nothing of this is in the log: what
is lost on the way is asked for again, and once the candidate has ended its text is in the
replicated state. Texts are keyed by attempt, so those of two attempts are never mixed; an attempt
that goes on with a recorded text has that as its beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from google.protobuf.message import DecodeError

from consensusllm.transport.port import Envelope
from consensusllm.wire.generated import peer_pb2 as pb

from .generation import Generation

KIND = "stream"
"""The kind of the envelopes that carry this."""

FLUSH_S = 0.02
"""New text waits that long for more before it goes to another node; longer where many texts have
some, as each costs the same whatever its length."""

FLUSH_TEXT_S = 0.0005
FLUSH_MAX_S = 0.1

FREE_READERS = 8
READER_PAUSE_S = 0.001
READER_PAUSE_MAX_S = 0.25
"""Up to so many readers see each piece as it comes. More of them pause for so long, times their
number, from one piece to the next, so that all together they take a bounded share of the node."""

SUBSCRIPTION_S = 3.0
RENEW_S = 1.0
AGAIN_S = 0.1
"""What was lost on the way is asked for that often: each answer has all that is missing."""

MAX_MESSAGE_CHARACTERS = 64 << 10
MAX_TEXT_CHARACTERS = 8 << 20
MAX_TEXTS = 4096
MAX_CHARACTERS = 64 << 20
"""Of all texts together. What is beyond a bound is not shown live; its readers get it from the
state when the candidate has ended."""


@dataclass(slots=True)
class Text:
    """One attempt's text so far, in the pieces in which it came."""

    model: str = ""
    length: int = 0
    _pieces: list[str] = field(default_factory=list)

    def append(self, text: str) -> None:
        self._pieces.append(text)
        self.length += len(text)

    def since(self, offset: int) -> str:
        """Everything from ``offset`` (in characters) on; cheap where that is little."""
        missing = self.length - offset
        if missing <= 0:
            return ""
        tail: list[str] = []
        for piece in reversed(self._pieces):
            tail.append(piece)
            missing -= len(piece)
            if missing <= 0:
                break
        return "".join(reversed(tail))[-missing if missing < 0 else 0 :]


@dataclass(slots=True)
class _Subscriber:
    offset: int
    until: float


Changed: TypeAlias = Callable[[bool], None]
"""Told whether the turn itself changed, and not just a text that is still being written."""


class LiveText:
    """``send(node, body)`` hands an envelope of KIND to the transport."""

    def __init__(self, node: int, send: Callable[[int, bytes], None]) -> None:
        self._node = node
        self._send = send
        self._texts: dict[Generation, Text] = {}
        self._subscribers: dict[Generation, dict[int, _Subscriber]] = {}
        self._awaiting: dict[Generation, dict[int, _Subscriber]] = {}  # before any text, by age
        self._subscribed_at: dict[Generation, float] = {}
        self._keys: dict[tuple[str, int], dict[Generation, None]] = {}  # by turn
        self._watchers: dict[tuple[str, int], dict[Changed, None]] = {}
        self._readers = 0
        self._flush: asyncio.TimerHandle | None = None
        self._characters = 0
        self._flush_s = FLUSH_S
        self._dirty: dict[Generation, None] = {}  # in order, so that runs can be repeated

    # The producing node -------------------------------------------------------------------------

    def publish(self, key: Generation, offset: int, text: str, model: str) -> None:
        """``text`` continues ``key`` at ``offset``."""
        held = self._text(key)
        if held is None:
            return
        held.model = model or held.model
        is_first = not held.length
        self._append(key, held, offset, text)
        subscribers = self._subscribers.get(key)
        if not subscribers:
            return
        if is_first:
            for node in list(subscribers):
                self._send_new(node, [key])
        else:
            self._dirty[key] = None
            if self._flush is None:
                loop = asyncio.get_running_loop()
                self._flush = loop.call_later(self._flush_s, self._send_dirty)

    def _text(self, key: Generation) -> Text | None:
        """The text of ``key``, begun where it is new; None where the table is full."""
        held = self._texts.get(key)
        if held is None and len(self._texts) < MAX_TEXTS:
            held = self._texts[key] = Text()
            self._keys.setdefault((key.conversation, key.turn), {})[key] = None
            if key in self._awaiting:
                self._subscribers[key] = self._awaiting.pop(key)
        return held

    def _append(self, key: Generation, held: Text, offset: int, text: str) -> None:
        new = text[held.length - offset :] if offset <= held.length else ""
        new = new[: self._room(key)]
        if new:
            held.append(new)
            self._characters += len(new)
            self._changed(key.conversation, key.turn, itself=False)

    def _room(self, key: Generation) -> int:
        """How many characters more of ``key`` are kept here."""
        held = self._texts.get(key)
        if held is None and len(self._texts) >= MAX_TEXTS:
            return 0
        length = held.length if held is not None else 0
        return min(MAX_TEXT_CHARACTERS - length, MAX_CHARACTERS - self._characters)

    def _send_dirty(self) -> None:
        self._flush = None
        dirty, self._dirty = self._dirty, {}
        self._flush_s = min(FLUSH_MAX_S, max(FLUSH_S, FLUSH_TEXT_S * len(dirty)))
        new: dict[int, list[Generation]] = {}
        for key in dirty:
            for node in self._subscribers.get(key, ()):
                new.setdefault(node, []).append(key)
        for node, keys in new.items():
            self._send_new(node, keys)

    def _send_new(self, node: int, keys: Iterable[Generation]) -> None:
        """Send what ``node``, which subscribed to ``keys``, lacks of them."""
        deltas: list[pb.Delta] = []
        characters = 0
        for key in keys:
            for delta in self._new(key, node):
                if deltas and characters + len(delta.text) > MAX_MESSAGE_CHARACTERS:
                    self._send(node, pb.StreamMessage(deltas=deltas).SerializeToString())
                    deltas, characters = [], 0
                deltas.append(delta)
                characters += len(delta.text)
        if deltas:
            self._send(node, pb.StreamMessage(deltas=deltas).SerializeToString())

    def _new(self, key: Generation, node: int) -> Iterator[pb.Delta]:
        subscriber = self._subscribers[key][node]
        held = self._texts.get(key)
        if asyncio.get_running_loop().time() > subscriber.until or held is None:
            del self._subscribers[key][node]
            return
        rest = held.since(subscriber.offset)
        for begin in range(0, len(rest), MAX_MESSAGE_CHARACTERS):
            text = rest[begin : begin + MAX_MESSAGE_CHARACTERS]
            yield pb.Delta(
                conversation=key.conversation,
                turn=key.turn,
                candidate=key.candidate,
                attempt=key.attempt,
                offset=subscriber.offset,
                text=text,
                model=held.model,
            )
            subscriber.offset += len(text)

    # The watching node --------------------------------------------------------------------------

    def watch(self, conversation: str, turn: int, changed: Changed) -> Callable[[], None]:
        """Call ``changed`` whenever text of the turn arrives or the turn changes, until the result
        is called."""
        watchers = self._watchers.setdefault((conversation, turn), {})
        watchers[changed] = None
        self._readers += 1

        def stop() -> None:
            self._readers -= 1
            watchers.pop(changed, None)
            if not watchers:
                self._watchers.pop((conversation, turn), None)

        return stop

    @property
    def reader_pause_s(self) -> float:
        """How long each reader leaves text to gather before it looks again."""
        if self._readers <= FREE_READERS:
            return 0.0
        return min(READER_PAUSE_MAX_S, self._readers * READER_PAUSE_S)

    def follow(self, key: Generation, node: int) -> Text | None:
        """What is here of ``key``, which ``node`` produces; subscribes there, and again before the
        subscription ends. None: nothing yet."""
        if node != self._node:
            now = asyncio.get_running_loop().time()
            if now >= self._subscribed_at.get(key, 0.0) + RENEW_S:
                self._subscribe(key, node, now)
        return self._texts.get(key)

    def _subscribe(self, key: Generation, node: int, now: float) -> None:
        """Ask ``node`` for what is missing of ``key`` here, unless there is no room for it."""
        if self._room(key) <= 0:
            return
        self._subscribed_at[key] = now
        self._keys.setdefault((key.conversation, key.turn), {})[key] = None
        held = self._texts.get(key)
        request = pb.Subscribe(
            conversation=key.conversation,
            turn=key.turn,
            candidate=key.candidate,
            attempt=key.attempt,
            offset=held.length if held is not None else 0,
        )
        self._send(node, pb.StreamMessage(subscribe=request).SerializeToString())

    def _changed(self, conversation: str, turn: int, *, itself: bool) -> None:
        for changed in self._watchers.get((conversation, turn), ()):
            changed(itself)

    # Both ---------------------------------------------------------------------------------------

    def receive(self, envelope: Envelope) -> None:
        """An envelope of KIND from a peer. Malformed ones are dropped."""
        try:
            message = pb.StreamMessage.FromString(envelope.body)
        except DecodeError:
            return
        now = asyncio.get_running_loop().time()
        if message.HasField("subscribe"):
            self._on_subscribe(message.subscribe, envelope.src, now)
        for delta in message.deltas:
            self._on_delta(delta, envelope.src, now)

    def _on_subscribe(self, request: pb.Subscribe, node: int, now: float) -> None:
        key = Generation(request.conversation, request.turn, request.candidate, request.attempt)
        subscriber = _Subscriber(request.offset, now + SUBSCRIPTION_S)
        if key in self._texts:
            self._subscribers.setdefault(key, {})[node] = subscriber
            self._send_new(node, [key])
        else:
            self._await(key, node, subscriber, now)

    def _on_delta(self, delta: pb.Delta, node: int, now: float) -> None:
        key = Generation(delta.conversation, delta.turn, delta.candidate, delta.attempt)
        asked_at = self._subscribed_at.get(key)
        if asked_at is None:
            return
        text = self._text(key)
        if text is None:
            return
        text.model = delta.model or text.model
        if delta.offset <= text.length:
            self._append(key, text, delta.offset, delta.text)
        elif now >= asked_at + AGAIN_S:
            self._subscribe(key, node, now)  # some was lost on the way

    def _await(self, key: Generation, node: int, subscriber: _Subscriber, now: float) -> None:
        """Keep who subscribed to a text before its first piece, until that comes or their time is
        over."""
        self._awaiting[key] = {**self._awaiting.pop(key, {}), node: subscriber}
        for oldest, waiting in list(islice(self._awaiting.items(), 2)):
            over = all(each.until <= now for each in waiting.values())
            if over or len(self._awaiting) > MAX_TEXTS:
                del self._awaiting[oldest]

    def forget(self, conversation: str, turn: int, is_open: Callable[[Generation], bool]) -> None:
        """The turn changed (0: the conversation came or went): drop the texts of candidates that
        are not open at their attempt (what they said is in the state, or void), and wake whoever
        watches."""
        for turn_id in [(conversation, turn)] if turn else self._turns_of(conversation):
            for key in list(self._keys.get(turn_id, ())):
                if not is_open(key):
                    self._drop(key)
            self._changed(*turn_id, itself=True)

    def forget_all_but(self, is_open: Callable[[Generation], bool]) -> None:
        """The whole state was replaced: keep only what is still open in it."""
        for turn_id in dict.fromkeys((*self._keys, *self._watchers)):
            self.forget(*turn_id, is_open)

    def _turns_of(self, conversation: str) -> list[tuple[str, int]]:
        known = dict.fromkeys((*self._keys, *self._watchers))
        return [turn_id for turn_id in known if turn_id[0] == conversation]

    def _drop(self, key: Generation) -> None:
        turn_id = (key.conversation, key.turn)
        self._keys[turn_id].pop(key)
        if not self._keys[turn_id]:
            del self._keys[turn_id]
        dropped = self._texts.pop(key, None)
        self._characters -= dropped.length if dropped is not None else 0
        self._subscribers.pop(key, None)
        self._subscribed_at.pop(key, None)
        self._dirty.pop(key, None)

    def close(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
