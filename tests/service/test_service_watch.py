"""A reader of a turn at a node."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from consensusllm.conversations import Candidate, Turn
from consensusllm.council.live_text import LiveText
from consensusllm.service import watch
from consensusllm.service.servicer import ClientServicer
from consensusllm.wire.generated import client_pb2 as pb
from consensusllm.wire.records import candidate_to_proto

LIMIT_BYTES = 10_000


class Aborted(Exception):
    """What ends a call of gRPC's."""


class Context:
    async def send_initial_metadata(self, metadata: Any) -> None:
        pass

    async def abort(self, code: grpc.StatusCode, words: str) -> None:
        raise Aborted(code, words)


def servicer(turn: Turn) -> ClientServicer:
    machine = SimpleNamespace(turn=lambda conversation, number: turn)

    async def barrier(timeout_s: float) -> None: ...

    runtime: Any = SimpleNamespace(replica=SimpleNamespace(machine=machine), barrier=barrier)
    nothing: Any = None
    requests: Any = SimpleNamespace(max_response_bytes=LIMIT_BYTES)
    live = LiveText(1, lambda node, body: None)
    return ClientServicer(
        *(runtime, requests, live, nothing, nothing), token=None, read_timeout_s=1.0
    )


def closed(*texts: str) -> Turn:
    candidates = (
        Candidate(number, 1, text=text, ended=True) for number, text in enumerate(texts, 1)
    )
    return Turn(1, "Why?", tuple(candidates), closed=True)


async def read(turn: Turn) -> list[str | None]:
    request = pb.WatchRequest(conversation="c1", turn=1)
    return [event.WhichOneof("event") async for event in servicer(turn).Watch(request, Context())]


async def test_another_turn_of_its_number_is_not_told_to_who_reads_this_one() -> None:
    first = Turn(1, "Delete it?", (Candidate(1, 1, attempt=1, text="", ended=True),), opened_ms=1)
    second = replace(closed("yes, sure"), question="2 + 2?", opened_ms=2)
    node = servicer(first)
    request = pb.WatchRequest(conversation="c1", turn=1)
    events = node.Watch(request, Context())
    told = [(await anext(events)).WhichOneof("event")]
    node._runtime.replica.machine.turn = lambda conversation, number: second
    with pytest.raises(Aborted) as aborted:
        told += [event.WhichOneof("event") async for event in events]
    assert told == ["candidate_done"]
    assert aborted.value.args[0] is grpc.StatusCode.NOT_FOUND
    assert "another conversation has its id now" in aborted.value.args[1]


async def test_a_closed_turn_is_told_whole() -> None:
    answer = ["delta", "candidate_done"]
    assert await read(closed("one", "two")) == [*answer, *answer, "turn_closed"]


async def test_a_slow_reader_holds_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(candidate: Candidate) -> pb.Candidate:
        made.append(candidate.number)
        return candidate_to_proto(candidate)

    monkeypatch.setattr(watch, "candidate_to_proto", counted)
    request = pb.WatchRequest(conversation="c1", turn=1)
    events = servicer(closed("one", "two", "three")).Watch(request, Context())
    assert (await anext(events)).WhichOneof("event") == "delta"
    assert made == []
    assert (await anext(events)).WhichOneof("event") == "candidate_done"
    assert made == [1]
    await events.aclose()


async def test_what_changes_under_a_slow_reader_is_told_in_its_order() -> None:
    """Of candidates that ended in the meantime too, and before the turn is closed."""
    first = Candidate(1, 1, attempt=1, text="", ended=True)
    node = servicer(Turn(1, "Why?", (first, Candidate(2, 1, attempt=2)), opened_ms=1))
    request = pb.WatchRequest(conversation="c1", turn=1)
    events = node.Watch(request, Context())
    told = [(await anext(events)).WhichOneof("event")]
    second = Candidate(2, 1, attempt=2, text="Therefore.", ended=True)
    later = Turn(1, "Why?", (first, second), opened_ms=1, closed=True)
    node._runtime.replica.machine.turn = lambda conversation, number: later
    node._live._changed("c1", 1, itself=True)
    told += [event.WhichOneof("event") async for event in events]
    assert told == ["candidate_done", "delta", "candidate_done", "turn_closed"]


async def test_a_turn_that_no_message_holds_is_refused_in_words() -> None:
    """Without them a reader would come back for it until its time is over."""
    with pytest.raises(Aborted) as caught:
        await read(closed(*["x" * (LIMIT_BYTES // 3)] * 3))
    code, words = caught.value.args
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words == "turn 1 of c1 is larger than a message may be: raise limits.message_bytes"
