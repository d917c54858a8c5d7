"""How much the replicated state machine takes in: every bound, in one place.

The limits decide which commands are refused, so they belong to the state machine's definition:
every node of a cluster must run with the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in count and in bytes (UTF-8); all are inclusive."""

    question_bytes: int = MEBIBYTE
    system_bytes: int = 16 * 1024  # of a conversation, whose head is written with each of its turns
    text_bytes: int = 4 * MEBIBYTE
    value_bytes: int = MEBIBYTE
    key_characters: int = 512
    name_bytes: int = 256  # of a model, and of a finish reason
    candidates_per_turn: int = 64
    council_members: int = 16
    council_stages: int = 8
    council_bytes: int = MEBIBYTE // 4  # of all its instructions together
    turns_per_conversation: int = 10_000
    conversations: int = 1_000_000
    keys: int = 1_000_000
    deadline_ms: int = 3_600_000
    models_per_node: int = 64
    registered_nodes: int = 64
    budgets: int = 10_000
    sessions: int = 10_000
    replies_per_session: int = 4096
    reply_bytes_per_session: int = 16 * MEBIBYTE  # of values inside remembered replies
