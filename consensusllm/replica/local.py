"""The replica as the node's own answerer uses it: a client in the same process.

It has a session like any other client, so what it proposes happens at most once; the session is
opened when it is first needed, and anew when the cluster has forgotten it or it is full.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from consensusllm.conversations import Machine
from consensusllm.conversations.commands import OpenSession, Operation, SessionCommand, SubmitQuery
from consensusllm.conversations.replies import Code, Refused, Reply, SessionOpened
from consensusllm.conversations.sessions import NAME_BYTES
from consensusllm.council.generation import Generation
from consensusllm.council.live_text import LiveText
from consensusllm.council.port import Delta, SubmitFailed
from consensusllm.paxos import Role
from consensusllm.wire.commands import encode_command

from .outcomes import Failure
from .replica import Replica

TRY_S = 2.0
"""How long one try may take before the same command is sent again."""

SUBMIT_S = 30.0

NUMBERS_MAX = 1024
"""How far a session's numbers go beyond one that is not answered; then the next ones are of a fresh
session. Well below the replies that the cluster keeps of a session."""


class Shell(Protocol):
    """What owns the replica: the asyncio runtime, or the simulator's."""

    replica: Replica

    def clock(self) -> float:
        """The clock of the replica's ``now``, in seconds."""
        ...

    def submit(
        self,
        command: bytes,
        decoded: SessionCommand,
        timeout_s: float,
        resolve: Callable[[Reply | Failure], None],
    ) -> None: ...

    def read(self, timeout_s: float, resolve: Callable[[Failure | None], None]) -> None: ...


@dataclass(slots=True)
class _Session:
    """``name`` is what its commands carry, ``unfinished`` are its numbers that are not answered
    yet."""

    name: bytes
    sequence: int = 0
    unfinished: set[int] = field(default_factory=set)

    @property
    def is_full(self) -> bool:
        return self.sequence - min(self.unfinished, default=self.sequence) >= NUMBERS_MAX


class LocalReplica:
    """Implements council.port.ReplicaPort around ``runtime``; ``random_bytes`` names sessions."""

    def __init__(
        self,
        runtime: Shell,
        live: LiveText,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.node = runtime.replica.node
        self._runtime = runtime
        self._live = live
        self._random_bytes = random_bytes
        self._seen = runtime.replica.machine
        self._callbacks: list[Callable[[str, int], None]] = []
        self._asking: Callable[[SubmitQuery], None] | None = None
        self._session: _Session | None = None
        self._opening: asyncio.Lock = asyncio.Lock()
        runtime.replica.on_applied = self._on_applied

    # What is known ----------------------------------------------------------------------------

    @property
    def machine(self) -> Machine:
        return self._runtime.replica.machine

    def now_ms(self) -> int:
        return self._runtime.replica.time_ms(self._runtime.clock())

    def is_leader(self) -> bool:
        return self._runtime.replica.role is Role.LEADING

    def live(self) -> frozenset[int]:
        return frozenset(self._runtime.replica.paxos.live)

    def members(self) -> frozenset[int]:
        return frozenset(each.node for each in self._runtime.replica.members.members)

    def subscribe_touched(self, callback: Callable[[str, int], None]) -> None:
        self._callbacks.append(callback)

    def subscribe_asking(self, callback: Callable[[SubmitQuery], None]) -> None:
        self._asking = callback

    def is_asking(self, query: SubmitQuery) -> None:
        """A client's ``query`` is on its way into the log."""
        if self._asking is not None:
            self._asking(query)

    def _on_applied(self) -> None:
        machine = self.machine
        if machine is not self._seen:  # a snapshot was installed: anything may have changed
            self._seen = machine
            self._live.forget_all_but(self._is_open)
        for conversation, number in machine.take_touched():
            self._live.forget(conversation, number, self._is_open)
            for callback in self._callbacks:
                callback(conversation, number)

    async def barrier(self) -> None:
        """Return once this node has applied all that was chosen before the call. Raises
        SubmitFailed."""
        done: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()

        def resolve(failure: Failure | None) -> None:
            if not done.done():
                done.set_result(failure)

        self._runtime.read(TRY_S, resolve)
        failure = await done
        if failure is not None:
            raise SubmitFailed(failure.message)

    def publish(self, delta: Delta) -> None:
        key = Generation(delta.conversation, delta.turn, delta.candidate, delta.attempt)
        if self._is_open(key):  # a call that is being cancelled may say one word more
            self._live.publish(key, delta.offset, delta.text, delta.model)

    def _is_open(self, key: Generation) -> bool:
        turn = self.machine.turn(key.conversation, key.turn)
        candidate = turn.candidate(key.candidate) if turn is not None else None
        return candidate is not None and not candidate.ended and candidate.attempt == key.attempt

    # Commands -------------------------------------------------------------------------------

    async def submit(self, operation: Operation) -> Reply:
        """Propose ``operation`` until it is applied. Raises SubmitFailed after SUBMIT_S."""
        end = asyncio.get_running_loop().time() + SUBMIT_S
        while True:
            session = await self._open_session(end)
            session.sequence += 1
            sequence = session.sequence
            session.unfinished.add(sequence)
            try:
                reply = await self._repeat(session, sequence, operation, end)
            finally:
                session.unfinished.discard(sequence)
            if not (isinstance(reply, Refused) and reply.code is Code.SESSION_EXPIRED):
                return reply
            if self._session is session:
                self._session = None  # fenced by attempt, so a repetition in a new one is harmless

    async def _open_session(self, end: float) -> _Session:
        async with self._opening:
            if self._session is None or self._session.is_full:
                name = _Session(self._random_bytes(NAME_BYTES))
                opened = await self._repeat(name, 0, OpenSession(), end)
                if not isinstance(opened, SessionOpened):
                    raise SubmitFailed(f"no session was opened: {opened}")
                self._session = _Session(opened.session)
            return self._session

    async def _repeat(
        self, session: _Session, sequence: int, operation: Operation, end: float
    ) -> Reply:
        acknowledged = min(session.unfinished, default=1)
        decoded = SessionCommand(session.name, sequence, acknowledged, operation)
        command = encode_command(decoded)
        while asyncio.get_running_loop().time() < end:
            outcome = await self._once(command, decoded)
            if not isinstance(outcome, Failure):
                return outcome
            await asyncio.sleep(0.05)  # a full queue or a stopping node: let it drain
        raise SubmitFailed(f"{type(operation).__name__} was not applied within {SUBMIT_S:.0f} s")

    async def _once(self, command: bytes, decoded: SessionCommand) -> Reply | Failure:
        done: asyncio.Future[Reply | Failure] = asyncio.get_running_loop().create_future()

        def resolve(outcome: Reply | Failure) -> None:
            if not done.done():
                done.set_result(outcome)

        self._runtime.submit(command, decoded, TRY_S, resolve)
        return await done
