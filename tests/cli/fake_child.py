"""A child for the launcher's tests: leaves its pid, holds its lifeline, and may answer as a node.

Who answers says that it leads, and that nodes 1 to 3 are the members:
``fake_child.py PIDS NAME LIFELINE [--leads NODE ADDRESS] [--stubborn] [--fails]
[--warns]``
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from consensusllm_cli.lifeline import end_with


async def lead(node: int, address: str) -> None:
    import grpc.aio

    from consensusllm.wire.generated import client_pb2, client_pb2_grpc

    class Node(client_pb2_grpc.ClientServicer):
        async def GetStatus(self, request: Any, context: Any) -> client_pb2.Status:
            members = [client_pb2.MemberStatus(node=each, voting=True) for each in (1, 2, 3)]
            return client_pb2.Status(node=node, role="leading", leader=node, members=members)

    server = grpc.aio.server()
    client_pb2_grpc.add_ClientServicer_to_server(Node(), server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def main(pids: str, name: str, lifeline: str, *rest: str) -> None:
    end_with(int(lifeline))
    if "--stubborn" in rest:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    place = Path(pids) / name
    place.with_suffix(".new").write_text(str(os.getpid()))
    place.with_suffix(".new").replace(place)
    if "--fails" in rest:
        sys.exit("the disk of this node is made of cheese")
    if "--warns" in rest:
        print("[warning  ] a slow disk", flush=True)
    if "--leads" in rest:
        at = rest.index("--leads")
        asyncio.run(lead(int(rest[at + 1]), rest[at + 2]))
    while True:
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
