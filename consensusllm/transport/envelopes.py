"""Envelopes between the port's dataclass and protobuf, and which of them a node must refuse.

Each carries a checksum of its own from end to end. TCP's has 16 bits, and one flipped bit can turn
a message into another that is just as well formed: a vote for another slot, or another value.
"""

from __future__ import annotations

from zlib import crc32

from ..wire.generated import peer_pb2
from .port import Envelope


def pack(into: peer_pb2.Envelopes, cluster_id: str, batch: list[Envelope]) -> None:
    """Append ``batch`` to the protobuf message ``into``."""
    add = into.envelopes.add
    for envelope in batch:
        add(
            cluster_id=cluster_id,
            src=envelope.src,
            dst=envelope.dst,
            kind=envelope.kind,
            body=envelope.body,
            checksum=checksum(cluster_id, envelope.src, envelope.dst, envelope.kind, envelope.body),
        )


def checksum(cluster_id: str, src: int, dst: int, kind: str, body: bytes) -> int:
    """What `peer.proto` says of ``Envelope.checksum``."""
    return crc32(body, crc32(f"{cluster_id} {src} {dst} {kind}".encode()))


def unpack(envelope: peer_pb2.Envelope) -> Envelope:
    """The envelope as the port has it."""
    return Envelope(envelope.src, envelope.dst, envelope.kind, envelope.body)


def refuse(envelope: peer_pb2.Envelope, cluster_id: str, node: int) -> str:
    """Why ``node`` must not take ``envelope``, in one line; empty when it may.

    Who is a member, and whose word counts, is for consensus to know: that changes."""
    if envelope.cluster_id != cluster_id:
        return f"it is of cluster {envelope.cluster_id!r:.80}, this is cluster {cluster_id!r}"
    if envelope.dst != node:
        return f"it is for node {envelope.dst}, this is node {node}"
    if envelope.src in (0, node):
        return f"it names node {envelope.src} as its sender"
    expected = checksum(cluster_id, envelope.src, node, envelope.kind, envelope.body)
    if envelope.checksum != expected:
        return f"it does not match its checksum: it was damaged on its way from node {envelope.src}"
    return ""
