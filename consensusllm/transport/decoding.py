"""Bytes that are no message: a server answers them with INVALID_ARGUMENT, whatever the method.

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

MALFORMED = "a message is not valid protobuf"


class _Undecodable:
    """Stands in for the request of a call with one request, until the call can be ended."""


class RefuseMalformed(grpc.aio.ServerInterceptor):
    """Ends calls whose requests cannot be decoded."""

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
        try:
            return decode(data)
        except DecodeError:
            return _Undecodable()

    async def one(request: Any, context: Any) -> Any:
        if isinstance(request, _Undecodable):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, MALFORMED)
        return await behaviour(request, context)

    async def many(request: Any, context: Any) -> Any:
        if isinstance(request, _Undecodable):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, MALFORMED)
        async for response in behaviour(request, context):
            yield response

    guarded = many if inspect.isasyncgenfunction(behaviour) else one
    return handler._replace(request_deserializer=decoded, **{name: guarded})


def _guard_stream(handler: Any) -> Any:
    name = "stream_stream" if handler.response_streaming else "stream_unary"
    behaviour = getattr(handler, name)

    async def one(requests: Any, context: Any) -> Any:
        try:
            return await behaviour(requests, context)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, MALFORMED)

    async def many(requests: Any, context: Any) -> Any:
        try:
            async for response in behaviour(requests, context):
                yield response
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, MALFORMED)

    guarded = many if inspect.isasyncgenfunction(behaviour) else one
    return handler._replace(**{name: guarded})
