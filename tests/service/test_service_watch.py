"""A reader of a turn at a node."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from consensusllm.conversations import Candidate, Turn
from consensusllm.council.live_text import LiveText
from consensusllm.service.servicer import ClientServicer
from consensusllm.wire.generated import client_pb2 as pb

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


async def test_a_closed_turn_is_told_whole() -> None:
    answer = ["delta", "candidate_done"]
    assert await read(closed("one", "two")) == [*answer, *answer, "turn_closed"]


async def test_a_turn_that_no_message_holds_is_refused_in_words() -> None:
    """Without them a reader would come back for it until its time is over."""
    with pytest.raises(Aborted) as caught:
        await read(closed(*["x" * (LIMIT_BYTES // 3)] * 3))
    code, words = caught.value.args
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words == "turn 1 of c1 is larger than a message may be: raise limits.message_bytes"
