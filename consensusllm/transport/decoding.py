"""Bytes that are no message, or hold more than they may: a server answers them with
INVALID_ARGUMENT, whatever the method.

Two bytes on the wire can be an object of a hundred in memory. So what anybody may send is bounded
before it is parsed, which is before a token is looked at: a call with one request by its size, and
a large message of a stream by what it holds.

Left to itself gRPC answers UNKNOWN with the name of a Python exception, and logs a traceback for
every such call, which anybody could make many times a second. The interceptor stands before every
service of a server, health and reflection included, and costs a call nothing that matters.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from consensusllm.wire.parts import parts

MALFORMED = "a message is not valid protobuf"
REQUEST_BYTES_MAX = 64 << 10
"""Of a call with one request. The longest tells where the candidates of a turn are."""
COUNTED_BYTES = 256 << 10
PARTS_MAX = 65_536
"""Messages and values in a message of a stream that is larger than COUNTED_BYTES."""


class _Undecodable:
    """Stands in for the request of a call with one request, until the call can be ended."""

    def __init__(self, why: str) -> None:
        self.why = why


class _TooMany(DecodeError):
    """A message holds more than it may."""


class RefuseMalformed(grpc.aio.ServerInterceptor):
    """Ends calls whose requests cannot be decoded, or are too large to be."""

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:  # no such method: gRPC says so itself
            return None
        if handler.request_streaming:
            return _guard_stream(handler)
        return _guard_unary(handler)


def _guard_unary(handler: Any) -> Any:
    decode = handler.request_deserializer
    name = "unary_stream" if handler.response_streaming else "unary_unary"
    behaviour = getattr(handler, name)

    def decoded(data: bytes) -> Any:
        if len(data) > REQUEST_BYTES_MAX:
            why = f"a request of {len(data)} bytes: the most is {REQUEST_BYTES_MAX}"
            return _Undecodable(why)
        try:
            return decode(data)
        except DecodeError:
            return _Undecodable(MALFORMED)

    async def one(request: Any, context: Any) -> Any:
        if isinstance(request, _Undecodable):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, request.why)
        return await behaviour(request, context)

    async def many(request: Any, context: Any) -> Any:
        if isinstance(request, _Undecodable):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, request.why)
        async for response in behaviour(request, context):
            yield response

    guarded = many if inspect.isasyncgenfunction(behaviour) else one
    return handler._replace(request_deserializer=decoded, **{name: guarded})


def _guard_stream(handler: Any) -> Any:
    name = "stream_stream" if handler.response_streaming else "stream_unary"
    behaviour = getattr(handler, name)
    decode = handler.request_deserializer
    kind = decode.__self__.DESCRIPTOR

    def decoded(data: bytes) -> Any:
        if len(data) > COUNTED_BYTES and parts(data, kind, PARTS_MAX) > PARTS_MAX:
            raise _TooMany(f"a message of more than {PARTS_MAX} parts: send less in one")
        return decode(data)

    def why(error: DecodeError) -> str:
        return str(error) if isinstance(error, _TooMany) else MALFORMED

    async def one(requests: Any, context: Any) -> Any:
        try:
            return await behaviour(requests, context)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, why(error))

    async def many(requests: Any, context: Any) -> Any:
        try:
            async for response in behaviour(requests, context):
                yield response
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, why(error))

    guarded = many if inspect.isasyncgenfunction(behaviour) else one
    return handler._replace(request_deserializer=decoded, **{name: guarded})
