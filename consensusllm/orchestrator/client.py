"""The client of the service Faults: the fault commands, the trace, and the launcher's side."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import TypeVar

import grpc.aio
import structlog

from ..transport import race, stream_options
from ..wire.generated import orchestrator_pb2 as pb
from ..wire.generated import orchestrator_pb2_grpc
from .launchers import ORDER_TIMEOUT_S

CALL_TIMEOUT_S = 5.0
RECONNECT_S = 0.2

log = structlog.get_logger(__name__)

Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Order:
    """Start ``node``'s process, or kill it. ``join``: it is new, and listens at that address;
    ``retire``: it is killed for good, or, where ``reusable``, until it is installed anew."""

    node: int
    start: bool
    join: str = ""
    retire: bool = False
    reusable: bool = False


ProcessHandler = Callable[[Order], Awaitable[None]]
"""Carries an order out; raises ``ProcessFailed``."""


class FaultRefused(Exception):
    """A command was refused or did not get through. The message is one line that says why."""


class InvalidFault(FaultRefused):
    """What was ordered makes no sense, whatever the cluster does."""


class NoOrchestrator(FaultRefused):
    """Nobody answers at the orchestrator's address; a cluster of direct links may have none."""


class ProcessFailed(Exception):
    """Raised by a process handler: the order could not be carried out, and why in one line."""


@dataclass(frozen=True, slots=True)
class FaultList:
    """``faults`` in the words of the commands; which nodes are attached, and which held down; from
    which node to which nothing passes; and how many messages had which fate (`Relay.fates`)."""

    faults: list[str]
    attached: list[int]
    down: list[int]
    cut: list[tuple[int, int]]
    fates: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One message that passed the orchestrator, or did not: ``fate`` says which.

    ``time_ms`` is the orchestrator's clock (since 1970); ``size_bytes`` is the body's size;
    ``skipped`` counts the events before this one that came too fast for this reader.
    """

    time_ms: int
    src: int
    dst: int
    kind: str
    size_bytes: int
    fate: str
    summary: str
    skipped: int


class FaultsClient:
    """Commands to the orchestrator at ``address``; make it inside a running event loop.

    Each command returns the orchestrator's answer, one line, or raises ``FaultRefused``. It is
    refused where the orchestrator is of another cluster than ``cluster_id``, unless that is empty.
    """

    def __init__(self, address: str, token: str | None = None, *, cluster_id: str = "") -> None:
        self.cluster_id = cluster_id
        self._address = address
        self._channel = grpc.aio.insecure_channel(address, options=stream_options())
        self._stub = orchestrator_pb2_grpc.FaultsStub(self._channel)  # type: ignore[no-untyped-call]
        self._metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()

    async def __aenter__(self) -> FaultsClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        await self._channel.close()

    async def fail_node(self, node: int) -> str:
        return await self._inject(fail_node=_checked(pb.FailNode, node=node))

    async def fix_node(self, node: int) -> str:
        return await self._inject(fix_node=_checked(pb.FixNode, node=node))

    async def install_node(self, node: int, address: str) -> str:
        """A launcher starts a new node, which listens at ``address`` and waits to be added."""
        install = _checked(pb.InstallNode, node=node, address=address)
        return await self._inject(install_node=install)

    async def retire_node(self, node: int, *, reusable: bool = False) -> str:
        """The launcher of a node that is no member any more ends its process for good; where
        ``reusable`` it never became one, and may be installed again."""
        retire = _checked(pb.RetireNode, node=node, reusable=reusable)
        return await self._inject(retire_node=retire)

    async def fail_link(self, a: int, b: int, one_way: bool = False) -> str:
        return await self._inject(fail_link=_checked(pb.LinkFault, a=a, b=b, one_way=one_way))

    async def fix_link(self, a: int, b: int, one_way: bool = False) -> str:
        return await self._inject(fix_link=_checked(pb.LinkFault, a=a, b=b, one_way=one_way))

    async def partition(self, groups: Sequence[Sequence[int]]) -> str:
        nodes = [_checked(pb.Group, nodes=group) for group in groups]
        return await self._inject(partition=pb.Partition(groups=nodes))

    async def heal(self) -> str:
        return await self._inject(heal=pb.Heal())

    async def delay(self, a: int, b: int, delay_ms: float, jitter_ms: float = 0.0) -> str:
        fault = _checked(pb.Delay, a=a, b=b, delay_ms=delay_ms, jitter_ms=jitter_ms)
        return await self._inject(delay=fault)

    async def drop(self, a: int, b: int, percent: float) -> str:
        return await self._inject(drop=_checked(pb.Percent, a=a, b=b, percent=percent))

    async def duplicate(self, a: int, b: int, percent: float) -> str:
        return await self._inject(duplicate=_checked(pb.Percent, a=a, b=b, percent=percent))

    async def reorder(self, a: int, b: int, percent: float) -> str:
        return await self._inject(reorder=_checked(pb.Percent, a=a, b=b, percent=percent))

    async def isolate(self, node: int) -> str:
        return await self._inject(isolate=_checked(pb.Isolate, node=node))

    async def faults(self) -> FaultList:
        """What is injected now."""
        try:
            reply = await self._stub.List(
                pb.ListFaultsRequest(), timeout=CALL_TIMEOUT_S, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            raise self._refused(error) from None
        cut = [(link.src, link.dst) for link in reply.cut]
        return FaultList(
            list(reply.faults), list(reply.attached), list(reply.down), cut, dict(reply.fates)
        )

    async def trace(self, kinds: Iterable[str] = ()) -> AsyncIterator[TraceEvent]:
        """Messages of ``kinds`` (none: all) as they pass, until the caller stops reading.

        Ends when the orchestrator stops; raises ``FaultRefused`` when it cannot be reached.
        """
        call: grpc.aio.UnaryStreamCall[pb.TraceRequest, pb.TraceEvent]
        call = self._stub.Trace(pb.TraceRequest(kinds=kinds), metadata=self._metadata)
        try:
            while True:
                event = await call.read()
                if isinstance(event, pb.TraceEvent):
                    yield TraceEvent(
                        event.time_ms,
                        event.src,
                        event.dst,
                        event.kind,
                        event.size_bytes,
                        event.fate,
                        event.body_summary,
                        event.skipped,
                    )
                else:
                    return
        except grpc.aio.AioRpcError as error:
            raise self._refused(error) from None
        finally:
            call.cancel()

    async def processes(
        self,
        nodes: Collection[int],
        handler: ProcessHandler,
        *,
        on_attached: Callable[[], None] = lambda: None,
    ) -> None:
        """Carry out orders for ``nodes`` of the moment, one after the other, until cancelled.

        ``on_attached`` is called each time that the orchestrator has accepted this launcher. The
        stream is opened again when it is lost. Raises ``FaultRefused`` when it is refused for good.
        """
        while True:
            try:
                await self._hold_processes(list(nodes), handler, on_attached)
            except grpc.aio.AioRpcError as error:
                if error.code() in (
                    grpc.StatusCode.UNAUTHENTICATED,
                    grpc.StatusCode.INVALID_ARGUMENT,
                    grpc.StatusCode.UNIMPLEMENTED,
                ):
                    raise self._refused(error) from None
                log.warning("launcher's stream lost", why=str(self._refused(error)))
            await asyncio.sleep(RECONNECT_S)

    async def _hold_processes(
        self, nodes: list[int], handler: ProcessHandler, on_attached: Callable[[], None]
    ) -> None:
        call: grpc.aio.StreamStreamCall[pb.ProcessReport, pb.ProcessOrder]
        call = self._stub.Processes(metadata=self._metadata, wait_for_ready=True)

        async def carry_out() -> None:
            await call.write(pb.ProcessReport(nodes=nodes))
            while isinstance(order := await call.read(), pb.ProcessOrder):
                if order.number == 0:
                    on_attached()
                    continue
                error = ""
                try:
                    await handler(
                        Order(order.node, order.start, order.join, order.retire, order.reusable)
                    )
                except (ProcessFailed, OSError) as failure:
                    error = str(failure) or type(failure).__name__
                await call.write(pb.ProcessReport(number=order.number, error=error))

        try:
            await race(carry_out())
        except asyncio.InvalidStateError:
            return  # the stream ended before the report; whoever asked was told so
        finally:
            call.cancel()

    async def _inject(self, **fault: object) -> str:
        request = pb.FaultRequest(cluster_id=self.cluster_id, **fault)  # type: ignore[arg-type]
        try:
            reply = await self._stub.Inject(
                request, timeout=ORDER_TIMEOUT_S + CALL_TIMEOUT_S, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            raise self._refused(error) from None
        return str(reply.message)

    def _refused(self, error: grpc.aio.AioRpcError) -> FaultRefused:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return NoOrchestrator(
                f"no orchestrator answers at {self._address}: start the cluster, or correct the "
                "address"
            )
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return FaultRefused(f"the orchestrator at {self._address} did not answer in time")
        said = (error.details() or error.code().name).splitlines()[0]
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidFault(said)
        return FaultRefused(said)


def _checked(make: Callable[..., Message], **fields: object) -> Message:
    """The message, or a line instead of protobuf's words for a number that is no node id."""
    try:
        return make(**fields)
    except ValueError:
        raise InvalidFault("a node is named by its number, from 1 on") from None
