"""The other end of the floor's ping-pong: a gRPC server that sends every message of a stream back.

As a program it serves the address that it is given, until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

METHOD = "/consensusllm.bench.Echo/Ping"


async def ping(messages: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message


class _Handler(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return grpc.stream_stream_rpc_method_handler(ping) if details.method == METHOD else None


async def serve(address: str) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Handler(),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def main(address: str) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(address))
    else:
        uvloop.run(serve(address))


if __name__ == "__main__":
    main(sys.argv[1])
