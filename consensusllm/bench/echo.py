"""The other end of the floor's ping-pong: a gRPC server that sends every message of a stream back.

As a program it serves the address that it is given, until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeAlias

import grpc
import grpc.aio

METHOD = "/consensusllm.bench.Echo/Ping"
OPTIONS = (("grpc.enable_http_proxy", 0),)
"""Of a channel."""

Stream: TypeAlias = Callable[[AsyncIterator[bytes], Any], AsyncIterator[bytes]]
"""What serves one stream of METHOD."""


async def ping(messages: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        served = details.method == METHOD
        return grpc.stream_stream_rpc_method_handler(self._stream) if served else None


async def serve(address: str, stream: Stream) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Handler(stream),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def run(server: Coroutine[Any, Any, None]) -> None:
    """On uvloop, where it is installed, as a node is."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(server)
    else:
        uvloop.run(server)


if __name__ == "__main__":
    run(serve(sys.argv[1], ping))
