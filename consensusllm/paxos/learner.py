"""The learner: which slots are chosen, and how to get those that were missed.

Paxos Made Simple, section 2.3. A follower believes the leader's end of the chosen prefix only for
what it accepted at that leader's ballot; anything else it fetches, first from the leader, then from
whoever answers. Below a peer's log stands the peer's snapshot, which is fetched in chunks that can
go on after any cut. How long nobody has answered is counted on the clock of silences (`timing`): a
node that was held up, as by an install of its own, blames nobody for it and asks nobody else.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from random import Random

from .acceptor import Acceptor
from .ballot import Ballot
from .config import PaxosConfig
from .log import Log
from .membership import Configuration
from .messages import CatchUp, CatchUpReply, Compacted, SnapshotChunk, SnapshotRequest
from .outbox import Outbox
from .ready import Install, SnapshotRead
from .timing import Timing

_PATIENCE = 3
"""Unanswered questions after which another peer's snapshot, or its log, is as good."""
_ANSWERS = 4
_UNWRITTEN_CHUNKS = 8
"""While more than so many chunks of entries wait for the disk, none is fetched: a disk that hangs
must not fill the memory with what others have."""
_UNSTAGED_CHUNKS = 4
"""Nor is more of a snapshot asked for while so many chunks of one wait for the disk."""


@dataclass(slots=True)
class _Fetch:
    """One question to one peer, asked again (elsewhere) when no answer comes in time. What follows
    ``held``, a slot and an offset, has been asked for ``since``; None: not at all yet."""

    peer: int
    asked_at: float
    held: tuple[int, int] | None = None
    since: float = 0.0


@dataclass(slots=True)
class _Transfer:
    """A snapshot on its way: ``offset`` bytes of ``slot`` are staged, the last from ``source``."""

    slot: int
    offset: int
    digest: bytes
    source: int
    size_bytes: int = 0
    complete: bool = False
    silences: int = 0  # questions without an answer since the last bytes came


class Learner:
    def __init__(
        self,
        config: PaxosConfig,
        members: Configuration,
        log: Log,
        acceptor: Acceptor,
        outbox: Outbox,
        rng: Random,
        timing: Timing,
    ) -> None:
        self._config = config
        self._members = members
        self._timing = timing
        self._log = log
        self._acceptor = acceptor
        self._outbox = outbox
        self._rng = rng
        self._known_through = log.chosen_through
        self._holder = config.node  # who last said that it holds more
        self._fetch: _Fetch | None = None
        self._fetch_at = math.inf
        # How long it took from the first question on, for each of the last that brought much.
        self._answered_s: deque[float] = deque(maxlen=_ANSWERS)
        self._transfer: _Transfer | None = None
        self._unstaged = 0  # chunks handed out that are not on the disk
        self.installs: list[Install] = []
        self.snapshot_reads: list[SnapshotRead] = []

    @property
    def missing(self) -> bool:
        """Whether something is known to be chosen that is not held here."""
        return self._known_through > self._log.chosen_through

    @property
    def known_through(self) -> int:
        """The highest slot that is known to be chosen anywhere."""
        return max(self._known_through, self._log.chosen_through)

    def on_commit(self, ballot: Ballot, chosen_through: int) -> None:
        """A leader's prefix ends at ``chosen_through``: advance over what was accepted from it."""
        slot = self._log.chosen_through
        while slot < chosen_through:
            entry = self._log.get(slot + 1)
            if entry is None or entry.ballot != ballot:
                break
            slot += 1
        self._log.choose_through(slot)
        self.on_known(chosen_through, ballot.pid)

    def on_known(self, chosen_through: int, peer: int) -> None:
        """``peer`` holds everything up to ``chosen_through``. Fetch it; a window's worth not before
        it had time to come by itself, as Accepts do that were overtaken by their commit."""
        self._known_through = max(self._known_through, chosen_through)
        self._holder = peer
        if self.missing and self._fetch is None and self._transfer is None:
            behind = self._known_through - self._log.chosen_through
            self._fetch = _Fetch(peer, self._timing.time)
            self._fetch_at = self._timing.time
            if behind <= self._config.pipeline_slots:
                self._fetch_at += self._config.heartbeat_s

    def on_catch_up(self, request: CatchUp) -> None:
        first = request.first_slot
        if first <= self._log.compacted_through:
            self._outbox.send(
                request.sender, Compacted(self._config.node, self._log.compacted_through)
            )
            return
        through = self._log.chosen_through
        entries, _ = self._log.chunk(first, through, self._config.chunk_bytes)
        # What was learned here may not be durable here; it is chosen all the same.
        self._outbox.send(request.sender, CatchUpReply(self._config.node, tuple(entries), through))

    def on_catch_up_reply(self, reply: CatchUpReply) -> None:
        advanced = False
        for entry in reply.entries:
            if entry.slot == self._log.chosen_through + 1:
                self._acceptor.learn(entry)
                self._log.choose_through(entry.slot)
                advanced = True
        self._known_through = max(self._known_through, reply.chosen_through)
        self._holder = reply.sender
        if advanced:
            self._came(sum(entry.batch.size_bytes for entry in reply.entries))
            self._drop_overtaken()
        if self._transfer is not None:
            return
        if not self.missing:
            self._rest()
        elif advanced or self._fetch is None:
            self._ask(reply.sender)

    def on_compacted(self, answer: Compacted) -> None:
        """A peer's log begins above what is missing here: its snapshot is needed first."""
        if answer.slot <= self._log.chosen_through or self._transfer is not None:
            return
        self._known_through = max(self._known_through, answer.slot)
        self._holder = answer.sender
        self._transfer = _Transfer(slot=0, offset=0, digest=b"", source=answer.sender)
        self._ask(answer.sender)

    def on_snapshot_request(self, request: SnapshotRequest) -> None:
        self.snapshot_reads.append(SnapshotRead(request.sender, request.slot, request.offset))

    def on_snapshot_chunk(self, chunk: SnapshotChunk) -> None:
        """Stage the next bytes. Another snapshot starts us anew where whoever had ours has a newer
        one now, or has fallen silent: not because another peer has one, as each takes its own."""
        transfer = self._transfer
        if transfer is None or transfer.complete:
            return
        if chunk.slot != transfer.slot or chunk.digest != transfer.digest:
            newer = chunk.slot > transfer.slot and chunk.sender == transfer.source
            wanted = newer or transfer.offset == 0 or transfer.silences >= _PATIENCE
            if chunk.slot <= self._log.chosen_through or not wanted:
                return
            if chunk.offset != 0:  # the same slot in other bytes: ask for its beginning
                transfer.slot, transfer.offset, transfer.digest = 0, 0, b""
                return
            transfer.slot, transfer.offset, transfer.digest = chunk.slot, 0, chunk.digest
            transfer.size_bytes = chunk.size_bytes
        end = chunk.offset + len(chunk.data)
        if chunk.offset != transfer.offset or end > chunk.size_bytes or not chunk.data:
            return
        transfer.offset = end
        transfer.source = chunk.sender
        transfer.silences = 0
        self._came(len(chunk.data))
        transfer.complete = end == chunk.size_bytes
        self.installs.append(
            Install(
                chunk.slot,
                chunk.offset,
                chunk.size_bytes,
                chunk.digest,
                chunk.data,
                transfer.complete,
            )
        )
        self._unstaged += 1
        if transfer.complete or self._unstaged >= _UNSTAGED_CHUNKS:
            self._rest()
        else:
            self._ask(chunk.sender)

    def _came(self, size_bytes: int) -> None:
        """An answer brought something new. A small one keeps no link busy, so it does not say how
        long a chunk takes; nor does one that nobody waits for so long, as after a cut."""
        if self._fetch is None or self._fetch.held is None:
            return
        took_s = self._timing.time - self._fetch.since
        if 2 * size_bytes >= self._config.chunk_bytes and took_s < self._timing.longest_s:
            self._answered_s.append(took_s)

    def staged(self) -> None:
        """The owner has the next of `installs` on its disk."""
        self._unstaged -= 1
        transfer = self._transfer
        if transfer is not None and not transfer.complete and self._fetch is None:
            self._ask(transfer.source)

    def installed(self, slot: int) -> None:
        """The owner has replaced its state and its stored snapshot by those of ``slot``. Whose they
        were has kept the log behind them, which others may have dropped."""
        source = self._another() if self._transfer is None else self._transfer.source
        self._transfer = None
        if slot > self._log.chosen_through:
            self._log.replace_by_snapshot(slot)
        if self.missing:
            self._ask(source)

    def give_up_snapshot(self) -> None:
        """This node leads, and will choose itself what it lacks. What came whole is still being
        installed by the owner."""
        if self._transfer is not None and not self._transfer.complete:
            self._transfer = None

    def rejected(self) -> None:
        """What was staged did not verify: begin again with whichever peer answers."""
        self._transfer = None
        self._ask(self._another())

    def deadline(self) -> float:
        """When `tick` is due; infinity while nothing is fetched."""
        return math.inf if self._fetch is None else self._timing.when(self._fetch_at)

    def tick(self) -> None:
        if self._fetch is None or self._timing.time < self._fetch_at:
            return
        if not self.missing:
            self._drop_overtaken()
        if not self.missing and self._transfer is None:
            self._rest()
            return
        peer = self._fetch.peer
        if self._transfer is not None:
            self._transfer.silences += 1
        if self._fetch.asked_at + self._timing.resend_s <= self._timing.time:
            peer = self._another()
        self._ask(peer)

    def _rest(self) -> None:
        """Nothing is asked for now."""
        self._fetch = None
        self._fetch_at = math.inf

    def _another(self) -> int:
        """Whom to ask when no answer comes: every second time whoever last said that it holds more,
        since all that this node knows of the members may be a list from before its disk was lost,
        and none of them be there any more; else any member."""
        asked = self._config.node if self._fetch is None else self._fetch.peer
        if self._holder not in (asked, self._config.node):
            return self._holder
        return self._rng.choice(self._members.peers or (self._holder,))

    def _drop_overtaken(self) -> None:
        """Entries came by another way, and went past the snapshot that is on its way; or before
        any of it came, so that none may be needed after all."""
        transfer = self._transfer
        if transfer is None or transfer.complete:
            return
        if self._log.chosen_through >= transfer.slot:
            self._transfer = None

    @property
    def installing(self) -> bool:
        """Whether a snapshot is wanted, on its way, or being installed."""
        return self._transfer is not None

    @property
    def receiving(self) -> tuple[int, int]:
        """``(bytes received, bytes in all)`` of a snapshot on its way; (0, 0) where none is."""
        transfer = self._transfer
        return (transfer.offset, transfer.size_bytes) if transfer is not None else (0, 0)

    def _has_room(self) -> bool:
        """Whether the log takes more of what is chosen. One that is over its bound does not where
        so much of it is chosen that a snapshot is due or under way, which makes room."""
        if self._log.size_bytes <= self._config.max_log_bytes:
            return True
        stays = self._config.max_log_bytes // 2 + self._config.log_retain_bytes
        droppable = self._log.retained_from(self._log.chosen_through, stays)
        return droppable == self._log.compacted_through

    def _keeps_up(self) -> bool:
        """Whether the disk does with what has come."""
        return self._outbox.unwritten_bytes <= _UNWRITTEN_CHUNKS * self._config.chunk_bytes

    def _patience_s(self) -> float:
        """How long an answer is waited for: longer where each of the last ones took long, since it
        may be the link that takes so long for a chunk, and the same chunk again would keep it busy.
        Where a question or an answer got lost, another one did not."""
        least_s = min(self._answered_s, default=0.0)
        return max(self._timing.resend_s, min(2 * least_s, self._timing.longest_s))

    def ask_for_log(self, peer: int) -> None:
        """Ask for what is chosen, whoever said that there is more, where more can be held."""
        if self._keeps_up() and self._has_room():
            self._outbox.send(peer, CatchUp(self._config.node, self._log.chosen_through + 1))

    def _ask(self, peer: int) -> None:
        """Ask for what is missing."""
        node, transfer, now = self._config.node, self._transfer, self._timing.time
        if transfer is not None:
            self._outbox.send(peer, SnapshotRequest(node, transfer.slot, transfer.offset))
        # Who said that a snapshot is needed may be gone, and another's log reach back further.
        wants_log = transfer.silences >= _PATIENCE if transfer is not None else self._has_room()
        if wants_log and self._keeps_up():
            self._outbox.send(peer, CatchUp(node, self._log.chosen_through + 1))
        held = (self._log.chosen_through, transfer.offset if transfer is not None else 0)
        before = self._fetch
        since = before.since if before is not None and before.held == held else now
        self._fetch = _Fetch(peer, now, held, since)
        self._fetch_at = now + self._patience_s()
