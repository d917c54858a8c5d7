"""Owns what the clients of a drill did and were told, on one monotonic clock, and its figures.

An operation is recorded when its call ends, however it ends: done, certainly not done, or unknown.
What the client says is taken at its word ("nothing was changed" is recorded as not done), so that
the checker finds out when it is not true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from consensusllm.client import ConsensusError, OutcomeUnknown, Overloaded, Unavailable
from consensusllm.linearizability import Operation
from consensusllm.linearizability.history import Json, OperationName

PROBLEMS_MAX = 20
WRITES = ("put", "cas", "append", "choose")
READER = 0
"""The process of the last reads in the history, and those below it; the clients are above."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call was told: ``done`` false means that another value stood (``output`` says it)."""

    done: bool = True
    output: Json = None


@dataclass(frozen=True, slots=True)
class Question:
    """One query. ``turn`` is known where ``ok``; ``ok`` None: it may have been asked or not."""

    conversation: str
    text: str
    ok: bool | None
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """How the operations ended. ``ok`` includes comparisons and choices that were refused because
    another value stood: the cluster did answer."""

    operations: int
    ok: int
    failed: int
    unknown: int


class Recorder:
    """``clock`` gives seconds, from 0 at the start of the drill."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.operations: list[Operation] = []
        self.questions: list[Question] = []
        self.succeeded = 0
        """Operations and questions that were answered so far."""
        self.problems: list[str] = []
        self._success = asyncio.Event()

    def problem(self, text: str) -> None:
        """Something that must not happen, whatever the faults. The first ones are kept."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)

    async def operation(
        self,
        process: int,
        op: OperationName,
        key: str,
        value: Json,
        call: Coroutine[Any, Any, Answer],
    ) -> Answer | None:
        """Await ``call`` and record it; None where it failed or its outcome is unknown."""
        start = self.clock()
        ok: bool | None = None
        answer: Answer | None = None
        try:
            answer = await call
            ok = answer.done
            self._succeed()
        except OutcomeUnknown:
            pass
        except (Unavailable, Overloaded):
            ok = False
        except ConsensusError as error:
            self.problem(f"{op} {key}: {type(error).__name__}: {error}")
        finally:
            output = answer.output if answer else None
            end = self.clock()
            self.operations.append(Operation(process, op, key, value, start, end, ok, output))
        return answer

    async def question(
        self, conversation: str, text: str, call: Coroutine[Any, Any, int]
    ) -> int | None:
        """Await ``call``, which asks, and record it; the turn's number where it is known."""
        ok: bool | None = None
        turn = 0
        try:
            turn = await call
            ok = True
            self._succeed()
        except OutcomeUnknown:
            pass
        except (Unavailable, Overloaded):
            ok = False
        except ConsensusError as error:
            self.problem(f"query {conversation}: {type(error).__name__}: {error}")
        finally:
            self.questions.append(Question(conversation, text, ok, turn))
        return turn or None

    async def until_succeeded(self, count: int) -> None:
        """Wait until that many operations have succeeded in all."""
        while self.succeeded < count:
            await self._success.wait()

    def _succeed(self) -> None:
        self.succeeded += 1
        self._success.set()
        self._success.clear()


def count(operations: Iterable[Operation], questions: Iterable[Question]) -> Counts:
    """How all of them ended."""
    oks = [_answered(each) for each in operations]
    oks += [question.ok for question in questions]
    return Counts(len(oks), oks.count(True), oks.count(False), oks.count(None))


def during_load(operations: Iterable[Operation]) -> list[Operation]:
    """What the clients did, without the last reads."""
    return [each for each in operations if each.process > READER]


def _answered(operation: Operation) -> bool | None:
    if operation.unknown:
        return None
    return operation.ok is True or operation.output is not None


def longest_gap_s(operations: Sequence[Operation], until_s: float) -> float:
    """The longest time without an answer to a write while at least one client was trying to write.

    It runs from one answer, or from when the next client began to try, to the next answer, or to
    ``until_s`` where there is none. 0 where nobody ever tried.
    """
    tries = sorted(
        ((each.start, each.end or each.start) for each in operations if each.op in WRITES),
    )
    answers = sorted(
        each.end for each in operations if each.op in WRITES and each.end and _answered(each)
    )
    longest = since = 0.0
    trying_until = 0.0  # of the tries that began by `since`
    at = 0
    for answer in [*answers, until_s]:
        while at < len(tries) and tries[at][0] <= since:
            trying_until = max(trying_until, tries[at][1])
            at += 1
        if trying_until > since:
            longest = max(longest, answer - since)
        elif at < len(tries):
            longest = max(longest, answer - tries[at][0])
        since = max(since, answer)
    return longest
