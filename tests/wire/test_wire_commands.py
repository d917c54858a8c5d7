"""The codec of commands, replies and conversations: round trips, and bytes that are neither."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.conversations import (
    Candidate,
    Choose,
    Chosen,
    CloseStage,
    CloseTurn,
    Code,
    CompareAndSwap,
    ConveneCouncil,
    Conversation,
    ConversationSummary,
    Council,
    CreateConversation,
    Delete,
    DeleteKey,
    Done,
    Fork,
    GenerationOptions,
    Hedge,
    HedgeCandidate,
    ImportTurn,
    Member,
    OpenSession,
    Operation,
    PlannedCandidate,
    ProbedModel,
    Put,
    ReassignCandidate,
    RecordCandidate,
    RecordCheckpoint,
    RecordProbe,
    Refused,
    Rename,
    Reply,
    Retried,
    RetryTurn,
    ServedModel,
    ServeModels,
    SessionCommand,
    SessionOpened,
    SetBudget,
    Stage,
    StageKind,
    SubmitQuery,
    TakenOver,
    Turn,
    TurnOpened,
    Usage,
)
from consensusllm.wire import commands as codec
from consensusllm.wire import records
from consensusllm.wire.errors import MalformedMessage
from consensusllm.wire.generated import client_pb2

text = st.text(max_size=20)  # any Unicode but lone surrogates
data = st.binary(max_size=20)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
time_ms = st.integers(0, 2**63 - 1)
maybe_u64 = st.none() | u64
words = st.lists(text, max_size=3).map(tuple)
plan = st.lists(st.builds(PlannedCandidate, u32, u32, text, words), max_size=3).map(tuple)
options = st.builds(
    GenerationOptions,
    st.none() | st.floats(allow_nan=False),
    st.none() | u32,
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | text,
    st.none() | text,
    st.none() | u32,
)
usage = st.builds(Usage, maybe_u64, maybe_u64, st.booleans())
takeovers = st.lists(st.builds(TakenOver, u32, u32, u32, u64), max_size=2).map(tuple)
u32s = st.lists(u32, max_size=3).map(tuple)
council = st.builds(
    Council,
    text,
    text,
    u64,
    st.lists(st.builds(Member, u32, text, text, text, words), max_size=3).map(tuple),
    st.lists(st.builds(Stage, st.sampled_from(StageKind), u32s, u32, u32, text), max_size=3).map(
        tuple
    ),
)

candidates = st.builds(
    Candidate,
    number=u32,
    node=u32,
    model=text,
    attempt=u32,
    ended=st.booleans(),
    text=text,
    error=text,
    finish_reason=text,
    usage=usage,
    takeovers=takeovers,
    stage=u32,
    seat=u32,
    ranking=u32s,
    planned_node=u32,
    planned_model=text,
    opened_revision=u64,
    ended_revision=u64,
    left_out=u32,
    context_tokens=u64,
    hedge=st.none() | st.builds(Hedge, u32, u32, text, u64),
)
turns = st.builds(
    Turn,
    turn=u32,
    question=text,
    candidates=st.lists(candidates, max_size=3).map(tuple),
    choice=u32,
    closed=st.booleans(),
    opened_ms=time_ms,
    deadline_ms=time_ms,
    close_after=u32,
    asked_revision=u64,
    choice_revision=u64,
    options=options,
    retries=st.lists(st.builds(Retried, u64, time_ms, time_ms, u32), max_size=2).map(tuple),
)

served = st.builds(ServedModel, text, text, text, u64, u64, u64, u64, words, words, text, u32)
probed = st.builds(ProbedModel, text, st.none() | st.booleans(), text, u64)

OPERATIONS: dict[type, st.SearchStrategy[Operation]] = {
    OpenSession: st.builds(OpenSession, st.booleans()),
    ServeModels: st.builds(ServeModels, u32, st.lists(served, max_size=3).map(tuple)),
    RecordProbe: st.builds(RecordProbe, u32, text, st.lists(probed, max_size=3).map(tuple)),
    HedgeCandidate: st.builds(HedgeCandidate, text, u32, u32, u32, u32, text),
    CreateConversation: st.builds(CreateConversation, text, text),
    SubmitQuery: st.builds(SubmitQuery, text, text, plan, u32, u32, options, text),
    ConveneCouncil: st.builds(ConveneCouncil, text, text, council, options, text),
    CloseStage: st.builds(CloseStage, text, u32, u32, text),
    RetryTurn: st.builds(RetryTurn, text, u32, plan, u32),
    RecordCheckpoint: st.builds(RecordCheckpoint, text, u32, u32, u32, u32, text),
    RecordCandidate: st.builds(
        RecordCandidate,
        *(text, u32, u32, u32, text, text, text, usage, text),
        *(text, text, text, u64, u32, u64, usage),
    ),
    ReassignCandidate: st.builds(
        ReassignCandidate,
        *(text, u32, u32, u32, u32, u32, text, text, text, usage, st.booleans(), usage),
    ),
    CloseTurn: st.builds(CloseTurn, text, u32, text, u32),
    Choose: st.builds(Choose, text, u32, u32),
    Fork: st.builds(Fork, text, text, u32),
    Rename: st.builds(Rename, text, text),
    Delete: st.builds(Delete, text),
    ImportTurn: st.builds(ImportTurn, text, turns),
    SetBudget: st.builds(SetBudget, text, maybe_u64),
    Put: st.builds(Put, text, data),
    CompareAndSwap: st.builds(CompareAndSwap, text, st.none() | data, st.none() | data),
    DeleteKey: st.builds(DeleteKey, text),
}
names = st.binary(min_size=16, max_size=16)
opened = st.binary(min_size=24, max_size=24)
commands = st.one_of(
    st.builds(SessionCommand, names | opened, u64, u64, st.one_of(*OPERATIONS.values())),
    st.builds(SessionCommand, names, u64, u64, OPERATIONS[OpenSession]),
).filter(lambda command: len(command.session) == 16 or type(command.operation) is not OpenSession)
replies: st.SearchStrategy[Reply] = st.one_of(
    st.builds(Done),
    st.builds(SessionOpened, opened),
    st.builds(TurnOpened, u32, st.lists(u32, max_size=4).map(tuple)),
    st.builds(Chosen, u32, u32),
    st.builds(Refused, st.sampled_from(Code), text, u32, u32, st.none() | data),
)


def test_every_operation_is_tried() -> None:
    assert set(OPERATIONS) == set(get_args(Operation))


@pytest.mark.parametrize("kind", OPERATIONS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_operation_comes_back_as_it_was(kind: type, data: st.DataObject) -> None:
    operation = data.draw(OPERATIONS[kind])
    session = data.draw(names if kind is OpenSession else names | opened)
    command = SessionCommand(session, data.draw(u64), data.draw(u64), operation)
    assert codec.decode_command(codec.encode_command(command)) == command


@given(replies)
def test_every_reply_comes_back_as_it_was(reply: Reply) -> None:
    encoded = codec.reply_to_proto(reply).SerializeToString()
    assert codec.reply_from_proto(client_pb2.Reply.FromString(encoded)) == reply


@given(st.builds(Conversation, text, u64, st.lists(turns, max_size=2).map(tuple), time_ms, time_ms))
def test_every_conversation_comes_back_as_it_was(conversation: Conversation) -> None:
    encoded = records.conversation_to_proto(conversation).SerializeToString()
    decoded = client_pb2.Conversation.FromString(encoded)
    assert records.conversation_from_proto(decoded) == conversation


@given(st.builds(ConversationSummary, text, u32, u32, text, time_ms))
def test_every_summary_comes_back_as_it_was(summary: ConversationSummary) -> None:
    assert records.summary_from_proto(records.summary_to_proto(summary)) == summary


@given(st.binary(max_size=200))
def test_random_bytes_are_malformed_or_a_command(data: bytes) -> None:
    try:
        command = codec.decode_command(data)
    except MalformedMessage:
        return
    assert len(command.session) in (16, 24)


@given(commands, st.data())
def test_damaged_commands_are_malformed_or_another_command(
    command: SessionCommand, data: st.DataObject
) -> None:
    whole = bytearray(codec.encode_command(command))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    for damaged in (bytes(whole), bytes(whole[:at])):
        try:
            again = codec.decode_command(damaged)
        except MalformedMessage:
            continue
        assert codec.decode_command(codec.encode_command(again)) == again


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        client_pb2.SessionCommand(session=b"s" * 16, sequence=1).SerializeToString(),
        client_pb2.SessionCommand(put=client_pb2.Put(key="k")).SerializeToString(),
        client_pb2.SessionCommand(
            session=b"s" * 15, put=client_pb2.Put(key="k")
        ).SerializeToString(),
        client_pb2.SessionCommand(
            session=b"s" * 17, delete=client_pb2.Delete()
        ).SerializeToString(),
        client_pb2.SessionCommand(
            session=b"s" * 24, open_session=client_pb2.OpenSession(numbered=True)
        ).SerializeToString(),
        client_pb2.SessionCommand(session=b"s" * 16, put=client_pb2.Put(key="key"))
        .SerializeToString()
        .replace(b"key", b"k\xff\xfe"),
    ],
    ids=["empty", "cut", "no operation", "no session", "short", "long", "no name", "not UTF-8"],
)
def test_a_malformed_command_is_named_as_such(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        codec.decode_command(data)


def test_text_with_half_a_surrogate_pair_is_not_encoded() -> None:
    with pytest.raises(ValueError):
        codec.encode_command(SessionCommand(b"s" * 16, 1, 1, CreateConversation("\ud800")))


@pytest.mark.parametrize(
    "message",
    [
        client_pb2.Reply(),
        client_pb2.Reply(refused=client_pb2.Refused()),
        client_pb2.Reply(refused=client_pb2.Refused(code="new\n")),
    ],
)
def test_a_reply_of_an_unknown_kind_is_malformed(message: client_pb2.Reply) -> None:
    with pytest.raises(MalformedMessage) as caught:
        codec.reply_from_proto(message)
    assert str(caught.value).isprintable()
