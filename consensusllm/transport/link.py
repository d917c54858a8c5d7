"""One stream to one address, kept open: connect, write in batches, read, and again when it is lost.

The stream counts as up when the other side has answered its first message, so a refusal is never
taken for a connection. While it is down nothing is queued: what the protocol still wants it sends
again, and old messages would only delay new ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import grpc.aio
import structlog
from async_timeout import timeout

from .outbox import ENVELOPE_OVERHEAD_BYTES, Outbox, QueueLimits
from .port import Envelope
from .streams import BATCH_BYTES, race, stream_options

BACK_OFF_MIN_S = 0.05
BACK_OFF_MAX_S = 1.0
RENEW_S = 5.0
"""How often a channel that cannot connect makes way for another: by itself it looks up the name in
its address again only after half a minute, and after minutes where that failed."""

REPLACED_WAIT_S = 5.0
"""How long a node stays away whose place at the orchestrator was taken by another of the same id:
two processes under one id would otherwise cut each other off many times a second."""

log = structlog.get_logger(__name__)


class Link:
    """Keeps one outgoing stream to ``address`` open from ``start`` to ``close``.

    ``open_stream`` makes the call on a channel; ``first`` is written before anything else;
    ``wrap`` makes one message of a batch; ``on_message`` gets every message but the first.
    """

    def __init__(
        self,
        address: str,
        *,
        open_stream: Callable[[grpc.aio.Channel], grpc.aio.StreamStreamCall[Any, Any]],
        first: Any | None,
        wrap: Callable[[list[Envelope]], Any],
        on_message: Callable[[Any], None],
        limits: QueueLimits,
        max_message_bytes: int,
        rng: random.Random,
    ) -> None:
        self.address = address
        self.up = False
        self._open_stream = open_stream
        self._first = first
        self._wrap = wrap
        self._on_message = on_message
        self._outbox: Outbox[Envelope] = Outbox(limits)
        self._max_message_bytes = max_message_bytes
        self._rng = rng
        self._lost = 0
        self._told = ""
        self._hurried = asyncio.Event()
        self._pausing = False  # before the next stream
        self._task: asyncio.Task[None] | None = None

    @property
    def dropped(self) -> int:
        """Envelopes that were not sent: the stream was down, its queue full, or they too big."""
        return self._lost + self._outbox.dropped

    @property
    def queued_bytes(self) -> int:
        """What waits to be written."""
        return self._outbox.size_bytes

    def start(self) -> None:
        """Begin to connect; needs a running event loop."""
        assert self._task is None, "a link is started once"
        self._task = asyncio.ensure_future(self._run())
        self._task.add_done_callback(_surface)

    async def close(self) -> None:
        """End the stream; what waits is dropped."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def hurry(self) -> None:
        """The other side has just been heard of: dial it now, where this waits to do so."""
        if not self.up:
            self._hurried.set()

    def put(self, envelope: Envelope) -> None:
        """Queue ``envelope``, or drop and count it. Never blocks."""
        size_bytes = len(envelope.body) + len(envelope.kind) + ENVELOPE_OVERHEAD_BYTES
        if not self.up or size_bytes > self._max_message_bytes:
            self._lost += 1
        else:
            self._outbox.put(envelope, size_bytes)

    async def _run(self) -> None:
        log.info("dialling", address=self.address)
        while True:
            async with grpc.aio.insecure_channel(
                self.address, options=stream_options(self._max_message_bytes)
            ) as channel:
                await race(self._keep(channel), self._until_useless(channel))

    async def _until_useless(self, channel: grpc.aio.Channel) -> None:
        """Until another channel would connect sooner than this one."""
        failed = grpc.ChannelConnectivity.TRANSIENT_FAILURE
        while True:
            self._hurried.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                async with timeout(RENEW_S):
                    await self._hurried.wait()
            # Not before: one to an address that gRPC cannot read has failed as it is made.
            hurried = self._hurried.is_set() and self._pausing
            if hurried or channel.get_state() is failed:
                return

    async def _keep(self, channel: grpc.aio.Channel) -> None:
        """One stream after the other. The channel redials by itself, and a call waits until it is
        ready."""
        loop = asyncio.get_running_loop()
        back_off_s = BACK_OFF_MIN_S
        while True:
            opened_at = loop.time()
            code, details = await self._stream(channel)
            why = f"{code.name} {details}".rstrip()
            if why != self._told:
                log.warning("link down", address=self.address, why=why)
                self._told = why
            if loop.time() - opened_at > BACK_OFF_MAX_S:
                back_off_s = BACK_OFF_MIN_S
            if code is grpc.StatusCode.ABORTED:
                await asyncio.sleep(REPLACED_WAIT_S)
            self._pausing = True
            try:
                await asyncio.sleep(back_off_s * self._rng.uniform(0.5, 1.0))
            finally:
                self._pausing = False
            back_off_s = min(2 * back_off_s, BACK_OFF_MAX_S)

    async def _stream(self, channel: grpc.aio.Channel) -> tuple[grpc.StatusCode, str]:
        """Hold one stream until it ends; returns its status."""
        call = self._open_stream(channel)
        try:
            await race(self._read(call), self._write(call))
            call.cancel()  # no more than a formality where the other side ended it
            return await call.code(), await call.details() or ""
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        finally:
            self.up = False
            self._outbox.clear()
            call.cancel()

    async def _read(self, call: grpc.aio.StreamStreamCall[Any, Any]) -> None:
        if await call.read() is grpc.aio.EOF:
            return
        self.up = True
        self._told = ""
        log.info("link up", address=self.address)
        while (message := await call.read()) is not grpc.aio.EOF:
            if message is None:  # gRPC logged that it was no valid protobuf
                return
            self._on_message(message)

    async def _write(self, call: grpc.aio.StreamStreamCall[Any, Any]) -> None:
        batch_bytes = min(BATCH_BYTES, self._max_message_bytes)
        try:
            if self._first is not None:
                await call.write(self._first)
            while (batch := await self._outbox.take(batch_bytes)) is not None:
                await call.write(self._wrap(batch))
        except asyncio.InvalidStateError:
            return  # the call ended under the write; its status says why


def _surface(task: asyncio.Task[None]) -> None:
    """A link only ends when it is closed: anything else is a bug, and must not pass in silence."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler(
            {"message": "a link's task died", "exception": error, "task": task}
        )
