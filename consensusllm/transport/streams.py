"""What every gRPC stream of a cluster shares: options, refusals, tasks that end together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.message import DecodeError

Request = TypeVar("Request")

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""The default bound of one gRPC message, in both directions."""

BATCH_BYTES = 1024 * 1024
"""How much of what waits goes into one message: enough to be worth it, and soon written."""


class StreamRefused(Exception):
    """This side ends a stream with ``code``; the message, one line, goes to the other side."""

    def __init__(self, code: grpc.StatusCode, why: str) -> None:
        super().__init__(why)
        self.code = code


def stream_options(max_message_bytes: int = MAX_MESSAGE_BYTES) -> list[tuple[str, int]]:
    """Options for a server or a channel: message bound, keep-alive, quick reconnects.

    A connection whose other end has gone silent (a dead machine, a cut cable) is given up after
    about 15 s; a server that comes back is dialled again within about a second.
    """
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # A channel made anew dials at once, whatever another one to the same place waits for.
        ("grpc.use_local_subchannel_pool", 1),
        # Connections that are opened and then say nothing would use up a server's descriptors.
        ("grpc.server_handshake_timeout_ms", 10_000),
        # Nodes are dialled where the configuration says, whatever proxy the environment names.
        ("grpc.enable_http_proxy", 0),
        # Two servers on one port would each get a part of the connections, without a word.
        ("grpc.so_reuseport", 0),
    ]


async def receive(context: grpc.aio.ServicerContext[Request, Any]) -> Request | None:
    """A server's next message of a stream, None at its end. Raises ``StreamRefused``."""
    try:
        message = await context.read()
    except DecodeError:
        raise StreamRefused(
            grpc.StatusCode.INVALID_ARGUMENT, "a message is not valid protobuf"
        ) from None
    return None if message is grpc.aio.EOF else message


async def race(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all until the first ends, end the others, and raise what the first one raised.

    A cancellation of the caller is passed on. When it returns, no task is left.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done:
            task.result()
