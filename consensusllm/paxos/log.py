"""The part of the log that is kept in memory: what was accepted, and how far it is chosen.

Slots are numbered from 1. ``[1, compacted_through]`` is gone (a snapshot covers it), everything up
to ``chosen_through`` is chosen and without a hole, and above that stand single acceptances, with
holes, that may or may not be chosen.
"""

from __future__ import annotations

from collections.abc import Iterable

from .messages import Entry

ENTRY_OVERHEAD_BYTES = 64
"""Charged for each entry on top of its batch, so that a log of empty batches has a bound too."""


class Log:
    def __init__(
        self, entries: Iterable[Entry], chosen_through: int, compacted_through: int
    ) -> None:
        self._entries: dict[int, Entry] = {}
        self.compacted_through = compacted_through
        self.chosen_through = chosen_through
        self.last_slot = compacted_through
        self.size_bytes = 0
        self._changes: dict[int, Entry] = {}  # of members: a few at most
        for entry in entries:
            self.put(entry)

    def get(self, slot: int) -> Entry | None:
        return self._entries.get(slot)

    def put(self, entry: Entry) -> None:
        """Keep ``entry``. What is chosen never changes its value: a caller that tries is a bug."""
        slot = entry.slot
        assert slot > self.compacted_through, f"slot {slot} is compacted"
        old = self._entries.get(slot)
        if old is not None:
            assert slot > self.chosen_through or old.batch == entry.batch, (
                f"slot {slot} is chosen and would change its value"
            )
            self.size_bytes -= old.batch.size_bytes + ENTRY_OVERHEAD_BYTES
        self._entries[slot] = entry
        self.size_bytes += entry.batch.size_bytes + ENTRY_OVERHEAD_BYTES
        if slot > self.last_slot:
            self.last_slot = slot
        if entry.batch.is_change:
            self._changes[slot] = entry
        elif self._changes:
            self._changes.pop(slot, None)

    def chosen_changes(self, since: int) -> list[Entry]:
        """The changes of members above slot ``since`` that are chosen, in order."""
        return [
            self._changes[slot]
            for slot in sorted(self._changes)
            if since < slot <= self.chosen_through
        ]

    def _forget_changes(self) -> None:
        for slot in [slot for slot in self._changes if slot <= self.compacted_through]:
            del self._changes[slot]

    def choose_through(self, slot: int) -> None:
        """Everything up to ``slot`` is chosen; the caller has filled every slot below."""
        assert slot >= self.chosen_through
        assert slot == self.chosen_through or slot in self._entries, f"slot {slot} is a hole"
        self.chosen_through = slot

    def chunk(
        self, first_slot: int, last_slot: int, size_bytes: int
    ) -> tuple[list[Entry], int | None]:
        """Entries in ``[first_slot, last_slot]``, one at least, about ``size_bytes``, and
        the slot to go on from (None: that was all)."""
        entries: list[Entry] = []
        size = 0
        for slot in range(first_slot, last_slot + 1):
            entry = self._entries.get(slot)
            if entry is None:
                continue
            if entries and size + entry.batch.size_bytes > size_bytes:
                return entries, slot
            entries.append(entry)
            size += entry.batch.size_bytes + ENTRY_OVERHEAD_BYTES
        return entries, None

    def retained_from(self, covered_through: int, retain_bytes: int) -> int:
        """The highest slot, at most ``covered_through``, that may be dropped so that about
        ``retain_bytes`` of what is covered stays for peers that are a little behind."""
        size = 0
        for slot in range(covered_through, self.compacted_through, -1):
            entry = self._entries[slot]
            size += entry.batch.size_bytes + ENTRY_OVERHEAD_BYTES
            if size > retain_bytes:
                return slot
        return self.compacted_through

    def compact(self, through: int) -> None:
        """Drop everything up to ``through``, which is chosen and covered by a durable snapshot."""
        assert through <= self.chosen_through, "only what is chosen is compacted"
        for slot in range(self.compacted_through + 1, through + 1):
            entry = self._entries.pop(slot)
            self.size_bytes -= entry.batch.size_bytes + ENTRY_OVERHEAD_BYTES
        self.compacted_through = max(self.compacted_through, through)
        self._forget_changes()

    def replace_by_snapshot(self, slot: int) -> None:
        """A snapshot of ``slot``, above what was chosen here, stands for everything up to it."""
        assert slot > self.chosen_through
        for old in [number for number in self._entries if number <= slot]:
            self.size_bytes -= self._entries.pop(old).batch.size_bytes + ENTRY_OVERHEAD_BYTES
        self.compacted_through = slot
        self.chosen_through = slot
        self.last_slot = max(self.last_slot, slot)
        self._forget_changes()
