"""The consensus core: Multi-Paxos as a pure, synchronous object, without I/O or a clock."""

from .ballot import BOTTOM, Ballot
from .batch import Batch, MalformedBatch, in_parts
from .changes import AddNode, Change, Progress, RemoveNode, TransferLeader
from .config import PaxosConfig
from .membership import ChangeRefused, Member, Membership, first_members
from .node import PaxosNode
from .proposer import Overloaded
from .ready import Install, Persist, Ready, Recovered, SnapshotRead
from .reconfiguration import NotLeader
from .roles import TRANSITIONS, Event, Role

__all__ = [
    "BOTTOM",
    "TRANSITIONS",
    "AddNode",
    "Ballot",
    "Batch",
    "Change",
    "ChangeRefused",
    "Event",
    "Install",
    "MalformedBatch",
    "Member",
    "Membership",
    "NotLeader",
    "Overloaded",
    "PaxosConfig",
    "PaxosNode",
    "Persist",
    "Progress",
    "Ready",
    "Recovered",
    "RemoveNode",
    "Role",
    "SnapshotRead",
    "TransferLeader",
    "first_members",
    "in_parts",
]
