"""The codec of what goes into the replicated log, of its replies, and of conversations as read.

A command is encoded once, by the client; nodes carry the bytes and decode them where they are
applied. Decoding accepts nothing by halves: bytes without a known operation or a session of 16
bytes are malformed. Whether the values make sense is for the state machine to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message import DecodeError, Message

from consensusllm.conversations import (
    Budget,
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
    CreateConversation,
    Delete,
    DeleteKey,
    Done,
    Fork,
    GenerationOptions,
    ImportTurn,
    OpenSession,
    Operation,
    PlannedCandidate,
    Put,
    ReassignCandidate,
    RecordCandidate,
    RecordCheckpoint,
    Refused,
    RegisteredModel,
    Rename,
    Reply,
    Retried,
    RetryTurn,
    ServedModel,
    ServeModels,
    SessionCommand,
    SetBudget,
    SubmitQuery,
    TakenOver,
    Turn,
    TurnOpened,
    Usage,
)
from consensusllm.wire.councils import council_from_proto, council_to_proto
from consensusllm.wire.errors import MalformedMessage
from consensusllm.wire.generated import client_pb2 as pb

SESSION_BYTES = 16
_REASSIGN = tuple(set(pb.ReassignCandidate.DESCRIPTOR.fields_by_name) - {"usage"})
_SERVED = tuple(pb.ServedModel.DESCRIPTOR.fields_by_name)

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
    if len(session) != SESSION_BYTES:
        raise MalformedMessage(f"a command's session has {len(session)} bytes, not {SESSION_BYTES}")
    return SessionCommand(session, message.sequence, message.acknowledged, operation)


def options_to_proto(options: GenerationOptions) -> pb.GenerationOptions:
    return pb.GenerationOptions(
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        seed=options.seed,
        system=options.system,
        role=options.role,
    )


def options_from_proto(message: pb.GenerationOptions) -> GenerationOptions:
    return GenerationOptions(
        _optional(message, "temperature"),
        _optional(message, "max_tokens"),
        _optional(message, "seed"),
        _optional(message, "system"),
        _optional(message, "role"),
    )


def _optional(message: Message, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


def _usage_to_proto(usage: Usage) -> pb.Usage:
    return pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        estimated=usage.estimated,
    )


def _usage_from_proto(message: pb.Usage) -> Usage:
    return Usage(
        _optional(message, "prompt_tokens"),
        _optional(message, "completion_tokens"),
        message.estimated,
    )


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
        usage=_usage_to_proto(record.usage),
        error=record.error,
        provider=record.provider,
        served_as=record.served_as,
        prompt_hash=record.prompt_hash,
        speed=record.speed,
        left_out=record.left_out,
        context_tokens=record.context_tokens,
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
        _usage_from_proto(message.usage),
        message.error,
        message.provider,
        message.served_as,
        message.prompt_hash,
        message.speed,
        message.left_out,
        message.context_tokens,
    )


def _reassign_to_proto(reassign: ReassignCandidate) -> pb.ReassignCandidate:
    values = {name: getattr(reassign, name) for name in _REASSIGN}
    return pb.ReassignCandidate(**values, usage=_usage_to_proto(reassign.usage))


def _reassign_from_proto(message: pb.ReassignCandidate) -> ReassignCandidate:
    values = {name: getattr(message, name) for name in _REASSIGN}
    return ReassignCandidate(**values, usage=_usage_from_proto(message.usage))


def _import_to_proto(imported: ImportTurn) -> pb.ImportTurn:
    return pb.ImportTurn(conversation=imported.conversation, turn=turn_to_proto(imported.turn))


def _import_from_proto(message: pb.ImportTurn) -> ImportTurn:
    return ImportTurn(message.conversation, turn_from_proto(message.turn))


def served_to_proto(served: ServedModel) -> pb.ServedModel:
    return pb.ServedModel(**{name: getattr(served, name) for name in _SERVED})


def served_from_proto(message: pb.ServedModel) -> ServedModel:
    values = {name: getattr(message, name) for name in _SERVED}
    values |= {"tags": tuple(message.tags), "fallbacks": tuple(message.fallbacks)}
    return ServedModel(**values)


def _serve_to_proto(serve: ServeModels) -> pb.ServeModels:
    return pb.ServeModels(node=serve.node, models=map(served_to_proto, serve.models))


def _serve_from_proto(message: pb.ServeModels) -> ServeModels:
    return ServeModels(message.node, tuple(map(served_from_proto, message.models)))


def _swap_from_proto(message: pb.CompareAndSwap) -> CompareAndSwap:
    return CompareAndSwap(message.key, _optional(message, "expected"), _optional(message, "new"))


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
_flat("create_conversation", CreateConversation, pb.CreateConversation)
_codec("submit_query", SubmitQuery, _submit_to_proto, _submit_from_proto)
_codec("convene_council", ConveneCouncil, _convene_to_proto, _convene_from_proto)
_flat("close_stage", CloseStage, pb.CloseStage)
_codec("retry_turn", RetryTurn, _retry_to_proto, _retry_from_proto)
_flat("record_checkpoint", RecordCheckpoint, pb.RecordCheckpoint)
_codec("record_candidate", RecordCandidate, _record_to_proto, _record_from_proto)
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
    lambda message: SetBudget(message.scope, _optional(message, "limit")),
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
    if kind is None:
        raise MalformedMessage("a reply is of no kind that this version knows")
    refused = message.refused
    try:
        code = Code(refused.code)
    except ValueError:
        raise MalformedMessage(f"a refusal has the unknown code {refused.code[:40]!r}") from None
    current = _optional(refused, "current")
    return Refused(code, refused.message, refused.turn, refused.winner, current)


# Conversations as they are read ---------------------------------------------------------------


def candidate_to_proto(candidate: Candidate) -> pb.Candidate:
    return pb.Candidate(
        number=candidate.number,
        node=candidate.node,
        model=candidate.model,
        attempt=candidate.attempt,
        ended=candidate.ended,
        text=candidate.text,
        error=candidate.error,
        finish_reason=candidate.finish_reason,
        usage=_usage_to_proto(candidate.usage),
        takeovers=[
            pb.TakenOver(
                attempt=each.attempt,
                node=each.node,
                kept=each.kept,
                revision=each.revision,
                model=each.model,
                reason=each.reason,
            )
            for each in candidate.takeovers
        ],
        planned_node=candidate.planned_node,
        planned_model=candidate.planned_model,
        opened_revision=candidate.opened_revision,
        ended_revision=candidate.ended_revision,
        provider=candidate.provider,
        prompt_hash=candidate.prompt_hash,
        cost=candidate.cost,
        fallbacks=candidate.fallbacks,
        stage=candidate.stage,
        seat=candidate.seat,
        ranking=candidate.ranking,
        left_out=candidate.left_out,
        context_tokens=candidate.context_tokens,
    )


def candidate_from_proto(message: pb.Candidate) -> Candidate:
    return Candidate(
        message.number,
        message.node,
        message.model,
        message.attempt,
        message.ended,
        message.text,
        message.error,
        message.finish_reason,
        _usage_from_proto(message.usage),
        tuple(
            TakenOver(each.attempt, each.node, each.kept, each.revision, each.model, each.reason)
            for each in message.takeovers
        ),
        message.planned_node,
        message.planned_model,
        message.opened_revision,
        message.ended_revision,
        message.provider,
        message.prompt_hash,
        message.cost,
        tuple(message.fallbacks),
        message.stage,
        message.seat,
        tuple(message.ranking),
        left_out=message.left_out,
        context_tokens=message.context_tokens,
    )


def turn_to_proto(turn: Turn) -> pb.Turn:
    return pb.Turn(
        turn=turn.turn,
        question=turn.question,
        candidates=map(candidate_to_proto, turn.candidates),
        choice=turn.choice,
        closed=turn.closed,
        opened_ms=turn.opened_ms,
        deadline_ms=turn.deadline_ms,
        close_after=turn.close_after,
        asked_revision=turn.asked_revision,
        choice_revision=turn.choice_revision,
        options=options_to_proto(turn.options),
        retries=[
            pb.Retried(
                revision=each.revision,
                time_ms=each.time_ms,
                deadline_ms=each.deadline_ms,
                close_after=each.close_after,
            )
            for each in turn.retries
        ],
        council=None if turn.council is None else council_to_proto(turn.council),
        user=turn.user,
    )


def turn_from_proto(message: pb.Turn) -> Turn:
    return Turn(
        message.turn,
        message.question,
        tuple(map(candidate_from_proto, message.candidates)),
        message.choice,
        message.closed,
        message.opened_ms,
        message.deadline_ms,
        message.close_after,
        message.asked_revision,
        message.choice_revision,
        options_from_proto(message.options),
        tuple(
            Retried(each.revision, each.time_ms, each.deadline_ms, each.close_after)
            for each in message.retries
        ),
        council_from_proto(message.council) if message.HasField("council") else None,
        message.user,
    )


def conversation_to_proto(conversation: Conversation) -> pb.Conversation:
    return pb.Conversation(
        conversation=conversation.conversation,
        revision=conversation.revision,
        turns=map(turn_to_proto, conversation.turns),
        created_ms=conversation.created_ms,
        updated_ms=conversation.updated_ms,
        system=conversation.system,
    )


def conversation_from_proto(message: pb.Conversation) -> Conversation:
    return Conversation(
        message.conversation,
        message.revision,
        tuple(map(turn_from_proto, message.turns)),
        message.created_ms,
        message.updated_ms,
        message.system,
    )


def budget_to_proto(scope: str, budget: Budget) -> pb.Budget:
    return pb.Budget(scope=scope, limit=budget.limit, spent=budget.spent, reserved=budget.reserved)


def budget_from_proto(message: pb.Budget) -> Budget:
    return Budget(message.limit, message.spent, message.reserved)


def registered_to_proto(node: int, model: RegisteredModel) -> pb.RegisteredModel:
    return pb.RegisteredModel(
        node=node,
        served=served_to_proto(model.served),
        answers=model.answers,
        errors=model.errors,
        prompt_tokens=model.prompt_tokens,
        completion_tokens=model.completion_tokens,
        cost=model.cost,
        failures=model.failures,
        failed_ms=model.failed_ms,
        speed=model.speed,
    )


def registered_from_proto(message: pb.RegisteredModel) -> RegisteredModel:
    return RegisteredModel(
        served_from_proto(message.served),
        message.answers,
        message.errors,
        message.prompt_tokens,
        message.completion_tokens,
        message.cost,
        message.failures,
        message.failed_ms,
        message.speed,
    )


def summary_to_proto(summary: ConversationSummary) -> pb.ConversationSummary:
    return pb.ConversationSummary(
        conversation=summary.conversation,
        turns=summary.turns,
        open_turns=summary.open_turns,
        last_question=summary.last_question,
        updated_ms=summary.updated_ms,
        degraded=summary.degraded,
    )


def summary_from_proto(message: pb.ConversationSummary) -> ConversationSummary:
    return ConversationSummary(
        message.conversation,
        message.turns,
        message.open_turns,
        message.last_question,
        message.updated_ms,
        message.degraded,
    )
