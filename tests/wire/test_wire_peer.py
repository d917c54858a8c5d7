"""The codec of peer messages: what goes in comes out, and nothing else gets through."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.conversations.commands import Choose, SessionCommand
from consensusllm.paxos import Ballot, Batch, Member, Membership, first_members
from consensusllm.paxos import messages as m
from consensusllm.wire.commands import encode_command
from consensusllm.wire.errors import MalformedMessage
from consensusllm.wire.generated import peer_pb2 as pb
from consensusllm.wire.peer import KINDS, decode_message, encode_message, kind_of, summarise

numbers = st.integers(1, (1 << 62) - 1)
small = st.integers(0, (1 << 32) - 1)
ballots = st.builds(Ballot, numbers, small, numbers)
batches = st.one_of(
    st.builds(Batch.noop, st.integers(0, 2**40)),
    st.builds(Batch.pack, st.integers(0, 2**40), st.lists(st.binary(max_size=20), max_size=4)),
    st.builds(Batch.change, st.integers(0, 2**40), st.just(first_members((1, 2, 3)))),
)
entries = st.lists(st.builds(m.Entry, numbers, ballots, batches), max_size=3).map(tuple)
lives = st.dictionaries(small, numbers, max_size=3).map(lambda d: tuple(sorted(d.items())))
memberships = st.sets(st.integers(1, 99), min_size=1, max_size=4).map(
    lambda ids: Membership(
        tuple(Member(node, f"h:{node}", node == min(ids), node) for node in sorted(ids)), (100,)
    )
)

FIELDS: dict[str, Any] = {
    "ballot": ballots,
    "promised": ballots,
    "granted": st.booleans(),
    "overloaded": st.booleans(),
    "leased": st.booleans(),
    "live": st.lists(small, max_size=9).map(tuple),
    "entries": entries,
    "batches": st.lists(batches, max_size=3).map(tuple),
    "commands": st.lists(st.binary(max_size=20), max_size=3).map(tuple),
    "incarnations": lives,
    "membership": memberships,
    "next_slot": st.none() | numbers,
    "slot": numbers,
    "leader": st.none() | small,
    "digest": st.binary(max_size=32),
    "data": st.binary(max_size=64),
    "count": small,
}
MESSAGES = get_args(m.Message)


def strategy(kind: type) -> st.SearchStrategy[Any]:
    names = [field.name for field in dataclasses.fields(kind)]
    values = {name: FIELDS.get(name, numbers) for name in names}
    values["sender"] = st.just(3)
    if kind is m.ReadIndexReply:
        values["slot"] = st.none() | numbers
    return st.builds(kind, **values)


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_every_message_comes_back_as_it_was(kind: type) -> None:
    @given(strategy(kind))
    def round_trip(message: Any) -> None:
        decoded = decode_message(3, encode_message(message))
        assert decoded == message
        for name in get_type_hints(kind):
            value, back = getattr(message, name), getattr(decoded, name)
            if isinstance(value, Ballot):
                assert value.op_num == back.op_num  # which equality of ballots leaves out

    round_trip()


def test_every_message_has_a_kind_of_its_own() -> None:
    assert len(set(KINDS)) == len(KINDS) == len(MESSAGES)
    assert set(KINDS) == set(pb.PeerMessage.DESCRIPTOR.fields_by_name)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_are_a_message(data: bytes) -> None:
    try:
        message = decode_message(2, data)
    except MalformedMessage:
        return
    assert isinstance(message, MESSAGES)


@given(st.data())
def test_a_changed_byte_is_refused_or_is_a_message(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(MESSAGES))
    encoded = bytearray(encode_message(data.draw(strategy(kind))))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(MalformedMessage):
        assert isinstance(decode_message(2, bytes(encoded)), MESSAGES)


@pytest.mark.parametrize(
    "message",
    [
        pb.PeerMessage(),
        pb.PeerMessage(prepare=pb.Prepare(ballot=pb.Ballot(seq_num=1, pid=1, op_num=0))),
        pb.PeerMessage(accept=pb.Accept(ballot=pb.Ballot(op_num=1), batches=[b"\x07rubbish"])),
        pb.PeerMessage(catch_up=pb.CatchUp(first_slot=0)),
        pb.PeerMessage(commit=pb.Commit(chosen_through=1 << 63)),
    ],
    ids=["empty", "slot 0 in prepare", "batch", "slot 0 in catch-up", "number out of range"],
)
def test_fields_out_of_range_are_refused(message: pb.PeerMessage) -> None:
    with pytest.raises(MalformedMessage):
        decode_message(1, message.SerializeToString())


def test_a_trace_line_shows_the_numbers_and_no_payload() -> None:
    accept = m.Accept(1, Ballot(3, 1, 7), (Batch.pack(1, [b"secret"]),), 6)
    assert summarise(kind_of(accept), encode_message(accept)) == (
        "ballot=<3,1,7> batches=1 chosen_through=6"
    )
    assert summarise("accept", b"\xff") == ""


def test_a_trace_line_names_the_conversation_that_a_message_is_about() -> None:
    command = encode_command(SessionCommand(b"s" * 16, 1, 1, Choose("c1", 1, 2)))
    forward = m.Forward(1, 7, (command, b"\xff"))
    assert summarise("forward", encode_message(forward)) == "c1 number=7 commands=2"
    accept = m.Accept(1, Ballot(3, 1, 7), (Batch.pack(1, [command]),), 6)
    assert summarise("accept", encode_message(accept)).startswith("c1 ballot=")
    delta = pb.Delta(conversation="c1", turn=1, candidate=2, offset=4, text="abc")
    line = "c1 delta turn=1 candidate=2 attempt=0 offset=4 characters=3"
    texts = pb.StreamMessage(deltas=[delta])
    assert summarise("stream", texts.SerializeToString()) == line
    texts = pb.StreamMessage(deltas=[delta] * 20)
    assert summarise("stream", texts.SerializeToString()) == "; ".join([line] * 4 + ["16 more"])
    asked = pb.StreamMessage(subscribe=pb.Subscribe(conversation="c1", turn=1, candidate=2))
    line = "c1 subscribe turn=1 candidate=2 attempt=0 offset=0"
    assert summarise("stream", asked.SerializeToString()) == line
