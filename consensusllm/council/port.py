"""What the answerer needs of the replica that it works for, and nothing else.

Everything here is called on the event loop's thread, which is also where the machine applies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from consensusllm.conversations.commands import Operation, SubmitQuery
from consensusllm.conversations.machine import Machine
from consensusllm.conversations.replies import Reply


class SubmitFailed(Exception):
    """It could not be done in time; whether it happened is unknown. One line."""


@dataclass(frozen=True, slots=True)
class Delta:
    """Live text: ``text`` continues the attempt's text at ``offset``, counted in characters."""

    conversation: str
    turn: int
    candidate: int
    attempt: int
    offset: int
    text: str
    model: str


class ReplicaPort(Protocol):
    """One node's replica, as its own answerer sees it."""

    node: int

    @property
    def machine(self) -> Machine:
        """The applied state, to be read only. Another object after a snapshot was installed."""
        ...

    def is_leader(self) -> bool: ...

    def live(self) -> frozenset[int]:
        """The nodes that the leader hears from, itself included; of use on the leader only."""
        ...

    def members(self) -> frozenset[int]:
        """The members of the cluster, those that still join included, as of the applied state."""
        ...

    def now_ms(self) -> int:
        """The replicated clock, as far as it is known here, in ms since the epoch: deadlines and
        all other times of the state are of this clock."""
        ...

    def subscribe_touched(self, callback: Callable[[str, int], None]) -> None:
        """Call ``callback(conversation, turn)`` after each apply that changed the turn."""
        ...

    def subscribe_asking(self, callback: Callable[[SubmitQuery], None]) -> None:
        """Call ``callback(query)`` for each query that a client of this node puts into the log."""
        ...

    async def barrier(self) -> None:
        """Return once this node has applied all that was chosen before the call. Raises
        SubmitFailed."""
        ...

    async def submit(self, operation: Operation) -> Reply:
        """Propose ``operation`` and wait until this node has applied it. Raises SubmitFailed."""
        ...

    def publish(self, delta: Delta) -> None:
        """Hand live text to those who watch. Must not block."""
        ...
