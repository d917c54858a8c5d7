"""The Python client: follows the leader, sends each command so that it happens at most once, and
resumes the text that it was reading on another node. It owns no state of the cluster."""

from __future__ import annotations

from consensusllm.client.client import Client
from consensusllm.client.errors import (
    AlreadyExists,
    ChangeRefused,
    Conflict,
    ConsensusError,
    InvalidRequest,
    NotAnswered,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from consensusllm.client.members import ChangeProgress, OnProgress
from consensusllm.client.status import MemberStatus, ModelStatus, Progress, Status
from consensusllm.client.watch import CandidateDone, Delta, Takeover, TurnClosed, WatchEvent
from consensusllm.conversations.commands import Chosen, GenerationOptions, TurnOpened
from consensusllm.conversations.records import Candidate, Conversation, ConversationSummary, Turn

__all__ = [
    "AlreadyExists",
    "Candidate",
    "CandidateDone",
    "ChangeProgress",
    "ChangeRefused",
    "Chosen",
    "Client",
    "Conflict",
    "ConsensusError",
    "Conversation",
    "ConversationSummary",
    "Delta",
    "GenerationOptions",
    "InvalidRequest",
    "MemberStatus",
    "ModelStatus",
    "NotAnswered",
    "NotFound",
    "OnProgress",
    "OutcomeUnknown",
    "Overloaded",
    "Progress",
    "Status",
    "Takeover",
    "TooLarge",
    "Turn",
    "TurnClosed",
    "TurnOpened",
    "Unauthenticated",
    "Unavailable",
    "WatchEvent",
]
