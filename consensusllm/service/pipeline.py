"""The Pipeline of one client: many requests in a message, many responses in a message.

No task and no timer is made for a request. A command goes into the log as the bytes in which it
came; it is decoded here once, to refuse what is malformed before it is proposed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from consensusllm.conversations.commands import (
    Choose,
    CompareAndSwap,
    CreateConversation,
    Delete,
    DeleteKey,
    Fork,
    ImportTurn,
    OpenSession,
    Operation,
    PlannedCandidate,
    Put,
    Rename,
    Reply,
    RetryTurn,
    SessionCommand,
    SubmitQuery,
)
from consensusllm.replica.outcomes import Failure, FailureKind
from consensusllm.replica.runtime import Runtime
from consensusllm.wire.commands import (
    decode_command,
    encode_command,
    options_from_proto,
    reply_to_proto,
)
from consensusllm.wire.errors import MalformedMessage
from consensusllm.wire.generated import client_pb2 as pb

from .reads import run_query

_CLIENT_OPERATIONS: frozenset[type[Operation]] = frozenset(
    {
        OpenSession,
        CreateConversation,
        Choose,
        Fork,
        Rename,
        Delete,
        ImportTurn,
        Put,
        CompareAndSwap,
        DeleteKey,
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


class Requests:
    """Admits the requests of clients of this node and answers each exactly once."""

    def __init__(
        self,
        runtime: Runtime,
        addresses: dict[int, str],
        *,
        default_timeout_s: float,
        default_deadline_ms: int,
        max_question_bytes: int,
        max_value_bytes: int,
        max_command_bytes: int,
        max_response_bytes: int,
    ) -> None:
        self._runtime = runtime
        self._addresses = addresses
        self._default_timeout_s = default_timeout_s
        self._default_deadline_ms = default_deadline_ms
        self._max_question_bytes = max_question_bytes
        self._max_value_bytes = max_value_bytes
        self._max_command_bytes = max_command_bytes
        self._max_response_bytes = max_response_bytes

    def admit(self, request: pb.Request, answer: Callable[[pb.Response], None]) -> None:
        """Begin ``request``; ``answer`` is called once, now or later."""
        identifier = request.id
        timeout_s = min(request.timeout_ms / 1000 or self._default_timeout_s, MAX_TIMEOUT_S)
        body = request.WhichOneof("body")
        try:
            if body == "command":
                self._command(identifier, request.command, timeout_s, answer)
            elif body == "ask":
                self._ask(identifier, request.ask, timeout_s, answer)
            elif body == "read":
                self._read(identifier, request.read, timeout_s, answer)
            else:
                raise MalformedMessage("an empty request")
        except MalformedMessage as error:
            answer(_invalid(identifier, str(error)))

    # Commands -------------------------------------------------------------------------------

    def _command(
        self,
        identifier: int,
        command: bytes,
        timeout_s: float,
        answer: Callable[[pb.Response], None],
    ) -> None:
        _bounded("a command", len(command), self._max_command_bytes)
        decoded = decode_command(command)
        if type(decoded.operation) not in _CLIENT_OPERATIONS:
            raise MalformedMessage(
                f"{type(decoded.operation).__name__} is for the nodes themselves"
            )
        value = getattr(decoded.operation, "value", getattr(decoded.operation, "new", None))
        _bounded("a value", len(value or b""), self._max_value_bytes)
        self._submit(identifier, command, decoded, timeout_s, answer)

    def _submit(
        self,
        identifier: int,
        command: bytes,
        decoded: SessionCommand,
        timeout_s: float,
        answer: Callable[[pb.Response], None],
    ) -> None:
        def resolve(outcome: Reply | Failure) -> None:
            if isinstance(outcome, Failure):
                answer(pb.Response(id=identifier, failure=self._failure(outcome)))
            else:
                answer(pb.Response(id=identifier, reply=reply_to_proto(outcome)))

        self._runtime.submit(command, decoded, timeout_s, resolve)

    def _ask(
        self,
        identifier: int,
        ask: pb.Ask,
        timeout_s: float,
        answer: Callable[[pb.Response], None],
    ) -> None:
        """Complete a query with its plan: one candidate for each node that is alive."""
        _bounded("a question", len(ask.question.encode()), self._max_question_bytes)
        replica = self._runtime.replica
        nodes = replica.paxos.live or replica.config.paxos.members
        plan = tuple(PlannedCandidate(node, node) for node in nodes)
        deadline_ms = ask.deadline_ms or self._default_deadline_ms
        operation: Operation
        if ask.retry:
            operation = RetryTurn(ask.conversation, ask.turn, plan, deadline_ms)
        else:
            operation = SubmitQuery(
                ask.conversation,
                ask.question,
                plan,
                min(ask.close_after, len(plan)),
                deadline_ms,
                options_from_proto(ask.options),
            )
        if len(ask.session) != 16:
            raise MalformedMessage("a session has 16 bytes")
        decoded = SessionCommand(ask.session, ask.sequence, ask.acknowledged, operation)
        self._submit(identifier, encode_command(decoded), decoded, timeout_s, answer)

    def leader_address(self) -> str:
        """Where the leader is; "" where that is here, or not known."""
        leader = self._runtime.replica.leader
        if leader is None or leader == self._runtime.replica.node:
            return ""
        return self._addresses.get(leader, "")

    def _failure(self, failure: Failure) -> pb.Failure:
        leader = failure.leader or self._runtime.replica.leader or 0
        return pb.Failure(
            kind=_KINDS[failure.kind],
            message=failure.message,
            leader=leader,
            leader_address=self._addresses.get(leader, ""),
            retry_after_ms=RETRY_AFTER_MS if failure.kind is FailureKind.OVERLOADED else 0,
        )

    # Reads ----------------------------------------------------------------------------------

    def _read(
        self,
        identifier: int,
        read: pb.Read,
        timeout_s: float,
        answer: Callable[[pb.Response], None],
    ) -> None:
        if read.WhichOneof("query") is None:
            raise MalformedMessage("a read that asks for nothing")

        def serve(failure: Failure | None) -> None:
            if failure is not None:
                answer(pb.Response(id=identifier, failure=self._failure(failure)))
                return
            result = run_query(self._runtime.replica.machine, read)
            response = pb.Response(id=identifier, read=result)
            if response.ByteSize() > self._max_response_bytes:
                response = _invalid(
                    identifier, "the answer is larger than a message may be: fork fewer turns"
                )
            answer(response)

        if read.stale:
            serve(None)
        else:
            self._runtime.read(timeout_s, serve)


def _bounded(what: str, size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise MalformedMessage(f"{what} of {size_bytes} bytes is over the limit of {limit_bytes}")


def _invalid(identifier: int, message: str) -> pb.Response:
    failure = pb.Failure(kind=pb.Failure.INVALID, message=message)
    return pb.Response(id=identifier, failure=failure)


class PipelineStream:
    """One client's stream: reads while fewer than ``max_outstanding`` requests are unanswered, and
    writes everything that was answered in a turn of the loop as one message."""

    def __init__(self, requests: Requests, max_outstanding: int, max_message_bytes: int) -> None:
        self._requests = requests
        self._max_outstanding = max_outstanding
        self._max_message_bytes = max_message_bytes
        self._outstanding = 0
        self._answers: list[pb.Response] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False

    async def run(self, requests: Any, write: Callable[[pb.Responses], Any]) -> None:
        """Serve until the client closes its side and everything is answered."""
        reader = asyncio.create_task(self._read(requests))
        try:
            while not (self._ended and self._outstanding == 0 and not self._answers):
                await self._wake.wait()
                self._wake.clear()
                while self._answers:
                    await write(self._take())
            await reader
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    def _take(self) -> pb.Responses:
        size = 0
        for count, response in enumerate(self._answers):
            size += response.ByteSize() + 8
            if size > self._max_message_bytes and count:
                break
        else:
            count = len(self._answers)
        message = pb.Responses(
            responses=self._answers[:count], leader_address=self._requests.leader_address()
        )
        del self._answers[:count]
        return message

    async def _read(self, requests: Any) -> None:
        try:
            async for message in requests:
                for request in message.requests:
                    self._outstanding += 1
                    self._requests.admit(request, self._answer)
                while self._outstanding >= self._max_outstanding:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._ended = True
            self._wake.set()

    def _answer(self, response: pb.Response) -> None:
        self._outstanding -= 1
        self._answers.append(response)
        self._wake.set()
        self._room.set()
