"""What the state consists of, between records and protobuf: for readers, and within commands.

Decoders raise nothing: what does not fit is for the rules of the state machine to refuse.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from google.protobuf.message import Message

from consensusllm.conversations import (
    Budget,
    Candidate,
    Conversation,
    ConversationSummary,
    GenerationOptions,
    Hedge,
    RegisteredModel,
    Retried,
    ServedModel,
    TakenOver,
    Turn,
    Usage,
)
from consensusllm.wire.councils import council_from_proto, council_to_proto
from consensusllm.wire.generated import client_pb2 as pb

_SERVED = tuple(pb.ServedModel.DESCRIPTOR.fields_by_name)


def options_to_proto(options: GenerationOptions) -> pb.GenerationOptions:
    return pb.GenerationOptions(
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        seed=options.seed,
        system=options.system,
        role=options.role,
        hedge_ms=options.hedge_ms,
    )


def options_from_proto(message: pb.GenerationOptions) -> GenerationOptions:
    return GenerationOptions(
        optional(message, "temperature"),
        optional(message, "max_tokens"),
        optional(message, "seed"),
        optional(message, "system"),
        optional(message, "role"),
        optional(message, "hedge_ms"),
    )


def optional(message: Message, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


def usage_to_proto(usage: Usage) -> pb.Usage:
    return pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        estimated=usage.estimated,
    )


def usage_from_proto(message: pb.Usage) -> Usage:
    return Usage(
        optional(message, "prompt_tokens"),
        optional(message, "completion_tokens"),
        message.estimated,
    )


def served_to_proto(served: ServedModel) -> pb.ServedModel:
    return pb.ServedModel(**{name: getattr(served, name) for name in _SERVED})


def served_from_proto(message: pb.ServedModel) -> ServedModel:
    values = {name: getattr(message, name) for name in _SERVED}
    values |= {"tags": tuple(message.tags), "fallbacks": tuple(message.fallbacks)}
    return ServedModel(**values)


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
        usage=usage_to_proto(candidate.usage),
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
        hedge=None if candidate.hedge is None else pb.Hedge(**asdict(candidate.hedge)),
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
        usage_from_proto(message.usage),
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
        hedge=_hedge_from_proto(message.hedge) if message.HasField("hedge") else None,
    )


def _hedge_from_proto(message: pb.Hedge) -> Hedge:
    return Hedge(message.attempt, message.node, message.model, message.revision)


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
        loaded=model.loaded,
        probe_error=model.probe_error,
        probed_ms=model.probed_ms,
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
        optional(message, "loaded"),
        message.probe_error,
        message.probed_ms,
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
