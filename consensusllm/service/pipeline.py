"""The Pipeline of one client: many requests in a message, many responses in a message.

No task and no timer is made for a request. A command goes into the log as the bytes in which it
came; it is decoded here once, to refuse what is malformed before it is proposed.

A response is made when there is room to write it, so what a client does not read costs its node a
few words for each answer that waits, whatever the size of the answers.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeAlias

import structlog

from consensusllm.conversations.commands import (
    Choose,
    CloseTurn,
    CompareAndSwap,
    CreateConversation,
    Delete,
    DeleteKey,
    Fork,
    ImportTurn,
    OpenSession,
    Operation,
    Put,
    Rename,
    SessionCommand,
    SetBudget,
    SubmitQuery,
)
from consensusllm.conversations.replies import Done, Reply
from consensusllm.conversations.sessions import SESSION_BYTES
from consensusllm.council.planning import Unplannable
from consensusllm.replica.outcomes import Failure, FailureKind
from consensusllm.replica.runtime import Runtime
from consensusllm.wire.alone import alone
from consensusllm.wire.commands import (
    decode_command,
    encode_command,
    reply_to_proto,
)
from consensusllm.wire.errors import MalformedMessage
from consensusllm.wire.generated import client_pb2 as pb
from consensusllm.wire.parts import check_parts

from .asking import Planner, wishes_of
from .reads import least_bytes, run_query

log = structlog.get_logger()

_CLIENT_OPERATIONS: frozenset[type[Operation]] = frozenset(
    {
        OpenSession,
        CreateConversation,
        Choose,
        CloseTurn,
        Fork,
        Rename,
        Delete,
        ImportTurn,
        Put,
        CompareAndSwap,
        DeleteKey,
        SetBudget,
    }
)
"""What a client may put into the log itself. Answers are recorded by the nodes only."""

_KINDS = {
    FailureKind.OVERLOADED: pb.Failure.OVERLOADED,
    FailureKind.NO_QUORUM: pb.Failure.NO_QUORUM,
    FailureKind.UNKNOWN: pb.Failure.UNKNOWN,
    FailureKind.STOPPED: pb.Failure.NOT_LEADER,
}

RETRY_AFTER_MS = 100
MAX_TIMEOUT_S = 600.0
MAX_WAITING = 65_536
"""Reads and queries that wait for their barrier, of all clients of a node together."""

TURN_S = 0.01
"""For so long answers are made, or questions planned, before others have their turns."""

MakeResponse: TypeAlias = Callable[[], pb.Response]


class Answers(Protocol):
    """Who asked, and is told: one of the two, once a request."""

    def done(self, identifier: int) -> None:
        """The request's reply is Done, as most are."""
        ...

    def answer(self, make: MakeResponse) -> None:
        """``make`` makes the response when it is written."""
        ...


class Requests:
    """Admits the requests of clients of this node and answers each exactly once."""

    def __init__(
        self,
        runtime: Runtime,
        addresses: dict[int, str],
        *,
        default_timeout_s: float,
        planner: Planner,
        on_query: Callable[[SubmitQuery], None],
        max_question_bytes: int,
        max_value_bytes: int,
        max_command_bytes: int,
        max_waiting_bytes: int,
        max_response_bytes: int,
    ) -> None:
        """``max_waiting_bytes`` is of what waits for its barrier, of all clients together."""
        self._runtime = runtime
        self._addresses = addresses
        self._default_timeout_s = default_timeout_s
        self._planner = planner
        self._on_query = on_query
        self._max_question_bytes = max_question_bytes
        self._max_value_bytes = max_value_bytes
        self._max_command_bytes = max_command_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self.max_response_bytes = max_response_bytes
        self._waiting = 0
        self._waiting_bytes = 0
        self._passed: deque[Callable[[], None]] = deque()

    def admit(self, request: pb.Request, to: Answers) -> None:
        """Begin ``request``; ``to`` is told once, now or later. A read is made when it is written,
        which is still a moment between its call and its answer."""
        identifier = request.id
        timeout_s = min(request.timeout_ms / 1000 or self._default_timeout_s, MAX_TIMEOUT_S)
        body = request.WhichOneof("body")
        try:
            if body == "command":
                self._command(identifier, request.command, timeout_s, to)
            elif body == "ask":
                self._ask(identifier, request.ask, timeout_s, to)
            elif body == "read":
                self._read(identifier, request.read, timeout_s, to)
            else:
                raise MalformedMessage("an empty request")
        except MalformedMessage as error:
            to.answer(partial(_invalid, identifier, str(error)))

    # Commands -------------------------------------------------------------------------------

    def _command(
        self,
        identifier: int,
        command: bytes,
        timeout_s: float,
        to: Answers,
    ) -> None:
        _bounded("a command", len(command), self._max_command_bytes)
        check_parts(command)
        decoded = decode_command(command)
        if type(decoded.operation) not in _CLIENT_OPERATIONS:
            raise MalformedMessage(
                f"{type(decoded.operation).__name__} is for the nodes themselves"
            )
        if not isinstance(decoded.operation, OpenSession):
            _numbered(decoded.session)
        elif not decoded.operation.numbered:
            raise MalformedMessage(f"the session would have no number: {_OLD_CLIENT}")
        value = getattr(decoded.operation, "value", getattr(decoded.operation, "new", None))
        _bounded("a value", len(value or b""), self._max_value_bytes)
        resolve = partial(self._resolve, identifier, to)
        self._runtime.submit(command, decoded, timeout_s, resolve)

    def _submit_planned(
        self,
        identifier: int,
        decoded: SessionCommand,
        timeout_s: float,
        to: Answers,
        ends: Callable[[], None],
    ) -> None:
        """``ends`` is called once what was planned is applied, or will not be."""

        def resolve(outcome: Reply | Failure) -> None:
            ends()
            self._resolve(identifier, to, outcome)

        command = encode_command(decoded)
        try:
            _bounded("a query with its plan", len(command), self._max_command_bytes)
        except MalformedMessage as error:
            ends()
            to.answer(partial(_invalid, identifier, str(error)))
        else:
            self._runtime.submit(command, decoded, timeout_s, resolve)

    def _resolve(self, identifier: int, to: Answers, outcome: Reply | Failure) -> None:
        if isinstance(outcome, Done):
            to.done(identifier)
        else:
            to.answer(partial(self._outcome, identifier, outcome))

    def _outcome(self, identifier: int, outcome: Reply | Failure) -> pb.Response:
        if isinstance(outcome, Failure):
            return pb.Response(id=identifier, failure=self._failure(outcome))
        return pb.Response(id=identifier, reply=reply_to_proto(outcome))

    def _ask(
        self,
        identifier: int,
        ask: pb.Ask,
        timeout_s: float,
        to: Answers,
    ) -> None:
        """Complete a query with its plan. One that names models, or a hedge, which takes models
        with fallbacks, or a council, whose seats take nodes that serve one, is planned from a
        registry that is as new as the question."""
        size_bytes = ask.ByteSize()
        _bounded("a query", size_bytes, self._max_command_bytes)
        _bounded("a question", len(ask.question.encode()), self._max_question_bytes)
        _numbered(ask.session)
        wishes = wishes_of(ask)
        ask = alone(ask)
        until = self._runtime.clock() + timeout_s

        def submit() -> None:
            left_s = until - self._runtime.clock()
            if left_s <= 0:  # nobody waits any more: what is not asked costs nothing
                to.answer(partial(self._outcome, identifier, _TOO_LATE))
                return
            try:
                operation = self._planner.complete(ask, wishes)
            except Unplannable as error:
                to.answer(partial(_invalid, identifier, str(error)))
                return
            except Exception:
                # Not the core's, which may be calling: the query would stop node after node.
                log.exception("a bug: a query cannot be planned")
                why = "this node failed to plan the query: see its log"
                to.answer(partial(_invalid, identifier, why))
                return
            decoded = SessionCommand(ask.session, ask.sequence, ask.acknowledged, operation)
            ends = self._planner.counts(operation)
            if isinstance(operation, SubmitQuery):
                # The model first, by a turn of the loop: what goes to the peers holds it.
                self._on_query(operation)
                loop = asyncio.get_running_loop()
                loop.call_soon(self._submit_planned, identifier, decoded, left_s, to, ends)
            else:
                self._submit_planned(identifier, decoded, left_s, to, ends)

        if wishes.plain and not ask.options.hedge_ms and not ask.council:
            submit()
        else:
            self._behind_barrier(identifier, size_bytes, timeout_s, to, submit)

    def leader_address(self) -> str:
        """Where the leader is; "" where that is here, or not known."""
        leader = self._runtime.replica.leader
        if leader is None or leader == self._runtime.replica.node:
            return ""
        return self._addresses.get(leader, "")

    def member_addresses(self) -> tuple[str, ...]:
        """Where the members are, as far as this node knows."""
        return tuple(self._addresses.values())

    def _failure(self, failure: Failure) -> pb.Failure:
        leader = failure.leader or self._runtime.replica.leader or 0
        return pb.Failure(
            kind=_KINDS[failure.kind],
            message=failure.message,
            leader=leader,
            leader_address=self._addresses.get(leader, ""),
            retry_after_ms=failure.retry_after_ms,
            may_have_happened=failure.may_have_happened,
        )

    # Reads ----------------------------------------------------------------------------------

    def _read(
        self,
        identifier: int,
        read: pb.Read,
        timeout_s: float,
        to: Answers,
    ) -> None:
        if read.WhichOneof("query") is None:
            raise MalformedMessage("a read that asks for nothing")
        read = alone(read)
        if read.stale:
            to.answer(partial(self._result, identifier, read))
            return

        def serve() -> None:
            to.answer(partial(self._result, identifier, read))

        self._behind_barrier(identifier, read.ByteSize(), timeout_s, to, serve)

    def _behind_barrier(
        self,
        identifier: int,
        size_bytes: int,
        timeout_s: float,
        to: Answers,
        go_on: Callable[[], None],
    ) -> None:
        """``go_on`` with a request of ``size_bytes`` once its barrier has passed."""
        size_after = self._waiting_bytes + size_bytes
        if self._waiting >= MAX_WAITING or size_after > self._max_waiting_bytes:
            to.answer(partial(self._outcome, identifier, _TOO_MUCH_WAITS))
            return
        self._waiting += 1
        self._waiting_bytes = size_after

        def ends() -> None:
            self._waiting -= 1
            self._waiting_bytes -= size_bytes

        def goes_on() -> None:
            ends()
            go_on()

        def passed(failure: Failure | None) -> None:
            if failure is not None:
                ends()
                to.answer(partial(self._outcome, identifier, failure))
                return
            if not self._passed:
                asyncio.get_running_loop().call_soon(self._go_on)
            self._passed.append(goes_on)

        self._runtime.read(timeout_s, passed)

    def _go_on(self) -> None:
        """With those whose barrier has passed, which may be many at once: in turns of TURN_S."""
        until = time.monotonic() + TURN_S
        try:
            while self._passed:
                self._passed.popleft()()
                if time.monotonic() >= until:
                    break
        finally:
            if self._passed:
                asyncio.get_running_loop().call_soon(self._go_on)

    def _result(self, identifier: int, read: pb.Read) -> pb.Response:
        machine = self._runtime.replica.machine
        if least_bytes(machine, read) <= self.max_response_bytes:
            response = pb.Response(id=identifier, read=run_query(machine, read))
            if response.ByteSize() <= self.max_response_bytes:
                return response
        return _invalid(
            identifier,
            "the answer is larger than a message may be: fork fewer turns, or raise "
            "limits.message_bytes",
        )


_TOO_MUCH_WAITS = Failure(
    FailureKind.OVERLOADED,
    "too many reads and queries wait at this node: try again later",
    retry_after_ms=RETRY_AFTER_MS,
)

_TOO_LATE = Failure(FailureKind.NO_QUORUM, "its time was over before it was asked: ask again")

_OLD_CLIENT = "install the client of the version that the nodes run"


def _numbered(session: bytes) -> None:
    """Only logs of before have commands that carry a session's name alone."""
    if len(session) != SESSION_BYTES:
        raise MalformedMessage(
            f"a session has the {SESSION_BYTES} bytes that opening it answered, "
            f"and this one has {len(session)}: {_OLD_CLIENT}"
        )


def _bounded(what: str, size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise MalformedMessage(f"{what} of {size_bytes} bytes is over the limit of {limit_bytes}")


def _invalid(identifier: int, message: str) -> pb.Response:
    failure = pb.Failure(kind=pb.Failure.INVALID, message=message)
    return pb.Response(id=identifier, failure=failure)


class TooManyAtOnce(Exception):
    """One message holds more requests than a stream may have unanswered. One line."""


class PipelineStream:
    """One client's stream: reads while fewer than ``max_outstanding`` requests lack their written
    response, and writes everything that was answered in a turn of the loop as one message."""

    def __init__(self, requests: Requests, max_outstanding: int, max_message_bytes: int) -> None:
        self._requests = requests
        self._max_outstanding = max_outstanding
        self._max_message_bytes = max_message_bytes
        self._outstanding = 0  # admitted, and their responses not yet taken to be written
        self._answers: deque[MakeResponse] = deque()
        self._done: list[int] = []
        self._told: tuple[str, ...] = ()  # of the members
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False

    async def run(self, requests: Any, write: Callable[[pb.Responses], Any]) -> None:
        """Serve until the client closes its side and everything is answered. Raises
        TooManyAtOnce, and what ``requests`` raises."""
        reader = asyncio.create_task(self._read(requests))
        try:
            while not (self._ended and self._outstanding == 0):
                await self._wake.wait()
                self._wake.clear()
                if reader.done():
                    await reader  # where it failed, what it had admitted is answered to nobody
                while self._answers or self._done:
                    message = self._take()
                    self._room.set()
                    await write(message)
            await reader
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    def _take(self) -> pb.Responses:
        responses: list[pb.Response] = []
        size = 0
        until = time.monotonic() + TURN_S
        while self._answers and (not responses or time.monotonic() < until):
            response = self._answers.popleft()()
            size += response.ByteSize() + 8
            if size > self._max_message_bytes and responses:
                self._answers.appendleft(partial(_made, response))
                break
            responses.append(response)
        done, self._done = self._done, []
        self._outstanding -= len(responses) + len(done)
        leader_address = self._requests.leader_address()
        message = pb.Responses(responses=responses, done=done, leader_address=leader_address)
        if (members := self._requests.member_addresses()) != self._told:
            self._told = members
            message.members.extend(members)
        return message

    async def _read(self, requests: Any) -> None:
        try:
            async for message in requests:
                if len(message.requests) > self._max_outstanding:
                    raise TooManyAtOnce(
                        f"{len(message.requests)} requests in a message: the most is "
                        f"{self._max_outstanding}"
                    )
                for request in message.requests:
                    while self._outstanding >= self._max_outstanding:
                        self._room.clear()
                        await self._room.wait()
                    self._outstanding += 1
                    self._requests.admit(request, self)
        finally:
            self._ended = True
            self._wake.set()

    def done(self, identifier: int) -> None:
        self._done.append(identifier)
        self._wake.set()

    def answer(self, make: MakeResponse) -> None:
        self._answers.append(make)
        self._wake.set()


def _made(response: pb.Response) -> pb.Response:
    return response
