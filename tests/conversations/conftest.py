"""A machine with one well-behaved client, for tests that are about something else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from consensusllm.conversations import (
    CreateConversation,
    Limits,
    Machine,
    OpenSession,
    Operation,
    PlannedCandidate,
    RecordCandidate,
    Refused,
    Reply,
    SessionCommand,
    SessionOpened,
    SubmitQuery,
    Turn,
)
from consensusllm.conversations.prompt import Prompt

sys.path.insert(0, str(Path(__file__).parent))  # pytest imports test files by path

NAME = b"driver's session"


class Driver:
    """Applies one operation a slot, each a second after the last, under its own session."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.machine = Machine(self.limits)
        self.sequence = 0
        self.session = self.opened(NAME)

    def send(self, *commands: SessionCommand | None) -> list[Reply]:
        slot = self.machine.applied_slot + 1
        return self.machine.apply(slot, 1000 * slot, commands)

    def opened(self, name: bytes) -> bytes:
        """The session of this name, which is opened where it is not there."""
        (reply,) = self.send(SessionCommand(name, 0, 0, OpenSession()))
        assert isinstance(reply, SessionOpened)
        return reply.session

    def do(self, operation: Operation) -> Reply:
        self.sequence += 1
        (reply,) = self.send(SessionCommand(self.session, self.sequence, self.sequence, operation))
        return reply

    def done(self, operation: Operation) -> Reply:
        """Apply what must succeed."""
        reply = self.do(operation)
        assert not isinstance(reply, Refused), reply
        return reply

    def refused(self, operation: Operation) -> Refused:
        """Apply what must be refused, and see that it changed nothing but the session."""
        before = self.content()
        reply = self.do(operation)
        assert isinstance(reply, Refused), reply
        assert self.content() == before, "a refusal changed the state"
        assert "\n" not in reply.message
        return reply

    def content(self) -> tuple[object, ...]:
        """Everything but sessions, slot and time."""
        frozen = self.machine.freeze()
        return (
            frozen.heads,
            frozen.turns,
            frozen.keys,
            frozen.registry,
            frozen.probe_leases,
            frozen.budgets,
            frozen.attempt_floor,
        )

    def prompt(self, conversation: str, number: int, candidate: int) -> Prompt:
        turn = self.turn(conversation, number)
        found = turn.candidate(candidate)
        assert found is not None
        return self.machine.prompt(conversation, turn, found)

    def ask(self, conversation: str, question: str = "?", candidates: int = 3, **query: int) -> int:
        """Query every node from 1 to ``candidates``; creates the conversation if need be."""
        if self.machine.conversation(conversation) is None:
            self.done(CreateConversation(conversation))
        plan = tuple(PlannedCandidate(number, number) for number in range(1, candidates + 1))
        reply = self.done(SubmitQuery(conversation, question, plan, **query))
        return reply.turn  # type: ignore[union-attr]

    def answer(self, conversation: str, turn: int, candidate: int, text: str = "answer") -> None:
        attempt = self.turn(conversation, turn).candidate(candidate).attempt  # type: ignore[union-attr]
        self.done(RecordCandidate(conversation, turn, candidate, attempt, text, "model", "stop"))

    def wait_past_the_deadline(self, conversation: str, turn: int) -> None:
        """Apply a slot without commands at the first moment after it."""
        late_ms = self.turn(conversation, turn).deadline_ms + 1
        self.machine.apply(self.machine.applied_slot + 1, late_ms, ())

    def turn(self, conversation: str, turn: int) -> Turn:
        found = self.machine.turn(conversation, turn)
        assert found is not None
        return found


@pytest.fixture(scope="session")
def driver_class() -> type[Driver]:
    return Driver


@pytest.fixture
def driver() -> Driver:
    return Driver()
