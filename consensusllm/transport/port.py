"""The port between a replica and the network, the same for direct links and the orchestrator.

A transport moves opaque envelopes. It may lose, delay, repeat and reorder them; it never blocks the
caller, and it drops (and counts) what a peer does not take, so that one slow peer costs the others
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

GONE = "gone"
"""The kind of an envelope without a body that no node sent: the connection of ``src`` has ended,
and what it sent over it has been delivered. It travels as messages do, late and lossy."""


class Envelope(NamedTuple):
    """``body`` from ``src`` to ``dst``; ``kind`` names the message for faults and traces."""

    src: int
    dst: int
    kind: str
    body: bytes


Receiver = Callable[[Envelope], None]
"""Called on the event loop for each envelope that arrives; must not block."""


class Transport(Protocol):
    """Moves envelopes between this node and its peers."""

    async def start(self, receiver: Receiver) -> None:
        """Begin to connect and to deliver; returns without waiting for any peer."""
        ...

    def send(self, dst: int, kind: str, body: bytes) -> None:
        """Queue one envelope. Everything queued within a turn of the loop travels together."""
        ...

    def meet(self, addresses: Mapping[int, str]) -> None:
        """The peers from now on, with ``host:port`` of each; those who are gone are let go."""
        ...

    def connected(self) -> frozenset[int]:
        """Peers that can be reached as far as the transport knows (a relay reports attached ones,
        or all peers where it cannot tell)."""
        ...

    def queued_bytes(self, dst: int) -> int:
        """What waits on this side for the stream that leads to ``dst`` (a relay's is shared by all
        peers)."""
        ...

    async def close(self) -> None: ...
