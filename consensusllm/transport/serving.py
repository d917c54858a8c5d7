"""What every gRPC server of a cluster has: an address of its own, health and reflection."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import grpc.aio
from async_timeout import timeout
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from .decoding import RefuseMalformed
from .streams import stream_options

STOPPING_S = 0.5
"""How long a server that stops waits for those who watch its health."""


WATCHES_MAX = 256
"""Of a server's health at a time."""


class CannotListen(Exception):
    """An address cannot be served. The message is one line that says what to do."""


def make_server(max_message_bytes: int) -> grpc.aio.Server:
    """A server with this cluster's bounds, which refuses what it cannot decode."""
    return grpc.aio.server(
        interceptors=[RefuseMalformed()], options=stream_options(max_message_bytes)
    )


def listen(server: grpc.aio.Server, address: str) -> str:
    """Bind ``host:port`` (port 0: any free one) and return the address that was bound.

    Raises ``CannotListen``. Call it before the server is started.
    """
    host, _, number = address.rpartition(":")
    if number != "0":
        _probe(address, host.strip("[]"), int(number))
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if port == 0:
        raise CannotListen(_IN_USE.format(address))
    return f"{host}:{port}"


_IN_USE = (
    "cannot listen on {}: another process holds the port; stop that process or choose another port"
)


def _probe(address: str, host: str, port: int) -> None:
    """Find out why ``address`` could not be bound. gRPC would write lines of its own about it, and
    tells the reasons apart for no caller. Raises CannotListen."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(_IN_USE.format(address)) from None
        raise CannotListen(
            f"cannot listen on {address}: {error.strerror}; correct the address in the config"
        ) from None


class _HealthServicer(health.aio.HealthServicer):  # type: ignore[misc]
    """The library's, with the one method that it leaves out, and a bound: no token is asked for."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = names
        self._watches = 0

    async def Watch(self, request: Any, context: Any) -> None:
        if self._watches >= WATCHES_MAX:
            why = f"{WATCHES_MAX} watch this server's health already: ask for it now and then"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, why)
        self._watches += 1
        try:
            await super().Watch(request, context)
        finally:
            self._watches -= 1

    async def List(self, request: Any, context: Any) -> Any:
        statuses = {
            name: await self.Check(health_pb2.HealthCheckRequest(service=name), context)
            for name in self._names
        }
        return health_pb2.HealthListResponse(statuses=statuses)


class Health:
    """The standard health service of one server."""

    def __init__(self, servicer: _HealthServicer) -> None:
        self._servicer = servicer

    async def stopping(self) -> None:
        """Report NOT_SERVING for every service from now on; to those who read what they asked for:
        the library waits for the others for ever."""
        with suppress(asyncio.TimeoutError):
            async with timeout(STOPPING_S):
                await self._servicer.enter_graceful_shutdown()


async def add_standard_services(server: grpc.aio.Server, names: Sequence[str]) -> Health:
    """Add health (SERVING for ``names``, full names of services) and reflection to ``server``."""
    served = ("", *names)
    servicer = _HealthServicer(served)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in served:
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(
        (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    return Health(servicer)
