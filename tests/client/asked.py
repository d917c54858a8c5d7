"""What the tests of calls ask of the fake nodes."""

from __future__ import annotations

import asyncio
import time

from consensusllm.wire.commands import decode_command


async def until(condition, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.002)


def applied(cluster, kind):
    return [each for each in cluster.commands if isinstance(each.operation, kind)]


def sent(node, kind):
    commands = [decode_command(each.command) for each in node.requests if each.command]
    return [each for each in commands if isinstance(each.operation, kind)]


def answer_all(cluster, conversation, turn, candidates):
    for number in candidates:
        cluster.record(conversation, turn, number, f"answer {number}")
