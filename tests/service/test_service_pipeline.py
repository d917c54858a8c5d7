"""A client's stream at a node: what comes in one message, and what one message answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from consensusllm.conversations.commands import (
    CompareAndSwap,
    ConveneCouncil,
    Put,
    RecordCheckpoint,
    RetryTurn,
    ServedModel,
    SessionCommand,
    SubmitQuery,
)
from consensusllm.conversations.limits import Limits
from consensusllm.conversations.records import Candidate, Conversation, RegisteredModel, Turn
from consensusllm.conversations.replies import Code, Done, Refused, Reply
from consensusllm.replica.outcomes import Failure, FailureKind
from consensusllm.service import pipeline
from consensusllm.service.asking import MODELS_MAX, Planner
from consensusllm.service.councils import Templates
from consensusllm.service.pipeline import MAX_WAITING, PipelineStream, Requests, TooManyAtOnce
from consensusllm.wire.commands import encode_command
from consensusllm.wire.generated import client_pb2 as pb
from consensusllm.wire.parts import PARTS_MAX

SESSION = b"s" * 24


class FakeRuntime:
    """Takes commands, and answers them when the test says so."""

    def __init__(self) -> None:
        self.replica = SimpleNamespace(
            leader=2,
            node=1,
            config=SimpleNamespace(limits=Limits()),
            paxos=SimpleNamespace(live=frozenset({1, 2})),
            machine=SimpleNamespace(registry={}),
            time_ms=int,
        )
        self.heard = asyncio.Event()
        self.submitted: list[SessionCommand] = []
        self.resolve: list[Callable[[Any], None]] = []
        self.barriers: list[Callable[[Any], None]] = []
        self.now = 0.0
        self.times_s: list[float] = []

    def read(self, timeout_s: float, resolve: Callable[[Any], None]) -> None:
        self.barriers.append(resolve)
        self.heard.set()

    def clock(self) -> float:
        return self.now

    def submit(self, command: bytes, decoded: Any, timeout_s: float, resolve: Any) -> None:
        assert encode_command(decoded) == command
        self.times_s.append(timeout_s)
        self.submitted.append(decoded)
        self.resolve.append(resolve)
        self.heard.set()


class Stream:
    """A PipelineStream between a test's messages and the list of those that it writes."""

    def __init__(self, *, max_outstanding: int = 100) -> None:
        self.runtime = FakeRuntime()
        self.addresses = {1: "here:1", 2: "there:2"}
        self.queries: list[tuple[SubmitQuery, int]] = []
        self.requests = Requests(
            self.runtime,  # type: ignore[arg-type]
            self.addresses,
            default_timeout_s=10.0,
            planner=Planner(
                self.runtime,  # type: ignore[arg-type]
                default_deadline_ms=1000,
                domains={},
                templates=Templates(None),
            ),
            on_query=lambda query: self.queries.append((query, len(self.runtime.submitted))),
            max_question_bytes=1000,
            max_value_bytes=1000,
            max_command_bytes=2000,
            max_waiting_bytes=3500,
            max_response_bytes=100_000,
        )
        self.written: list[pb.Responses] = []
        self._incoming: asyncio.Queue[pb.Requests | None] = asyncio.Queue()
        stream = PipelineStream(self.requests, max_outstanding, 100_000)
        self.task = asyncio.ensure_future(stream.run(self._messages(), self._write))

    async def _messages(self) -> AsyncIterator[pb.Requests]:
        while (message := await self._incoming.get()) is not None:
            yield message

    async def _write(self, message: pb.Responses) -> None:
        self.written.append(message)
        self.runtime.heard.set()

    async def send(self, *operations: Any) -> None:
        """One message of commands, whose ids count from 1; wait until they are taken in."""
        self._incoming.put_nowait(
            pb.Requests(
                requests=[
                    pb.Request(
                        id=number,
                        command=encode_command(SessionCommand(SESSION, number, 1, operation)),
                    )
                    for number, operation in enumerate(operations, 1)
                ]
            )
        )
        await self.runtime.heard.wait()

    async def end(self) -> None:
        self._incoming.put_nowait(None)
        await self.task


async def test_what_was_answered_together_travels_in_one_message() -> None:
    stream = Stream()
    await stream.send(Put("a", b"1"), CompareAndSwap("b", b"x", b"y"), Put("c", b"3"))
    refused = Refused(Code.CONFLICT, "another value stands there", current=b"z")
    for resolve, reply in zip(stream.runtime.resolve, (Done(), refused, Done()), strict=True):
        resolve(reply)
    await stream.end()
    [message] = stream.written
    assert list(message.done) == [1, 3]
    [response] = message.responses
    assert response.id == 2
    assert response.reply.refused.current == b"z"
    assert message.leader_address == "there:2"


async def test_a_stream_is_told_of_the_members_once_and_again_when_they_change() -> None:
    stream = Stream()
    for turn in range(3):
        stream.runtime.heard.clear()
        await stream.send(Put("a", b"1"))
        stream.runtime.heard.clear()
        stream.runtime.resolve.pop()(Done())
        await stream.runtime.heard.wait()
        if turn == 1:
            stream.addresses[3] = "there:3"
    await stream.end()
    told = [list(message.members) for message in stream.written]
    assert told == [["here:1", "there:2"], [], ["here:1", "there:2", "there:3"]]


async def test_a_command_of_the_nodes_own_is_refused_to_a_client() -> None:
    stream = Stream()
    await stream.send(RecordCheckpoint("c1", 1, 1, 1, 0, "text"))
    await stream.end()
    assert stream.runtime.submitted == []
    [message] = stream.written
    assert message.responses[0].failure.kind == pb.Failure.INVALID


async def test_a_command_of_too_many_parts_is_refused_before_it_is_decoded() -> None:
    """Two bytes of an import can be a candidate, which every node is to decode."""
    stream = Stream()
    stream.requests._max_command_bytes = 1 << 20
    turn = pb.Turn(candidates=[pb.Candidate()] * (PARTS_MAX + 1))
    command = pb.SessionCommand(session=SESSION, import_turn=pb.ImportTurn(turn=turn))
    request = pb.Request(id=1, command=command.SerializeToString())
    stream._incoming.put_nowait(pb.Requests(requests=[request]))
    await stream.end()
    assert stream.runtime.submitted == []
    [message] = stream.written
    assert message.responses[0].failure.message.startswith("a command of more than 16384 parts")


async def test_a_question_is_told_of_before_it_is_submitted_and_a_retry_is_not() -> None:
    stream = Stream()
    asks = [
        pb.Ask(session=SESSION, sequence=1, acknowledged=1, conversation="c1", question="why?"),
        pb.Ask(session=SESSION, sequence=2, acknowledged=1, conversation="c1", retry=True),
    ]
    requests = [pb.Request(id=number, ask=ask) for number, ask in enumerate(asks, 1)]
    stream._incoming.put_nowait(pb.Requests(requests=requests))
    while len(stream.runtime.submitted) < 2:
        stream.runtime.heard.clear()
        await stream.runtime.heard.wait()
    submitted = [each.operation for each in stream.runtime.submitted]
    [query] = [each for each in submitted if isinstance(each, SubmitQuery)]
    assert [each.node for each in query.plan] == [1, 2]
    assert [each for each, _ in stream.queries] == [query]
    assert submitted.index(query) >= stream.queries[0][1]  # told of before it was submitted
    assert any(isinstance(each, RetryTurn) for each in submitted)
    for resolve in stream.runtime.resolve:
        resolve(Done())
    await stream.end()


async def test_a_query_is_bounded_as_a_command_is() -> None:
    """A command larger than a message between nodes would keep its slot open for ever."""
    asks = [
        pb.Ask(session=SESSION, conversation="c1", persona="x" * 2000),
        pb.Ask(session=SESSION, conversation="c1", persona="x" * 1950),
    ]
    stream = Stream()
    requests = [pb.Request(id=number, ask=ask) for number, ask in enumerate(asks, 1)]
    stream._incoming.put_nowait(pb.Requests(requests=requests))
    await stream.end()
    assert stream.runtime.submitted == []
    told = [each.failure for message in stream.written for each in message.responses]
    assert [each.message.partition(" of ")[0] for each in told] == [
        "a query",
        "a query with its plan",
    ]
    assert {each.kind for each in told} == {pb.Failure.INVALID}


async def test_a_query_that_names_more_models_than_any_turn_has_is_refused_at_once() -> None:
    stream = Stream()
    ask = pb.Ask(session=SESSION, conversation="c1", models=["m"] * (MODELS_MAX + 1))
    stream.requests._max_command_bytes = ask.ByteSize()
    stream._incoming.put_nowait(pb.Requests(requests=[pb.Request(id=1, ask=ask)]))
    await stream.end()
    assert stream.runtime.barriers == []
    [message] = stream.written
    assert message.responses[0].failure.kind == pb.Failure.INVALID
    assert message.responses[0].failure.message == "1025 models are named: the most is 1024"


async def test_a_bug_of_planning_is_answered_and_does_not_reach_the_core_that_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The core stops its node at an exception, and the client would ask the next one."""
    stream = Stream()

    def broken(self: Planner, ask: pb.Ask, wishes: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Planner, "complete", broken)
    ask = pb.Ask(session=SESSION, conversation="c1", models=["m"])
    stream._incoming.put_nowait(pb.Requests(requests=[pb.Request(id=1, ask=ask)]))
    await stream.runtime.heard.wait()
    stream.runtime.barriers[0](None)
    await stream.end()
    [message] = stream.written
    assert message.responses[0].failure.message == "this node failed to plan the query: see its log"


async def test_a_council_is_seated_from_a_registry_that_is_as_new_as_its_question() -> None:
    stream = Stream()
    ask = pb.Ask(session=SESSION, sequence=1, conversation="c1", question="q", council="debate")
    stream._incoming.put_nowait(pb.Requests(requests=[pb.Request(id=1, ask=ask)]))
    await stream.runtime.heard.wait()
    assert (stream.written, stream.runtime.submitted) == ([], [])
    served = RegisteredModel(ServedModel("m", "p"))
    stream.runtime.replica.machine.registry[1] = (served,)
    stream.runtime.heard.clear()
    stream.runtime.barriers[0](None)
    await asyncio.wait_for(stream.runtime.heard.wait(), 60)
    stream.runtime.resolve[0](Done())
    await stream.end()
    [command] = stream.runtime.submitted
    assert isinstance(command.operation, ConveneCouncil)


async def test_a_hedged_query_is_planned_from_a_registry_that_is_as_new_as_itself() -> None:
    stream = Stream()
    options = pb.GenerationOptions(hedge_ms=500)
    ask = pb.Ask(session=SESSION, sequence=1, conversation="c1", question="q", options=options)
    stream._incoming.put_nowait(pb.Requests(requests=[pb.Request(id=1, ask=ask)]))
    await stream.runtime.heard.wait()
    assert not stream.written
    served = RegisteredModel(ServedModel("m", "p", fallbacks=("f",)))
    stream.runtime.replica.machine.registry[1] = (served,)
    stream.runtime.heard.clear()
    stream.runtime.barriers[0](None)
    await stream.runtime.heard.wait()
    stream.runtime.resolve[0](Done())
    await stream.end()
    [command] = stream.runtime.submitted
    assert isinstance(command.operation, SubmitQuery)
    assert [each.fallbacks for each in command.operation.plan] == [("f",), ()]


async def test_queries_that_come_at_once_are_spread_over_the_nodes() -> None:
    """None of them is in the state yet when the next one is planned."""
    stream = Stream()
    runtime = stream.runtime
    runtime.replica.paxos.live = frozenset({1, 2, 3})
    machine = runtime.replica.machine
    machine.registry = {node: (RegisteredModel(ServedModel("m", "p")),) for node in (1, 2, 3)}
    machine.applied_slot, machine.open_turns = 7, list
    ask = pb.Ask(session=SESSION, conversation="c1", question="q", one=True)
    retry = pb.Ask(session=SESSION, conversation="c1", retry=True, one=True)
    too_large = pb.Ask(session=SESSION, conversation="c1", persona="x" * 1950, one=True)
    council = pb.Ask(session=SESSION, conversation="c1", question="q", council="debate")

    async def nodes_of(*asks: pb.Ask) -> list[int]:
        """Who is to answer the queries among ``asks``, which come in one message."""
        before = len(runtime.submitted)
        requests = [pb.Request(id=number, ask=each) for number, each in enumerate(asks, 1)]
        stream._incoming.put_nowait(pb.Requests(requests=requests))
        await until(lambda: len(runtime.barriers) == len(asks))
        while runtime.barriers:
            runtime.barriers.pop(0)(None)
        count = sum(each is not too_large for each in asks)
        await until(lambda: len(runtime.submitted) == before + count)
        operations = [each.operation for each in runtime.submitted[before:]]
        return [each.plan[0].node for each in operations if isinstance(each, SubmitQuery)]

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            runtime.heard.clear()
            await asyncio.wait_for(runtime.heard.wait(), 60)

    def answer(outcome: Reply | Failure) -> None:
        while runtime.resolve:
            runtime.resolve.pop()(outcome)

    assert await nodes_of(ask, ask, ask, ask, ask) == [1, 2, 3, 1, 2]
    assert await nodes_of(too_large, ask) == [1]
    assert await nodes_of(ask, ask) == [3, 2], "what was refused is nobody's to do"
    answer(Failure(FailureKind.NO_QUORUM, "not now"))
    [node] = await nodes_of(council, ask)
    [convened] = [
        each.operation.council
        for each in runtime.submitted
        if isinstance(each.operation, ConveneCouncil)
    ]
    assert {node, *(convened.member(seat).node for seat in convened.stage(1).seats)} == {1, 2, 3}
    answer(Done())
    assert await nodes_of(retry, ask) == [2]
    answer(Done())
    assert await nodes_of(ask) == [1]
    answer(Done())
    await stream.end()


@pytest.mark.parametrize("passed_s", [2.0, 5.0])
async def test_the_time_of_a_query_is_that_of_its_barrier_too(passed_s: float) -> None:
    stream = Stream()
    served = RegisteredModel(ServedModel("m", "p", fallbacks=("f",)))
    stream.runtime.replica.machine.registry[1] = (served,)
    options = pb.GenerationOptions(hedge_ms=500)
    ask = pb.Ask(session=SESSION, sequence=1, conversation="c1", question="q", options=options)
    request = pb.Request(id=1, ask=ask, timeout_ms=5000)
    stream._incoming.put_nowait(pb.Requests(requests=[request]))
    await stream.runtime.heard.wait()
    stream.runtime.heard.clear()
    stream.runtime.now = passed_s
    stream.runtime.barriers[0](None)
    if passed_s < 5.0:
        await stream.runtime.heard.wait()
        assert stream.runtime.times_s == [pytest.approx(3.0)]
        stream.runtime.resolve[0](Done())
    await stream.end()
    if passed_s == 5.0:
        assert stream.runtime.submitted == [], "nobody waits for what it would cost"
        [message] = stream.written
        assert message.responses[0].failure.kind == pb.Failure.NO_QUORUM


def named(number: int, size: int) -> pb.Request:
    """A query that names a model, with a question of ``size`` bytes."""
    ask = pb.Ask(session=SESSION, conversation="c1", models=["m"], question="?" * size)
    return pb.Request(id=number, ask=ask)


def read(number: int, size: int) -> pb.Request:
    return pb.Request(id=number, read=pb.Read(key="k" * size))


@pytest.mark.parametrize("make", [named, read])
@pytest.mark.parametrize(("most", "size"), [(3, 10), (MAX_WAITING, 990)], ids=["number", "bytes"])
async def test_what_waits_for_a_barrier_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[int, int], pb.Request],
    most: int,
    size: int,
) -> None:
    monkeypatch.setattr(pipeline, "MAX_WAITING", most)
    stream = Stream()
    stream._incoming.put_nowait(pb.Requests(requests=[make(id, size) for id in range(1, 8)]))
    while not stream.written:
        stream.runtime.heard.clear()
        await stream.runtime.heard.wait()
    waiting, stream.runtime.barriers = stream.runtime.barriers, []
    assert len(waiting) == 3
    [message] = stream.written
    assert [each.id for each in message.responses] == [4, 5, 6, 7]
    for each in message.responses:
        assert each.failure.kind == pb.Failure.OVERLOADED
        assert each.failure.retry_after_ms > 0
    for passed in waiting:
        passed(Failure(FailureKind.NO_QUORUM, "no majority"))
    stream._incoming.put_nowait(pb.Requests(requests=[make(8, size)]))
    while not stream.runtime.barriers:
        stream.runtime.heard.clear()
        await stream.runtime.heard.wait()
    stream.runtime.barriers[0](Failure(FailureKind.NO_QUORUM, "no majority"))
    await stream.end()


async def test_what_is_too_large_to_be_answered_is_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turn = Turn(1, "?" * 60_000, (Candidate(1, 1, text="!" * 60_000),))
    stream = Stream()
    stream.runtime.replica.machine.conversation = lambda name: Conversation(name, 1, (turn,))
    monkeypatch.setattr(pipeline, "run_query", None)
    read = pb.Read(stale=True, conversation="c1")
    stream._incoming.put_nowait(pb.Requests(requests=[pb.Request(id=1, read=read)]))
    await stream.runtime.heard.wait()
    [response] = stream.written[0].responses
    assert "larger than a message may be" in response.failure.message
    await stream.end()


async def test_answers_that_take_long_to_make_leave_others_their_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "TURN_S", 0.0)
    stream = Stream()
    stream.runtime.replica.machine = SimpleNamespace(get=lambda key: b"", applied_slot=1)
    read = pb.Read(stale=True, key="k")
    requests = [pb.Request(id=number, read=read) for number in (1, 2, 3)]
    stream._incoming.put_nowait(pb.Requests(requests=requests))
    while len(stream.written) < 3:
        stream.runtime.heard.clear()
        await stream.runtime.heard.wait()
    assert [[each.id for each in message.responses] for message in stream.written] == [
        [1],
        [2],
        [3],
    ]
    await stream.end()


async def test_queries_whose_barrier_has_passed_are_planned_in_turns_by_one_count_of_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "TURN_S", 0.0)
    counted = []
    stream = Stream()
    model = RegisteredModel(ServedModel("m", "builtin", "m"))
    stream.runtime.replica.machine = SimpleNamespace(
        registry={1: (model,)}, applied_slot=7, open_turns=lambda: counted.append(7) or ()
    )
    stream._incoming.put_nowait(pb.Requests(requests=[named(id, 10) for id in (1, 2, 3)]))
    while len(stream.runtime.barriers) < 3:
        stream.runtime.heard.clear()
        await stream.runtime.heard.wait()
    for passed in stream.runtime.barriers:
        passed(None)
    turns = []
    while len(stream.runtime.submitted) < 3:
        await asyncio.sleep(0)
        turns.append(len(stream.runtime.submitted))
    assert {1, 2, 3} <= set(turns)
    assert counted == [7]
    for resolve in stream.runtime.resolve:
        resolve(Done())
    await stream.end()


async def test_more_in_a_message_than_may_be_unanswered_ends_the_stream() -> None:
    stream = Stream(max_outstanding=2)
    await stream.send(*[Put("a", b"1")] * 2)
    for resolve in stream.runtime.resolve:
        resolve(Done())
    stream._incoming.put_nowait(pb.Requests(requests=[pb.Request(id=1)] * 3))
    with pytest.raises(TooManyAtOnce):
        await stream.task
