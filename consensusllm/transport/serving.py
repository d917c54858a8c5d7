"""What every gRPC server of a cluster has: an address of its own, health and reflection."""

from __future__ import annotations

from collections.abc import Sequence

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]


class CannotListen(Exception):
    """An address cannot be served. The message is one line that says what to do."""


def listen(server: grpc.aio.Server, address: str) -> str:
    """Bind ``host:port`` (port 0: any free one) and return the address that was bound.

    Raises ``CannotListen``. Call it before the server is started.
    """
    host = address.rpartition(":")[0]
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if port == 0:
        raise CannotListen(
            f"cannot listen on {address}: another process holds the port, or the address is not "
            "this machine's; stop that process or choose another port"
        )
    return f"{host}:{port}"


class Health:
    """The standard health service of one server."""

    def __init__(self, servicer: health.aio.HealthServicer) -> None:
        self._servicer = servicer

    async def stopping(self) -> None:
        """Report NOT_SERVING for every service from now on."""
        await self._servicer.enter_graceful_shutdown()


async def add_standard_services(server: grpc.aio.Server, names: Sequence[str]) -> Health:
    """Add health (SERVING for ``names``, full names of services) and reflection to ``server``."""
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in ("", *names):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(
        (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    return Health(servicer)
