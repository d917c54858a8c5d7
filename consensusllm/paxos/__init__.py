"""The consensus core: Multi-Paxos as a pure, synchronous object, without I/O or a clock."""

from .ballot import BOTTOM, Ballot
from .batch import Batch, MalformedBatch
from .config import PaxosConfig
from .node import PaxosNode
from .proposer import Overloaded
from .ready import Install, Persist, Ready, Recovered, SnapshotRead
from .roles import TRANSITIONS, Event, NotLeader, Role

__all__ = [
    "BOTTOM",
    "TRANSITIONS",
    "Ballot",
    "Batch",
    "Event",
    "Install",
    "MalformedBatch",
    "NotLeader",
    "Overloaded",
    "PaxosConfig",
    "PaxosNode",
    "Persist",
    "Ready",
    "Recovered",
    "Role",
    "SnapshotRead",
]
