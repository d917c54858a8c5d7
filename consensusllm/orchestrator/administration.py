"""The gRPC service Faults: injects and lists faults, traces messages, passes orders to launchers.

It is an administration interface: with a token configured, every call must carry it. Without a
relay (nodes linked directly) it still kills and starts nodes, and refuses faults of links.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import grpc.aio
import structlog
from async_timeout import timeout

from ..transport import StreamRefused, race, receive
from ..wire.generated import orchestrator_pb2, orchestrator_pb2_grpc
from .faults import BadFault, FaultTable
from .launchers import ORDER_TIMEOUT_S, Launcher, Launchers, ProcessRefused
from .relay import Relay, TooManyReaders

NO_RELAY = "nodes are linked directly: start the cluster without --direct to use link faults"

log = structlog.get_logger(__name__)


class FaultsServicer(orchestrator_pb2_grpc.FaultsServicer):
    """``token`` None leaves the service open; ``relay`` None means nodes are linked directly.

    A fault that is meant for another cluster than ``cluster_id`` is refused. Where either side has
    no name, nothing is compared: who gives none, as an older client or a REPL that no node answers,
    has chosen the orchestrator by its address alone, and must be able to start nodes that are all
    dead. What cannot be taken back, to retire a node, the launcher's own nodes are asked about.
    """

    def __init__(
        self,
        table: FaultTable,
        launchers: Launchers,
        relay: Relay | None,
        token: str | None,
        order_timeout_s: float = ORDER_TIMEOUT_S,
        *,
        cluster_id: str = "",
    ) -> None:
        self._table = table
        self._launchers = launchers
        self._relay = relay
        self._token = token
        self._order_timeout_s = order_timeout_s
        self._cluster_id = cluster_id
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def Inject(
        self,
        request: orchestrator_pb2.FaultRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> orchestrator_pb2.FaultReply:
        await self._authorise(context)
        mine, meant = self._cluster_id, request.cluster_id
        if mine and meant and mine != meant:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"this orchestrator is of cluster {mine!r}, not {meant!r:.80}: correct its address",
            )
        try:
            message = await self._inject(request)
        except BadFault as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except (ProcessRefused, _NoRelay) as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        log.info("fault command", fault=request.WhichOneof("fault"), answer=message)
        return orchestrator_pb2.FaultReply(message=message)

    async def List(
        self,
        request: orchestrator_pb2.ListFaultsRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> orchestrator_pb2.ListFaultsReply:
        await self._authorise(context)
        return orchestrator_pb2.ListFaultsReply(
            faults=self._table.describe(),
            attached=self._relay.attached() if self._relay else (),
            down=self._table.down,
            cut=[orchestrator_pb2.Cut(src=src, dst=dst) for src, dst in self._table.cut],
            fates=self._relay.fates if self._relay else {},
        )

    async def Trace(
        self,
        request: orchestrator_pb2.TraceRequest,
        context: grpc.aio.ServicerContext[Any, orchestrator_pb2.TraceEvent],
    ) -> None:
        await self._authorise(context)
        if self._relay is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, NO_RELAY)
        try:
            subscription = self._relay.subscribe(request.kinds)
        except TooManyReaders as refused:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(refused))
        try:
            while (events := await subscription.take()) is not None:
                for event in events:
                    await context.write(event)
        finally:
            self._relay.unsubscribe(subscription)

    async def Processes(
        self,
        _requests: Any,
        context: grpc.aio.ServicerContext[
            orchestrator_pb2.ProcessReport, orchestrator_pb2.ProcessOrder
        ],
    ) -> None:
        await self._authorise(context)
        try:
            await self._serve_launcher(context)
        except StreamRefused as refused:
            await context.abort(refused.code, str(refused))

    async def _serve_launcher(
        self,
        context: grpc.aio.ServicerContext[
            orchestrator_pb2.ProcessReport, orchestrator_pb2.ProcessOrder
        ],
    ) -> None:
        first = await receive(context)
        if first is None or not first.nodes or min(first.nodes) < 1:
            raise StreamRefused(
                grpc.StatusCode.INVALID_ARGUMENT,
                "a launcher's first report names the nodes that it runs",
            )
        try:
            for node in first.nodes:
                self._table.admit(node)
        except BadFault as error:
            raise StreamRefused(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)) from None
        launcher = self._launchers.attach(first.nodes)
        log.info("launcher attached", nodes=sorted(launcher.nodes), peer=context.peer())
        try:
            await context.write(orchestrator_pb2.ProcessOrder())
            await race(_read_reports(launcher, context), _write_orders(launcher, context))
        finally:
            self._launchers.detach(launcher)
            log.info("launcher detached", nodes=sorted(launcher.nodes))

    async def _inject(self, request: orchestrator_pb2.FaultRequest) -> str:
        table = self._table
        which = request.WhichOneof("fault")
        if which is None:
            raise BadFault("the request names no fault that this orchestrator knows: upgrade it")
        fault = getattr(request, which)
        if which == "fail_node":
            return await self._in_turn(fault.node, self._kill)
        if which == "fix_node":
            return await self._in_turn(fault.node, self._start)
        if which == "install_node":
            return await self._in_turn(fault.node, partial(self._install, address=fault.address))
        if which == "retire_node":
            return await self._in_turn(fault.node, partial(self._retire, reusable=fault.reusable))
        if which == "heal":
            return await self._heal()
        if self._relay is None:
            raise _NoRelay(NO_RELAY)
        if which in ("fail_link", "fix_link"):
            message: str = getattr(table, which)(fault.a, fault.b, fault.one_way)
        elif which == "partition":
            message = table.partition([list(group.nodes) for group in fault.groups])
        elif which == "delay":
            message = table.delay(fault.a, fault.b, fault.delay_ms, fault.jitter_ms)
        elif which == "isolate":
            message = table.isolate(fault.node)
        else:
            assert which in ("drop", "duplicate", "reorder"), which
            message = getattr(table, which)(fault.a, fault.b, fault.percent)
        self._relay.faults_changed()
        return message

    async def _in_turn(
        self, node: int, carry_out: Callable[[int], Coroutine[Any, Any, str]]
    ) -> str:
        """Have one thing done to ``node``'s process, after whatever is being done to it. Once begun
        it goes on also without its caller: how it ends is known from the launcher's late report."""
        turn = self._turns.setdefault(node, asyncio.Lock())

        def ended(doing: asyncio.Task[str]) -> None:
            turn.release()
            if not doing.cancelled():
                doing.exception()  # a refusal that nobody waits for any more is no bug

        try:
            async with timeout(self._order_timeout_s):
                await turn.acquire()
                doing = asyncio.create_task(carry_out(node))
                doing.add_done_callback(ended)
                return await asyncio.shield(doing)
        except asyncio.TimeoutError:
            raise ProcessRefused(
                f"the launcher did not answer within {self._order_timeout_s:g} s: see its log; "
                "`faults` says what came of it"
            ) from None

    async def _kill(self, node: int) -> str:
        """Mark ``node`` down, kill its process, and take the mark back when that was refused."""
        was_down = node in self._table.down
        self._table.fail_node(node)
        self._faults_changed()
        try:
            await self._launchers.order(node, start=False)
        except ProcessRefused:
            if not was_down:
                self._table.fix_node(node)
            raise
        return f"node {node} is dead and stays down until fixNode {node}"

    async def _start(self, node: int) -> str:
        """Start ``node``'s process; it may speak from its first moment on."""
        was_down = node in self._table.down
        self._table.fix_node(node)
        try:
            await self._launchers.order(node, start=True)
        except ProcessRefused:
            if was_down:
                self._table.fail_node(node)
            raise
        finally:
            self._faults_changed()
        return f"node {node} is started"

    async def _install(self, node: int, address: str) -> str:
        if not 1 <= node < 1 << 31:
            raise BadFault(f"{node} is no number for a node: give one from 1 on")
        if not address:
            raise BadFault(f"node {node} needs an address to listen at, HOST:PORT")
        was_known = node in self._table.members
        self._table.admit(node)
        try:
            await self._launchers.order(node, start=True, join=address)
        except ProcessRefused:
            if not was_known:
                self._table.dismiss(node)
            raise
        return f"node {node} is started at {address}"

    async def _retire(self, node: int, reusable: bool) -> str:
        await self._launchers.order(node, start=False, retire=True, reusable=reusable)
        self._table.dismiss(node)
        self._faults_changed()
        return f"node {node}'s process is ended"

    async def _heal(self) -> str:
        self._table.heal()
        self._faults_changed()
        started, refusals = "", []
        down = list(self._table.down)
        # All at once: what has begun goes on where who asked waits no longer.
        starts = [self._in_turn(node, self._start) for node in down]
        ends = await asyncio.gather(*starts, return_exceptions=True)
        for node, how in zip(down, ends, strict=True):
            if isinstance(how, ProcessRefused):
                refusals.append(f"node {node} is not: {how}")
            elif isinstance(how, BaseException):
                raise how
            else:
                started += f", node {node} is started"
        if refusals:
            raise ProcessRefused(f"links are healed{started}, {'; '.join(refusals)}")
        return f"every fault is lifted{started}"

    def _faults_changed(self) -> None:
        if self._relay is not None:
            self._relay.faults_changed()

    async def _authorise(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if self._token is None:
            return
        given = ""
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                given = value if isinstance(value, str) else value.decode("utf-8", "replace")
        # Compared in constant time: how long a refusal takes says nothing about the token.
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                "fault commands need the administration token: give orchestrator.token, by "
                "--config FILE or in CONSENSUSLLM_ORCHESTRATOR_TOKEN",
            )


class _NoRelay(Exception):
    pass


async def _read_reports(
    launcher: Launcher, context: grpc.aio.ServicerContext[orchestrator_pb2.ProcessReport, Any]
) -> None:
    while (report := await receive(context)) is not None:
        launcher.report(report)


async def _write_orders(
    launcher: Launcher, context: grpc.aio.ServicerContext[Any, orchestrator_pb2.ProcessOrder]
) -> None:
    while (order := await launcher.orders.get()) is not None:
        await context.write(order)
