"""The codec of what goes into the replicated log, and of its replies.

A command is encoded once, by the client; nodes carry the bytes and decode them where they are
applied. Decoding accepts nothing by halves: bytes without a known operation or a session of the
length of one are malformed. Whether the values make sense is for the state machine to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message import DecodeError, Message

from consensusllm.conversations import (
    Choose,
    Chosen,
    CloseStage,
    CloseTurn,
    Code,
    CompareAndSwap,
    ConveneCouncil,
    CreateConversation,
    Delete,
    DeleteKey,
    Done,
    Fork,
    HedgeCandidate,
    ImportTurn,
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
    RetryTurn,
    ServeModels,
    SessionCommand,
    SessionOpened,
    SetBudget,
    SubmitQuery,
    TurnOpened,
)
from consensusllm.conversations.sessions import NAME_BYTES, SESSION_BYTES
from consensusllm.wire.councils import council_from_proto, council_to_proto
from consensusllm.wire.errors import MalformedMessage
from consensusllm.wire.generated import client_pb2 as pb
from consensusllm.wire.records import (
    optional,
    options_from_proto,
    options_to_proto,
    served_from_proto,
    served_to_proto,
    turn_from_proto,
    turn_to_proto,
    usage_from_proto,
    usage_to_proto,
)

_REASSIGN = tuple(set(pb.ReassignCandidate.DESCRIPTOR.fields_by_name) - {"usage", "hedge_usage"})

# Commands -------------------------------------------------------------------------------------


def encode_command(command: SessionCommand) -> bytes:
    """The bytes that go into the log. Raises ValueError where a number is out of its wire type's
    range or text holds half a surrogate pair."""
    operation = command.operation
    name, to_proto = _ENCODERS[type(operation)]
    envelope = pb.SessionCommand(
        session=command.session,
        sequence=command.sequence,
        acknowledged=command.acknowledged,
        **{name: to_proto(operation)},
    )
    return envelope.SerializeToString()


def decode_command(data: bytes) -> SessionCommand:
    """The command; raises MalformedMessage and nothing else, whatever ``data`` is."""
    try:
        message = pb.SessionCommand.FromString(data)
    except (DecodeError, ValueError):
        raise MalformedMessage("a command is not protobuf of this protocol") from None
    name = message.WhichOneof("operation")
    if name is None:
        raise MalformedMessage("a command has no operation that this version knows")
    operation = _DECODERS[name](getattr(message, name))
    session = message.session
    if isinstance(operation, OpenSession):
        if len(session) != NAME_BYTES:
            raise MalformedMessage(f"a session's name has {len(session)} bytes, not {NAME_BYTES}")
    elif len(session) not in (NAME_BYTES, SESSION_BYTES):  # logs of before have its name alone
        raise MalformedMessage(f"a command's session has {len(session)} bytes, not {SESSION_BYTES}")
    return SessionCommand(session, message.sequence, message.acknowledged, operation)


def _plan_to_proto(plan: Iterable[PlannedCandidate]) -> list[pb.PlannedCandidate]:
    return [
        pb.PlannedCandidate(number=p.number, node=p.node, model=p.model, fallbacks=p.fallbacks)
        for p in plan
    ]


def _plan_from_proto(plan: Iterable[pb.PlannedCandidate]) -> tuple[PlannedCandidate, ...]:
    return tuple(PlannedCandidate(p.number, p.node, p.model, tuple(p.fallbacks)) for p in plan)


def _submit_to_proto(query: SubmitQuery) -> pb.SubmitQuery:
    return pb.SubmitQuery(
        conversation=query.conversation,
        question=query.question,
        plan=_plan_to_proto(query.plan),
        close_after=query.close_after,
        deadline_ms=query.deadline_ms,
        options=options_to_proto(query.options),
        user=query.user,
    )


def _submit_from_proto(message: pb.SubmitQuery) -> SubmitQuery:
    return SubmitQuery(
        message.conversation,
        message.question,
        _plan_from_proto(message.plan),
        message.close_after,
        message.deadline_ms,
        options_from_proto(message.options),
        message.user,
    )


def _convene_to_proto(convene: ConveneCouncil) -> pb.ConveneCouncil:
    return pb.ConveneCouncil(
        conversation=convene.conversation,
        question=convene.question,
        council=council_to_proto(convene.council),
        options=options_to_proto(convene.options),
        user=convene.user,
    )


def _convene_from_proto(message: pb.ConveneCouncil) -> ConveneCouncil:
    council = council_from_proto(message.council)
    options = options_from_proto(message.options)
    return ConveneCouncil(message.conversation, message.question, council, options, message.user)


def _retry_to_proto(retry: RetryTurn) -> pb.RetryTurn:
    return pb.RetryTurn(
        conversation=retry.conversation,
        turn=retry.turn,
        plan=_plan_to_proto(retry.plan),
        deadline_ms=retry.deadline_ms,
    )


def _retry_from_proto(message: pb.RetryTurn) -> RetryTurn:
    plan = _plan_from_proto(message.plan)
    return RetryTurn(message.conversation, message.turn, plan, message.deadline_ms)


def _record_to_proto(record: RecordCandidate) -> pb.RecordCandidate:
    return pb.RecordCandidate(
        conversation=record.conversation,
        turn=record.turn,
        candidate=record.candidate,
        attempt=record.attempt,
        text=record.text,
        model=record.model,
        finish_reason=record.finish_reason,
        usage=usage_to_proto(record.usage),
        error=record.error,
        provider=record.provider,
        served_as=record.served_as,
        prompt_hash=record.prompt_hash,
        speed=record.speed,
        left_out=record.left_out,
        context_tokens=record.context_tokens,
        hedge_usage=usage_to_proto(record.hedge_usage),
    )


def _record_from_proto(message: pb.RecordCandidate) -> RecordCandidate:
    return RecordCandidate(
        message.conversation,
        message.turn,
        message.candidate,
        message.attempt,
        message.text,
        message.model,
        message.finish_reason,
        usage_from_proto(message.usage),
        message.error,
        message.provider,
        message.served_as,
        message.prompt_hash,
        message.speed,
        message.left_out,
        message.context_tokens,
        usage_from_proto(message.hedge_usage),
    )


def _reassign_to_proto(reassign: ReassignCandidate) -> pb.ReassignCandidate:
    values = {name: getattr(reassign, name) for name in _REASSIGN}
    return pb.ReassignCandidate(
        **values,
        usage=usage_to_proto(reassign.usage),
        hedge_usage=usage_to_proto(reassign.hedge_usage),
    )


def _reassign_from_proto(message: pb.ReassignCandidate) -> ReassignCandidate:
    values = {name: getattr(message, name) for name in _REASSIGN}
    return ReassignCandidate(
        **values,
        usage=usage_from_proto(message.usage),
        hedge_usage=usage_from_proto(message.hedge_usage),
    )


def _import_to_proto(imported: ImportTurn) -> pb.ImportTurn:
    return pb.ImportTurn(conversation=imported.conversation, turn=turn_to_proto(imported.turn))


def _import_from_proto(message: pb.ImportTurn) -> ImportTurn:
    return ImportTurn(message.conversation, turn_from_proto(message.turn))


def _serve_to_proto(serve: ServeModels) -> pb.ServeModels:
    return pb.ServeModels(node=serve.node, models=map(served_to_proto, serve.models))


def _serve_from_proto(message: pb.ServeModels) -> ServeModels:
    return ServeModels(message.node, tuple(map(served_from_proto, message.models)))


def _probe_to_proto(probe: RecordProbe) -> pb.RecordProbe:
    models = [
        pb.ProbedModel(model=p.model, loaded=p.loaded, error=p.error, answers=p.answers)
        for p in probe.models
    ]
    return pb.RecordProbe(node=probe.node, server=probe.server, models=models)


def _probe_from_proto(message: pb.RecordProbe) -> RecordProbe:
    models = (
        ProbedModel(p.model, optional(p, "loaded"), p.error, p.answers) for p in message.models
    )
    return RecordProbe(message.node, message.server, tuple(models))


def _swap_from_proto(message: pb.CompareAndSwap) -> CompareAndSwap:
    return CompareAndSwap(message.key, optional(message, "expected"), optional(message, "new"))


_Encoder = Callable[[Any], Any]
_Decoder = Callable[[Any], Operation]
_ENCODERS: dict[type, tuple[str, _Encoder]] = {}
_DECODERS: dict[str, _Decoder] = {}


def _codec(name: str, kind: type, to_proto: _Encoder, from_proto: _Decoder) -> None:
    _ENCODERS[kind] = (name, to_proto)
    _DECODERS[name] = from_proto


def _flat(name: str, kind: Any, message: Any, decoder: _Decoder | None = None) -> None:
    """An operation whose fields are plain values under the same names on both sides."""
    names = [field.name for field in message.DESCRIPTOR.fields]

    def to_proto(operation: Any) -> Message:
        encoded: Message = message(**{field: getattr(operation, field) for field in names})
        return encoded

    def from_proto(encoded: Any) -> Operation:
        operation: Operation = kind(**{field: getattr(encoded, field) for field in names})
        return operation

    _codec(name, kind, to_proto, decoder or from_proto)


_flat("open_session", OpenSession, pb.OpenSession)
_codec("serve_models", ServeModels, _serve_to_proto, _serve_from_proto)
_codec("record_probe", RecordProbe, _probe_to_proto, _probe_from_proto)
_flat("create_conversation", CreateConversation, pb.CreateConversation)
_codec("submit_query", SubmitQuery, _submit_to_proto, _submit_from_proto)
_codec("convene_council", ConveneCouncil, _convene_to_proto, _convene_from_proto)
_flat("close_stage", CloseStage, pb.CloseStage)
_codec("retry_turn", RetryTurn, _retry_to_proto, _retry_from_proto)
_flat("record_checkpoint", RecordCheckpoint, pb.RecordCheckpoint)
_codec("record_candidate", RecordCandidate, _record_to_proto, _record_from_proto)
_flat("hedge_candidate", HedgeCandidate, pb.HedgeCandidate)
_codec("reassign_candidate", ReassignCandidate, _reassign_to_proto, _reassign_from_proto)
_flat("close_turn", CloseTurn, pb.CloseTurn)
_flat("choose", Choose, pb.Choose)
_flat("fork", Fork, pb.Fork)
_flat("rename", Rename, pb.Rename)
_flat("delete", Delete, pb.Delete)
_flat(
    "set_budget",
    SetBudget,
    pb.SetBudget,
    lambda message: SetBudget(message.scope, optional(message, "limit")),
)
_codec("import_turn", ImportTurn, _import_to_proto, _import_from_proto)
_codec(
    "put",
    Put,
    lambda put: {"key": put.key, "value": put.value},  # quicker than a message that is copied
    lambda message: Put(message.key, message.value),
)
_flat("compare_and_swap", CompareAndSwap, pb.CompareAndSwap, _swap_from_proto)
_flat("delete_key", DeleteKey, pb.DeleteKey)

# Replies --------------------------------------------------------------------------------------

_DONE = Done()


def reply_to_proto(reply: Reply) -> pb.Reply:
    if isinstance(reply, Done):
        return pb.Reply(done=pb.Done())
    if isinstance(reply, TurnOpened):
        return pb.Reply(turn_opened=pb.TurnOpened(turn=reply.turn, candidates=reply.candidates))
    if isinstance(reply, Chosen):
        return pb.Reply(chosen=pb.Chosen(turn=reply.turn, candidate=reply.candidate))
    if isinstance(reply, SessionOpened):
        return pb.Reply(session_opened=pb.SessionOpened(session=reply.session))
    return pb.Reply(
        refused=pb.Refused(
            code=reply.code.value,
            message=reply.message,
            turn=reply.turn,
            winner=reply.winner,
            current=reply.current,
        )
    )


def reply_from_proto(message: pb.Reply) -> Reply:
    """The reply; raises MalformedMessage where it is of no kind, or has no code, that is known."""
    kind = message.WhichOneof("reply")
    if kind == "done":
        return _DONE
    if kind == "turn_opened":
        opened = message.turn_opened
        return TurnOpened(opened.turn, tuple(opened.candidates))
    if kind == "chosen":
        return Chosen(message.chosen.turn, message.chosen.candidate)
    if kind == "session_opened":
        session = message.session_opened.session
        if len(session) != SESSION_BYTES:
            raise MalformedMessage(f"a session has {len(session)} bytes, not {SESSION_BYTES}")
        return SessionOpened(session)
    if kind is None:
        raise MalformedMessage("a reply is of no kind that this version knows")
    refused = message.refused
    try:
        code = Code(refused.code)
    except ValueError:
        raise MalformedMessage(f"a refusal has the unknown code {refused.code[:40]!r}") from None
    current = optional(refused, "current")
    return Refused(code, refused.message, refused.turn, refused.winner, current)
