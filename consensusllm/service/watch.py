"""Live text of a turn for one reader, from wherever the reader left off to the turn's end.

What a reader sees is what is recorded: while a candidate is open its live text is passed on; when
it has ended, whatever the reader still lacks comes from the state. When another attempt takes the
candidate over the reader is told so, and from where on what it read is void.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from async_timeout import timeout

from consensusllm.conversations.records import Candidate, Turn
from consensusllm.council.generation import Generation
from consensusllm.council.live_text import RENEW_S, LiveText
from consensusllm.replica.replica import Replica
from consensusllm.wire.generated import client_pb2 as pb
from consensusllm.wire.records import candidate_to_proto, turn_to_proto

from .councils import stage_opened


class NoSuchTurn(Exception):
    """The conversation or the turn is not there (any more)."""


class _Reader:
    def __init__(self, live: LiveText, request: pb.WatchRequest) -> None:
        self._live = live
        self._conversation = request.conversation
        self._turn = request.turn
        self._positions = {
            position.candidate: (position.attempt, position.offset)
            for position in request.positions
        }
        self._done: set[int] = set()
        self._opened = 0
        self._asked: tuple[str, int, int] | None = None

    def events(self, turn: Turn) -> list[pb.WatchEvent]:
        """What is new since the last call. Raises NoSuchTurn where another one has its number."""
        asked = (turn.question, turn.opened_ms, turn.asked_revision)
        if self._asked not in (None, asked):
            raise NoSuchTurn("the turn is no more: another conversation has its id now")
        self._asked = asked
        events: list[pb.WatchEvent] = []
        opened = 0
        for candidate in turn.candidates:
            # A stage that opened and closed between two looks is told before what it brought.
            if candidate.number > self._opened and candidate.stage != opened:
                opened = candidate.stage
                events.append(stage_opened(turn, opened, self._opened))
            if candidate.number not in self._done:
                events.extend(self._candidate(candidate))
        self._opened = turn.candidates[-1].number
        if turn.closed:
            events.append(pb.WatchEvent(turn_closed=turn_to_proto(turn)))
        return events

    def _candidate(self, candidate: Candidate) -> list[pb.WatchEvent]:
        events = []
        attempt, offset = self._positions.get(candidate.number, (candidate.attempt, 0))
        shared = candidate.shared_with(attempt)
        if shared is not None:
            offset = min(offset, shared)
            takeover = pb.Takeover(
                candidate=candidate.number,
                attempt=candidate.attempt,
                node=candidate.node,
                offset=offset,
            )
            events.append(pb.WatchEvent(takeover=takeover))
        if candidate.ended:
            text, model = candidate.text[offset:], candidate.model
        else:
            key = Generation(self._conversation, self._turn, candidate.number, candidate.attempt)
            live = self._live.follow(key, candidate.node)
            text, model = (live.since(offset), live.model) if live is not None else ("", "")
        if text and not candidate.error:
            delta = pb.WatchDelta(
                candidate=candidate.number,
                attempt=candidate.attempt,
                offset=offset,
                text=text,
                node=candidate.node,
                model=model,
            )
            events.append(pb.WatchEvent(delta=delta))
            offset += len(text)
        self._positions[candidate.number] = (candidate.attempt, offset)
        if candidate.ended:
            self._done.add(candidate.number)
            events.append(pb.WatchEvent(candidate_done=candidate_to_proto(candidate)))
        return events


async def watch(
    replica: Replica, live: LiveText, request: pb.WatchRequest
) -> AsyncIterator[pb.WatchEvent]:
    """Events of the turn until it closes. Raises NoSuchTurn."""
    reader = _Reader(live, request)
    changed, turn_changed = asyncio.Event(), asyncio.Event()

    def on_change(itself: bool) -> None:
        changed.set()
        if itself:
            turn_changed.set()

    stop = live.watch(request.conversation, request.turn, on_change)
    try:
        while True:
            changed.clear()
            turn_changed.clear()
            turn = _turn(replica, request)
            for event in reader.events(turn):
                yield event
            if turn.closed:
                return
            if pause_s := live.reader_pause_s:
                await _wait(turn_changed, pause_s)
            # Subscriptions at other nodes are renewed even when nothing is heard.
            await _wait(changed, RENEW_S)
    finally:
        stop()


async def _wait(event: asyncio.Event, at_most_s: float) -> None:
    with contextlib.suppress(asyncio.TimeoutError):
        async with timeout(at_most_s):
            await event.wait()


def _turn(replica: Replica, request: pb.WatchRequest) -> Turn:
    turn = replica.machine.turn(request.conversation, request.turn)
    if turn is None:
        raise NoSuchTurn(f"no turn {request.turn} in a conversation {request.conversation!r:.80}")
    return turn
