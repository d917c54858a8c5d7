"""The orchestrator's server: the service Orchestrator around a relay, and what comes with it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Any

import grpc.aio
import structlog
from async_timeout import timeout

from ..transport import (
    BATCH_BYTES,
    MAX_MESSAGE_BYTES,
    Health,
    QueueLimits,
    StreamRefused,
    add_standard_services,
    listen,
    make_server,
    race,
    receive,
)
from ..wire.generated import orchestrator_pb2, orchestrator_pb2_grpc
from .administration import FaultsServicer
from .faults import BadFault, FaultTable
from .launchers import Launchers
from .relay import Attached, Forged, Relay, Summarise

HELLO_TIMEOUT_S = 10.0
STOP_GRACE_S = 1.0
TOLD_MAX = 64
"""Refusals that are logged, each once: who is refused comes back twice a second."""

log = structlog.get_logger(__name__)

NodeContext = grpc.aio.ServicerContext[orchestrator_pb2.FromNode, orchestrator_pb2.ToNode]


class OrchestratorServicer(orchestrator_pb2_grpc.OrchestratorServicer):
    """One stream a node: its hello, then batches of envelopes both ways."""

    def __init__(self, relay: Relay, max_message_bytes: int) -> None:
        self._relay = relay
        self._batch_bytes = min(BATCH_BYTES, max_message_bytes)
        self._told: set[str] = set()

    async def Attach(self, _requests: Any, context: NodeContext) -> None:
        try:
            hello = await self._hello(context)
            place = self._relay.attach(hello.node, hello.address)
            log.info("node attached", node=place.node, address=place.address)
            try:
                await context.write(orchestrator_pb2.ToNode())
                await race(self._read(place, context), self._write(place, context))
            finally:
                self._relay.detach(place)
                log.info(
                    "node detached", node=place.node, dropped=place.outbox.dropped,
                    why=place.ended_because,
                )  # fmt: skip
            if place.ended_because:
                code = grpc.StatusCode.ABORTED if place.replaced else grpc.StatusCode.UNAVAILABLE
                await context.abort(code, place.ended_because)
        except StreamRefused as refused:
            why = str(refused)
            if why not in self._told and len(self._told) < TOLD_MAX:
                self._told.add(why)
                log.warning("refused a stream", peer=context.peer(), why=why)
            await context.abort(refused.code, str(refused))

    async def _hello(self, context: NodeContext) -> orchestrator_pb2.Hello:
        try:
            async with timeout(HELLO_TIMEOUT_S):
                message: orchestrator_pb2.FromNode | None = await receive(context)
        except asyncio.TimeoutError:
            raise StreamRefused(grpc.StatusCode.DEADLINE_EXCEEDED, "no hello came") from None
        if message is None or message.WhichOneof("message") != "hello":
            raise StreamRefused(
                grpc.StatusCode.INVALID_ARGUMENT, "the first message of a stream is the hello"
            )
        hello, relay = message.hello, self._relay
        if hello.cluster_id != relay.cluster_id:
            raise StreamRefused(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"node {hello.node} is of cluster {hello.cluster_id!r:.80}, "
                f"this orchestrator serves cluster {relay.cluster_id!r}: "
                "correct the cluster id or the address",
            )
        if not 1 <= hello.node < 1 << 31:
            raise StreamRefused(
                grpc.StatusCode.INVALID_ARGUMENT, f"{hello.node} is no node: ids begin at 1"
            )
        try:
            relay.faults.admit(hello.node)  # members may join; the nodes know who is one
        except BadFault as error:
            raise StreamRefused(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)) from None
        return hello

    async def _read(self, place: Attached, context: NodeContext) -> None:
        while (message := await receive(context)) is not None:
            if message.WhichOneof("message") != "envelopes":
                raise StreamRefused(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "after the hello a stream carries envelopes and nothing else",
                )
            try:
                self._relay.take_in(place, message.envelopes.envelopes)
            except Forged as forged:
                raise StreamRefused(grpc.StatusCode.PERMISSION_DENIED, str(forged)) from None

    async def _write(self, place: Attached, context: NodeContext) -> None:
        while (batch := await place.outbox.take(self._batch_bytes)) is not None:
            message = orchestrator_pb2.ToNode()
            message.envelopes.envelopes.extend(batch)
            await context.write(message)


class RunningServer:
    """A server that listens on ``address`` until ``stop``."""

    def __init__(
        self,
        server: grpc.aio.Server,
        address: str,
        health: Health,
        launchers: Launchers,
        relay: Relay | None,
    ) -> None:
        self.address = address
        self._server = server
        self._health = health
        self._launchers = launchers
        self._relay = relay

    async def stop(self) -> None:
        """End every stream with a word, then the server; at most about a second."""
        await self._health.stopping()
        if self._relay is not None:
            self._relay.close()
        self._launchers.close()
        await self._server.stop(STOP_GRACE_S)

    async def wait(self) -> None:
        """Until the server has stopped."""
        await self._server.wait_for_termination()


async def serve_orchestrator(
    address: str,
    cluster_id: str,
    members: Iterable[int],
    token: str | None = None,
    *,
    summarise: Summarise = lambda kind, body: "",
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    rng: random.Random | None = None,
) -> RunningServer:
    """Serve relay and fault commands on ``address`` (``host:port``, port 0 for any free one).

    ``token`` guards the fault commands (None: open). ``max_message_bytes`` also says what waits for
    one node, and what a delay holds back in one direction of a link. Raises ``CannotListen``.
    """
    table = FaultTable(members, rng or random.Random())
    limits = QueueLimits.for_messages(max_message_bytes)
    relay = Relay(cluster_id, table, limits=limits, summarise=summarise)
    return await _serve(address, table, relay, token, max_message_bytes, cluster_id)


async def serve_faults(
    address: str, members: Iterable[int], token: str | None = None, *, cluster_id: str = ""
) -> RunningServer:
    """Serve fault commands for nodes that are linked directly: only processes can fail. Those for
    another cluster than ``cluster_id`` are refused, unless it is empty.

    Raises ``CannotListen``.
    """
    table = FaultTable(members, random.Random())
    return await _serve(address, table, None, token, MAX_MESSAGE_BYTES, cluster_id)


async def _serve(
    address: str,
    table: FaultTable,
    relay: Relay | None,
    token: str | None,
    max_message_bytes: int,
    cluster_id: str,
) -> RunningServer:
    server = make_server(max_message_bytes)
    launchers = Launchers()
    services = orchestrator_pb2.DESCRIPTOR.services_by_name
    names = [services["Faults"].full_name]
    orchestrator_pb2_grpc.add_FaultsServicer_to_server(  # type: ignore[no-untyped-call]
        FaultsServicer(table, launchers, relay, token, cluster_id=cluster_id), server
    )
    if relay is not None:
        names.append(services["Orchestrator"].full_name)
        orchestrator_pb2_grpc.add_OrchestratorServicer_to_server(  # type: ignore[no-untyped-call]
            OrchestratorServicer(relay, max_message_bytes), server
        )
    health = await add_standard_services(server, names)
    bound = listen(server, address)
    await server.start()
    log.info("serving", address=bound, services=names)
    return RunningServer(server, bound, health, launchers, relay)
