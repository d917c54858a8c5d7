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
    acknowledged: int
    numbers: set[int] = field(default_factory=set)


class ReferenceKeys:
    """As simple as can be: a command has its effect once, when its number first comes in a session
    that is known."""

    def __init__(self, sessions: int) -> None:
        self._sessions_max = sessions
        self._sessions: OrderedDict[bytes, _Seen] = OrderedDict()
        self.values: dict[str, bytes] = {}

    def takes_effect(self, command: SessionCommand) -> bool:
        seen = self._sessions.get(command.session)
        if seen is None:
            if command.sequence != 0:
                return False
            while len(self._sessions) >= self._sessions_max:
                self._sessions.popitem(last=False)
            seen = self._sessions[command.session] = _Seen(command.acknowledged)
        self._sessions.move_to_end(command.session)
        if command.sequence < seen.acknowledged or command.sequence in seen.numbers:
            return False
        if command.acknowledged > seen.acknowledged:
            seen.acknowledged = command.acknowledged
            seen.numbers = {number for number in seen.numbers if number >= command.acknowledged}
        if command.sequence > 0:
            if command.sequence < command.acknowledged:
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
