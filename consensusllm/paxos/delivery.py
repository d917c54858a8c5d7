"""What of the chosen prefix was handed to the owner, and what it has applied."""

from __future__ import annotations

from .batch import Batch
from .log import Log

_DELIVER_BYTES = 1 << 20
_DELIVER_COMMANDS = 1024
"""Past either one Ready hands out no further batch: applying cannot hold the owner up for long."""


class Delivery:
    """``applied`` never passes what was delivered; both begin at the owner's snapshot."""

    def __init__(self, log: Log, snapshot_slot: int) -> None:
        self._log = log
        self._delivered = snapshot_slot
        self.applied = snapshot_slot

    def waiting(self) -> bool:
        return self._delivered < self._log.chosen_through

    def take(self) -> tuple[tuple[int, Batch], ...]:
        """The next chosen ``(slot, batch)``, in order."""
        chosen = []
        size = commands = 0
        while (
            self._delivered < self._log.chosen_through
            and size < _DELIVER_BYTES
            and commands < _DELIVER_COMMANDS
        ):
            entry = self._log.get(self._delivered + 1)
            assert entry is not None, "the chosen prefix has no hole"
            chosen.append((entry.slot, entry.batch))
            self._delivered += 1
            size += entry.batch.size_bytes
            commands += entry.batch.command_count
        return tuple(chosen)

    def apply(self, slot: int) -> None:
        """The owner has applied everything up to ``slot``."""
        assert self.applied <= slot <= self._delivered
        self.applied = slot

    def replaced(self, slot: int) -> None:
        """The owner's state is a snapshot's of ``slot``."""
        self._delivered = max(self._delivered, slot)
        self.applied = max(self.applied, slot)
