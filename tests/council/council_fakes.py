"""A cluster that is a list: one log, real state machines, and an answerer's port to each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from consensusllm.conversations import (
    Candidate,
    CreateConversation,
    Limits,
    Machine,
    OpenSession,
    Operation,
    PlannedCandidate,
    Reply,
    SessionCommand,
    SessionOpened,
    SubmitQuery,
    Turn,
    TurnOpened,
)
from consensusllm.conversations.prompt import Prompt
from consensusllm.council.port import Delta, SubmitFailed

WAIT_S = 10.0


class Cluster:
    """One log that every node applies at once, except those that are cut off from it."""

    def __init__(self, nodes: int = 3, limits: Limits | None = None) -> None:
        self.log: list[SessionCommand] = []
        self.time_ms = 1_000_000
        self.leader = 1
        self.live = frozenset(range(1, nodes + 1))
        self.members = self.live
        self.limits = limits or Limits()
        self.changed = asyncio.Condition()
        self.ports = {node: Port(self, node) for node in sorted(self.live)}
        self.session = self.open_session(b"client".ljust(16))

    def open_session(self, name: bytes) -> list[Any]:
        opened = self.append(SessionCommand(name, 0, 1, OpenSession()))
        assert isinstance(opened, SessionOpened)
        return [opened.session, 0]

    def append(self, command: SessionCommand) -> Reply:
        self.log.append(command)
        replies = [port.catch_up() for port in self.ports.values()]
        return next(reply for reply in replies if reply is not None)

    def propose(self, operation: Operation, session: list[Any] | None = None) -> Reply:
        session = session or self.session
        session[1] += 1
        return self.append(SessionCommand(session[0], session[1], 1, operation))

    def ask(self, nodes: tuple[int, ...] = (1, 2, 3), conversation: str = "c1", **more: Any) -> int:
        self.propose(CreateConversation(conversation))
        question = more.pop("question", "what?")
        plan = tuple(PlannedCandidate(number, node) for number, node in enumerate(nodes, start=1))
        reply = self.propose(SubmitQuery(conversation, question, plan, **more))
        assert isinstance(reply, TurnOpened)
        return reply.turn

    def turn(self, number: int = 1, conversation: str = "c1", node: int = 1) -> Turn:
        turn = self.ports[node].machine.turn(conversation, number)
        assert turn is not None
        return turn

    def candidate(self, number: int = 1, turn: int = 1, conversation: str = "c1") -> Candidate:
        candidate = self.turn(turn, conversation).candidate(number)
        assert candidate is not None
        return candidate

    def prompt(self, conversation: str, turn: int, candidate: int) -> Prompt:
        found = self.candidate(candidate, turn, conversation)
        return self.ports[1].machine.prompt(conversation, self.turn(turn, conversation), found)

    def operations(self, kind: type) -> list[Any]:
        return [each.operation for each in self.log if isinstance(each.operation, kind)]


class Port:
    """A ReplicaPort. ``connected`` False: it neither applies nor proposes."""

    def __init__(self, cluster: Cluster, node: int) -> None:
        self.node = node
        self.cluster = cluster
        self.machine = Machine(cluster.limits)
        self.connected = True
        self.deltas: list[Delta] = []
        self.attempted = asyncio.Event()
        self.passed = False
        self.polls = 0
        self.callbacks: list[Callable[[str, int], None]] = []
        self.session: list[Any] | None = None

    def catch_up(self) -> Reply | None:
        reply = None
        while self.connected and self.machine.applied_slot < len(self.cluster.log):
            slot = self.machine.applied_slot + 1
            command = self.cluster.log[slot - 1]
            reply = self.machine.apply(slot, self.cluster.time_ms, [command])[0]
            for touched in self.machine.take_touched():
                for callback in self.callbacks:
                    callback(*touched)
        return reply

    def is_leader(self) -> bool:
        self.polls += 1
        return self.cluster.leader == self.node

    def live(self) -> frozenset[int]:
        return self.cluster.live

    def members(self) -> frozenset[int]:
        return self.cluster.members

    def now_ms(self) -> int:
        return self.cluster.time_ms

    def subscribe_touched(self, callback: Callable[[str, int], None]) -> None:
        self.callbacks.append(callback)

    def subscribe_asking(self, callback: Callable[[SubmitQuery], None]) -> None:
        self.is_asking = callback

    async def barrier(self) -> None:
        await self._reach_quorum()
        self.catch_up()
        self.passed = True

    async def submit(self, operation: Operation) -> Reply:
        await self._reach_quorum()
        if self.session is None:
            self.session = self.cluster.open_session(f"node {self.node}".encode().ljust(16))
        return self.cluster.propose(operation, self.session)

    async def _reach_quorum(self) -> None:
        self.attempted.set()
        await asyncio.sleep(0)
        if not self.connected:
            raise SubmitFailed("no quorum")

    def publish(self, delta: Delta) -> None:
        self.deltas.append(delta)


async def until(condition: Callable[[], Any]) -> None:
    async def poll() -> None:
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)

    await asyncio.wait_for(poll(), WAIT_S)
