"""How a client of the simulated cluster asks: in a session, and as often as it takes.

It sends one operation at a time, to any node, and the same one again, to another node, when no
answer comes: requests and answers get lost, and nodes die.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from consensusllm.conversations import Machine
from consensusllm.conversations.commands import OpenSession, Operation, SessionCommand
from consensusllm.conversations.replies import Code, Refused, Reply, SessionOpened, TurnOpened
from consensusllm.replica.outcomes import Failure
from consensusllm.wire.commands import encode_command

from .network import CLIENTS

if TYPE_CHECKING:
    from .workload import Workload

PATIENCE_S = 1.0
"""How long a client waits for an answer before it asks another node."""

Outcome = Any


class Client(ABC):
    """See the module. ``process`` is its name in the history; what it draws comes from ``rng``."""

    def __init__(self, workload: Workload, process: int, rng: Random) -> None:
        self._workload = workload
        self._cluster = workload.cluster
        self._loop = workload.cluster.loop
        self._process = process
        self._rng = rng
        self._session = b""
        self._sequence = 0

    @abstractmethod
    async def run(self) -> None:
        """Work until the workload is `stopping`."""

    async def command(self, operation: Operation, *, must: bool = False) -> Reply | None:
        """The answer to ``operation``; None where it will never be known. ``must``: go on until it
        is known; other clients sometimes lose their patience, and their session."""
        if not self._session:
            opening = SessionCommand(self._rng.randbytes(16), 0, 0, OpenSession())
            opened = await self._exchange(opening, None)
            assert isinstance(opened, SessionOpened), opened
            self._session, self._sequence = opened.session, 0
        self._sequence += 1
        command = SessionCommand(self._session, self._sequence, self._sequence, operation)
        tries = None if must or self._rng.random() < 0.95 else 1
        reply = await self._exchange(command, tries)
        if reply is None or (isinstance(reply, Refused) and reply.code is Code.SESSION_EXPIRED):
            self._session = b""
            return None
        self._cluster.figures["operations"] += 1
        return reply

    async def _exchange(self, command: SessionCommand, tries: int | None) -> Reply | None:
        packed = encode_command(command)

        def send(node: int, answer: Callable[[Outcome], None]) -> None:
            life = self._cluster.life(node)
            if life is not None:
                life.submit(packed, command, PATIENCE_S, answer)

        reply: Reply | None = await self._ask(send, tries)
        if reply is not None and command.sequence > 0:
            if isinstance(reply, Refused) and reply.code is Code.OVER_BUDGET:
                self._cluster.figures["refused by a budget"] += 1
                self._workload.refused.add(getattr(command.operation, "question", ""))
            if isinstance(reply, TurnOpened):
                self._workload.told.opened(command.operation, reply)
            self._cluster.trace.add(0, f"client {self._process}", (command.operation, reply))
            self._cluster.invariants.acknowledged(command, reply)
        return reply

    async def read(self, look: Callable[[Machine], Outcome]) -> Outcome:
        """What ``look`` sees in a node's state after a read barrier there, as ``(result,)``."""
        invariants = self._cluster.invariants
        needed = invariants.acknowledged_through

        def send(node: int, answer: Callable[[Outcome], None]) -> None:
            life = self._cluster.life(node)
            if life is None:
                return

            def confirmed(failure: Failure | None) -> None:
                if failure is not None:
                    answer(failure)
                    return
                machine = life.replica.machine
                invariants.read(node, machine.applied_slot, needed)
                answer((look(machine),))

            life.read(PATIENCE_S, confirmed)

        self._cluster.figures["reads"] += 1
        return await self._ask(send, None)

    async def _ask(
        self, send: Callable[[int, Callable[[Outcome], None]], None], tries: int | None
    ) -> Outcome:
        """The first answer of any node that is no failure; None after ``tries`` (None: never)."""
        network = self._cluster.network
        done: asyncio.Future[Outcome] = self._loop.create_future()

        def settle(outcome: Outcome) -> None:
            if not isinstance(outcome, Failure) and not done.done():
                done.set_result(outcome)

        while True:
            node = self._rng.choice(self._cluster.members)
            answer = partial(self._answer, network, node, settle)
            network.post(CLIENTS, node, partial(send, node, answer))
            await asyncio.wait((done,), timeout=PATIENCE_S * self._rng.uniform(0.5, 2.0))
            if done.done():
                return done.result()
            if tries is not None:
                tries -= 1
                if tries <= 0:
                    return None

    @staticmethod
    def _answer(
        network: Any, node: int, settle: Callable[[Outcome], None], result: Outcome
    ) -> None:
        network.post(node, CLIENTS, lambda: settle(result))
