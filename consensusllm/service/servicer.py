"""The gRPC service `Client` of a node: checks who asks, then hands on to the parts."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from consensusllm.council.live_text import LiveText
from consensusllm.replica.runtime import Runtime
from consensusllm.wire.generated import client_pb2 as pb
from consensusllm.wire.generated import client_pb2_grpc

from .changes import step
from .councils import Templates
from .pipeline import PipelineStream, Requests, TooManyAtOnce
from .status import Facts, status
from .watch import NoSuchTurn, watch

MAX_OUTSTANDING = 8192
"""Unanswered requests of one stream; more wait in the client, unread."""

RESPONSE_BYTES = 1 << 20
PIPELINES = 4096
WATCHES = 4096
HASHING_S = 0.5
"""How long a status waits for the state's hash, which is made in steps between which others have
their turns. A large state that has just been read takes several statuses."""


class ClientServicer(client_pb2_grpc.ClientServicer):
    """``token`` None: everybody may ask."""

    def __init__(
        self,
        runtime: Runtime,
        requests: Requests,
        live: LiveText,
        facts: Facts,
        templates: Templates,
        *,
        token: str | None,
        read_timeout_s: float,
    ) -> None:
        self._runtime = runtime
        self._requests = requests
        self._live = live
        self._facts = facts
        self._templates = templates
        self._expected = f"Bearer {token}".encode() if token else None
        self._read_timeout_s = read_timeout_s
        self._watches = 0
        self._streams: set[asyncio.Task[None]] = set()

    async def Pipeline(self, request_iterator: Any, context: Any) -> None:
        await self._check(context)
        if len(self._streams) >= PIPELINES:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many clients: try again later"
            )
        stream = PipelineStream(self._requests, MAX_OUTSTANDING, RESPONSE_BYTES)
        task = asyncio.ensure_future(stream.run(request_iterator, context.write))
        self._streams.add(task)
        try:
            await task
        except TooManyAtOnce as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except asyncio.CancelledError:
            task.cancel()
            if task.cancelled() or not task.done():
                await asyncio.gather(task, return_exceptions=True)
        finally:
            self._streams.discard(task)

    async def Change(self, request: pb.ChangeRequest, context: Any) -> pb.ChangeReply:
        await self._check(context)
        return await step(self._runtime, request, self._facts.addresses)

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.WatchEvent]:
        await self._check(context)
        if self._watches >= WATCHES:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many readers: try again later"
            )
        self._watches += 1
        try:
            await self._barrier(context)
            await context.send_initial_metadata(())  # not first with the first text
            async for event in watch(self._runtime.replica, self._live, request):
                if event.ByteSize() > self._requests.max_response_bytes:
                    await context.abort(
                        grpc.StatusCode.INVALID_ARGUMENT,
                        f"turn {request.turn} of {request.conversation} is larger than a message "
                        "may be: raise limits.message_bytes",
                    )
                yield event
        except NoSuchTurn as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        finally:
            self._watches -= 1

    async def ListTemplates(self, request: pb.TemplatesRequest, context: Any) -> pb.Templates:
        await self._check(context)
        return await self._templates.read()

    async def GetStatus(self, request: pb.StatusRequest, context: Any) -> pb.Status:
        await self._check(context)
        until = self._runtime.clock() + HASHING_S
        while not (hashed := self._runtime.replica.machine.hash_some()):
            if self._runtime.clock() >= until:
                break
            await asyncio.sleep(0)
        return status(self._runtime, self._facts, hashed=hashed)

    def close(self) -> None:
        """End the pipelines, so that the server can stop; clients go on at another node."""
        for task in self._streams:
            task.cancel()

    async def _barrier(self, context: Any) -> None:
        """A reader that was just told of its turn must find it here."""
        failure = await self._runtime.barrier(self._read_timeout_s)
        if failure is not None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, failure.message)

    async def _check(self, context: Any) -> None:
        if self._expected is None:
            return
        given = dict(context.invocation_metadata() or ()).get("authorization", "")
        value = given if isinstance(given, bytes) else given.encode()
        if not hmac.compare_digest(value, self._expected):
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED, "the client token is missing or wrong"
            )
