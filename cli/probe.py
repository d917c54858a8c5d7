"""Asking each node how it is: with short deadlines, and without the client's retries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import grpc.aio

from consensusllm.secret import Secret
from consensusllm.wire.generated import client_pb2, client_pb2_grpc

PROBE_S = 1.0


class Prober:
    """Holds a channel to each address it was ever asked about; an async context manager."""

    def __init__(self, token: Secret | None = None) -> None:
        secret = token.reveal() if token else ""
        self._metadata = (("authorization", f"Bearer {secret}"),) if secret else ()
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def __aenter__(self) -> Prober:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))

    async def status(self, address: str, timeout_s: float = PROBE_S) -> client_pb2.Status | None:
        """The node's status; None where it does not answer. Raises Unauthenticated."""
        if address not in self._channels:
            options = (("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 300))
            self._channels[address] = grpc.aio.insecure_channel(address, options=options)
        stub = client_pb2_grpc.ClientStub(self._channels[address])  # type: ignore[no-untyped-call]
        try:
            status: client_pb2.Status = await stub.GetStatus(
                client_pb2.StatusRequest(), timeout=timeout_s, metadata=self._metadata
            )
            return status
        except grpc.aio.AioRpcError as error:
            from consensusllm.client.nodes import denial

            if (denied := denial(address, error)) is not None:
                raise denied from None
            return None

    async def statuses(self, addresses: Iterable[str]) -> dict[str, client_pb2.Status | None]:
        """The status of each address, asked for all at once. Raises Unauthenticated."""
        asked = list(dict.fromkeys(addresses))
        answers = await asyncio.gather(*map(self.status, asked))
        return dict(zip(asked, answers, strict=True))

    async def everybody(self, addresses: Iterable[str]) -> dict[str, client_pb2.Status | None]:
        """The status of every node by its address, members that only other nodes know of included.
        An address that is no member's is left out where it does not answer. Raises
        Unauthenticated."""
        found = await self.statuses(addresses)
        known = {
            member.address
            for answer in found.values()
            if answer is not None
            for member in answer.members
            if member.address
        }
        if not known:
            return found
        found |= await self.statuses(known - found.keys())
        told = {address: found[address] for address in known}
        seen = {answer.node for answer in told.values() if answer is not None}
        for address, answer in found.items():  # reached by another name than its members know
            if answer is not None and answer.node not in seen:
                told[address] = answer
        return dict(
            sorted(told.items(), key=lambda item: (item[1].node if item[1] else 0, item[0]))
        )
