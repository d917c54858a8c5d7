"""The protocol's messages: one frozen dataclass each, with what it claims and what it may not.

Every message names its ``sender``. Where a message carries a ``ballot``, ``ballot.op_num`` is the
first slot that the message speaks of. Delivery may lose, repeat, delay and reorder messages; each
one is therefore complete in itself, and handling one twice is the same as handling it once.

Phase 1 and 2 follow Paxos Made Simple, section 2.2, run for all slots at once as in section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .ballot import Ballot
from .batch import Batch
from .membership import Membership

Incarnations: TypeAlias = tuple[tuple[int, int], ...]
"""Sorted ``(member, incarnation)`` pairs: the lowest incarnation whose votes still count."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What an acceptor holds in ``slot``: the highest ballot at which it voted, and for what."""

    slot: int
    ballot: Ballot
    batch: Batch


# Elections ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PreVote:
    """Would you promise ``ballot``? Nothing is promised by asking or by answering.

    A node that still hears a leader answers no, so a node that was cut off cannot depose a working
    leader when it comes back (Raft thesis, 9.6).
    """

    sender: int
    ballot: Ballot


@dataclass(frozen=True, slots=True)
class PreVoteReply:
    """Answer to a PreVote at ``ballot``; ``promised`` lets a refused asker catch up in ballots."""

    sender: int
    ballot: Ballot
    granted: bool
    promised: Ballot


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The leader of ``ballot`` lives; ``ballot.op_num`` is the next slot that it will propose.

    ``chosen_through`` is the end of its chosen prefix. ``round`` numbers the leader's quorum
    rounds: a reply confirms leadership at a time after the round began. ``live`` are the members
    that the leader has heard from within an election timeout, itself included. A round takes up to
    ``round_trip_ms`` by the leader's measurement (0: below 1 ms, or not measured yet). ``lease_ms``
    asks for a lease of that length from the receipt on (0: none); see `lease`.
    """

    sender: int
    ballot: Ballot
    chosen_through: int
    round: int
    live: tuple[int, ...]
    round_trip_ms: int = 0
    lease_ms: int = 0


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """``sender`` still follows ``ballot``, asked in ``round``; its own prefix ends there.
    ``leased``: it has granted the lease that the heartbeat asked for."""

    sender: int
    ballot: Ballot
    round: int
    chosen_through: int
    leased: bool = False


# Phase 1 --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prepare:
    """Promise ``ballot``, and tell what you accepted from ``ballot.op_num`` on.

    Sent again with a higher ``op_num`` it asks for the next chunk of the same promise.
    ``incarnations`` fences members that came back without their disk: see Rejoin.
    """

    sender: int
    ballot: Ballot
    incarnations: Incarnations


@dataclass(frozen=True, slots=True)
class Promise:
    """``sender`` will take part in no ballot below ``ballot`` (durable before this is sent).

    ``entries`` is everything that it accepted in ``[ballot.op_num, next_slot)``, or from
    ``op_num`` on where ``next_slot`` is None; those up to ``chosen_through`` are known chosen.
    ``incarnation`` says in which life the promise was made, ``incarnations`` whom it fences.
    """

    sender: int
    ballot: Ballot
    entries: tuple[Entry, ...]
    chosen_through: int
    next_slot: int | None
    incarnation: int
    incarnations: Incarnations


@dataclass(frozen=True, slots=True)
class Nack:
    """``sender`` refuses ``ballot``, because it has promised ``promised``."""

    sender: int
    ballot: Ballot
    promised: Ballot


# Phase 2 --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accept:
    """Vote for ``batches[i]`` in slot ``ballot.op_num + i``; the prefix is chosen so far."""

    sender: int
    ballot: Ballot
    batches: tuple[Batch, ...]
    chosen_through: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """``sender`` voted at ``ballot`` in ``count`` slots from ``ballot.op_num`` on, durably."""

    sender: int
    ballot: Ballot
    count: int
    chosen_through: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything up to ``chosen_through`` is chosen: what was accepted there *at this ballot* may
    be applied. What was accepted at another ballot must be fetched instead.

    Sent where no Accept carries the same soon enough."""

    sender: int
    ballot: Ballot
    chosen_through: int


# Catching up ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Send me what is chosen from ``first_slot`` on."""

    sender: int
    first_slot: int


@dataclass(frozen=True, slots=True)
class CatchUpReply:
    """Chosen entries in slot order without a hole, beginning at the slot that was asked for."""

    sender: int
    entries: tuple[Entry, ...]
    chosen_through: int


@dataclass(frozen=True, slots=True)
class Compacted:
    """Answer to a Prepare or CatchUp below ``sender``'s log: install my snapshot of ``slot`` first.

    Never an empty promise: what was compacted was chosen (Paxos Made Live, 5.5).
    """

    sender: int
    slot: int


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """Send ``sender`` the bytes of your snapshot of ``slot`` from ``offset`` on.

    ``slot`` 0 asks for whichever snapshot is the newest.
    """

    sender: int
    slot: int
    offset: int


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """Bytes ``[offset, offset + len(data))`` of the snapshot of ``slot``, ``size_bytes`` in all.

    ``digest`` is the snapshot's own (32 bytes, BLAKE2b) and is checked before it is installed.
    """

    sender: int
    slot: int
    offset: int
    size_bytes: int
    digest: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Rejoin:
    """``sender`` has lost its disk and lives its ``incarnation``: count none of its older votes.

    Votes are cast by (member, incarnation). The leader answers by opening a new ballot whose
    phase 1 runs without the sender and carries the fence; every promise quorum of a later ballot
    meets that one in a member other than the sender, and so hears of the fence. (Paxos Made Live,
    5.1, made explicit.)

    A node that joins says the same, and how far its prefix goes, durably: that is when it may vote.
    """

    sender: int
    incarnation: int
    chosen_through: int


@dataclass(frozen=True, slots=True)
class Rejoined:
    """You may vote again at ``ballot`` or above once you have learned every slot below
    ``ballot.op_num``. ``incarnation`` repeats the one that the ballot admits; ``membership`` is the
    leader's, in force where the log that was learned names none."""

    sender: int
    ballot: Ballot
    incarnation: int
    incarnations: Incarnations
    membership: Membership


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader of ``ballot`` has stopped leading: the receiver is to prepare at once, without a
    pre-vote (Raft thesis, 3.10)."""

    sender: int
    ballot: Ballot


# Requests of clients that reached a follower -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Forward:
    """Propose these commands for me. ``number`` tells refusals apart; nothing else is answered:
    the sender sees its commands in its own applied log."""

    sender: int
    number: int
    commands: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ForwardRefused:
    """The commands of Forward ``number`` were not proposed: ``overloaded``, or not the leader."""

    sender: int
    number: int
    leader: int | None
    overloaded: bool


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """Run a read barrier for me (Raft thesis, 6.4). ``number`` is the asker's."""

    sender: int
    number: int


@dataclass(frozen=True, slots=True)
class ReadIndexReply:
    """Reads of barrier ``number`` may be served once ``slot`` is applied; None: not the leader."""

    sender: int
    number: int
    slot: int | None


Message: TypeAlias = (
    PreVote
    | PreVoteReply
    | Heartbeat
    | HeartbeatReply
    | Prepare
    | Promise
    | Nack
    | Accept
    | Accepted
    | Commit
    | CatchUp
    | CatchUpReply
    | Compacted
    | SnapshotRequest
    | SnapshotChunk
    | Rejoin
    | Rejoined
    | TimeoutNow
    | Forward
    | ForwardRefused
    | ReadIndex
    | ReadIndexReply
)
