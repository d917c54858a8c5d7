"""The commands of the replicated state machine: frozen data, no logic. `replies` has what they are
answered.

A command is wrapped in a `SessionCommand`, which makes it happen at most once however often it is
sent (Raft thesis, 6.3). Every choice that is not a function of the state (which node answers, what
the time is, a model's text) is inside the command, so that applying it is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from .council import Council

if TYPE_CHECKING:
    from .records import Turn

IMPORT_PREFIX = ".import-"
"""What the temporary id of a conversation begins with while it is imported."""


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """What a query asks of its models; None leaves it to the model's own configuration, and the
    ``system`` prompt to the conversation's. ``role`` comes before it (see prompt.system_prompt).
    Where no text has come after ``hedge_ms``, the next model is asked too (see HedgeCandidate)."""

    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    system: str | None = None
    role: str | None = None
    hedge_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedCandidate:
    """Candidate ``number`` (>= 1, unique in its turn) is to be answered by ``node``'s ``model``.

    An empty ``model`` is the node's default model. ``fallbacks`` are names of models that are asked
    in its place where it fails, one after the other.
    """

    number: int
    node: int
    model: str = ""
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a call used, as the provider counted them, or ``estimated`` where it does not
    say; None where nothing is known."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    estimated: bool = False


# The models of the cluster ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a node serves, under the ``name`` by which queries ask for it (unique on the
    node). ``model`` is what ``provider`` calls it; "" where the provider does not say.

    ``context_tokens`` is what it can read and write in all, ``max_tokens`` the most that it writes
    (0: not known). Prices are in millionths of the currency for a million tokens. ``fallbacks`` are
    names of models to ask in its place, in that order, where it fails. ``server`` stands for the
    backend, where that can be looked at for free: the same for all models of it ("": it cannot).
    ``hedge_ms`` is that of queries that bring none (0: never).
    """

    name: str
    provider: str
    model: str = ""
    context_tokens: int = 0
    max_tokens: int = 0
    prompt_price: int = 0
    completion_price: int = 0
    tags: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    server: str = ""
    hedge_ms: int = 0


@dataclass(frozen=True, slots=True)
class ServeModels:
    """``node`` serves these ``models`` from now on, the default one first; none: it is gone from
    the registry. What is known of a model that stays (same name, provider and model) stays too.
    Proposed by the node itself, or by the leader where it is no member. Answers Done.
    """

    node: int
    models: tuple[ServedModel, ...]


@dataclass(frozen=True, slots=True)
class ProbedModel:
    """What a free look found of the ``model`` that a provider calls so: whether it is ``loaded``
    (None: not said), and an ``error`` where it cannot be asked. When the look began, ``answers`` of
    it were recorded."""

    model: str
    loaded: bool | None = None
    error: str = ""
    answers: int = 0


@dataclass(frozen=True, slots=True)
class RecordProbe:
    """What ``node``, which serves models of ``server``, found of that server's ``models``.

    It also takes, or renews, the lease of looking at the server, for PROBE_LEASE_MS from the
    batch's time: until then others are refused with STALE. Without models it does only that. An
    error does not count against a model that was answered by since the look began. Answers Done.
    """

    node: int
    server: str
    models: tuple[ProbedModel, ...] = ()


# Conversations --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Make the session of this name known. Commands of a session that is not known are refused.
    Answers SessionOpened; one that is not ``numbered``, as in logs of before, answers Done."""

    numbered: bool = True


@dataclass(frozen=True, slots=True)
class CreateConversation:
    """Refused with EXISTS where the id is taken. ``system`` is the system prompt of those of its
    queries that bring none; "" is none. Answers Done."""

    conversation: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class SubmitQuery:
    """Open a turn that asks ``question`` of every planned candidate. Answers TurnOpened.

    ``close_after`` answers close the turn (0: all of them); ``deadline_ms`` after the batch's time
    it is closed whatever is missing. The turn records which earlier turns' choices are its context,
    so that every node, and every later attempt, builds the same prompt. ``user`` is who asks, as
    far as budgets go; "" is nobody. OVER_BUDGET where a budget does not allow what it can cost.
    """

    conversation: str
    question: str
    plan: tuple[PlannedCandidate, ...]
    close_after: int = 0
    deadline_ms: int = 120_000
    options: GenerationOptions = field(default_factory=GenerationOptions)
    user: str = ""


@dataclass(frozen=True, slots=True)
class ConveneCouncil:
    """Open a turn that ``council`` answers, beginning with its first stage. Answers TurnOpened,
    with the candidates of that stage.

    The later stages follow by themselves: whatever ends the last answer that a stage waits for
    opens the next one too. Budgets are as in SubmitQuery, for each stage as it opens.
    """

    conversation: str
    question: str
    council: Council
    options: GenerationOptions = field(default_factory=GenerationOptions)
    user: str = ""


@dataclass(frozen=True, slots=True)
class CloseStage:
    """End the open stage of a council's turn for ``reason`` (non-empty) and go on with what is
    there. STALE where the turn is closed, or has candidates behind ``last_candidate``: the council
    has then gone on already. STALE too where its deadline has not passed: another turn's had.
    """

    conversation: str
    turn: int
    last_candidate: int
    reason: str


@dataclass(frozen=True, slots=True)
class RetryTurn:
    """Add candidates to a turn that has no choice yet and open it again; nothing is overwritten.

    ``turn`` 0 is the latest. The numbers in ``plan`` are offsets: the machine numbers the new
    candidates on from the highest that the turn has. The turn then closes when all have ended,
    whatever its ``close_after`` was, or ``deadline_ms`` after the batch's time; one that is still
    open not before the deadline that it had. Refused with CONFLICT where a choice stands, and with
    INVALID where a council answered. Answers TurnOpened.
    """

    conversation: str
    turn: int
    plan: tuple[PlannedCandidate, ...]
    deadline_ms: int = 120_000


@dataclass(frozen=True, slots=True)
class RecordCheckpoint:
    """``text`` (not empty) continues what is recorded of ``attempt`` at ``offset`` characters.

    STALE where another attempt holds the candidate, or where its recorded text does not end there.
    """

    conversation: str
    turn: int
    candidate: int
    attempt: int
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class RecordCandidate:
    """The end of a candidate: an answer, or an ``error`` (non-empty) in its place.

    ``text`` is the whole of it, what the attempt took over included. The first one of the current
    attempt is kept; any other is refused with STALE. ``model`` is the exact one, as ``provider``
    names it; ``served_as`` is its name in the node's part of the registry ("": it has none), which
    counts the call. ``prompt_hash`` is that of prompt.py ("": nothing was asked), ``speed`` how
    many tokens the model wrote in 1000 s (0: not known). ``left_out`` of the earlier turns, the
    oldest ones, were not sent, since the model has ``context_tokens`` (0: not known).
    ``hedge_usage`` is that of the call that this one has beaten, where there was one.
    """

    conversation: str
    turn: int
    candidate: int
    attempt: int
    text: str
    model: str
    finish_reason: str
    usage: Usage = field(default_factory=Usage)
    error: str = ""
    provider: str = ""
    served_as: str = ""
    prompt_hash: str = ""
    speed: int = 0
    left_out: int = 0
    context_tokens: int = 0
    hedge_usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class HedgeCandidate:
    """Have ``node``'s ``model``, one of the candidate's fallbacks, asked too, since ``attempt`` has
    no text yet. Whichever has text first answers: the holder by recording it, the hedge by a
    ReassignCandidate to itself. STALE where there is text, or was a hedge; OVER_BUDGET where no
    budget allows a second call. Answers Done."""

    conversation: str
    turn: int
    candidate: int
    attempt: int
    node: int
    model: str


@dataclass(frozen=True, slots=True)
class ReassignCandidate:
    """Give an open candidate to ``node`` under ``attempt``, one above the current; fences the old.

    The new attempt goes on behind the first ``keep`` characters of the recorded text; the rest is
    dropped. STALE where the attempt is not the next one, the candidate has ended, or less than
    ``keep`` is recorded.

    ``model`` ("": the one it had) is the name that is asked from now on. Where that is because a
    call failed, ``reason`` says why, and ``served_as`` and ``usage`` whose call and what it used.
    With ``hedged`` it is because the candidate's hedge has text: STALE where the holder has. Where
    a hedge was asked that does not go on, ``hedge_usage`` is what it used.
    """

    conversation: str
    turn: int
    candidate: int
    attempt: int
    node: int
    keep: int
    model: str = ""
    reason: str = ""
    served_as: str = ""
    usage: Usage = field(default_factory=Usage)
    hedged: bool = False
    hedge_usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class CloseTurn:
    """End the turn: candidates that are still open get ``reason`` (non-empty) as their error, and
    keep the text that is recorded. ``turn`` 0 is the latest. STALE where it is closed already.

    A ``last_candidate`` is named where the turn is closed for its deadline (0: whatever it has, and
    whenever). STALE where it has candidates behind that one, since it was then asked again, and
    where the deadline has not passed: that of another turn had, in a conversation of the same id.
    """

    conversation: str
    turn: int
    reason: str
    last_candidate: int = 0


@dataclass(frozen=True, slots=True)
class Choose:
    """Compare-and-set of the turn's choice from none to ``candidate``; ``turn`` 0 is the latest.

    Refused with CONFLICT (and the winner) where a choice stands, NOT_ANSWERED where the candidate
    is open or failed, NOT_FOUND where there is none such. Answers Chosen.
    """

    conversation: str
    turn: int
    candidate: int


@dataclass(frozen=True, slots=True)
class Fork:
    """Copy ``source`` up to and including turn ``at_turn`` (0: all of it) to the new ``target``.

    A turn that is open is copied closed, its open candidates as errors. EXISTS where the target's
    id is taken. Answers Done.
    """

    source: str
    target: str
    at_turn: int = 0


@dataclass(frozen=True, slots=True)
class Rename:
    """EXISTS where ``target`` is taken, NOT_ANSWERED while a turn is open. Answers Done.

    An import that gets its id like this keeps the times (ms since the epoch) at which it was
    created and updated elsewhere, where they are known (0: they are not); INVALID for others.
    """

    conversation: str
    target: str
    created_ms: int = 0
    updated_ms: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the conversation, open turns and all. Answers Done."""

    conversation: str


@dataclass(frozen=True, slots=True)
class ImportTurn:
    """Append ``turn``, which is closed and was answered elsewhere, as it is, with its stamps.

    INVALID unless the id begins with IMPORT_PREFIX: an import is made under a temporary id and
    renamed at its end, so it is seen whole or not, and no history that was seen is added to.
    Answers TurnOpened.
    """

    conversation: str
    turn: Turn


@dataclass(frozen=True, slots=True)
class SetBudget:
    """Bound what the calls of ``scope`` cost: "cluster", "conversation:ID" or "user:NAME", by
    ``limit`` in millionths of the currency; None removes the bound (CONFLICT while calls are under
    way). What was spent stays counted. Answers Done."""

    scope: str
    limit: int | None


# Plain keys -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Put:
    """Set ``key`` (1 to 512 characters). Answers Done."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class CompareAndSwap:
    """Set ``key`` to ``new`` where it holds ``expected`` (None: where it is absent); a ``new`` of
    None deletes it. Refused with CONFLICT and the value that stands there. Answers Done."""

    key: str
    expected: bytes | None
    new: bytes | None


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """NOT_FOUND where it is absent. Answers Done."""

    key: str


Operation: TypeAlias = (
    OpenSession
    | ServeModels
    | RecordProbe
    | CreateConversation
    | SubmitQuery
    | ConveneCouncil
    | CloseStage
    | RetryTurn
    | RecordCheckpoint
    | RecordCandidate
    | HedgeCandidate
    | ReassignCandidate
    | CloseTurn
    | Choose
    | Fork
    | Rename
    | Delete
    | ImportTurn
    | SetBudget
    | Put
    | CompareAndSwap
    | DeleteKey
)


class SessionCommand(NamedTuple):
    """``operation`` as number ``sequence`` (>= 1) of ``session``, as SessionOpened gave it.

    Numbers below ``acknowledged`` are finished for the client: their replies may be forgotten, and
    they will not be sent again. OpenSession has sequence 0, and as its ``session`` the name: 16
    bytes, chosen at random.
    """

    session: bytes
    sequence: int
    acknowledged: int
    operation: Operation
