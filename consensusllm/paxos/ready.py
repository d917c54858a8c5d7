"""What goes into the core and what comes out of it, and in which order it must be acted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .ballot import BOTTOM, Ballot
from .batch import Batch
from .membership import Membership
from .messages import Entry, Incarnations, Message
from .roles import Role


@dataclass(frozen=True, slots=True)
class Recovered:
    """What storage gives back at a start.

    ``voting`` is False for a replica that lost its disk and must not vote under its old identity.
    ``snapshot_slot`` is 0 where there is none; ``entries`` are in slot order, all above
    ``compacted_through``; ``chosen_through`` may lag behind what was really chosen, never lead.
    ``membership`` is the one that ``membership_slot`` chose (0: the first; None: the config's).
    """

    incarnation: int
    voting: bool
    promised: Ballot = BOTTOM
    incarnations: Incarnations = ()
    entries: tuple[Entry, ...] = ()
    chosen_through: int = 0
    compacted_through: int = 0
    snapshot_slot: int = 0
    membership: Membership | None = None
    membership_slot: int = 0


@dataclass(frozen=True, slots=True)
class Persist:
    """One batch of changes to the acceptor's durable state, all or nothing.

    ``None`` and ``()`` mean unchanged. An entry replaces what its slot held. ``compact_through``
    drops every entry up to that slot; a durable snapshot must cover them. ``membership`` is that
    of the slots above the one that it names, which is chosen.
    """

    promised: Ballot | None = None
    incarnations: Incarnations | None = None
    entries: tuple[Entry, ...] = ()
    chosen_through: int | None = None
    compact_through: int | None = None
    incarnation: int | None = None
    voting: bool | None = None
    membership: tuple[int, Membership] | None = None


@dataclass(frozen=True, slots=True)
class SnapshotRead:
    """Peer ``to`` asks for the snapshot of ``slot`` (0: the newest) from ``offset`` on."""

    to: int
    slot: int
    offset: int


@dataclass(frozen=True, slots=True)
class Install:
    """A chunk of a peer's snapshot, to be staged, in order; with ``last`` the whole is there.

    The owner reports each with ``PaxosNode.snapshot_staged``. After the last it verifies
    ``digest``, replaces state and snapshot in one step, and calls ``snapshot_installed``, or
    ``snapshot_rejected`` when it does not verify.
    """

    slot: int
    offset: int
    size_bytes: int
    digest: bytes
    data: bytes
    last: bool


class Ready(NamedTuple):
    """What the owner must now do. The order of the fields is the order of the obligations.

    * ``persist`` must be durable before ``PaxosNode.persisted(batch)`` is called. Batches are
      numbered without a gap and may be merged into one disk write, in order. None: nothing to do.
    * ``send`` may go at once: messages that reveal a vote or a promise are held inside the core
      until the batch that makes it durable has been reported (Raft thesis, 3.8).
    * ``chosen`` is contiguous: ``(slot, batch)`` to apply in order, then ``applied(slot)``.
    * ``reads``: barriers that were confirmed, as ``(token, slot)``: serve once slot is applied.
      ``failed_reads``: leadership was lost before it was confirmed; ask again elsewhere.
    * ``role`` is the role now, ``leader`` whom this node believes to lead (None: nobody).
    """

    batch: int
    persist: Persist | None
    send: tuple[tuple[int, Message], ...]
    chosen: tuple[tuple[int, Batch], ...]
    reads: tuple[tuple[int, int], ...]
    failed_reads: tuple[int, ...]
    role: Role
    leader: int | None
    install: tuple[Install, ...] = ()
    snapshot_reads: tuple[SnapshotRead, ...] = ()
