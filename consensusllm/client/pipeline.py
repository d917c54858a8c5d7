"""One bidirectional stream that all concurrent calls share.

Everything that is waiting travels in one message, so a hundred concurrent calls cost about as much
as one. It owns the stream and the requests that are on it, each a future by its id; a call costs no
task and no lock. What is outstanding is bounded in count and in bytes; past that, callers wait.

It tries everything once: a call whose stream ends is told that it is Lost, and whether the request
had left. Trying again is for `calls`.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import TypeAlias

import grpc
import grpc.aio

from consensusllm.client.errors import ConsensusError, Overloaded, TooLarge
from consensusllm.client.nodes import Nodes, Unreachable, denial, reason
from consensusllm.wire.generated import client_pb2

OUTSTANDING_MAX = 1024
OUTSTANDING_BYTES_MAX = 32 << 20
MESSAGE_REQUESTS_MAX = 128
"""As many as a leader finds enough for a slot: it works on one message while the next is made."""
MESSAGE_BYTES_MAX = 1 << 20
"""A message is cut before the request that would pass this; one larger request travels alone."""
REQUEST_BYTES_MAX = 8 << 20
FIELDS_BYTES = 32
"""What a request may have besides its command."""
SILENCE_S = 1.0
"""A stream that has been silent for a request's whole time, and for this, is given up."""


class Lost(Exception):
    """The answer cannot come any more. ``sent``: the request may have reached the node; ``late``:
    it took longer than its try."""

    def __init__(self, why: str, *, address: str, sent: bool, late: bool = False) -> None:
        super().__init__(why)
        self.address = address
        self.sent = sent
        self.late = late


class Pipeline:
    """The stream to the current node, opened when it is needed and again after it was lost."""

    def __init__(
        self,
        nodes: Nodes,
        *,
        outstanding_max: int = OUTSTANDING_MAX,
        outstanding_bytes_max: int = OUTSTANDING_BYTES_MAX,
    ) -> None:
        self._nodes = nodes
        self._outstanding_max = outstanding_max
        self._outstanding_bytes_max = outstanding_bytes_max
        self._outstanding = 0
        self._outstanding_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._ids = count(1)
        self._stream: _Stream | None = None
        self._streams: dict[asyncio.Task[None], _Stream] = {}  # that have not ended
        self._closed = False

    async def send(
        self,
        build: Callable[[], client_pb2.Request],
        deadline_at: float,
        of_a_try: Callable[[], tuple[int, float]],
    ) -> tuple[str, client_pb2.Response]:
        """The node's address and its response to what ``build`` makes.

        Waits for room until ``deadline_at``, and then builds the request again, as what it
        acknowledges has aged. Only now does the try begin: ``of_a_try`` says the request's
        ``timeout_ms`` (0: the node's default), and when it is given up. Both times are of the event
        loop's clock. Raises Lost, Overloaded (this client's own bound), TooLarge, or
        Unauthenticated.
        """
        request = build()
        # To add up a request takes as long as to encode it, and a command is encoded already.
        command_bytes = len(request.command)
        size_bytes = command_bytes + FIELDS_BYTES if command_bytes else request.ByteSize()
        if size_bytes > REQUEST_BYTES_MAX:
            raise TooLarge(f"the request has {size_bytes} bytes: the most is {REQUEST_BYTES_MAX}")
        if self._waiting or not self._fits(size_bytes):
            await self._wait_for_room(size_bytes, deadline_at)
            request = build()
        else:
            self._take(size_bytes)
        request.id = number = next(self._ids)
        request.timeout_ms, give_up_at = of_a_try()
        stream: _Stream | None = None
        try:
            stream = self._current()
            return stream.address, await stream.post(request, size_bytes, give_up_at)
        finally:
            if stream is not None:
                stream.forget(number)
            self._release(size_bytes)

    async def close(self) -> None:
        """End the streams; calls on them are told that these are lost, later ones are refused."""
        self._closed = True
        for stream in list(self._streams.values()):
            stream.end("the client was closed")
        await asyncio.gather(*self._streams, return_exceptions=True)

    def _current(self) -> _Stream:
        if self._closed:
            raise RuntimeError("the client is closed")
        stream = self._stream
        if stream is None or stream.ended or stream.address != self._nodes.current:
            if stream is not None:
                stream.retire(f"{stream.address}: left for {self._nodes.current}")
            stream = self._stream = _Stream(self._nodes, self._nodes.current)
            self._streams[stream.task] = stream
            stream.task.add_done_callback(self._streams.pop)
        return stream

    # What is outstanding --------------------------------------------------------------------

    def _fits(self, size_bytes: int) -> bool:
        return self._outstanding == 0 or (
            self._outstanding < self._outstanding_max
            and self._outstanding_bytes + size_bytes <= self._outstanding_bytes_max
        )

    async def _wait_for_room(self, size_bytes: int, deadline_at: float) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        entry = (size_bytes, turn)
        self._waiting.append(entry)
        timer = loop.call_at(deadline_at, _refuse, turn)
        try:
            await turn
        except (Overloaded, asyncio.CancelledError):
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._release(size_bytes)
            elif entry in self._waiting:
                self._waiting.remove(entry)
                self._admit_waiting()
            raise
        finally:
            timer.cancel()

    def _take(self, size_bytes: int) -> None:
        self._outstanding += 1
        self._outstanding_bytes += size_bytes

    def _release(self, size_bytes: int) -> None:
        self._outstanding -= 1
        self._outstanding_bytes -= size_bytes
        assert self._outstanding >= 0
        assert self._outstanding_bytes >= 0
        self._admit_waiting()

    def _admit_waiting(self) -> None:
        """Let in those who wait, in the order in which they came."""
        while self._waiting:
            size_bytes, turn = self._waiting[0]
            if not turn.done():
                if not self._fits(size_bytes):
                    return
                self._take(size_bytes)
                turn.set_result(None)
            self._waiting.popleft()


def _refuse(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(
            Overloaded("this client has too many calls in flight: send fewer at once")
        )


class _Stream:
    """One Pipeline call to one node, from the connecting to its end."""

    def __init__(self, nodes: Nodes, address: str) -> None:
        self.address = address
        self.ended = False
        self._connected = False
        self._retired = ""
        self._nodes = nodes
        self._loop = asyncio.get_running_loop()
        self._queued: dict[int, tuple[client_pb2.Request, int]] = {}
        self._pending: dict[int, _Pending] = {}
        self._sweep_at = math.inf
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._heard_at = self._loop.time()
        self.task = asyncio.create_task(self._run())

    def post(
        self, request: client_pb2.Request, size_bytes: int, give_up_at: float
    ) -> asyncio.Future[client_pb2.Response]:
        """Queue ``request``; the future gets its response, or Lost. To be forgotten afterwards."""
        future: asyncio.Future[client_pb2.Response] = self._loop.create_future()
        self._pending[request.id] = (future, self._loop.time(), give_up_at, size_bytes)
        self._queued[request.id] = (request, size_bytes)
        if give_up_at < self._sweep_at:
            self._sweep_by(give_up_at)
        self._wake.set()
        return future

    def forget(self, number: int) -> None:
        """Nobody waits for the response to request ``number`` any more."""
        self._pending.pop(number, None)
        if self._queued:
            self._queued.pop(number, None)
        if self._retired and not self._pending and not self.ended:
            self.end(self._retired)

    def retire(self, why: str) -> None:
        """Take nothing new, and end when everything that is pending is answered."""
        self._retired = why
        if not self._pending:
            self.end(why)

    def end(self, why: str, error: ConsensusError | None = None) -> None:
        """Tell all that is pending that it is lost (or ``error``), and let go of the stream."""
        self.ended = True
        self.task.cancel()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for number, (future, _, _, _) in self._pending.items():
            if not future.done():
                future.set_exception(error or self._lost(number, why))
        self._pending.clear()
        self._queued.clear()

    def _lost(self, number: int, why: str, *, late: bool = False) -> Lost:
        return Lost(why, address=self.address, sent=number not in self._queued, late=late)

    def _sweep_by(self, at: float) -> None:
        """One timer for all that is pending: each has its time, and nearly none reaches it."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._sweep_at = at
        self._sweep_timer = self._loop.call_at(at, self._sweep)

    def _sweep(self) -> None:
        """Give up those whose time has come."""
        self._sweep_timer, self._sweep_at = None, math.inf
        now = self._loop.time()
        for number, (future, since, give_up_at, _) in list(self._pending.items()):
            if give_up_at > now or future.done():
                continue
            why = f"{self.address}: no answer for {now - since:.1f} s"
            if self._heard_at <= since and now - since >= SILENCE_S:
                # A node answers in a request's time, if only with a failure.
                future.set_exception(self._lost(number, why, late=True))
                if self._connected:  # else it may be coming up
                    self._nodes.silent(self.address)
                self.end(why)
                return
            future.set_exception(self._lost(number, why, late=True))
            self._queued.pop(number, None)  # as it was told that this was not sent
        times = [at for future, _, at, _ in self._pending.values() if not future.done()]
        if times:
            self._sweep_by(min(times))

    async def _run(self) -> None:
        call = writer = None
        try:
            stub = await self._nodes.stub(self.address)
            self._connected = True
            call = stub.Pipeline(metadata=self._nodes.metadata)
            writer = asyncio.create_task(self._write(call))
            while (responses := await call.read()) is not grpc.aio.EOF:
                self._heard_at = self._loop.time()
                if responses.members:
                    self._nodes.learn(responses.members)
                if responses.leader_address:
                    self._nodes.prefer(responses.leader_address)
                for number in responses.done:
                    self._answer(number, _DONE)
                for response in responses.responses:
                    self._answer(response.id, response)
            self.end(f"{self.address}: the node ended the stream")
        except Unreachable as error:
            self.end(str(error))
        except grpc.aio.AioRpcError as error:
            self._refuse_too_large(error)
            self.end(reason(self.address, error), denial(self.address, error))
        finally:
            if not self.ended:
                self.end(f"{self.address}: the stream was given up")
            if writer is not None:
                writer.cancel()
            if call is not None:
                call.cancel()

    def _refuse_too_large(self, error: grpc.aio.AioRpcError) -> None:
        """Tell those whose request the node has no room for in a message, by its configuration."""
        found = _TOO_LARGE.search(error.details() or "")
        for future, _, _, size_bytes in self._pending.values() if found else ():
            if found and size_bytes > int(found[2]) - FIELDS_BYTES and not future.done():
                future.set_exception(
                    TooLarge(f"the request has {size_bytes} bytes: a node takes {found[2]} at most")
                )

    def _answer(self, number: int, response: client_pb2.Response) -> None:
        pending = self._pending.get(number)
        if pending is not None and not pending[0].done():
            pending[0].set_result(response)

    async def _write(self, call: _Call) -> None:
        """The one writer. All that came in while the last message was written is the next one."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while message := self._next_message():
                    await call.write(client_pb2.Requests(requests=message))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the reader gets the stream's status, and tells the callers

    def _next_message(self) -> list[client_pb2.Request]:
        message: list[client_pb2.Request] = []
        size_bytes = 0
        for request, request_bytes in self._queued.values():
            size_bytes += request_bytes
            full = size_bytes > MESSAGE_BYTES_MAX or len(message) == MESSAGE_REQUESTS_MAX
            if message and full:
                break
            message.append(request)
        for request in message:
            del self._queued[request.id]
        return message


_Call = grpc.aio.StreamStreamCall[client_pb2.Requests, client_pb2.Responses]
_Pending: TypeAlias = tuple["asyncio.Future[client_pb2.Response]", float, float, int]
"""Who waits, since when, and until when, by the event loop's clock, and the request's bytes."""

_TOO_LARGE = re.compile(r"message larger than max \((\d+) vs\. (\d+)\)")
"""How gRPC says it, on either side."""

_DONE = client_pb2.Response(reply=client_pb2.Reply(done=client_pb2.Done()))
"""What stands for every id in ``Responses.done``."""
