"""The proposer: phase 1 for all open slots at once, then phase 2 slot by slot.

Paxos Made Simple, section 3. Phase 1 gathers from a quorum, in chunks, whatever it accepted at or
above the first slot that is not known chosen here. For each of those slots the value of the highest
ballot is proposed again, and a no-op where nobody reported any; only then do new commands follow.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from .acceptor import Acceptor
from .ballot import BOTTOM, Ballot
from .batch import Batch
from .clock import Clock
from .config import PaxosConfig
from .log import Log
from .membership import Configuration, Membership
from .messages import Accept, Accepted, Entry, Prepare, Promise
from .outbox import Outbox
from .quorum import is_quorum
from .timing import Timing

ENOUGH_COMMANDS = 128
"""What each command saves by sharing its slot with more than these is less than what the processes
lose that wait for each other: they work side by side only where several slots are open."""


class Overloaded(Exception):
    """The queue of commands is full: nothing was proposed; try again later."""


@dataclass(slots=True)
class _Proposal:
    """One open slot. ``voters`` are distinct acceptors at this ballot, oneself once durable."""

    batch: Batch
    sent_at: float
    voters: set[int] = field(default_factory=set)


class Proposer:
    def __init__(
        self,
        config: PaxosConfig,
        members: Configuration,
        log: Log,
        acceptor: Acceptor,
        outbox: Outbox,
        timing: Timing,
        clock: Clock,
    ) -> None:
        self._config = config
        self._clock = clock
        self._members = members
        self._voters: tuple[int, ...] = ()  # in whom this ballot counts its votes
        self._peers: tuple[int, ...] = ()  # the others of them
        self._timing = timing
        self._log = log
        self._acceptor = acceptor
        self._outbox = outbox
        self._linger_s = config.linger_s
        self.ballot = BOTTOM
        self._fence: dict[int, int] = {}  # what the ballot's Prepare carries
        # Phase 1.
        self._next_chunk: dict[int, int | None] = {}
        self._recovered: dict[int, Entry] = {}
        self._prepare_at: float | None = None
        # Phase 2.
        self._window: dict[int, _Proposal] = {}
        self._voted_through: dict[int, int] = {}  # the highest slot of each voter's in this ballot
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._pending_awaited = False  # some of them are awaited elsewhere
        self._proposed_at = 0.0
        self.next_slot = 0
        self.first_own_slot = 0
        self.stopped = False
        """A change of members is among this ballot's proposals: nothing may follow it."""
        self.abandoned = 0
        """How often commands were let go of here whose slots, if any, others may fill."""
        self._announced_through = 0
        self._awaited_through = 0
        self._announce_at: float | None = None

    # Phase 1 --------------------------------------------------------------------------------

    def prepare(self, ballot: Ballot, now: float) -> None:
        """Open ``ballot`` for every slot that is not known chosen here. Its own promise comes
        first, so that the ballot can never be used again after a restart."""
        assert ballot > self._acceptor.promised
        self._forget_ballot()
        self._voters = self._members.voters
        self._peers = tuple(voter for voter in self._voters if voter != self._config.node)
        self.ballot = ballot.at(self._log.chosen_through + 1)
        self._fence = dict(self._acceptor.fence.pairs())
        first = self.ballot.op_num
        self._next_chunk = dict.fromkeys(self._voters, first)
        self._acceptor.on_prepare(self._prepare_from(first), now)
        for peer in self._peers:
            self._outbox.send_durable(peer, self._prepare_from(first))
        self._prepare_at = now + self._timing.resend_s

    def _prepare_from(self, op_num: int) -> Prepare:
        """The fence is the one that the ballot began with: what was heard of since was not told to
        those who promised before, so the ballot does not carry it."""
        fence = tuple(sorted(self._fence.items()))
        return Prepare(self._config.node, self.ballot.at(op_num), fence)

    def on_promise(self, promise: Promise) -> bool:
        """Count a chunk of a promise. Whether a quorum has now promised in full."""
        sender = promise.sender
        if not self._acceptor.fence.admits(sender, promise.incarnation):
            return False
        self._honour_fence(promise)
        if self._next_chunk.get(sender) != promise.ballot.op_num:
            return False  # a repeated or overtaken chunk
        for entry in promise.entries:
            if self._log.chosen_through + 1 == entry.slot <= promise.chosen_through:
                self._acceptor.learn(entry)
                self._log.choose_through(entry.slot)
            held = self._recovered.get(entry.slot)
            if held is None or held.ballot < entry.ballot:
                self._recovered[entry.slot] = entry
        self._drop_recovered()
        self._next_chunk[sender] = promise.next_slot
        if promise.next_slot is not None:
            self._outbox.send(sender, self._prepare_from(promise.next_slot))
        return is_quorum(self.promised_by(), self._voters)

    def _honour_fence(self, promise: Promise) -> None:
        """A promiser may know of a life that has ended: what that life promised counts no more, and
        its member is asked anew."""
        for member, incarnation in promise.incarnations:
            if incarnation > self._acceptor.fence.lowest(member) and member in self._next_chunk:
                self._next_chunk[member] = self.ballot.op_num
        self._acceptor.learn_fence(promise.incarnations)

    def fenced(self, member: int, incarnation: int) -> bool:
        """Whether everybody who promised this ballot was told to count no life of ``member`` below
        ``incarnation``. What was heard of during phase 1 was told to nobody."""
        return self._fence.get(member, 0) >= incarnation

    def can_prepare_without(self, member: int, live: Iterable[int]) -> bool:
        """Whether those who ``live`` could promise another ballot, ``member`` left out."""
        return is_quorum(set(live) - {member}, self._voters)

    def drop_chosen(self) -> None:
        """Slots that were learned from a peer need no votes here any more."""
        for slot in [slot for slot in self._window if slot <= self._log.chosen_through]:
            del self._window[slot]

    def _drop_recovered(self) -> None:
        for slot in [slot for slot in self._recovered if slot <= self._log.chosen_through]:
            del self._recovered[slot]

    @property
    def owns_slots(self) -> bool:
        """Whether the ballot has proposed its no-op, above everything that was acknowledged before
        it. One that found a change of members has not: what follows the change may have been chosen
        already, by the members that it made."""
        return self.first_own_slot < self.next_slot

    def promised_by(self) -> list[int]:
        """Members whose promise is complete."""
        return [member for member, chunk in self._next_chunk.items() if chunk is None]

    # Phase 2 --------------------------------------------------------------------------------

    def lead(self, now: float) -> None:
        """Phase 1 is complete: finish what was open, fill the holes, and mark the ballot with a
        no-op of its own, which read barriers wait for. Where a change of members is found, that is
        the ballot's last proposal, and the no-op is the next ballot's."""
        self._prepare_at = None
        self._drop_recovered()
        first = self._log.chosen_through + 1
        last = max(self._recovered, default=first - 1)
        batches = []
        for slot in range(first, last + 1):
            batches.append(
                self._recovered[slot].batch if slot in self._recovered else self._noop(now)
            )
            if batches[-1].is_change:
                break  # what was found beyond it is for the next ballot to recover
        else:
            batches.append(self._noop(now))
        self.next_slot = first
        self.first_own_slot = first + len(batches) - (not batches[-1].is_change)
        self._recovered = {}
        self._next_chunk = {}
        self._announced_through = 0
        self._awaited_through = 0
        self._propose(batches, now)

    def _noop(self, now: float) -> Batch:
        return Batch.noop(self._clock.time_ms(now))

    def enqueue(self, command: bytes, *, awaited: bool) -> None:
        """Queue a command for the next batch; ``awaited``: a peer waits to learn that it is chosen.
        Raises Overloaded."""
        size = len(command)
        if not self.has_room(1, size):
            raise Overloaded
        self._pending.append(command)
        self._pending_bytes += size
        self._pending_awaited |= awaited

    def has_room(self, count: int, size_bytes: int) -> bool:
        """Whether the queue takes ``count`` more commands of ``size_bytes`` in all, and the log has
        room for what is queued: where it has not, what it holds must be applied and compacted
        first, and a follower with as much would not vote."""
        pending_bytes = self._pending_bytes + size_bytes
        return (
            len(self._pending) + count <= self._config.max_pending_commands
            and pending_bytes <= self._config.max_pending_bytes
            and self._log.size_bytes + pending_bytes <= self._config.max_log_bytes
        )

    def flush(self, now: float) -> None:
        """Turn queued commands into slots, as far as the window reaches. While a slot is open,
        fewer than ENOUGH_COMMANDS wait for more, for `linger_s` at most."""
        if not self._pending or (self._may_fill() and now < self._proposed_at + self._linger_s):
            return
        batches: list[Batch] = []
        while self._pending and self._has_slot(len(batches)):
            batches.append(Batch.pack(self._clock.time_ms(now), self._take_commands()))
        if batches:
            self._propose(batches, now)
            if self._pending_awaited:
                self._awaited_through = self.next_slot - 1
                self._pending_awaited = bool(self._pending)

    def _has_slot(self, more: int = 0) -> bool:
        """Whether another slot may be opened, besides ``more``."""
        return not self.stopped and len(self._window) + more < self._config.pipeline_slots

    def _may_fill(self) -> bool:
        """Whether a slot is open, and what is queued is not enough for another one."""
        return (
            bool(self._window)
            and len(self._pending) < min(ENOUGH_COMMANDS, self._config.max_batch_commands)
            and self._pending_bytes < self._config.max_batch_bytes
        )

    def change(self, membership: Membership, now: float) -> None:
        """Propose ``membership`` in the next slot, and nothing after it in this ballot."""
        assert not self.stopped, "one change at a time"
        self._propose([Batch.change(self._clock.time_ms(now), membership)], now)

    def call_roll(self, now: float) -> None:
        """Propose a no-op, to see who votes, or learns of it."""
        self._propose([self._noop(now)], now)

    def voted_since(self, slot: int) -> set[int]:
        """Who has voted in this ballot in ``slot`` or above."""
        return {voter for voter, last in self._voted_through.items() if last >= slot}

    def take_pending(self) -> list[bytes]:
        """The commands that wait for a slot; they wait no more."""
        pending, self._pending, self._pending_bytes = list(self._pending), deque(), 0
        self._pending_awaited = False
        self.abandoned += bool(pending)
        return pending

    def _take_commands(self) -> list[bytes]:
        commands: list[bytes] = []
        size = 0
        while self._pending and len(commands) < self._config.max_batch_commands:
            length = len(self._pending[0])
            if commands and size + length > self._config.max_batch_bytes:
                break
            commands.append(self._pending.popleft())
            size += length
        self._pending_bytes -= size
        return commands

    def _propose(self, batches: list[Batch], now: float) -> None:
        for batch in batches:
            self._window[self.next_slot] = _Proposal(batch, now)
            self.next_slot += 1
        self._proposed_at = now
        self.stopped = batches[-1].is_change
        first = self.next_slot - len(batches)
        self.announced()
        for accept in self._accepts(first, batches):
            accepted = self._acceptor.on_accept(accept)
            assert accepted, "a leader whose acceptor has promised higher has stepped down"
            for peer in self._peers:
                self._outbox.send(peer, accept)

    def _accepts(self, first: int, batches: list[Batch]) -> list[Accept]:
        """``batches`` for the slots from ``first`` on, in messages of a bounded size."""
        accepts: list[Accept] = []
        start, size = 0, 0
        for index, batch in enumerate(batches):
            if index > start and size + batch.size_bytes > self._config.chunk_bytes:
                accepts.append(self._accept(first + start, batches[start:index]))
                start, size = index, 0
            size += batch.size_bytes
        accepts.append(self._accept(first + start, batches[start:]))
        return accepts

    def _accept(self, slot: int, batches: list[Batch]) -> Accept:
        return Accept(
            self._config.node, self.ballot.at(slot), tuple(batches), self._log.chosen_through
        )

    def on_accepted(self, accepted: Accepted) -> bool:
        """Count votes at this ballot, of a life that is not fenced. Whether the chosen prefix
        grew."""
        first = accepted.ballot.op_num
        end = first + accepted.count
        if end > self._voted_through.get(accepted.sender, 0):
            self._voted_through[accepted.sender] = end - 1
        for slot, proposal in self._window.items():
            if first <= slot < end:
                proposal.voters.add(accepted.sender)
        return self.advance()

    def advance(self) -> bool:
        """Choose what has a majority of votes at the head of the window. Whether the prefix grew.
        Also when what was learned from a peer was dropped from there: who lacks no vote is asked
        for none again."""
        through = self._log.chosen_through
        while (head := self._window.get(through + 1)) is not None and is_quorum(
            head.voters, self._voters
        ):
            del self._window[through + 1]
            through += 1
        if through == self._log.chosen_through:
            return False
        self._log.choose_through(through)
        return True

    def announcement_due(self, now: float) -> bool:
        """Whether the peers must be told the end of the prefix by a message of its own: a peer
        waits for it, or nothing that would carry it was sent for `linger_s` since it grew."""
        if self._log.chosen_through == self._announced_through:
            return False
        if self._announced_through < self._awaited_through:
            return True
        if self._announce_at is None:
            self._announce_at = now + self._linger_s
        return now >= self._announce_at

    def announced(self) -> None:
        """A message to every peer says how far the prefix is chosen."""
        self._announced_through = self._log.chosen_through
        self._announce_at = None

    @property
    def pending(self) -> int:
        """Commands that wait for a slot."""
        return len(self._pending)

    # Time -----------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When `tick` or `flush` is due; infinity while nothing waits."""
        if self._prepare_at is not None:
            return self._prepare_at
        at = math.inf if self._announce_at is None else self._announce_at
        if self._pending and self._has_slot():
            at = min(at, self._proposed_at + self._linger_s)
        if self._window:
            oldest = min([proposal.sent_at for proposal in self._window.values()])
            at = min(at, oldest + self._timing.resend_s)
        return at

    def tick(self, now: float) -> None:
        """Send again what has not been answered."""
        if self._prepare_at is not None:
            if now >= self._prepare_at:
                for peer in self._peers:
                    chunk = self._next_chunk.get(peer)
                    if chunk is not None:
                        self._outbox.send_durable(peer, self._prepare_from(chunk))
                self._prepare_at = now + self._timing.resend_s
            return
        for slot, proposal in self._window.items():
            if now < proposal.sent_at + self._timing.resend_s:
                continue
            proposal.sent_at = now
            accept = self._accept(slot, [proposal.batch])
            for peer in self._peers:
                if peer not in proposal.voters:
                    self._outbox.send(peer, accept)

    def stop(self) -> None:
        """Lead no more. What was proposed may still be chosen: its outcome is unknown here."""
        self._forget_ballot()
        self.take_pending()

    def _forget_ballot(self) -> None:
        self._outbox.withdraw_prepares()
        self._next_chunk = {}
        self._recovered = {}
        self._prepare_at = None
        self.abandoned += bool(self._window)
        self._window = {}
        self._voted_through = {}
        self._announce_at = None
        self.stopped = False
