"""Where the parts of the core leave their effects, and where persist-before-send is kept.

`send` is for messages that reveal nothing that a crash could take back. `send_durable` is for
those that reveal a promise or a vote, or how far a node has learned that is to vote: they leave
only when everything recorded before them is on the disk (Raft thesis, 3.8). One that says again
what waits already is left out, since a disk may hang for long and what it would answer be repeated
all the while. A message to oneself takes the same road, so that the leader's own promise and its
own vote count exactly when a peer's would.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TypeAlias

from .ballot import BOTTOM, Ballot
from .membership import Membership
from .messages import Accepted, Entry, Incarnations, Message, Nack, Prepare, Promise, Rejoin
from .ready import Persist

_Durable: TypeAlias = Prepare | Promise | Accepted | Nack | Rejoin
_Subject: TypeAlias = tuple[int, type, Ballot, int, int | Ballot]
"""To whom, of which kind, at which ballot, from which slot on, and for how many slots; a refusal:
against which promise; who asks for a vote: in which life."""


class Outbox:
    def __init__(self, node: int) -> None:
        self._node = node
        self._free: list[tuple[int, Message]] = []
        self._own: list[Message] = []  # as `_free`, to oneself
        self._gated: list[tuple[int, _Durable]] = []  # wait for the changes recorded below
        self._held: deque[tuple[int, list[tuple[int, _Durable]]]] = deque()  # wait for a batch
        self._waiting: set[_Subject] = set()  # what is gated or held
        self._issued = 0
        self._durable = 0
        self.unwritten_bytes = 0
        """Of the entries that were recorded and are not durable."""
        self._unwritten: deque[tuple[int, int, float]] = deque()  # batch, bytes, taken at
        self._written_at = -math.inf
        self._clear_changes()

    def _clear_changes(self) -> None:
        self._promised: Ballot | None = None
        self._incarnations: Incarnations | None = None
        self._entries: dict[int, Entry] = {}
        self._entry_bytes = 0
        self._compact_through: int | None = None
        self._incarnation: int | None = None
        self._voting: bool | None = None
        self._membership: tuple[int, Membership] | None = None

    # Messages -------------------------------------------------------------------------------

    def send(self, dst: int, message: Message) -> None:
        if dst == self._node:
            self._own.append(message)
        else:
            self._free.append((dst, message))

    def send_durable(self, dst: int, message: _Durable) -> None:
        """Send once everything recorded so far is durable."""
        is_gated = self._has_changes()
        if not is_gated and self._durable == self._issued:
            self.send(dst, message)
            return
        subject = _subject(dst, message)
        if subject in self._waiting:
            return
        self._waiting.add(subject)
        if is_gated:
            self._gated.append((dst, message))
        else:
            self._hold(self._issued, [(dst, message)])

    def withdraw_prepares(self) -> None:
        """Those that still wait are of a try that has ended."""
        for waiting in (self._gated, *(messages for _, messages in self._held)):
            for dst, message in waiting:
                if isinstance(message, Prepare):
                    self._waiting.discard(_subject(dst, message))
            waiting[:] = [each for each in waiting if not isinstance(each[1], Prepare)]

    def _hold(self, batch: int, messages: list[tuple[int, _Durable]]) -> None:
        if self._held and self._held[-1][0] == batch:
            self._held[-1][1].extend(messages)
        else:
            self._held.append((batch, messages))

    # Changes --------------------------------------------------------------------------------

    def record_promise(self, promised: Ballot, incarnations: Incarnations) -> None:
        self._promised, self._incarnations = promised, incarnations

    def record_entry(self, entry: Entry) -> None:
        self._entries[entry.slot] = entry
        self._entry_bytes += entry.batch.size_bytes
        self.unwritten_bytes += entry.batch.size_bytes

    def record_compaction(self, through: int) -> None:
        self._compact_through = through

    def record_life(self, incarnation: int, voting: bool) -> None:
        self._incarnation, self._voting = incarnation, voting

    def record_membership(self, slot: int, membership: Membership) -> int:
        """The number of the batch that will make it durable, and that ``slot`` is chosen. The first
        membership (of slot 0) rides along with whatever is recorded first."""
        self._membership = (slot, membership)
        return self._issued + 1

    def silent_since(self) -> float:
        """Since when the disk has ended no write, while one waits for it; infinity where none
        does."""
        return max(self._unwritten[0][2], self._written_at) if self._unwritten else math.inf

    def is_durable(self, batch: int) -> bool:
        return batch <= self._durable

    def _has_changes(self) -> bool:
        return bool(
            self._entries
            or self._promised is not None
            or self._compact_through is not None
            or self._incarnation is not None
            or (self._membership is not None and self._membership[0] > 0)
        )

    # Draining -------------------------------------------------------------------------------

    def take_changes(self, chosen_through: int, now: float) -> tuple[int, Persist | None]:
        """Close the recorded changes into a numbered batch. The end of the chosen prefix rides
        along: it is worth no sync of its own, since the leader tells it again."""
        if not self._has_changes():
            return self._issued, None
        self._issued += 1
        self._unwritten.append((self._issued, self._entry_bytes, now))
        persist = Persist(
            promised=self._promised,
            incarnations=self._incarnations,
            entries=tuple(self._entries.values()),
            chosen_through=chosen_through,
            compact_through=self._compact_through,
            incarnation=self._incarnation,
            voting=self._voting,
            membership=self._membership,
        )
        self._clear_changes()
        if self._gated:
            self._hold(self._issued, self._gated)
            self._gated = []
        return self._issued, persist

    def persisted(self, batch: int, now: float) -> None:
        """Batches up to ``batch`` are durable: what waited for them may leave."""
        self._written_at = now
        assert self._durable <= batch <= self._issued, "batches are reported once and in order"
        self._durable = batch
        while self._unwritten and self._unwritten[0][0] <= batch:
            self.unwritten_bytes -= self._unwritten.popleft()[1]
        while self._held and self._held[0][0] <= batch:
            for dst, message in self._held.popleft()[1]:
                self._waiting.discard(_subject(dst, message))
                self.send(dst, message)

    def waiting(self) -> bool:
        """Whether anything would be drained now."""
        return bool(self._free or self._own) or self._has_changes()

    def take_messages(self) -> list[tuple[int, Message]]:
        free, self._free = self._free, []
        return free

    def take_own_messages(self) -> list[Message]:
        """Only those to oneself, once they are durable."""
        own, self._own = self._own, []
        return own


def _subject(dst: int, message: _Durable) -> _Subject:
    if isinstance(message, Nack):
        return dst, Nack, message.ballot, 0, message.promised
    if isinstance(message, Rejoin):
        return dst, Rejoin, BOTTOM, message.incarnation, 0
    count = message.count if isinstance(message, Accepted) else 0
    return dst, type(message), message.ballot, message.ballot.op_num, count
