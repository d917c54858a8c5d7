"""The text of a turn as it is written, without a lost or a repeated character.

`Reader` is pure: it knows how far each candidate was read, trims what comes twice, notices what is
missing, and reports the end of each candidate once. `watch` keeps it fed, from any node: where a
node goes away, the next one is told the positions and goes on from there.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import grpc
import grpc.aio

from consensusllm.client.calls import Deadline, pause, pauses
from consensusllm.client.errors import (
    InvalidRequest,
    NotFound,
    Overloaded,
    TurnUnread,
    Unavailable,
)
from consensusllm.client.nodes import CONNECT_S, Nodes, Unreachable, denial, reason
from consensusllm.conversations.council import Council
from consensusllm.conversations.records import Candidate, Turn
from consensusllm.wire.councils import council_from_proto
from consensusllm.wire.generated import client_pb2, client_pb2_grpc
from consensusllm.wire.records import candidate_from_proto, turn_from_proto

QUIET_S = 5.0
"""After this long without an event the node is asked whether it is alive and has a leader."""


LOST_S = 15.0
"""After this long in which no node could be reached a reader is told so."""


@dataclass(frozen=True, slots=True)
class Delta:
    """``text`` continues ``candidate`` at ``offset``, in characters of this attempt's text."""

    candidate: int
    attempt: int
    offset: int
    text: str
    node: int
    model: str


@dataclass(frozen=True, slots=True)
class Takeover:
    """``node`` answers the candidate now: what was read of it behind ``offset`` is void, and its
    text goes on from there."""

    candidate: int
    attempt: int
    node: int
    offset: int


@dataclass(frozen=True, slots=True)
class CandidateDone:
    """The candidate ended, with its whole text or with an error."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class TurnClosed:
    """The last event: every candidate has ended."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class StageOpened:
    """A council has gone on to ``stage`` (from 1): ``seats`` says which candidate answers from
    which seat."""

    stage: int
    council: Council
    seats: Mapping[int, int]


WatchEvent: TypeAlias = Delta | Takeover | CandidateDone | StageOpened | TurnClosed


class Gap(Exception):
    """Text is missing between what was read and what came: read on from the positions."""


@dataclass(slots=True)
class _Position:
    attempt: int
    offset: int


class Reader:
    """How far one turn has been read."""

    def __init__(self) -> None:
        self._positions: dict[int, _Position] = {}
        self._done: set[int] = set()
        self._seated: set[int] = set()

    def positions(self) -> list[client_pb2.Position]:
        """Where a node goes on."""
        return [
            client_pb2.Position(candidate=number, attempt=position.attempt, offset=position.offset)
            for number, position in self._positions.items()
        ]

    def receive(self, event: client_pb2.WatchEvent) -> Iterator[WatchEvent]:
        """What is new in ``event``. Raises Gap where something before it is missing."""
        kind = event.WhichOneof("event")
        if kind == "delta":
            delta = event.delta
            yield from self._text(
                delta.candidate, delta.attempt, delta.offset, delta.text, delta.node, delta.model
            )
        elif kind == "takeover":
            takeover = event.takeover
            yield from self._attempt(
                takeover.candidate, takeover.attempt, takeover.node, takeover.offset, announced=True
            )
        elif kind == "stage_opened":
            yield from self._stage(event.stage_opened)
        elif kind == "candidate_done":
            yield from self._end(candidate_from_proto(event.candidate_done))
        elif kind == "turn_closed":
            turn = turn_from_proto(event.turn_closed)
            for candidate in turn.candidates:
                yield from self._end(candidate)
            yield TurnClosed(turn)

    def _stage(self, event: client_pb2.StageOpened) -> Iterator[WatchEvent]:
        seats = {
            each.candidate: each.seat for each in event.seats if each.candidate not in self._seated
        }
        if seats:
            self._seated.update(seats)
            yield StageOpened(event.stage, council_from_proto(event.council), seats)

    def _attempt(
        self, candidate: int, attempt: int, node: int, shared: int = 0, *, announced: bool = False
    ) -> Iterator[WatchEvent]:
        """Where ``attempt`` is later than the one that was read, go back to what they share."""
        position = self._positions.get(candidate)
        if position is not None and attempt <= position.attempt:
            return
        offset = min(position.offset, shared) if position is not None else 0
        self._positions[candidate] = _Position(attempt, offset)
        if position is not None or announced:
            yield Takeover(candidate, attempt, node, offset)

    def _text(
        self, candidate: int, attempt: int, offset: int, text: str, node: int, model: str
    ) -> Iterator[WatchEvent]:
        if candidate in self._done:
            return
        yield from self._attempt(candidate, attempt, node)
        position = self._positions[candidate]
        if attempt < position.attempt:
            return
        if offset > position.offset:
            raise Gap(f"candidate {candidate} was read to {position.offset}, not to {offset}")
        fresh = text[position.offset - offset :]
        if fresh:
            start = position.offset
            position.offset += len(fresh)
            yield Delta(candidate, attempt, start, fresh, node, model)

    def _end(self, candidate: Candidate) -> Iterator[WatchEvent]:
        if candidate.number in self._done:
            return
        position = self._positions.get(candidate.number)
        if position is not None:
            shared = candidate.shared_with(position.attempt) or 0
            yield from self._attempt(candidate.number, candidate.attempt, candidate.node, shared)
        yield from self._text(
            candidate.number,
            candidate.attempt,
            0,
            candidate.text,
            candidate.node,
            candidate.model,
        )
        self._done.add(candidate.number)
        yield CandidateDone(candidate)


async def watch(
    nodes: Nodes,
    conversation: str,
    turn: int,
    candidates: Collection[int],
    deadline: Deadline,
    random_: random.Random,
    confirm: Callable[[], Awaitable[object]],
    question: str = "",
) -> AsyncGenerator[WatchEvent, None]:
    """The events of a turn up to TurnClosed, through any number of nodes.

    ``question`` is what was asked in it ("": not known here): where another was, the conversation
    is another one of the same id, and NotFound is raised. A turn that closed without ``candidates``
    is from before these were added, on a node that is behind. ``confirm`` is called where a node
    does not know the turn; it raises NotFound where there is none, and otherwise the node is taken
    to be only behind. Raises TurnUnread at the deadline, or when no node could be reached for
    LOST_S.
    """
    reader = Reader()
    address = nodes.current
    trouble = "it is still being answered"
    waits = pauses(random_)
    lost_at: float | None = None
    while deadline.remaining_s() > 0 and not (lost_at and deadline.now() > lost_at + LOST_S):
        lost = False
        request = client_pb2.WatchRequest(
            conversation=conversation, turn=turn, positions=reader.positions()
        )
        try:
            stub = await nodes.stub(address, deadline.bounded_s(CONNECT_S))
            call = stub.Watch(request, metadata=nodes.metadata)
            try:
                while (event := await _next_event(nodes, stub, call, deadline)) is not None:
                    for news in reader.receive(event):
                        if isinstance(news, TurnClosed):
                            require_asked(conversation, news.turn, question)
                            if not _has(news.turn, candidates):
                                raise _Behind("it has not seen the retry yet")
                        waits, lost_at = pauses(random_), None
                        yield news
                        if isinstance(news, TurnClosed):
                            return
            finally:
                call.cancel()
            trouble = f"{address}: the node ended the stream"
        except (Gap, _Behind) as error:
            trouble = f"{address}: {error}"
        except Unreachable as error:
            trouble, lost = str(error), True
        except grpc.aio.AioRpcError as error:
            trouble = reason(address, error)
            lost = error.code() in _LOST
            if denied := denial(address, error):
                raise denied from None
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise InvalidRequest(error.details() or trouble) from None
            if error.code() is grpc.StatusCode.NOT_FOUND:
                with suppress(InvalidRequest, Overloaded, Unavailable):
                    await confirm()
        lost_at = (lost_at or deadline.now()) if lost else None
        address = nodes.following(address)
        await pause(next(waits), deadline)
    within = f"did not close within {deadline.timeout_s:g} s"
    if deadline.remaining_s() > 0:
        within = f"cannot be read: for {LOST_S:g} s there was nobody to ask"
    raise TurnUnread(
        f"turn {turn} of {conversation} {within} ({trouble}): its answers are kept, so look at it"
        " later",
        turn=turn,
    )


def require_asked(conversation: str, turn: Turn, question: str) -> None:
    """Raise NotFound unless ``question`` was asked in ``turn`` ("": any may have been)."""
    if question and turn.question != question:
        raise NotFound(
            f"what was asked is no more: another conversation has the id {conversation!r} now"
        )


_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class _Behind(Exception):
    """The node is of no use to this reader now; the text is why."""


def _has(turn: Turn, candidates: Collection[int]) -> bool:
    return all(turn.candidate(number) is not None for number in candidates)


_WatchCall: TypeAlias = "grpc.aio.UnaryStreamCall[client_pb2.WatchRequest, client_pb2.WatchEvent]"


async def _next_event(
    nodes: Nodes, stub: client_pb2_grpc.ClientStub, call: _WatchCall, deadline: Deadline
) -> client_pb2.WatchEvent | None:
    """The next event, or None at the stream's end. A model may think for long, so quiet alone is
    no fault; raises _Behind where the node is quiet and dead, or quiet and without a leader."""
    read = asyncio.ensure_future(call.read())
    try:
        while True:
            await asyncio.wait({read}, timeout=deadline.bounded_s(QUIET_S))
            if read.cancelled():
                raise RuntimeError("the client is closed")
            if read.done():
                event = read.result()
                return event if isinstance(event, client_pb2.WatchEvent) else None
            if deadline.remaining_s() <= 0:
                raise _Behind("it is still being answered")
            status = await stub.GetStatus(
                client_pb2.StatusRequest(),
                metadata=nodes.metadata,
                timeout=deadline.bounded_s(QUIET_S),
            )
            if status.leader == 0:
                raise _Behind("it knows no leader")
    finally:
        read.cancel()
