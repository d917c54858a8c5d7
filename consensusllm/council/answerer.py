"""Answers the open candidates of one node, outside apply.

The replicated state is the only queue: an open candidate that is assigned to this node is work, and
its attempt is the lease under which the answer may be recorded. What calls a model, and what it
said so far, is checkpointed there, so any node can go on from the state alone: behind the recorded
text where its model can continue one, and from the beginning where it cannot.

An attempt is never begun twice. Within a process that is remembered; a new process cannot know what
an earlier one produced under the attempts that it finds, so it claims those candidates anew, under
the next attempt, before it calls a model; so does one that begins a recorded text anew. What is
found, as opposed to assigned since, is what the state has once a barrier has passed: the earlier
process can have acted on nothing younger.

What only the leader does about candidates is in `duties`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace

import structlog

from consensusllm.conversations.commands import (
    Code,
    ReassignCandidate,
    RecordCandidate,
    Refused,
    ServedModel,
    ServeModels,
    Usage,
)
from consensusllm.conversations.context_window import TooLong
from consensusllm.conversations.records import Candidate
from consensusllm.conversations.records import Turn as RecordedTurn
from consensusllm.llm.port import Chunk, Provider, ProviderError

from .asking import Asked, asked, estimated
from .checkpoints import Checkpoints
from .duties import Duties, end
from .generation import Generation
from .planning import Cluster, load_of, successor
from .port import Delta, ReplicaPort, SubmitFailed

log = structlog.get_logger()

POLL_S = 0.25
"""How often all of the state is looked at; a change of a turn is looked at when it is applied."""

RETRY_S = 0.5
"""The longest wait before a command is submitted again that could not be done in time."""

TOUCHED_MAX = 10_000
"""Turns that are remembered as changed; beyond that all of the state is looked at."""

FREE_STREAMS = 8
STREAM_PAUSE_S = 0.001
STREAM_PAUSE_MAX_S = 0.25
"""Up to so many generations are passed on piece by piece. Of more, each pauses for so long, times
their number, from one piece to the next, so that what they cost the node does not grow with them:
text gathers meanwhile, and no vote waits behind it."""

ERROR_CHARACTERS = 2000
MODEL_CHARACTERS = 64


class Answerer:
    """``providers`` are this node's, by the name of their model; "" is the default one, and
    ``unserved`` says why there is none. ``models`` is what the registry is told of them, before any
    is called.

    A candidate whose model this node does not serve (it was reassigned) goes to the default. At
    most ``concurrency`` (>= 1) candidates are worked on at a time; the others wait in the state.
    ``rng`` spreads retries, ``clock`` is in seconds, monotonic.
    """

    def __init__(
        self,
        port: ReplicaPort,
        providers: Mapping[str, Provider],
        *,
        models: tuple[ServedModel, ...] = (),
        unserved: str = "configure one",
        concurrency: int = 4,
        reassign_after_s: float = 3.0,
        poll_s: float = POLL_S,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._port = port
        self._providers = providers
        self._unserved = unserved
        self._concurrency = concurrency
        self._poll_s = poll_s
        self._rng = rng or random.Random()
        self._models = models
        self._duties = Duties(port, reassign_after_s, clock, models)
        self._wake = asyncio.Event()
        self._poll_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._touched: set[tuple[str, int]] = set()
        self._waiting: dict[Generation, None] = {}  # a set that keeps its order
        self._running: dict[Generation, asyncio.Task[None]] = {}
        self._ending: dict[asyncio.Task[None], None] = {}  # in order, so that runs can be repeated
        self._begun: set[Generation] = set()
        self._found: set[Generation] = set()
        self._main: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; returns without waiting for a quorum."""
        assert self._main is None, "an answerer is started once"
        self._port.subscribe_touched(self._on_touched)
        self._main = asyncio.create_task(self._run())
        self._main.add_done_callback(_report_bug)

    async def close(self) -> None:
        """End every call and task. What was not recorded stays open in the state."""
        if self._main is not None:
            await end(self._main)
        if self._timer is not None:
            self._timer.cancel()
        await end(*self._running.values(), *self._ending)
        await self._duties.close()

    # Finding work -------------------------------------------------------------------------------

    def _on_touched(self, conversation: str, turn: int) -> None:
        self._touched.add((conversation, turn))
        if len(self._touched) > TOUCHED_MAX:
            self._touched.clear()
            self._poll_due = True
        self._wake.set()

    def _on_poll(self) -> None:
        self._poll_due = True
        self._wake.set()
        self._timer = asyncio.get_running_loop().call_later(self._poll_s, self._on_poll)

    async def _run(self) -> None:
        await self._pass_barrier()
        await self._register()
        self._found = set(self._assigned(self._port.machine.open_turns()))
        self._on_poll()
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._poll_due:
                self._poll_due = False
                self._touched.clear()
                self._begun = set(filter(self._holds, self._begun))
                self._found = set(filter(self._holds, self._found))
                self._look(self._port.machine.open_turns())
                self._duties.look()
            else:
                self._look(self._take_touched())

    async def _pass_barrier(self) -> None:
        while True:
            try:
                return await self._port.barrier()
            except SubmitFailed:
                await self._pause()

    async def _register(self) -> None:
        """What this node records counts under the models that the registry has of it."""
        while not self._duties.registered():
            try:
                reply = await self._port.submit(ServeModels(self._port.node, self._models))
            except SubmitFailed:
                await self._pause()
            else:
                if isinstance(reply, Refused):
                    log.error("the registry does not take this node's models", reply=reply.message)
                return

    def _take_touched(self) -> Iterator[tuple[str, RecordedTurn]]:
        touched, self._touched = self._touched, set()
        for conversation, number in sorted(touched):
            turn = self._port.machine.turn(conversation, number)
            if turn is not None:
                yield conversation, turn

    def _assigned(self, turns: Iterable[tuple[str, RecordedTurn]]) -> Iterator[Generation]:
        """The open candidates of ``turns`` that are this node's."""
        for conversation, turn in turns:
            for each in turn.candidates:
                if not each.ended and each.node == self._port.node:
                    yield Generation(conversation, turn.turn, each.number, each.attempt)

    def _candidate(self, key: Generation) -> Candidate | None:
        turn = self._port.machine.turn(key.conversation, key.turn)
        return turn.candidate(key.candidate) if turn is not None else None

    def _holds(self, key: Generation) -> bool:
        """Whether an answer could still be recorded under ``key``, by this node."""
        candidate = self._candidate(key)
        return (
            candidate is not None
            and not candidate.ended
            and (candidate.attempt, candidate.node) == (key.attempt, self._port.node)
        )

    def _look(self, turns: Iterable[tuple[str, RecordedTurn]]) -> None:
        for key in self._assigned(turns):
            if key not in self._begun and key not in self._running:
                self._waiting[key] = None
        for key in [key for key in self._running if not self._holds(key)]:
            # Once only: a second cancellation would break into the first one's cleaning up.
            task = self._running.pop(key)
            task.cancel()
            self._ending[task] = None
        while self._waiting and len(self._running) < self._concurrency:
            key = next(iter(self._waiting))
            del self._waiting[key]
            if self._holds(key):
                self._begin(key)

    # Doing it -----------------------------------------------------------------------------------

    def _begin(self, key: Generation) -> None:
        provider = self._provider(key)
        candidate = self._candidate(key)
        assert candidate is not None, "the key holds"
        goes_on = provider is not None and provider.continues
        if key in self._found or (candidate.text and not goes_on):
            work = self._claim(key, keep=len(candidate.text) if goes_on else 0)
        else:
            self._begun.add(key)
            work = self._called(key, provider, prefix=candidate.text)
        task = self._running[key] = asyncio.create_task(work)
        task.add_done_callback(_report_bug)
        task.add_done_callback(lambda task: self._ended(key, task))

    def _ended(self, key: Generation, task: asyncio.Task[None]) -> None:
        if task in self._ending:
            del self._ending[task]
        else:
            del self._running[key]
            self._wake.set()

    def _called(
        self, key: Generation, provider: Provider | None, prefix: str
    ) -> Coroutine[None, None, None]:
        """The work of calling ``provider``, or of saying why it is not called."""
        uncalled = RecordCandidate(*key, text="", model="", finish_reason="", usage=Usage(0, 0))
        if provider is None:
            why = f"node {self._port.node} serves no model: {self._unserved}"
            return self._finish(key, _failed(uncalled, why))
        try:
            what = asked(self._port.machine, key, self._served(provider), prefix)
        except TooLong as error:
            exact = provider.model[:MODEL_CHARACTERS]
            unfit = replace(uncalled, model=exact, provider=provider.name)
            return self._finish(key, _failed(unfit, str(error)))
        return self._answer(key, provider, what)

    async def _claim(self, key: Generation, keep: int) -> None:
        """Take a candidate under an attempt that only this process can know, to go on behind the
        first ``keep`` characters of what is recorded."""
        unused = Usage() if key in self._found else Usage(0, 0)
        claim = ReassignCandidate(
            *(key.conversation, key.turn, key.candidate, key.attempt + 1, self._port.node, keep),
            usage=unused,
        )
        try:
            await self._port.submit(claim)
        except SubmitFailed as error:
            log.warning("not claimed yet", **key._asdict(), error=str(error))
            await self._pause()

    def _provider(self, key: Generation) -> Provider | None:
        candidate = self._candidate(key)
        assert candidate is not None, "the key holds"
        return self._providers.get(candidate.model) or self._providers.get("")

    def _served(self, provider: Provider) -> ServedModel:
        """What the registry is told of ``provider``; nothing is known of one that is not there."""
        name = self._served_as(provider)
        unknown = ServedModel(name, provider.name)
        return next((each for each in self._models if each.name == name), unknown)

    async def _answer(self, key: Generation, provider: Provider, what: Asked) -> None:
        log.info("answering", **key._asdict(), provider=provider.name)
        await self._finish(key, await self._generate(key, provider, what))

    async def _finish(self, key: Generation, record: RecordCandidate) -> None:
        """Record how a call ended, or hand the candidate on to a model that stands in for it."""
        if record.error:
            log.warning("no answer", **key._asdict(), error=record.error)
            if (fallback := self._fallback(key, record)) is not None:
                await self._submit_until_done(fallback)
                return
        await self._record(key, record)

    def _fallback(self, key: Generation, record: RecordCandidate) -> ReassignCandidate | None:
        """Who goes on in place of a model that failed; None where nobody is left."""
        machine = self._port.machine
        candidate = self._candidate(key)
        if candidate is None or not candidate.fallbacks_left:
            return None
        live = sorted(self._port.live() or self._port.members())
        load = load_of(machine.open_turns())
        cluster = Cluster(machine.registry, live, load, self._port.now_ms())
        place = successor(candidate, cluster, failed=True)
        if place is None:
            return None
        return ReassignCandidate(
            *(key.conversation, key.turn, key.candidate, key.attempt + 1),
            node=place.node,
            keep=len(candidate.text),
            model=place.name,
            reason=record.error,
            served_as=record.served_as,
            usage=record.usage,
        )

    async def _generate(self, key: Generation, provider: Provider, what: Asked) -> RecordCandidate:
        request = what.request
        called = RecordCandidate(
            *key,
            text="",
            model=provider.model[:MODEL_CHARACTERS],
            finish_reason="",
            provider=provider.name,
            served_as=self._served_as(provider),
            prompt_hash=what.prompt_hash,
            left_out=what.left_out,
            context_tokens=what.context_tokens,
        )
        pieces = [request.prefix]
        offset = len(request.prefix)
        if offset:
            self._port.publish(Delta(*key, 0, request.prefix, ""))
        checkpoints = Checkpoints(self._port, key, offset)
        last = Chunk()
        now = asyncio.get_running_loop().time
        first_at = 0.0
        try:
            async with aclosing(provider.generate(request)) as chunks:
                async for last in chunks:
                    if last.text:
                        self._port.publish(Delta(*key, offset, last.text, last.model))
                        checkpoints.add(last.text)
                        pieces.append(last.text)
                        offset += len(last.text)
                        first_at = first_at or now()
                        if (running := len(self._running)) > FREE_STREAMS:
                            await asyncio.sleep(min(STREAM_PAUSE_MAX_S, running * STREAM_PAUSE_S))
        except ProviderError as error:
            return replace(_failed(called, str(error)), usage=estimated(request, pieces[1:]))
        except Exception as error:
            log.exception("a provider raised what it must not", provider=provider.name)
            failed = _failed(
                called, f"{provider.name}: failed unexpectedly ({type(error).__name__})"
            )
            return replace(failed, usage=estimated(request, pieces[1:]))
        finally:
            checkpoints.close()
        usage = Usage(last.prompt_tokens, last.completion_tokens)
        if last.prompt_tokens is None or last.completion_tokens is None:
            usage = estimated(request, pieces[1:])
        writing_s = now() - first_at
        return replace(
            called,
            text="".join(pieces),
            model=last.model[:MODEL_CHARACTERS] or called.model,
            finish_reason=last.finish_reason,
            usage=usage,
            speed=round(1000 * (usage.completion_tokens or 0) / max(writing_s, 0.001)),
        )

    def _served_as(self, provider: Provider) -> str:
        """The name that ``provider`` has in the registry."""
        named = (name for name, each in self._providers.items() if name and each is provider)
        return next(named, "")

    async def _record(self, key: Generation, record: RecordCandidate) -> None:
        """Propose ``record`` until the state machine has answered; a candidate that closes or moves
        on meanwhile cancels this."""
        while True:
            try:
                reply = await self._port.submit(record)
            except SubmitFailed as error:
                log.warning("not recorded yet", **key._asdict(), error=str(error))
                await self._pause()
                continue
            unfit = isinstance(reply, Refused) and reply.code in (Code.TOO_LARGE, Code.INVALID)
            if not unfit or record.error:
                return
            assert isinstance(reply, Refused)
            record = _failed(record, f"the answer cannot be recorded: {reply.message}")

    async def _submit_until_done(self, operation: ReassignCandidate) -> None:
        while True:
            try:
                await self._port.submit(operation)
            except SubmitFailed as error:
                log.warning("not handed on yet", operation=operation, error=str(error))
                await self._pause()
            else:
                return

    async def _pause(self) -> None:
        # Nodes that lost the leader at once should not all come back at once.
        await asyncio.sleep(self._rng.uniform(RETRY_S / 5, RETRY_S))


def _failed(called: RecordCandidate, error: str) -> RecordCandidate:
    """The call ended without an answer."""
    return replace(called, text="", finish_reason="", error=error[:ERROR_CHARACTERS] or "no answer")


def _report_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("a bug in the answerer: this node may answer no more", exc_info=task.exception())
