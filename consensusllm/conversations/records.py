"""What the replicated state consists of: immutable records of conversations, turns and candidates.

A turn does not list its context. A choice is never changed once made, so two stamps are enough: the
conversation's revision when the question was asked, and the one at which a choice was made. A
turn's context is every earlier turn whose choice is not younger than the question (see prompt.py);
a list in each turn would take space quadratic in the length of the conversation.

Whatever else happens to a turn bears its revision too, so that the conversation can be shown as it
was at any of them (see history.py). A revision of 0 is that of something that has not happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from .commands import GenerationOptions, ServedModel, Usage
from .council import Council

TIME_MAX_MS = 253_402_300_799_999
"""After the epoch: the end of the year 9999. Later ones are no times, and no calendar has them."""

TurnId: TypeAlias = tuple[str, int]
"""(conversation id, turn number >= 1)."""


@dataclass(frozen=True, slots=True)
class TakenOver:
    """``attempt`` of ``node`` took a candidate over at ``revision``, and went on behind its first
    ``kept`` characters, asking ``model`` ("": the one that was asked before). ``reason`` is the
    error of the call before, where it failed."""

    attempt: int
    node: int
    kept: int
    revision: int = 0
    model: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hedge:
    """At ``revision`` ``node``'s ``model`` was asked too, since no text had come. If it is first it
    takes the candidate over under ``attempt``."""

    attempt: int
    node: int
    model: str
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer to a turn's question, by ``node``'s ``model``.

    ``text`` is the answer, or while it is open what was checkpointed of it. It ``ended`` without
    an answer where ``error`` is not empty. Attempts follow each other without a gap, but need not
    begin at 1; every one but the first is in ``takeovers``. It was planned for ``planned_node`` and
    ``planned_model``; ``node`` and ``model`` are those that have it now, or answered.

    ``model`` is a name of the registry until the candidate has ended; then the exact model, as
    ``provider`` names it. ``prompt_hash`` says what it was asked (see prompt.py), ``cost`` what
    that cost, in millionths of the currency, failed calls included. ``fallbacks`` are names of
    models that are asked in its place where it fails. While it is open, ``budgets`` (scopes) hold
    ``reserved`` for its call. ``left_out`` of the earlier turns, the oldest ones, were not sent,
    since they do not fit the ``context_tokens`` of its model (0: not known).

    In a council it is what ``seat`` (from 1) says in ``stage`` (from 1); both are 0 elsewhere. A
    review's ``ranking`` are the numbers of the candidates that it ranks, the best first; a review
    that has ended without one abstains.
    """

    number: int
    node: int
    model: str = ""
    attempt: int = 1
    ended: bool = False
    text: str = ""
    error: str = ""
    finish_reason: str = ""
    usage: Usage = field(default_factory=Usage)
    takeovers: tuple[TakenOver, ...] = ()
    planned_node: int = 0
    planned_model: str = ""
    opened_revision: int = 0
    ended_revision: int = 0
    provider: str = ""
    prompt_hash: str = ""
    cost: int = 0
    fallbacks: tuple[str, ...] = ()
    stage: int = 0
    seat: int = 0
    ranking: tuple[int, ...] = ()
    reserved: int = 0
    budgets: tuple[str, ...] = ()
    left_out: int = 0
    context_tokens: int = 0
    hedge: Hedge | None = None

    @property
    def hedged(self) -> Hedge | None:
        """The hedge that was asked and has neither taken over nor been passed over yet."""
        return self.hedge if self.hedge is not None and self.attempt < self.hedge.attempt else None

    @property
    def hedge_waits(self) -> Hedge | None:
        """The hedge that could still be first."""
        return self.hedged if not (self.text or self.ended) else None

    @property
    def hedge_won(self) -> bool:
        """Whether the hedge took the candidate over because it was first."""
        hedge = self.hedge
        return hedge is not None and any(
            (each.attempt, each.node, each.model) == (hedge.attempt, hedge.node, hedge.model)
            and not each.reason
            for each in self.takeovers
        )

    @property
    def answered(self) -> bool:
        return self.ended and not self.error

    @property
    def fallbacks_left(self) -> tuple[str, ...]:
        """Names of models that can still be asked in the place of this one, in order."""
        asked = {self.planned_model, self.model, *(each.model for each in self.takeovers)}
        return tuple(each for each in self.fallbacks if each not in asked)

    @property
    def kept(self) -> int:
        """How many characters the current attempt took over from earlier ones."""
        return self.takeovers[-1].kept if self.takeovers else 0

    def shared_with(self, attempt: int) -> int | None:
        """How many characters of an earlier ``attempt``'s text are the current one's too; None
        where all are, since it is the current one."""
        kept = [each.kept for each in self.takeovers if each.attempt > attempt]
        return min(kept) if kept else None


@dataclass(frozen=True, slots=True)
class Retried:
    """The turn was asked again, or its council went on, at ``revision`` and ``time_ms``; before
    that it had this ``deadline_ms`` and ``close_after``."""

    revision: int
    time_ms: int
    deadline_ms: int
    close_after: int


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its candidates, in the order of their numbers; ``choice`` 0 is none yet.

    Times are in ms since the epoch. ``close_after`` answers close the turn (0: all of them). It is
    closed where all candidates have ended. ``asked_revision`` is the one that the asker saw, so
    the turn is there from the next one on. Where a ``council`` answers, ``deadline_ms`` is that of
    the stage which is open.
    """

    turn: int
    question: str
    candidates: tuple[Candidate, ...]
    choice: int = 0
    closed: bool = False
    opened_ms: int = 0
    deadline_ms: int = 0
    close_after: int = 0
    asked_revision: int = 0
    choice_revision: int = 0
    options: GenerationOptions = field(default_factory=GenerationOptions)
    retries: tuple[Retried, ...] = ()
    council: Council | None = None
    user: str = ""

    @property
    def stage(self) -> int:
        """The council's stage that is open, or was the last to be; 0 without a council."""
        return self.candidates[-1].stage

    def candidate(self, number: int) -> Candidate | None:
        return next((each for each in self.candidates if each.number == number), None)

    def with_candidate(self, candidate: Candidate) -> Turn:
        """The turn with ``candidate`` in the place of the one that has its number."""
        return replace(
            self,
            candidates=tuple(
                candidate if each.number == candidate.number else each for each in self.candidates
            ),
        )

    def closed_because(self, reason: str, revision: int) -> Turn:
        """The turn closed at ``revision``; candidates that were open end with ``reason`` as their
        error."""
        return replace(self.with_open_ended(reason, revision), closed=True)

    def with_open_ended(self, reason: str, revision: int) -> Turn:
        """The turn with ``reason`` as the error of every candidate that was open."""
        assert reason, "an empty error would count as an answer"
        return replace(
            self,
            candidates=tuple(
                each
                if each.ended
                else replace(
                    each,
                    ended=True,
                    error=reason,
                    ended_revision=revision,
                    reserved=0,
                    budgets=(),
                )
                for each in self.candidates
            ),
        )


@dataclass(frozen=True, slots=True)
class Head:
    """A conversation without its turns, which are records of their own: changing one of ten
    thousand turns must not copy the others. ``revision`` counts the changes that a reader can see,
    ``system`` is the system prompt of queries that bring none.
    """

    revision: int
    created_ms: int
    updated_ms: int
    turns: int = 0
    open_turns: int = 0
    system: str = ""


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model in the registry, and what its recorded calls came to. ``cost`` is in millionths of
    the currency. ``failures`` are those since the last answer, the last one at ``failed_ms`` (ms
    since the epoch); ``speed`` is a moving average, in tokens in 1000 s (0: not known).

    At ``probed_ms`` (0: never) a free look at its server last found something else: whether it is
    ``loaded`` (None: not known), and with ``probe_error`` that it cannot be asked. An answer since
    then overrules both."""

    served: ServedModel
    answers: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: int = 0
    failures: int = 0
    failed_ms: int = 0
    speed: int = 0
    loaded: bool | None = None
    probe_error: str = ""
    probed_ms: int = 0


@dataclass(frozen=True, slots=True)
class ProbeLease:
    """Only ``node`` looks at a server, until the replicated clock is past ``until_ms``."""

    node: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent, was spent, and is reserved for calls under way, in millionths of the
    currency."""

    limit: int
    spent: int = 0
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as it is read: ``turns[i]`` is turn ``i + 1``."""

    conversation: str
    revision: int
    turns: tuple[Turn, ...]
    created_ms: int = 0
    updated_ms: int = 0
    system: str = ""


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    """One line of a list; ``last_question`` is cut to 200 characters, and ``degraded`` where the
    council that was to answer it lacked something."""

    conversation: str
    turns: int
    open_turns: int
    last_question: str
    updated_ms: int
    degraded: bool = False
