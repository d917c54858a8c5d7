"""Fake nodes over real gRPC that share one real state machine; faults are given to them in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest

from consensusllm.client import calls
from consensusllm.conversations import (
    Limits,
    Machine,
    OpenSession,
    PlannedCandidate,
    RecordCandidate,
    Reply,
    RetryTurn,
    SessionCommand,
    SessionOpened,
    SubmitQuery,
)
from consensusllm.wire.commands import decode_command, reply_to_proto
from consensusllm.wire.generated import client_pb2, client_pb2_grpc
from consensusllm.wire.records import (
    candidate_to_proto,
    conversation_to_proto,
    options_from_proto,
    summary_to_proto,
    turn_to_proto,
)

Failure = client_pb2.Failure


@dataclass
class Fault:
    """What becomes of one request, ``applied`` or not: the stream is cut ("cut"), nothing is ever
    said ("silent"), or a Failure of this kind is answered."""

    fate: str | int
    applied: bool = False
    leader_address: str = ""
    retry_after_ms: int = 0


class Cluster:
    """The state that all fake nodes share, and which of them leads."""

    def __init__(self, limits: Limits) -> None:
        self.machine = Machine(limits)
        self.nodes: list[Node] = []
        self.leader = 1
        self.commands: list[SessionCommand] = []
        self._internal = 0
        self._session = b"internal-session"
        self.on_turn: Callable[[str, int, tuple[int, ...]], None] | None = None

    def apply(self, command: SessionCommand) -> Reply:
        self.commands.append(command)
        slot = self.machine.applied_slot + 1
        return self.machine.apply(slot, 1_000_000 + slot, [command])[0]

    def record(
        self, conversation: str, turn: int, candidate: int, text: str, error: str = ""
    ) -> None:
        """End a candidate, as its node would; its session is never bounded."""
        found = self.machine.turn(conversation, turn)
        assert found is not None
        held = found.candidate(candidate)
        assert held is not None
        record = RecordCandidate(
            conversation, turn, candidate, held.attempt, text, f"model-{candidate}", "stop",
            error=error,
        )  # fmt: skip
        self.internal(record)

    def internal(self, operation: Any) -> Reply:
        """Apply a command of the nodes' own."""
        if self._internal == 0:
            opened = self.apply(SessionCommand(self._session, 0, 0, OpenSession()))
            assert isinstance(opened, SessionOpened)
            self._session = opened.session
        self._internal += 1
        return self.apply(SessionCommand(self._session, self._internal, self._internal, operation))

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.nodes]


@dataclass
class Node(client_pb2_grpc.ClientServicer):
    """One fake node. ``faults`` are used up, one a request; ``always`` is for every request."""

    cluster: Cluster
    number: int
    token: str | None = None
    address: str = ""
    faults: deque[Fault] = field(default_factory=deque)
    always: Fault | None = None
    faulty: Callable[[SessionCommand | None], bool] = lambda command: True
    """Which requests faults are for, by their command; the opening of a session is spared."""
    messages: list[list[client_pb2.Request]] = field(default_factory=list)
    streams: int = 0
    watches: list[client_pb2.WatchRequest] = field(default_factory=list)
    serve_watch: Callable[[client_pb2.WatchRequest, Any], AsyncIterator[Any]] | None = None
    change: Callable[[client_pb2.ChangeRequest, Any], Awaitable[Any]] | None = None
    knows_leader: bool = True
    faced: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a request has met a fault."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    server: grpc.aio.Server | None = None
    options: tuple[tuple[str, int], ...] = ()

    async def start(self) -> None:
        self.gate.set()
        self.server = grpc.aio.server(options=(("grpc.so_reuseport", 0), *self.options))
        client_pb2_grpc.add_ClientServicer_to_server(self, self.server)
        port = self.server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self.server.start()

    async def die(self) -> None:
        if self.server is not None:
            server, self.server = self.server, None
            await server.stop(0)

    @property
    def requests(self) -> list[client_pb2.Request]:
        return [request for message in self.messages for request in message]

    def fault(self, fate: str | int, *, times: int = 1, **details: Any) -> None:
        """The next request (or ``times`` of them) meets this fault."""
        self.faults.extend([Fault(fate, **details)] * times)

    def always_fault(self, fate: str | int, **details: Any) -> None:
        """Every request from now on meets this fault."""
        self.always = Fault(fate, **details)

    async def _authenticate(self, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        if self.token is not None and metadata.get("authorization") != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is wrong")

    async def Pipeline(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        await self._authenticate(context)
        self.streams += 1
        async for message in requests:
            self.messages.append(list(message.requests))
            await self.gate.wait()
            responses = []
            for request in message.requests:
                fault = None
                if self._meets_faults(request):
                    fault = self.faults.popleft() if self.faults else self.always
                    if fault is not None:
                        self.faced.set()
                if fault is None and self.cluster.leader != self.number:
                    leader = self.cluster.nodes[self.cluster.leader - 1]
                    fault = Fault(Failure.NOT_LEADER, leader_address=leader.address)
                response = None if fault and not fault.applied else self._respond(request)
                if fault is None:
                    responses.append(response)
                elif fault.fate == "cut":
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream was cut")
                elif fault.fate != "silent":
                    failure = Failure(
                        kind=fault.fate,
                        leader_address=fault.leader_address,
                        retry_after_ms=fault.retry_after_ms,
                    )
                    responses.append(client_pb2.Response(id=request.id, failure=failure))
            if responses:
                done = [each.id for each in responses if each.reply.WhichOneof("reply") == "done"]
                others = [each for each in responses if each.id not in done]
                yield client_pb2.Responses(responses=others, done=done)

    def _meets_faults(self, request: client_pb2.Request) -> bool:
        command = decode_command(request.command) if request.command else None
        opening = command is not None and isinstance(command.operation, OpenSession)
        return not opening and self.faulty(command)

    def _respond(self, request: client_pb2.Request) -> client_pb2.Response:
        body = request.WhichOneof("body")
        if body == "read":
            return client_pb2.Response(id=request.id, read=self._read(request.read))
        command = decode_command(request.command) if body == "command" else self._plan(request.ask)
        reply = self.cluster.apply(command)
        if self.cluster.on_turn and hasattr(reply, "candidates"):
            self.cluster.on_turn(command.operation.conversation, reply.turn, reply.candidates)
        return client_pb2.Response(id=request.id, reply=reply_to_proto(reply))

    def _plan(self, ask: client_pb2.Ask) -> SessionCommand:
        plan = tuple(
            PlannedCandidate(node.number, node.number, f"model-{node.number}")
            for node in self.cluster.nodes
        )
        deadline_ms = ask.deadline_ms or 120_000
        operation: Any = SubmitQuery(
            ask.conversation, ask.question, plan, ask.close_after, deadline_ms,
            options_from_proto(ask.options),
        )  # fmt: skip
        if ask.retry:
            operation = RetryTurn(ask.conversation, ask.turn, plan, deadline_ms)
        return SessionCommand(ask.session, ask.sequence, ask.acknowledged, operation)

    def _read(self, read: client_pb2.Read) -> client_pb2.ReadReply:
        machine = self.cluster.machine
        reply = client_pb2.ReadReply(applied_slot=machine.applied_slot)
        kind = read.WhichOneof("query")
        page = 2  # small, so that paging is always needed
        if kind == "key":
            value = machine.get(read.key)
            if value is None:
                reply.not_found = True
            else:
                reply.key_value.value = value
        elif kind == "conversation":
            found = machine.conversation(read.conversation)
            if found is None:
                reply.not_found = True
            else:
                reply.conversation.CopyFrom(conversation_to_proto(found))
        elif kind == "list":
            limit = min(read.list.limit or page, page)
            summaries = machine.summaries(read.list.after, limit + 1)
            reply.list.conversations.extend(map(summary_to_proto, summaries[:limit]))
            reply.list.more = len(summaries) > limit
        else:
            limit = min(read.keys.limit or page, page)
            keys = machine.keys(read.keys.prefix, read.keys.after, limit + 1)
            reply.keys.keys.extend(keys[:limit])
            reply.keys.more = len(keys) > limit
        return reply

    async def Watch(self, request: client_pb2.WatchRequest, context: Any) -> AsyncIterator[Any]:
        await self._authenticate(context)
        self.watches.append(request)
        if self.serve_watch is not None:
            async for event in self.serve_watch(request, context):
                yield event
            return
        while True:
            turn = self.cluster.machine.turn(request.conversation, request.turn)
            if turn is None:
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such turn")
                return
            if turn.closed:
                break
            await asyncio.sleep(0.01)
        for candidate in turn.candidates:
            yield client_pb2.WatchEvent(candidate_done=candidate_to_proto(candidate))
        yield client_pb2.WatchEvent(turn_closed=turn_to_proto(turn))

    async def Change(self, request: client_pb2.ChangeRequest, context: Any) -> Any:
        assert self.change is not None, "nothing is said of changes"
        return await self.change(request, context)

    async def GetStatus(self, request: client_pb2.StatusRequest, context: Any) -> client_pb2.Status:
        await self._authenticate(context)
        return client_pb2.Status(
            node=self.number,
            role="leader" if self.cluster.leader == self.number else "follower",
            leader=self.cluster.leader if self.knows_leader else 0,
            members=[client_pb2.MemberStatus(node=1, address="a:1", live=True)],
            models=[client_pb2.ModelStatus(node=1, provider="builtin", model="m")],
        )


StartCluster = Callable[..., Awaitable[Cluster]]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests need not wait for the back-off to grow."""
    monkeypatch.setattr(calls, "PAUSE_FIRST_S", 0.002)
    monkeypatch.setattr(calls, "PAUSE_MAX_S", 0.02)


@pytest.fixture
async def start_cluster() -> AsyncIterator[StartCluster]:
    started: list[Node] = []

    async def start(
        size: int = 1, *, token: str | None = None, limits: Limits | None = None
    ) -> Cluster:
        cluster = Cluster(limits or Limits())
        for number in range(1, size + 1):
            node = Node(cluster, number, token)
            await node.start()
            started.append(node)
            cluster.nodes.append(node)
        return cluster

    yield start
    for node in started:
        node.gate.set()
        await node.die()
