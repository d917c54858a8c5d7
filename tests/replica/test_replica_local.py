"""The node's own client of its replica: its commands happen, however many wait at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from consensusllm.conversations import Limits, Machine
from consensusllm.conversations.commands import Put, SessionCommand
from consensusllm.conversations.replies import Done, Reply
from consensusllm.council.live_text import LiveText
from consensusllm.replica.local import LocalReplica
from consensusllm.replica.outcomes import Failure

HELD = Put("held", b"")


class Shell:
    """A cluster of one: a command is applied at once, but for the one that is held up."""

    def __init__(self) -> None:
        self.machine = Machine(Limits())
        self.replica: Any = self
        self.node = 1
        self.holds = asyncio.Event()
        self.release: Callable[[], None] = lambda: None

    def clock(self) -> float:
        return 7.0

    def time_ms(self, now: float) -> int:
        return 1000 + int(now)

    def submit(
        self,
        command: bytes,
        decoded: SessionCommand,
        timeout_s: float,
        resolve: Callable[[Reply | Failure], None],
    ) -> None:
        def apply() -> None:
            [reply] = self.machine.apply(self.machine.applied_slot + 1, 0, [decoded])
            resolve(reply)

        if decoded.operation == HELD:
            self.release = apply
            self.holds.set()
        else:
            apply()

    def read(self, timeout_s: float, resolve: Callable[[Failure | None], None]) -> None:
        resolve(None)


async def test_one_command_that_is_held_up_holds_up_no_later_one() -> None:
    shell = Shell()
    local = LocalReplica(shell, LiveText(1, lambda node, body: None))
    held = asyncio.create_task(local.submit(HELD))
    await shell.holds.wait()
    for number in range(Limits().replies_per_session + 1):
        assert await local.submit(Put(f"k{number % 10}", b"")) == Done()
    shell.release()
    assert await held == Done()


async def test_its_time_is_the_replicas_and_not_the_machines() -> None:
    """A machine that slept shows hours that no batch knows of: each turn would be past its time."""
    assert LocalReplica(Shell(), LiveText(1, lambda node, body: None)).now_ms() == 1007
