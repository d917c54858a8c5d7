"""Plain keys and sessions, written a second time: what the state machine's own are held against."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from consensusllm.conversations.commands import (
    CompareAndSwap,
    DeleteKey,
    Operation,
    Put,
    SessionCommand,
)


@dataclass(slots=True)
class _Seen:
    session: bytes  # its name, and the number of its opening
    acknowledged: int
    numbers: set[int] = field(default_factory=set)


class ReferenceKeys:
    """As simple as can be: a command has its effect once, when its number first comes in a session
    that is known, and ends the session where its numbers are too many."""

    def __init__(self, sessions: int, replies: int) -> None:
        self._sessions_max = sessions
        self._replies_max = replies
        self._sessions: OrderedDict[bytes, _Seen] = OrderedDict()  # by name
        self._uses = 0
        self.values: dict[str, bytes] = {}

    def takes_effect(self, command: SessionCommand) -> bool:
        name = command.session[:16]
        seen = self._sessions.get(name)
        if command.sequence == 0:
            if seen is None:
                while len(self._sessions) >= self._sessions_max:
                    self._sessions.popitem(last=False)
                session = name + (self._uses + 1).to_bytes(8, "big")
                seen = self._sessions[name] = _Seen(session, command.acknowledged)
        elif seen is None or seen.session != command.session:
            return False
        self._uses += 1
        self._sessions.move_to_end(name)
        if command.sequence < seen.acknowledged or command.sequence in seen.numbers:
            return False
        if command.acknowledged > seen.acknowledged:
            seen.acknowledged = command.acknowledged
            seen.numbers = {number for number in seen.numbers if number >= command.acknowledged}
        if command.sequence > 0:
            if command.sequence < command.acknowledged:
                return False
            if len(seen.numbers) >= self._replies_max:
                del self._sessions[name]
                return False
            seen.numbers.add(command.sequence)
        return True

    def apply(self, operation: Operation) -> str | None:
        """The key that ``operation`` speaks of."""
        values = self.values
        if isinstance(operation, Put):
            values[operation.key] = operation.value
        elif isinstance(operation, DeleteKey):
            values.pop(operation.key, None)
        elif isinstance(operation, CompareAndSwap):
            if values.get(operation.key) == operation.expected:
                if operation.new is None:
                    values.pop(operation.key, None)
                else:
                    values[operation.key] = operation.new
        else:
            return None
        return operation.key
