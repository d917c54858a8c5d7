"""The shell around a replica: when a node is in step, and what it does about a bug."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from async_timeout import timeout

from consensusllm.paxos import NotLeader, RemoveNode
from consensusllm.replica.runtime import Runtime
from consensusllm.storage import DiskFailed
from consensusllm.transport import Envelope
from consensusllm.transport.port import Receiver

PATIENCE_S = 60.0


class Behind:
    """A replica that lacks slots up to 9, and tells how often it was looked at."""

    def __init__(self, leader: int | None) -> None:
        self._leader = leader
        self.machine = SimpleNamespace(applied_slot=4)
        self.progress = SimpleNamespace(known_slot=9)
        self._looks = 0
        self._looked = asyncio.Event()

    @property
    def leader(self) -> int | None:
        self._looks += 1
        self._looked.set()
        return self._leader

    @leader.setter
    def leader(self, leader: int) -> None:
        self._leader = leader

    async def looked_at_twice(self) -> None:
        wanted = self._looks + 2
        async with timeout(PATIENCE_S):
            while self._looks < wanted:
                self._looked.clear()
                await self._looked.wait()


def runtime_of(replica: Behind) -> Runtime:
    nothing: Any = None
    any_replica: Any = replica
    return Runtime(any_replica, nothing, nothing, lambda error: None)


@pytest.mark.parametrize("led_at_first", [True, False])
async def test_it_is_in_step_once_a_leader_is_known_and_nothing_is_missing(
    led_at_first: bool,
) -> None:
    replica = Behind(1 if led_at_first else None)
    waiting = asyncio.create_task(runtime_of(replica).in_step(PATIENCE_S))
    await replica.looked_at_twice()
    replica.leader = 1
    await replica.looked_at_twice()
    assert not waiting.done(), "it lacks slots 5 to 9"
    replica.machine.applied_slot = 9
    async with timeout(PATIENCE_S):
        await waiting


async def test_where_nobody_leads_there_is_nothing_to_wait_for() -> None:
    async with timeout(PATIENCE_S):
        await runtime_of(Behind(None)).in_step(0.0)


async def test_a_bug_that_a_change_of_members_shows_stops_the_node() -> None:
    bug = AssertionError("one change at a time")

    def change(*_: object) -> None:
        raise bug

    replica: Any = SimpleNamespace(change=change)
    nothing: Any = None
    broken: list[BaseException] = []
    runtime = Runtime(replica, nothing, nothing, broken.append)
    for _ in range(2):  # the second time it has stopped
        with pytest.raises(NotLeader):
            runtime.change(RemoveNode(2))
    assert broken == [bug]


async def test_a_bug_in_who_receives_another_kind_stops_the_node() -> None:
    bug = KeyError("a text")
    receivers: list[Receiver] = []

    async def start(receiver: Receiver) -> None:
        receivers.append(receiver)

    async def close() -> None:
        pass

    def receive(envelope: Envelope) -> None:
        raise bug

    replica: Any = SimpleNamespace(stop=lambda: None)
    nothing: Any = None
    transport: Any = SimpleNamespace(start=start, close=close)
    broken: list[BaseException] = []
    runtime = Runtime(replica, nothing, transport, broken.append)
    runtime.on_kind("stream", receive)
    await runtime.start()
    receivers[0](Envelope(2, 1, "stream", b""))
    assert broken == [bug]
    await runtime.close()


async def test_a_disk_that_fails_while_the_node_stops_is_told_of_before_it_has_stopped() -> None:
    failure = DiskFailed("node.db: disk I/O error; check the disk")
    stopping = threading.Event()

    def run(disk: object) -> None:
        assert stopping.wait(PATIENCE_S)
        raise failure

    async def close() -> None:
        pass

    job = SimpleNamespace(run=run)
    replica: Any = SimpleNamespace(next_job=lambda: job, stop=stopping.set)
    nothing: Any = None
    transport: Any = SimpleNamespace(close=close)
    broken: list[BaseException] = []
    runtime = Runtime(replica, nothing, transport, broken.append)
    runtime._next_job()
    async with timeout(PATIENCE_S):
        await runtime.close()
    assert broken == [failure]
