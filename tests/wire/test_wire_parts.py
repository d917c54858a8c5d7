"""A command's parts are counted before it is parsed."""

from __future__ import annotations

import time

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.conversations import Candidate, ImportTurn, Put, SessionCommand, TakenOver, Turn
from consensusllm.wire.commands import encode_command
from consensusllm.wire.errors import MalformedMessage
from consensusllm.wire.generated import client_pb2 as pb
from consensusllm.wire.parts import check_parts, parts

ENOUGH = 1 << 30

COMMAND = pb.SessionCommand.DESCRIPTOR


def parsed_parts(message: Message) -> int:
    """What `parts` counts, of the parsed message."""
    count = 0
    for field, value in message.ListFields():
        single = isinstance(value, Message | str | bytes | int | float)
        for each in [value] if single else value:
            count += 1
            count += parsed_parts(each) if field.message_type is not None else 0
    return count


def imported(*candidates: Candidate) -> bytes:
    turn = Turn(1, "why?", candidates, closed=True)
    return encode_command(SessionCommand(b"s" * 24, 1, 1, ImportTurn("import.c1", turn)))


def full(number: int) -> Candidate:
    takeovers = tuple(TakenOver(attempt, 1, 10, 9, "m", "gone") for attempt in range(1, 9))
    return Candidate(
        number, 1, ended=True, text="so", takeovers=takeovers, fallbacks=("a", "b"), seat=300
    )


@pytest.mark.parametrize("command", [imported(full(1), full(2)), imported()])
def test_every_message_and_value_is_a_part(command: bytes) -> None:
    assert parts(command, COMMAND, ENOUGH) == parsed_parts(pb.SessionCommand.FromString(command))


def test_packed_numbers_count_as_their_bytes() -> None:
    before = parts(imported(Candidate(1, 1, ended=True)), COMMAND, ENOUGH)
    ranked = Candidate(1, 1, ended=True, ranking=tuple(range(1, 65)))
    assert parts(imported(ranked), COMMAND, ENOUGH) == before + 1 + 64


def test_the_largest_turns_and_values_are_taken() -> None:
    check_parts(imported(*map(full, range(1, 65))))
    check_parts(encode_command(SessionCommand(b"s" * 24, 1, 1, Put("k", bytes(1 << 20)))))


def varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7) if number > 0x7F else bytes([number])


def delimited(kind: type[Message], name: str, body: bytes) -> bytes:
    """A message of ``kind`` whose field ``name`` is ``body``."""
    number = kind.DESCRIPTOR.fields_by_name[name].number
    return varint(number << 3 | 2) + varint(len(body)) + body


@pytest.mark.parametrize("name", ["candidates", "retries"])
def test_a_command_of_millions_of_parts_is_refused_before_it_is_parsed(name: str) -> None:
    turn = delimited(pb.Turn, name, b"") * (4 << 20)
    imported = delimited(pb.ImportTurn, "turn", turn)
    command = delimited(pb.SessionCommand, "import_turn", imported)
    begun = time.process_time()
    with pytest.raises(MalformedMessage, match="more than 16384 parts"):
        check_parts(command)
    assert time.process_time() - begun < 0.5


@given(st.binary() | st.binary(min_size=1, max_size=20).map(lambda some: some * 2000))
def test_whatever_the_bytes_are_counting_ends(data: bytes) -> None:
    assert parts(data, COMMAND, 1000) >= 0
