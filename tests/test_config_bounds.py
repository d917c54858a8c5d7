"""The bounds of a configuration: what a node could not keep, or find room for, is refused."""

from __future__ import annotations

import pytest

from consensusllm.client.nodes import RESPONSE_BYTES_MAX
from consensusllm.client.pipeline import MESSAGE_BYTES_MAX
from consensusllm.config import COMMAND_OVERHEAD_BYTES, Config
from consensusllm.conversations.limits import Limits as StateLimits
from consensusllm.paxos import PaxosConfig
from consensusllm.transport import BATCH_BYTES
from tests.test_config import fault_of, two_nodes

LOG = PaxosConfig(1, (1,)).max_log_bytes
COMMAND = (2 << 20) + COMMAND_OVERHEAD_BYTES
"""Two questions of the largest kind, or values."""


@pytest.mark.parametrize(
    ("section", "key", "least", "most"),
    [
        ("limits", "message_bytes", 2 * COMMAND, RESPONSE_BYTES_MAX),
        ("paxos", "max_pending_bytes", COMMAND, LOG),
        ("paxos", "log_retain_bytes", 1024, LOG // 4),
        ("answering", "deadline_ms", 1, StateLimits().deadline_ms),
    ],
)
def test_a_bound_that_a_node_cannot_keep_is_refused(
    section: str, key: str, least: int, most: int
) -> None:
    for value in (least, most):
        Config.from_document(two_nodes(**{section: {key: value}}), source="c.json")
    for value in (least - 1, most + 1):
        assert fault_of(two_nodes(**{section: {key: value}})).startswith(section)


def test_a_node_has_room_for_every_command_that_its_limits_allow() -> None:
    small = {"question_bytes": 1 << 20, "answer_bytes": 1024, "value_bytes": 1024}
    for limits in (small, {**small, "question_bytes": 1024, "value_bytes": 1 << 20}):
        fault = fault_of(two_nodes(limits={**limits, "message_bytes": 4 << 20}))
        assert fault.startswith(f"limits.message_bytes must be at least {2 * COMMAND} with these")
        fault = fault_of(two_nodes(limits=limits, paxos={"max_pending_bytes": 2 << 20}))
        assert fault.startswith(f"paxos.max_pending_bytes must be at least {COMMAND} with these")


def test_the_slots_that_are_open_at_a_time_fill_no_more_than_half_of_a_log() -> None:
    paxos = {"pipeline_slots": 128, "max_batch_bytes": 1 << 20}
    Config.from_document(two_nodes(paxos=paxos), source="c.json")
    fault = fault_of(two_nodes(paxos={**paxos, "pipeline_slots": 129}))
    assert fault == f"paxos: pipeline_slots times max_batch_bytes must be at most {LOG // 2}"


def test_a_message_has_room_for_what_is_put_in_one() -> None:
    limits = {"question_bytes": 1024, "answer_bytes": 1024, "value_bytes": 1024}
    limits["message_bytes"] = 2 * max(BATCH_BYTES, MESSAGE_BYTES_MAX) - 1
    paxos = {"max_batch_bytes": 1024, "chunk_bytes": 1024}
    fault = fault_of(two_nodes(limits=limits, paxos=paxos))
    assert fault == "limits.message_bytes: must be a whole number >= 2097152"
