"""Each record of the state as one line of canonical JSON, and back.

These lines are what a snapshot consists of and what the state's hash is taken of. A line is a list
that begins with the record's kind; text is escaped to ASCII, bytes are base64.
"""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import b2a_base64
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

from .commands import GenerationOptions, ServedModel, Usage
from .council import Council, Member, Stage, StageKind
from .records import (
    Budget,
    Candidate,
    Head,
    Hedge,
    ProbeLease,
    RegisteredModel,
    Retried,
    TakenOver,
    Turn,
    TurnId,
)
from .replies import Chosen, Code, Refused, Reply, TurnOpened
from .sessions import DONE, Session

_encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


class MalformedLine(ValueError):
    """The line is not a record of this form."""


def line(*row: object) -> bytes:
    """``row`` (of JSON's types) as a line, without its end."""
    return _encode(row).encode("ascii")


def parse(text: bytes) -> list[Any]:
    """The row of a line; raises MalformedLine."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedLine("a line is not JSON") from None
    if not isinstance(row, list) or not row:
        raise MalformedLine("a line is not a list that begins with its kind")
    return row


# Encoding -------------------------------------------------------------------------------------


class Clock(NamedTuple):
    """What the state holds beside its tables."""

    time_ms: int
    attempt_floor: int
    touches: int


def clock_line(clock: Clock) -> bytes:
    return line("clock", *clock)


def key_line(key: str, value: bytes) -> bytes:
    """As `line` would write it, in a third of the time: keys are what changes most."""
    return f'["key",{encode_basestring_ascii(key)},"{_text(value)}"]'.encode("ascii")


def head_line(conversation: str, head: Head) -> bytes:
    return line(
        "conversation",
        conversation,
        head.revision,
        head.created_ms,
        head.updated_ms,
        head.turns,
        head.open_turns,
        head.system,
    )


def turn_line(turn_id: TurnId, turn: Turn) -> bytes:
    options = turn.options
    return line(
        "turn",
        turn_id[0],
        turn.turn,
        turn.question,
        [_candidate_row(candidate) for candidate in turn.candidates],
        turn.choice,
        turn.closed,
        turn.opened_ms,
        turn.deadline_ms,
        turn.close_after,
        turn.asked_revision,
        turn.choice_revision,
        [
            options.temperature,
            options.max_tokens,
            options.seed,
            options.system,
            options.role,
            options.hedge_ms,
        ],
        [[r.revision, r.time_ms, r.deadline_ms, r.close_after] for r in turn.retries],
        _council_rows(turn.council),
        turn.user,
    )


def _council_rows(council: Council | None) -> list[object]:
    """No rows where there is none."""
    if council is None:
        return []
    return [
        [council.template, council.revision, council.seed],
        [
            [each.node, each.model, each.role, each.instructions, list(each.fallbacks)]
            for each in council.members
        ],
        [
            [
                each.kind.value,
                list(each.seats),
                each.close_after,
                each.deadline_ms,
                each.instructions,
            ]
            for each in council.stages
        ],
    ]


def _candidate_row(candidate: Candidate) -> list[object]:
    return [
        candidate.number,
        candidate.node,
        candidate.model,
        candidate.attempt,
        candidate.ended,
        candidate.text,
        candidate.error,
        candidate.finish_reason,
        candidate.usage.prompt_tokens,
        candidate.usage.completion_tokens,
        [
            [each.attempt, each.node, each.kept, each.revision, each.model, each.reason]
            for each in candidate.takeovers
        ],
        candidate.planned_node,
        candidate.planned_model,
        candidate.opened_revision,
        candidate.ended_revision,
        candidate.provider,
        candidate.prompt_hash,
        candidate.cost,
        list(candidate.fallbacks),
        candidate.usage.estimated,
        [candidate.stage, candidate.seat, *candidate.ranking],
        candidate.reserved,
        list(candidate.budgets),
        candidate.left_out,
        candidate.context_tokens,
        _hedge_row(candidate.hedge),
    ]


def _hedge_row(hedge: Hedge | None) -> list[object]:
    """Nothing where there is none."""
    return [] if hedge is None else [hedge.attempt, hedge.node, hedge.model, hedge.revision]


def budget_line(scope: str, budget: Budget) -> bytes:
    return line("budget", scope, budget.limit, budget.spent, budget.reserved)


def models_line(node: int, models: tuple[RegisteredModel, ...]) -> bytes:
    return line("models", node, [_model_row(each) for each in models])


def lease_line(server: str, lease: ProbeLease) -> bytes:
    return line("lease", server, lease.node, lease.until_ms)


def _model_row(model: RegisteredModel) -> list[object]:
    served = model.served
    return [
        served.name,
        served.provider,
        served.model,
        served.context_tokens,
        served.max_tokens,
        served.prompt_price,
        served.completion_price,
        list(served.tags),
        list(served.fallbacks),
        served.server,
        served.hedge_ms,
        model.answers,
        model.errors,
        model.prompt_tokens,
        model.completion_tokens,
        model.cost,
        model.failures,
        model.failed_ms,
        model.speed,
        model.loaded,
        model.probe_error,
        model.probed_ms,
    ]


def session_line(session_id: bytes, session: Session) -> bytes:
    """Numbers that were simply done are listed apart: nearly all are, and there may be many."""
    done = [number for number, reply in session.replies.items() if reply is DONE]
    others = [item for item in session.replies.items() if item[1] is not DONE]
    return line(
        "session",
        session_id.hex(),
        session.used,
        session.acknowledged,
        sorted(done),
        [[number, _reply_row(reply)] for number, reply in sorted(others, key=lambda item: item[0])],
    )


def _reply_row(reply: Reply) -> list[object]:
    if isinstance(reply, TurnOpened):
        return ["turn_opened", reply.turn, list(reply.candidates)]
    if isinstance(reply, Chosen):
        return ["chosen", reply.turn, reply.candidate]
    assert isinstance(reply, Refused), "every Done is the one DONE"
    current = None if reply.current is None else _text(reply.current)
    return ["refused", reply.code.value, reply.message, reply.turn, reply.winner, current]


def _text(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")


# Decoding: each raises MalformedLine ------------------------------------------------------------

_INT, _STR, _BOOL, _LIST, _MAYBE_INT = (int,), (str,), (bool,), (list,), (int, type(None))
_MAYBE_STR, _MAYBE_NUMBER = (str, type(None)), (float, int, type(None))
_CANDIDATE = (_INT, _INT, _STR, _INT, _BOOL, *[_STR] * 3, *[_MAYBE_INT] * 2, _LIST)
_PLAN_AND_STAMPS = (_INT, _STR, _INT, _INT)
_TAKEN_OVER = (*[_INT] * 4, _STR, _STR)
_CALL = (_STR, _STR, _INT, _LIST, _BOOL, _LIST, _INT, _LIST, _INT, _INT, _LIST)
_HEDGE = (_INT, _INT, _STR, _INT)
_SERVED = (*[_STR] * 3, *[_INT] * 4, _LIST, _LIST, _STR, _INT)
_OPTIONS = (_MAYBE_NUMBER, _MAYBE_INT, _MAYBE_INT, _MAYBE_STR, _MAYBE_STR, _MAYBE_INT)
_MODEL = (*_SERVED, *[_INT] * 8, (bool, type(None)), _STR, _INT)


def fields(row: object, *kinds: tuple[type, ...]) -> list[Any]:
    """``row``, which must be a list of values of exactly these types."""
    if type(row) is not list or len(row) != len(kinds):
        raise MalformedLine(f"a record does not have {len(kinds)} fields")
    for value, kind in zip(row, kinds, strict=True):
        if type(value) not in kind:
            raise MalformedLine(f"a record has a {type(value).__name__} where it may not")
    return row


def clock(row: list[Any]) -> Clock:
    return Clock(*fields(row[1:], _INT, _INT, _INT))


def key(row: list[Any]) -> tuple[str, bytes]:
    name, value = fields(row[1:], _STR, _STR)
    return name, _bytes(value)


def head(row: list[Any]) -> tuple[str, Head]:
    conversation, *rest = fields(row[1:], _STR, *[_INT] * 5, _STR)
    return conversation, Head(*rest)


def turn(row: list[Any]) -> tuple[TurnId, Turn]:
    conversation, number, question, candidates, *rest, options, retries, council, user = fields(
        row[1:], _STR, _INT, _STR, _LIST, _INT, _BOOL, *[_INT] * 5, *[_LIST] * 3, _STR
    )
    choice, closed, opened_ms, deadline_ms, close_after, asked_revision, choice_revision = rest
    options = fields(options, *_OPTIONS)
    return (conversation, number), Turn(
        number,
        question,
        tuple(map(_candidate, candidates)),
        choice,
        closed,
        opened_ms,
        deadline_ms,
        close_after,
        asked_revision,
        choice_revision,
        GenerationOptions(*options),
        tuple(Retried(*fields(each, *[_INT] * 4)) for each in retries),
        _council(council) if council else None,
        user,
    )


def _council(rows: list[Any]) -> Council:
    names, members, stages = fields(rows, _LIST, _LIST, _LIST)
    template, revision, seed = fields(names, _STR, _STR, _INT)
    return Council(
        template,
        revision,
        seed,
        tuple(map(_member, members)),
        tuple(map(_stage, stages)),
    )


def _member(row: object) -> Member:
    node, model, role, instructions, fallbacks = fields(row, _INT, _STR, _STR, _STR, _LIST)
    return Member(node, model, role, instructions, _words(fallbacks))


def _stage(row: object) -> Stage:
    kind, seats, *rest = fields(row, _STR, _LIST, _INT, _INT, _STR)
    try:
        return Stage(StageKind(kind), tuple(fields(seats, *[_INT] * len(seats))), *rest)
    except ValueError:
        raise MalformedLine("a stage is of no known kind") from None


def _candidate(row: object) -> Candidate:
    values = fields(row, *_CANDIDATE, *_PLAN_AND_STAMPS, *_CALL)
    *values, fallbacks, estimated, place, reserved, budgets, left_out, tokens, hedge = values
    stage, seat, *ranking = fields(place, *[_INT] * max(2, len(place)))
    takeovers = (fields(each, *_TAKEN_OVER) for each in values[10])
    values[8:11] = [
        Usage(values[8], values[9], estimated),
        tuple(TakenOver(*each) for each in takeovers),
    ]
    values += [_words(fallbacks), stage, seat, tuple(ranking), reserved, _words(budgets)]
    values += [left_out, tokens, Hedge(*fields(hedge, *_HEDGE)) if hedge else None]
    return Candidate(*values)


def budget(row: list[Any]) -> tuple[str, Budget]:
    scope, *amounts = fields(row[1:], _STR, *[_INT] * 3)
    return scope, Budget(*amounts)


def lease(row: list[Any]) -> tuple[str, ProbeLease]:
    server, *rest = fields(row[1:], _STR, _INT, _INT)
    return server, ProbeLease(*rest)


def models(row: list[Any]) -> tuple[int, tuple[RegisteredModel, ...]]:
    node, rows = fields(row[1:], _INT, _LIST)
    return node, tuple(map(_model, rows))


def _model(row: object) -> RegisteredModel:
    values = fields(row, *_MODEL)
    values[7:9] = map(_words, values[7:9])
    served = len(_SERVED)
    return RegisteredModel(ServedModel(*values[:served]), *values[served:])


def _words(row: list[object]) -> tuple[str, ...]:
    return tuple(fields(row, *[_STR] * len(row)))


def session(row: list[Any]) -> tuple[bytes, Session]:
    name, used, acknowledged, done, others = fields(row[1:], _STR, _INT, _INT, _LIST, _LIST)
    replies: dict[int, Reply] = dict.fromkeys(fields(done, *[_INT] * len(done)), DONE)
    for each in others:
        number, reply = fields(each, _INT, _LIST)
        replies[number] = _reply(reply)
    try:
        return bytes.fromhex(name), Session(used, acknowledged, replies)
    except ValueError:
        raise MalformedLine("a session's name is not hexadecimal") from None


def _reply(row: list[Any]) -> Reply:
    kind = row[0] if row else None
    if kind == "turn_opened":
        number, candidates = fields(row[1:], _INT, _LIST)
        return TurnOpened(number, tuple(fields(candidates, *[_INT] * len(candidates))))
    if kind == "chosen":
        return Chosen(*fields(row[1:], _INT, _INT))
    if kind != "refused":
        raise MalformedLine("a reply is of no known kind")
    code, message, number, winner, current = fields(row[1:], _STR, _STR, _INT, _INT, _MAYBE_STR)
    try:
        known = Code(code)
    except ValueError:
        raise MalformedLine("a refusal has no known code") from None
    return Refused(known, message, number, winner, None if current is None else _bytes(current))


def _bytes(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise MalformedLine("bytes are not base64") from None
