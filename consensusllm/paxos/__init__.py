"""The consensus core: Multi-Paxos as a pure, synchronous object, without I/O or a clock."""

from .ballot import BOTTOM, Ballot
from .batch import Batch, MalformedBatch, in_parts
from .changes import AddNode, Change, ChangeProgress, RemoveNode, TransferLeader
from .config import PaxosConfig
from .membership import ChangeRefused, Member, Membership, first_members
from .node import PaxosNode
from .proposer import Overloaded
from .ready import Install, Persist, Ready, Recovered, SnapshotRead
from .roles import TRANSITIONS, Event, NotLeader, Role

__all__ = [
    "BOTTOM",
    "TRANSITIONS",
    "AddNode",
    "Ballot",
    "Batch",
    "Change",
    "ChangeProgress",
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
    "Ready",
    "Recovered",
    "RemoveNode",
    "Role",
    "SnapshotRead",
    "TransferLeader",
    "first_members",
    "in_parts",
]
