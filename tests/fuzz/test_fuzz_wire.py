"""Whatever bytes come from a peer or a client: a message in range, or MalformedMessage.

And whatever command gets into the log: every replica applies it, to the same state.
"""

from __future__ import annotations

import random

import pytest
from fuzzing import is_one_line, mutate, random_message
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.conversations import Machine, encode, restore
from consensusllm.conversations.commands import (
    CreateConversation,
    OpenSession,
    Operation,
    PlannedCandidate,
    Put,
    SessionCommand,
    SubmitQuery,
)
from consensusllm.conversations.limits import Limits
from consensusllm.conversations.replies import SessionOpened
from consensusllm.council.live_text import LiveText
from consensusllm.paxos.batch import Batch, MalformedBatch
from consensusllm.transport.envelopes import checksum, refuse
from consensusllm.transport.port import Envelope
from consensusllm.wire.commands import decode_command, encode_command, reply_from_proto
from consensusllm.wire.errors import MalformedMessage
from consensusllm.wire.generated import client_pb2, peer_pb2
from consensusllm.wire.peer import KINDS, decode_message, encode_message, kind_of, summarise

ROUNDS = [
    2_000,
    pytest.param(100_000, marks=[pytest.mark.full, pytest.mark.timeout(3600)]),
]
NAME = b"s" * 16
SESSION = NAME + (1).to_bytes(8, "big")
NUMBER_MAX = 1 << 62


def peer_bytes(rng: random.Random) -> bytes:
    """A peer message with extreme values, and often with damage."""
    message = random_message(rng, peer_pb2.PeerMessage.DESCRIPTOR)
    assert isinstance(message, peer_pb2.PeerMessage)
    kind = message.WhichOneof("message")
    if kind in ("accept", "forward") and rng.random() < 0.7:
        getattr(message, kind).Clear()
        some = [rng.randbytes(rng.randrange(20)) for _ in range(rng.randrange(4))]
        if kind == "accept":
            message.accept.ballot.op_num = 1
            message.accept.batches.append(Batch.pack(1, some).payload)
        else:
            message.forward.commands.extend(some)
    data = message.SerializeToString()
    return mutate(rng, data) if rng.random() < 0.5 else data


@pytest.mark.parametrize("rounds", ROUNDS)
def test_peer_bytes_decode_to_a_message_in_range_or_are_malformed(seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    decoded = 0
    for _ in range(rounds):
        data = peer_bytes(rng)
        summarise(rng.choice(KINDS), data)
        try:
            message = decode_message(2, data)
        except MalformedMessage as error:
            is_one_line(error)
            continue
        decoded += 1
        assert kind_of(message) in KINDS
        assert decode_message(2, encode_message(message)) == message
        for name in message.__slots__:
            value = getattr(message, name)
            assert not isinstance(value, int) or value < NUMBER_MAX, name
    assert decoded > rounds // 20, "most of it was noise: nothing was tested"


@given(st.binary(max_size=300))
def test_noise_is_no_message_of_a_peer(data: bytes) -> None:
    try:
        message = decode_message(3, data)
    except MalformedMessage:
        return
    assert decode_message(3, encode_message(message)) == message


@given(st.binary(max_size=300))
def test_noise_is_no_batch_or_one_that_can_be_unpacked(data: bytes) -> None:
    try:
        batch = Batch.checked(data)
    except MalformedBatch:
        return
    batch.unpack()


@pytest.mark.parametrize("rounds", ROUNDS)
def test_every_flipped_bit_of_an_envelope_is_noticed(seed: int, rounds: int) -> None:
    """Of whatever is left an envelope, the receiver takes only what the sender sealed."""
    rng = random.Random(seed)
    body = rng.randbytes(60)
    sealed = peer_pb2.Envelope(
        cluster_id="c", src=2, dst=1, kind="accept", body=body,
        checksum=checksum("c", 2, 1, "accept", body),
    )  # fmt: skip
    assert refuse(sealed, "c", 1) == ""
    data = sealed.SerializeToString()
    for _ in range(rounds):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 5))):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            envelope = peer_pb2.Envelope.FromString(bytes(damaged))
        except DecodeError:
            continue
        unchanged = envelope == sealed
        assert bool(refuse(envelope, "c", 1)) != unchanged


async def test_live_text_takes_any_bytes(seed: int) -> None:
    rng = random.Random(seed)
    sent: list[bytes] = []
    live = LiveText(1, lambda node, body: sent.append(body))
    for _ in range(400):
        data = random_message(rng, peer_pb2.StreamMessage.DESCRIPTOR).SerializeToString()
        live.receive(Envelope(2, 1, "stream", mutate(rng, data) if rng.random() < 0.5 else data))
    assert len(sent) < 400
    live.close()


# Commands ---------------------------------------------------------------------------------------


def command_bytes(rng: random.Random) -> bytes:
    command = random_message(rng, client_pb2.SessionCommand.DESCRIPTOR)
    assert isinstance(command, client_pb2.SessionCommand)
    command.session = NAME if command.HasField("open_session") else SESSION
    if rng.random() < 0.9:
        command.sequence = rng.randrange(1, 1 << 40)
        command.acknowledged = rng.randrange(command.sequence + 1)
    data = command.SerializeToString()
    return mutate(rng, data) if rng.random() < 0.3 else data


def begin(machine: Machine) -> None:
    """A session, and conversations by the names that random messages use."""
    plan = tuple(PlannedCandidate(number, number) for number in (1, 2, 3))
    operations: list[Operation] = [Put("c", b"1")]
    for name in ("c", "told", "test"):
        operations += [CreateConversation(name), SubmitQuery(name, "q", plan)]
    opening = SessionCommand(NAME, 0, 0, OpenSession())
    commands = [
        SessionCommand(SESSION, number, 0, each) for number, each in enumerate(operations, 1)
    ]
    opened, *_ = machine.apply(1, 1_000, [opening, *commands])
    assert opened == SessionOpened(SESSION)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_whatever_is_in_the_log_is_applied_to_the_same_state_everywhere(
    seed: int, rounds: int
) -> None:
    """No command may stop a replica: it would stop them all, at every restart again."""
    rng = random.Random(seed)
    one, two = Machine(Limits()), Machine(Limits())
    begin(one)
    begin(two)
    decoded = 0
    for slot in range(2, rounds + 2):
        data = command_bytes(rng)
        commands: list[SessionCommand | None] = []
        try:
            commands.append(decode_command(data))
            decoded += 1
        except MalformedMessage as error:
            is_one_line(error)
            commands.append(None)
        time_ms = rng.choice((0, slot, 1 << 62))
        replies = one.apply(slot, time_ms, commands)
        assert replies == two.apply(slot, time_ms, commands)
        for reply in replies:
            assert "\n" not in getattr(reply, "message", "")
    assert decoded > rounds // 3
    assert one.state_hash() == two.state_hash()
    restored = restore(encode(one.freeze()), Limits())
    assert restored.state_hash() == one.state_hash()


@given(st.binary(max_size=200))
def test_noise_is_no_command(data: bytes) -> None:
    try:
        command = decode_command(data)
    except MalformedMessage:
        return
    assert decode_command(encode_command(command)) == command


def test_replies_of_any_server_are_read_or_malformed(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        reply = random_message(rng, client_pb2.Reply.DESCRIPTOR)
        assert isinstance(reply, client_pb2.Reply)
        try:
            reply_from_proto(reply)
        except MalformedMessage as error:
            is_one_line(error)
