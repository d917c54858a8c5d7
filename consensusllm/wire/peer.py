"""The codec of what nodes say to each other: `paxos.messages` to and from `peer.proto`.

Whatever bytes arrive, decoding ends in a message whose fields are in range, or in MalformedMessage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from consensusllm.paxos import messages as m
from consensusllm.paxos.ballot import Ballot
from consensusllm.paxos.batch import Batch, MalformedBatch
from consensusllm.paxos.membership import MalformedMembership, Membership

from .commands import decode_command
from .errors import MalformedMessage
from .generated import peer_pb2 as pb

_MAX_NUMBER = 1 << 62
"""Slots, rounds and incarnations stay below this, so that arithmetic on them cannot overflow the
64 bits that the disk and the wire have."""

_SUMMARISED_COMMANDS = 16
_SUMMARISED_TEXTS = 4


def _number(value: int) -> int:
    if value >= _MAX_NUMBER:
        raise MalformedMessage(f"{value} is out of range")
    return value


def _ballot_to(ballot: Ballot) -> pb.Ballot:
    return pb.Ballot(seq_num=ballot.seq_num, pid=ballot.pid, op_num=ballot.op_num)


def _ballot_from(ballot: pb.Ballot) -> Ballot:
    return Ballot(_number(ballot.seq_num), ballot.pid, _number(ballot.op_num))


def _slots_from(ballot: pb.Ballot) -> Ballot:
    """A ballot that names a first slot: slots are numbered from 1."""
    if ballot.op_num < 1:
        raise MalformedMessage("a slot number below 1")
    return _ballot_from(ballot)


def _entries_to(entries: tuple[m.Entry, ...]) -> list[pb.Entry]:
    return [
        pb.Entry(slot=entry.slot, ballot=_ballot_to(entry.ballot), batch=entry.batch.payload)
        for entry in entries
    ]


def _entries_from(entries: Any) -> tuple[m.Entry, ...]:
    return tuple(
        m.Entry(_slot(entry.slot), _ballot_from(entry.ballot), _batch(entry.batch))
        for entry in entries
    )


def _slot(slot: int) -> int:
    if slot < 1:
        raise MalformedMessage("a slot number below 1")
    return _number(slot)


def _batch(payload: bytes) -> Batch:
    try:
        return Batch.checked(payload)
    except MalformedBatch as error:
        raise MalformedMessage(str(error)) from None


def _membership(data: bytes) -> Membership:
    try:
        return Membership.decode(data)
    except MalformedMembership as error:
        raise MalformedMessage(str(error)) from None


def _incarnations_to(incarnations: m.Incarnations) -> list[pb.Incarnation]:
    return [pb.Incarnation(member=member, incarnation=life) for member, life in incarnations]


def _incarnations_from(incarnations: Any) -> m.Incarnations:
    return tuple(sorted((pair.member, _number(pair.incarnation)) for pair in incarnations))


_ENCODERS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    m.PreVote: ("pre_vote", lambda x: pb.PreVote(ballot=_ballot_to(x.ballot))),
    m.PreVoteReply: (
        "pre_vote_reply",
        lambda x: pb.PreVoteReply(
            ballot=_ballot_to(x.ballot), granted=x.granted, promised=_ballot_to(x.promised)
        ),
    ),
    m.Heartbeat: (
        "heartbeat",
        lambda x: pb.Heartbeat(
            ballot=_ballot_to(x.ballot),
            chosen_through=x.chosen_through,
            round=x.round,
            live=x.live,
            round_trip_ms=x.round_trip_ms,
            lease_ms=x.lease_ms,
        ),
    ),
    m.HeartbeatReply: (
        "heartbeat_reply",
        lambda x: pb.HeartbeatReply(
            ballot=_ballot_to(x.ballot),
            round=x.round,
            chosen_through=x.chosen_through,
            leased=x.leased,
        ),
    ),
    m.Prepare: (
        "prepare",
        lambda x: pb.Prepare(
            ballot=_ballot_to(x.ballot), incarnations=_incarnations_to(x.incarnations)
        ),
    ),
    m.Promise: (
        "promise",
        lambda x: pb.Promise(
            ballot=_ballot_to(x.ballot),
            entries=_entries_to(x.entries),
            chosen_through=x.chosen_through,
            next_slot=x.next_slot,
            incarnation=x.incarnation,
            incarnations=_incarnations_to(x.incarnations),
        ),
    ),
    m.Nack: (
        "nack",
        lambda x: pb.Nack(ballot=_ballot_to(x.ballot), promised=_ballot_to(x.promised)),
    ),
    m.Accept: (
        "accept",
        lambda x: pb.Accept(
            ballot=_ballot_to(x.ballot),
            batches=[batch.payload for batch in x.batches],
            chosen_through=x.chosen_through,
        ),
    ),
    m.Accepted: (
        "accepted",
        lambda x: pb.Accepted(
            ballot=_ballot_to(x.ballot),
            count=x.count,
            chosen_through=x.chosen_through,
            incarnation=x.incarnation,
        ),
    ),
    m.Commit: (
        "commit",
        lambda x: pb.Commit(ballot=_ballot_to(x.ballot), chosen_through=x.chosen_through),
    ),
    m.CatchUp: ("catch_up", lambda x: pb.CatchUp(first_slot=x.first_slot)),
    m.CatchUpReply: (
        "catch_up_reply",
        lambda x: pb.CatchUpReply(entries=_entries_to(x.entries), chosen_through=x.chosen_through),
    ),
    m.Compacted: ("compacted", lambda x: pb.Compacted(slot=x.slot)),
    m.SnapshotRequest: (
        "snapshot_request",
        lambda x: pb.SnapshotRequest(slot=x.slot, offset=x.offset),
    ),
    m.SnapshotChunk: (
        "snapshot_chunk",
        lambda x: pb.SnapshotChunk(
            slot=x.slot,
            offset=x.offset,
            size_bytes=x.size_bytes,
            digest=x.digest,
            data=x.data,
        ),
    ),
    m.Rejoin: (
        "rejoin",
        lambda x: pb.Rejoin(incarnation=x.incarnation, chosen_through=x.chosen_through),
    ),
    m.Rejoined: (
        "rejoined",
        lambda x: pb.Rejoined(
            ballot=_ballot_to(x.ballot),
            incarnation=x.incarnation,
            incarnations=_incarnations_to(x.incarnations),
            membership=x.membership.encode(),
        ),
    ),
    m.TimeoutNow: ("timeout_now", lambda x: pb.TimeoutNow(ballot=_ballot_to(x.ballot))),
    m.Forward: ("forward", lambda x: pb.Forward(number=x.number, commands=x.commands)),
    m.ForwardRefused: (
        "forward_refused",
        lambda x: pb.ForwardRefused(number=x.number, leader=x.leader, overloaded=x.overloaded),
    ),
    m.ReadIndex: ("read_index", lambda x: pb.ReadIndex(number=x.number)),
    m.ReadIndexReply: (
        "read_index_reply",
        lambda x: pb.ReadIndexReply(number=x.number, slot=x.slot),
    ),
}

_DECODERS: dict[str, Callable[[int, Any], m.Message]] = {
    "pre_vote": lambda s, x: m.PreVote(s, _ballot_from(x.ballot)),
    "pre_vote_reply": lambda s, x: m.PreVoteReply(
        s, _ballot_from(x.ballot), x.granted, _ballot_from(x.promised)
    ),
    "heartbeat": lambda s, x: m.Heartbeat(
        s,
        _ballot_from(x.ballot),
        _number(x.chosen_through),
        _number(x.round),
        tuple(x.live),
        _number(x.round_trip_ms),
        _number(x.lease_ms),
    ),
    "heartbeat_reply": lambda s, x: m.HeartbeatReply(
        s, _ballot_from(x.ballot), _number(x.round), _number(x.chosen_through), x.leased
    ),
    "prepare": lambda s, x: m.Prepare(s, _slots_from(x.ballot), _incarnations_from(x.incarnations)),
    "promise": lambda s, x: m.Promise(
        s,
        _slots_from(x.ballot),
        _entries_from(x.entries),
        _number(x.chosen_through),
        _slot(x.next_slot) if x.HasField("next_slot") else None,
        _number(x.incarnation),
        _incarnations_from(x.incarnations),
    ),
    "nack": lambda s, x: m.Nack(s, _ballot_from(x.ballot), _ballot_from(x.promised)),
    "accept": lambda s, x: m.Accept(
        s, _slots_from(x.ballot), tuple(map(_batch, x.batches)), _number(x.chosen_through)
    ),
    "accepted": lambda s, x: m.Accepted(
        s, _slots_from(x.ballot), x.count, _number(x.chosen_through), _number(x.incarnation)
    ),
    "commit": lambda s, x: m.Commit(s, _ballot_from(x.ballot), _number(x.chosen_through)),
    "catch_up": lambda s, x: m.CatchUp(s, _slot(x.first_slot)),
    "catch_up_reply": lambda s, x: m.CatchUpReply(
        s, _entries_from(x.entries), _number(x.chosen_through)
    ),
    "compacted": lambda s, x: m.Compacted(s, _number(x.slot)),
    "snapshot_request": lambda s, x: m.SnapshotRequest(s, _number(x.slot), _number(x.offset)),
    "snapshot_chunk": lambda s, x: m.SnapshotChunk(
        s, _slot(x.slot), _number(x.offset), _number(x.size_bytes), x.digest, x.data
    ),
    "rejoin": lambda s, x: m.Rejoin(s, _number(x.incarnation), _number(x.chosen_through)),
    "rejoined": lambda s, x: m.Rejoined(
        s,
        _ballot_from(x.ballot),
        _number(x.incarnation),
        _incarnations_from(x.incarnations),
        _membership(x.membership),
    ),
    "timeout_now": lambda s, x: m.TimeoutNow(s, _ballot_from(x.ballot)),
    "forward": lambda s, x: m.Forward(s, _number(x.number), tuple(x.commands)),
    "forward_refused": lambda s, x: m.ForwardRefused(
        s, _number(x.number), x.leader if x.HasField("leader") else None, x.overloaded
    ),
    "read_index": lambda s, x: m.ReadIndex(s, _number(x.number)),
    "read_index_reply": lambda s, x: m.ReadIndexReply(
        s, _number(x.number), _number(x.slot) if x.HasField("slot") else None
    ),
}

KINDS: tuple[str, ...] = tuple(kind for kind, _ in _ENCODERS.values())
"""The names of the messages, as envelopes and traces show them."""


def kind_of(message: m.Message) -> str:
    return _ENCODERS[type(message)][0]


def encode_message(message: m.Message) -> bytes:
    """``message`` without its sender, which the envelope carries."""
    kind, encode = _ENCODERS[type(message)]
    return pb.PeerMessage(**{kind: encode(message)}).SerializeToString()


def decode_message(sender: int, body: bytes) -> m.Message:
    """The message that ``sender`` encoded. Raises MalformedMessage for anything else."""
    try:
        envelope = pb.PeerMessage.FromString(body)
    except DecodeError:
        raise MalformedMessage("not a peer message") from None
    kind = envelope.WhichOneof("message")
    if kind is None:
        raise MalformedMessage("an empty peer message")
    return _DECODERS[kind](sender, getattr(envelope, kind))


def summarise(kind: str, body: bytes) -> str:
    """One line for a trace: the conversations that a message speaks of, then its numbers.

    ``kind`` is one of KINDS, or "stream" for live text. What cannot be decoded has no summary.
    """
    try:
        if kind == "stream":
            return _summarise_stream(pb.StreamMessage.FromString(body))
        message = decode_message(0, body)
    except (MalformedMessage, DecodeError):
        return ""
    parts = _conversations(message)
    for name in message.__slots__:
        value = getattr(message, name)
        if isinstance(value, Ballot):
            parts.append(f"{name}={value}")
        elif name in ("entries", "batches", "commands", "data"):
            parts.append(f"{name}={len(value)}")
        elif name not in ("sender", "digest", "incarnations", "membership") and value is not None:
            parts.append(f"{name}={value}")
    return " ".join(parts)


def _conversations(message: m.Message) -> list[str]:
    """The first few conversations that the commands inside a message are about."""
    commands: tuple[bytes, ...] = ()
    if isinstance(message, m.Forward):
        commands = message.commands
    elif isinstance(message, m.Accept):
        commands = tuple(command for batch in message.batches for command in batch.commands)
    found: dict[str, None] = {}
    for command in commands[:_SUMMARISED_COMMANDS]:
        try:
            name = getattr(decode_command(command).operation, "conversation", "")
        except MalformedMessage:
            continue
        if name:
            found[name] = None
    return list(found)


def _summarise_stream(message: pb.StreamMessage) -> str:
    if message.HasField("subscribe"):
        return _summarise_text("subscribe", message.subscribe)
    texts = [
        f"{_summarise_text('delta', each)} characters={len(each.text)}"
        for each in message.deltas[:_SUMMARISED_TEXTS]
    ]
    more = len(message.deltas) - len(texts)
    return "; ".join(texts) + (f"; {more} more" if more else "")


def _summarise_text(what: str, text: pb.Subscribe | pb.Delta) -> str:
    numbers = f"turn={text.turn} candidate={text.candidate} attempt={text.attempt}"
    return f"{text.conversation} {what} {numbers} offset={text.offset}"
