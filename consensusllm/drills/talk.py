"""Owns the conversations of a drill: clients that ask, read the answers as they are written, and
choose against each other.

What a reader saw is compared at once with what was recorded: the text of an answer, piece by piece,
over any number of nodes that took it over, is the recorded text to the last character.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from consensusllm.client import (
    AlreadyExists,
    Candidate,
    CandidateDone,
    Chosen,
    Conflict,
    ConsensusError,
    Delta,
    NotAnswered,
    Plan,
    Takeover,
    TurnClosed,
    Unavailable,
    WatchEvent,
)
from consensusllm.conversations.answers import is_answer

from .history import Answer, Recorder

ANSWER_TIMEOUT_S = 60.0
ASK_SHARE = 0.4
RECENT = 3
"""A choice is among so many of the latest turns, so that clients meet on them."""


class TalkClient(Protocol):
    """The calls of `consensusllm.client.Client` that are made here."""

    async def create(self, conversation: str) -> None: ...

    async def ask(self, conversation: str, question: str, *, plan: Plan | None = None) -> int: ...

    def watch(
        self, conversation: str, turn: int, *, timeout_s: float | None = None
    ) -> AsyncGenerator[WatchEvent, None]: ...

    async def choose(self, conversation: str, candidate: int, turn: int) -> Chosen: ...

    async def close(self) -> None: ...


@dataclass
class Talk:
    """What the talkers of all conversations know together."""

    closed: dict[str, list[tuple[int, tuple[int, ...]]]] = field(default_factory=dict)
    """By conversation: turns that closed, with the candidates that may be chosen."""
    recorded: dict[tuple[str, int, int], Candidate] = field(default_factory=dict)
    """By conversation, turn and number: candidates as they were said to have ended."""
    takeovers: int = 0
    writing: dict[tuple[str, int, int], int] = field(default_factory=dict)
    """The candidates that a reader sees being written, and the node that writes each."""


class Talker:
    """One client in one conversation; ``talk`` is shared. ``council`` is the template of the
    councils that it asks; "": it asks every node's model."""

    def __init__(
        self,
        process: int,
        client: TalkClient,
        recorder: Recorder,
        conversation: str,
        talk: Talk,
        rng: random.Random,
        council: str = "",
    ) -> None:
        self._process = process
        self._client = client
        self._recorder = recorder
        self._council = council
        self._conversation = conversation
        self._talk = talk
        self._rng = rng
        self._created = False
        self._number = 0

    async def one(self) -> None:
        """Create the conversation if need be, and then ask or choose."""
        turns = self._talk.closed.setdefault(self._conversation, [])
        if not self._created:
            await self._create()
        elif not turns or self._rng.random() < ASK_SHARE:
            await self._ask()
        else:
            turn, candidates = self._rng.choice(turns[-RECENT:])
            await self._choose(turn, self._rng.choice(candidates))

    async def close(self) -> None:
        await self._client.close()

    async def _create(self) -> None:
        async def call() -> Answer:
            try:
                await self._client.create(self._conversation)
            except AlreadyExists:
                return Answer(done=False, output=False)
            return Answer()

        answer = await self._recorder.operation(
            self._process, "cas", self._conversation, [None, "created"], call()
        )
        self._created = answer is not None

    async def _choose(self, turn: int, candidate: int) -> None:
        async def call() -> Answer:
            try:
                await self._client.choose(self._conversation, candidate, turn)
            except Conflict as conflict:
                return Answer(done=False, output=conflict.winner or None)
            except NotAnswered as error:
                self._recorder.problem(f"choose {self._conversation}/{turn} {candidate}: {error}")
                return Answer(done=False)
            return Answer()

        key = f"{self._conversation}/{turn}"
        await self._recorder.operation(self._process, "choose", key, candidate, call())

    async def _ask(self) -> None:
        self._number += 1
        text = f"question {self._process}.{self._number}"
        plan = Plan(council=self._council)
        call = self._client.ask(self._conversation, text, plan=plan)
        turn = await self._recorder.question(self._conversation, text, call)
        if turn is not None:
            await self._read(turn)

    async def _read(self, turn: int) -> None:
        """Read the answers to their end. A cluster that is down for longer than a reader waits is
        no fault of the reader: whether the turn closed is looked at in the end."""
        conversation = self._conversation
        texts: dict[int, str] = {}
        writing = self._talk.writing
        events = self._client.watch(conversation, turn, timeout_s=ANSWER_TIMEOUT_S)
        try:
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Delta):
                        texts[event.candidate] = texts.get(event.candidate, "") + event.text
                        writing[conversation, turn, event.candidate] = event.node
                    elif isinstance(event, Takeover):
                        texts[event.candidate] = texts.get(event.candidate, "")[: event.offset]
                        self._talk.takeovers += 1
                    elif isinstance(event, CandidateDone):
                        self._compare(turn, event.candidate, texts.get(event.candidate.number, ""))
                        writing.pop((conversation, turn, event.candidate.number), None)
                    elif isinstance(event, TurnClosed):
                        answered = tuple(
                            each.number
                            for each in event.turn.candidates
                            if each.answered and is_answer(event.turn, each)
                        )
                        if answered:
                            self._talk.closed[conversation].append((turn, answered))
        except Unavailable:
            pass
        except ConsensusError as error:
            self._recorder.problem(f"read {conversation}/{turn}: {type(error).__name__}: {error}")
        finally:
            for key in [key for key in writing if key[:2] == (conversation, turn)]:
                del writing[key]

    def _compare(self, turn: int, candidate: Candidate, text: str) -> None:
        where = f"{self._conversation}/{turn} candidate {candidate.number}"
        if candidate.answered and text != candidate.text:
            self._recorder.problem(
                f"{where}: a reader saw {text[:60]!r}…, but {candidate.text[:60]!r}… was recorded"
            )
        self._talk.recorded[self._conversation, turn, candidate.number] = candidate
