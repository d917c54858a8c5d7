"""The Python client: follows the leader, sends each command so that it happens at most once, and
resumes the text that it was reading on another node. It owns no state of the cluster."""

from __future__ import annotations

from consensusllm.client.client import Client
from consensusllm.client.councils import TemplateRole, Templates, TemplateStage, TemplateSummary
from consensusllm.client.errors import (
    AlreadyExists,
    ChangeRefused,
    Conflict,
    ConsensusError,
    InvalidRequest,
    NotAnswered,
    NotFound,
    OutcomeUnknown,
    OverBudget,
    Overloaded,
    TooLarge,
    TurnUnread,
    Unauthenticated,
    Unavailable,
)
from consensusllm.client.export import Altered, Export, read_export
from consensusllm.client.imports import read_conversations
from consensusllm.client.members import ChangeProgress, OnProgress
from consensusllm.client.models import ClusterModel, cluster_models, money
from consensusllm.client.plan import File, Plan
from consensusllm.client.status import MemberStatus, ModelStatus, Progress, Status
from consensusllm.client.verify import NodeCopy, NotExtended, Verification, found_at
from consensusllm.client.watch import (
    CandidateDone,
    Delta,
    StageOpened,
    Takeover,
    TurnClosed,
    WatchEvent,
)
from consensusllm.conversations.commands import GenerationOptions, Usage
from consensusllm.conversations.context_window import estimated_tokens
from consensusllm.conversations.council import Council
from consensusllm.conversations.records import (
    Budget,
    Candidate,
    Conversation,
    ConversationSummary,
    Turn,
)
from consensusllm.conversations.replies import Chosen, TurnOpened

__all__ = [
    "AlreadyExists",
    "Altered",
    "Budget",
    "Candidate",
    "CandidateDone",
    "ChangeProgress",
    "ChangeRefused",
    "Chosen",
    "Client",
    "ClusterModel",
    "Conflict",
    "ConsensusError",
    "Conversation",
    "ConversationSummary",
    "Council",
    "Delta",
    "Export",
    "File",
    "GenerationOptions",
    "InvalidRequest",
    "MemberStatus",
    "ModelStatus",
    "NodeCopy",
    "NotAnswered",
    "NotExtended",
    "NotFound",
    "OnProgress",
    "OutcomeUnknown",
    "OverBudget",
    "Overloaded",
    "Plan",
    "Progress",
    "StageOpened",
    "Status",
    "Takeover",
    "TemplateRole",
    "TemplateStage",
    "TemplateSummary",
    "Templates",
    "TooLarge",
    "Turn",
    "TurnClosed",
    "TurnOpened",
    "TurnUnread",
    "Unauthenticated",
    "Unavailable",
    "Usage",
    "Verification",
    "WatchEvent",
    "cluster_models",
    "estimated_tokens",
    "found_at",
    "money",
    "read_conversations",
    "read_export",
]
