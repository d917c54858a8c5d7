"""Live text of a turn for one reader, from wherever the reader left off to the turn's end.

What a reader sees is what is recorded: while a candidate is open its live text is passed on; when
it has ended, whatever the reader still lacks comes from the state. When another attempt takes the
candidate over the reader is told so, and from where on what it read is void.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

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
        self.closed = False  # the turn is, and the reader knows it

    def events(self, look: Callable[[], Turn]) -> Iterator[pb.WatchEvent]:
        """What is new since the last call, each event made when it is asked for: a reader that is
        slow holds none of them. ``look`` gives the turn as it is, for each candidate anew. Raises
        NoSuchTurn where another one has its number, and what ``look`` raises."""
        turn = self._same(look())
        candidates = turn.candidates
        opened = 0
        for index, candidate in enumerate(candidates):
            # A stage that opened and closed between two looks is told before what it brought.
            if candidate.number > self._opened and candidate.stage != opened:
                opened = candidate.stage
                yield stage_opened(turn, opened, self._opened)
            if candidate.number not in self._done:
                yield from self._candidate(self._same(look()).candidates[index])
        self._opened = candidates[-1].number
        if turn.closed:
            self.closed = True
            yield pb.WatchEvent(turn_closed=turn_to_proto(turn))

    def _same(self, turn: Turn) -> Turn:
        asked = (turn.question, turn.opened_ms, turn.asked_revision)
        if self._asked not in (None, asked):
            raise NoSuchTurn("the turn is no more: another conversation has its id now")
        self._asked = asked
        return turn

    def _candidate(self, candidate: Candidate) -> Iterator[pb.WatchEvent]:
        number = candidate.number
        attempt, offset = self._positions.get(number, (candidate.attempt, 0))
        shared = candidate.shared_with(attempt)
        if shared is not None:
            offset = min(offset, shared)
            self._positions[number] = (candidate.attempt, offset)
            takeover = pb.Takeover(
                candidate=number, attempt=candidate.attempt, node=candidate.node, offset=offset
            )
            yield pb.WatchEvent(takeover=takeover)
        if candidate.ended:
            text, model = candidate.text[offset:], candidate.model
        else:
            key = Generation(self._conversation, self._turn, number, candidate.attempt)
            live = self._live.follow(key, candidate.node)
            text, model = (live.since(offset), live.model) if live is not None else ("", "")
        shown = "" if candidate.error else text
        self._positions[number] = (candidate.attempt, offset + len(shown))
        if shown:
            delta = pb.WatchDelta(
                candidate=number,
                attempt=candidate.attempt,
                offset=offset,
                text=shown,
                node=candidate.node,
                model=model,
            )
            yield pb.WatchEvent(delta=delta)
        if candidate.ended:
            self._done.add(number)
            yield pb.WatchEvent(candidate_done=candidate_to_proto(candidate))


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
            for event in reader.events(partial(_turn, replica, request)):
                yield event
            if reader.closed:
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
