"""A network inside one process, for tests of what stands above the port.

Each envelope is delivered by a callback of its own on the event loop (``call_soon``), so delivery
is in the order of sending, never inside ``send``, and the same in every run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from .port import Envelope, Receiver


class MemoryNetwork:
    """The hub: ``transport(node)`` gives each of ``members`` its end."""

    def __init__(self, members: Iterable[int]) -> None:
        self.members = frozenset(members)
        self._receivers: dict[int, Receiver] = {}
        self.dropped = 0

    def transport(self, node: int) -> MemoryTransport:
        """A transport for ``node``; one that starts later replaces it, as a restart would."""
        assert node in self.members, f"{node} is not a member"
        return MemoryTransport(self, node)

    def attach(self, node: int, receiver: Receiver) -> None:
        """Deliver what is for ``node`` to ``receiver``."""
        self._receivers[node] = receiver

    def detach(self, node: int, receiver: Receiver) -> None:
        """``node`` is gone; what is in flight to it is lost."""
        if self._receivers.get(node) is receiver:
            del self._receivers[node]

    def attached(self) -> frozenset[int]:
        """Who can be reached now."""
        return frozenset(self._receivers)

    def carry(self, envelope: Envelope) -> None:
        """Deliver ``envelope`` on a later turn of the loop, or drop and count it."""
        asyncio.get_running_loop().call_soon(self._deliver, envelope)

    def _deliver(self, envelope: Envelope) -> None:
        receiver = self._receivers.get(envelope.dst)
        if receiver is None:
            self.dropped += 1
        else:
            receiver(envelope)


class MemoryTransport:
    """One node's end of a ``MemoryNetwork``."""

    def __init__(self, network: MemoryNetwork, node: int) -> None:
        self._network = network
        self._node = node
        self._receiver: Receiver | None = None

    async def start(self, receiver: Receiver) -> None:
        """Be reachable from now on."""
        self._receiver = receiver
        self._network.attach(self._node, receiver)

    def send(self, dst: int, kind: str, body: bytes) -> None:
        """Send to ``dst``, another member; lost when this end or the other is closed."""
        assert dst in self._network.members - {self._node}, f"{dst} is not a peer"
        if self._receiver is not None:
            self._network.carry(Envelope(self._node, dst, kind, body))

    def meet(self, addresses: Mapping[int, str]) -> None:
        """The hub knows who is there."""
        self._network.members |= frozenset(addresses)

    def connected(self) -> frozenset[int]:
        """The other members whose end is open."""
        return self._network.attached() - {self._node}

    def queued_bytes(self, dst: int) -> int:
        """Nothing waits: it is on the event loop at once."""
        return 0

    async def close(self) -> None:
        """Be gone; may be called twice."""
        if self._receiver is not None:
            self._network.detach(self._node, self._receiver)
            self._receiver = None
