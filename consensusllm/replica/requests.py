"""Requests of this node's own clients, from their arrival until this node has applied them.

A command waits under its (session, sequence) until this replica applies it, wherever it was
proposed. Sending it again is harmless (the session table applies it once), so after a change of
leader, or a silence, it is simply sent again, until its deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from consensusllm.conversations.commands import SessionCommand
from consensusllm.conversations.replies import Code, Refused, Reply
from consensusllm.wire.commands import decode_command
from consensusllm.wire.errors import MalformedMessage

from .outcomes import STOPPED, Failure, FailureKind

RETRY_AFTER_MIN_MS = 50
RETRY_AFTER_MAX_MS = 2_000

_NO_MAJORITY = "no majority of the nodes can be reached"
_REMEDY = "heal the network or start nodes"

_EXPIRED = Failure(
    FailureKind.UNKNOWN,
    "the session ended while the command was sent again, so it may or may not have happened: "
    "look before trying again",
    may_have_happened=True,
)

Key: TypeAlias = tuple[bytes, int]
Resolve: TypeAlias = Callable[[Reply | Failure], None]


@dataclass(slots=True)
class PendingCommand:
    """``waiting`` has the deadline of each who asked for it, and how to answer; ``deadline`` is the
    first of them. ``sent_to`` is the node that it was last handed to (None: to nobody, or it was
    refused), and ``abandoned`` the core's count then; ``sends`` counts how often that was done,
    which is never undone: a refusal may be of a copy. ``spared``: since it was first sent, a
    snapshot came in, and this node will not see what was applied in the slots that it covers."""

    command: bytes
    decoded: SessionCommand
    since: float
    waiting: list[tuple[float, Resolve]]
    deadline: float
    sent_to: int | None = None
    sent_at: float = 0.0
    abandoned: int = 0
    sends: int = 0
    spared: bool = False


@dataclass(slots=True)
class PendingRead:
    """Reads of one turn of the loop; they share a barrier, numbered by ``token``. ``waiting`` has
    the deadline of each, and how to answer it."""

    token: int
    waiting: list[tuple[float, Callable[[Failure | None], None]]] = field(default_factory=list)
    asked: int | None = None
    asked_at: float = 0.0
    slot: int | None = None

    def answer(self, failure: Failure | None) -> None:
        for _, resolve in self.waiting:
            resolve(failure)


class Requests:
    def __init__(self, max_commands: int, max_bytes: int) -> None:
        self._max_commands = max_commands
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waiting = 0
        self._commands: dict[Key, PendingCommand] = {}
        self._decoded: dict[bytes, SessionCommand] = {}
        self.reads: dict[int, PendingRead] = {}

    # Commands -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._commands)

    def add(
        self,
        command: bytes,
        decoded: SessionCommand,
        deadline: float,
        resolve: Resolve,
        now: float,
    ) -> PendingCommand | None:
        """Wait for ``command``. None where it only joins an earlier copy, or is refused at once."""
        key = (decoded.session, decoded.sequence)
        pending = self._commands.get(key)
        size = len(command) if pending is None else 0
        if self._waiting >= self._max_commands or self._bytes + size > self._max_bytes:
            happened = pending is not None and pending.sends > 0
            message = "this node's queue is full: try again later"
            resolve(self.overloaded(message, now, may_have_happened=happened))
            return None
        self._waiting += 1
        if pending is not None:
            pending.waiting.append((deadline, resolve))
            pending.deadline = min(pending.deadline, deadline)
            return None
        pending = PendingCommand(command, decoded, now, [(deadline, resolve)], deadline)
        self._commands[key] = pending
        self._decoded[command] = decoded
        self._bytes += size
        return pending

    def overloaded(self, message: str, now: float, *, may_have_happened: bool = False) -> Failure:
        """A full queue has room again in about as long as its oldest command has waited."""
        oldest = next(iter(self._commands.values()), None)
        waited_ms = int(1000 * (now - oldest.since)) if oldest is not None else 0
        return Failure(
            FailureKind.OVERLOADED,
            message,
            may_have_happened=may_have_happened,
            retry_after_ms=min(max(waited_ms, RETRY_AFTER_MIN_MS), RETRY_AFTER_MAX_MS),
        )

    def decoded(self, command: bytes) -> SessionCommand | None:
        """The command; one that came in here was decoded then, and is not decoded again."""
        return self._decoded.get(command) or decoded(command)

    def applied(self, commands: Sequence[SessionCommand | None], replies: Sequence[Reply]) -> None:
        """A batch was applied here: answer those of its commands that wait."""
        waiting = self._commands
        for command, reply in zip(commands, replies, strict=True):
            if command is not None and (key := (command.session, command.sequence)) in waiting:
                self._finish(key, _EXPIRED if self._may_be_second(key, reply) else reply)

    def spared(self) -> None:
        """The state is a peer's snapshot now."""
        for pending in self._commands.values():
            pending.spared = pending.sends > 0

    def _may_be_second(self, key: Key, reply: Reply) -> bool:
        """Whether ``reply`` says that the session is gone, of a command whose first copy may have
        been applied in a slot that a snapshot spared this node."""
        gone = isinstance(reply, Refused) and reply.code is Code.SESSION_EXPIRED
        return gone and self._commands[key].spared

    def fail(self, pending: PendingCommand, failure: Failure) -> None:
        key = (pending.decoded.session, pending.decoded.sequence)
        if key in self._commands:
            self._finish(key, failure)

    def _finish(self, key: Key, outcome: Reply | Failure) -> None:
        pending = self._commands.pop(key)
        self._decoded.pop(pending.command, None)
        self._bytes -= len(pending.command)
        self._waiting -= len(pending.waiting)
        for _, resolve in pending.waiting:
            resolve(outcome)

    def commands(self) -> Iterator[PendingCommand]:
        return iter(list(self._commands.values()))

    def by_key(self, key: Key) -> PendingCommand | None:
        return self._commands.get(key)

    # Ends -----------------------------------------------------------------------------------

    def expire(self, now: float, leader: int | None) -> None:
        """Answer what has passed its deadline; a command that was sent may still happen."""
        for pending in self.commands():
            if now >= pending.deadline:
                self._expire(pending, now, leader)
        unread = Failure(FailureKind.NO_QUORUM, f"{_NO_MAJORITY}: {_REMEDY}", leader)
        for read in list(self.reads.values()):
            late = [resolve for deadline, resolve in read.waiting if now >= deadline]
            read.waiting = [each for each in read.waiting if now < each[0]]
            if not read.waiting:
                del self.reads[read.token]
            for resolve in late:
                resolve(unread)

    def _expire(self, pending: PendingCommand, now: float, leader: int | None) -> None:
        """While others wait for it, it may be sent after all."""
        late = [resolve for deadline, resolve in pending.waiting if now >= deadline]
        if len(late) == len(pending.waiting):
            self.fail(pending, _too_late(pending.sends > 0, leader))
            return
        pending.waiting = [each for each in pending.waiting if now < each[0]]
        pending.deadline = min(deadline for deadline, _ in pending.waiting)
        self._waiting -= len(late)
        for resolve in late:
            resolve(_too_late(True, leader))

    def stop(self) -> None:
        """This node ends: tell everybody who waits."""
        for pending in self.commands():
            self.fail(pending, _too_late(True, None) if pending.sends else STOPPED)
        reads, self.reads = self.reads, {}
        for read in reads.values():
            read.answer(STOPPED)


def _too_late(sent: bool, leader: int | None) -> Failure:
    if sent:
        return Failure(
            FailureKind.UNKNOWN,
            "no answer in time, so it may or may not have happened: look before trying again",
            leader,
            may_have_happened=True,
        )
    message = f"{_NO_MAJORITY}: nothing was written; {_REMEDY}"
    return Failure(FailureKind.NO_QUORUM, message, leader)


def decoded(command: bytes) -> SessionCommand | None:
    """The command; None where the bytes are none, which the state machine then says."""
    try:
        return decode_command(command)
    except MalformedMessage:
        return None
