"""A node's status: what it waits for, and for how long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consensusllm.service import servicer
from consensusllm.service.servicer import ClientServicer
from consensusllm.transport import serving
from consensusllm.transport.serving import Health
from consensusllm.wire.generated import client_pb2 as pb


class Hashing:
    """A runtime whose state takes ``steps`` to hash, a second each."""

    def __init__(self, steps: int) -> None:
        self.now = 0.0
        self.left = steps
        self.replica = self.machine = self

    def clock(self) -> float:
        return self.now

    def hash_some(self) -> bool:
        self.now += 1.0
        self.left -= 1
        return self.left <= 0


@pytest.mark.parametrize(("steps", "asked"), [(1, 1), (3, 1), (4, 2)])
async def test_a_status_waits_so_long_for_a_hash_and_the_next_one_goes_on(
    monkeypatch: pytest.MonkeyPatch, steps: int, asked: int
) -> None:
    made = []
    monkeypatch.setattr(servicer, "HASHING_S", 3.0)
    monkeypatch.setattr(servicer, "status", lambda *_, hashed: made.append(hashed))
    runtime: Any = Hashing(steps)
    nothing: Any = None
    node = ClientServicer(
        runtime, nothing, nothing, nothing, nothing, token=None, read_timeout_s=1.0
    )
    for _ in range(asked):
        await node.GetStatus(pb.StatusRequest(), nothing)
    assert made == [False] * (asked - 1) + [True]


async def test_who_watches_a_nodes_health_and_does_not_read_keeps_it_from_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stuck:
        async def enter_graceful_shutdown(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(serving, "STOPPING_S", 0.01)
    stuck: Any = Stuck()
    await Health(stuck).stopping()
