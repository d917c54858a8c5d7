"""Queries of a client, answered from this node's applied state."""

from __future__ import annotations

from consensusllm.conversations import Machine
from consensusllm.wire.generated import client_pb2 as pb
from consensusllm.wire.records import budget_to_proto, conversation_to_proto, summary_to_proto

PAGE = 1000
"""The most that one answer lists."""


def least_bytes(machine: Machine, read: pb.Read) -> int:
    """What the answer to ``read`` has at least. It is told before the answer is made, which may
    take long where no message has room for it."""
    if read.WhichOneof("query") != "conversation":
        return 0
    conversation = machine.conversation(read.conversation)
    turns = conversation.turns if conversation is not None else ()
    return sum(
        len(turn.question) + sum(len(candidate.text) for candidate in turn.candidates)
        for turn in turns
    )


def run_query(machine: Machine, read: pb.Read) -> pb.ReadReply:
    """Answer ``read``, which asks for something."""
    reply = pb.ReadReply(applied_slot=machine.applied_slot)
    query = read.WhichOneof("query")
    if query == "key":
        value = machine.get(read.key)
        if value is None:
            reply.not_found = True
        else:
            reply.key_value.value = value
    elif query == "conversation":
        conversation = machine.conversation(read.conversation)
        if conversation is None:
            reply.not_found = True
        else:
            reply.conversation.CopyFrom(conversation_to_proto(conversation))
    elif query == "list":
        limit = _page(read.list.limit)
        found = machine.summaries(read.list.after, limit + 1)
        reply.list.conversations.extend(summary_to_proto(summary) for summary in found[:limit])
        reply.list.more = len(found) > limit
    elif query == "budgets":
        budgets = sorted(machine.budgets.items())
        reply.budgets.budgets.extend(budget_to_proto(*each) for each in budgets)
    else:
        limit = _page(read.keys.limit)
        keys = machine.keys(read.keys.prefix, read.keys.after, limit + 1)
        reply.keys.keys.extend(keys[:limit])
        reply.keys.more = len(keys) > limit
    return reply


def _page(limit: int) -> int:
    return min(limit or PAGE, PAGE)
