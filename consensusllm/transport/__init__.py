"""How envelopes travel between nodes: the port, and its direct, relayed and in-memory forms."""

from .direct import DirectTransport, PeerServicer
from .envelopes import checksum
from .memory import MemoryNetwork, MemoryTransport
from .outbox import Outbox, QueueLimits
from .port import GONE, Envelope, Receiver, Transport
from .relayed import RelayedTransport
from .serving import CannotListen, Health, add_standard_services, listen, make_server
from .streams import (
    BATCH_BYTES,
    MAX_MESSAGE_BYTES,
    StreamRefused,
    race,
    receive,
    stream_options,
)

__all__ = [
    "BATCH_BYTES",
    "GONE",
    "MAX_MESSAGE_BYTES",
    "CannotListen",
    "DirectTransport",
    "Envelope",
    "Health",
    "MemoryNetwork",
    "MemoryTransport",
    "Outbox",
    "PeerServicer",
    "QueueLimits",
    "Receiver",
    "RelayedTransport",
    "StreamRefused",
    "Transport",
    "add_standard_services",
    "checksum",
    "listen",
    "make_server",
    "race",
    "receive",
    "stream_options",
]
