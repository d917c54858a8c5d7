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

What only the leader does about candidates is in `duties`. A candidate that another node holds is
work too where it is hedged here (see `hedging`): what the model says then is kept back until this
node holds the candidate.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

import structlog

from consensusllm.conversations.asking import Asked
from consensusllm.conversations.commands import (
    ReassignCandidate,
    RecordCandidate,
    ServedModel,
    ServeModels,
    SubmitQuery,
    Usage,
)
from consensusllm.conversations.context_window import TooLong
from consensusllm.conversations.records import Candidate
from consensusllm.conversations.records import Turn as RecordedTurn
from consensusllm.conversations.replies import Code, Refused
from consensusllm.llm.port import Provider

from .asking import request_of
from .calling import MODEL_CHARACTERS, call, failed, gather_s
from .checkpoints import Checkpoints
from .duties import Duties, end, stand_in
from .early import EarlyCalls
from .generation import Generation
from .hedging import HedgeTimer, Hedging, hedge_after_s
from .load import Load
from .own_models import OwnModels
from .port import ReplicaPort, SubmitFailed

log = structlog.get_logger()

POLL_S = 0.25
"""How often all of the state is looked at; a change of a turn is looked at when it is applied."""

RETRY_S = 0.5
"""The longest wait before a command is submitted again that could not be done in time."""

TOUCHED_MAX = 10_000
"""Turns that are remembered as changed; beyond that all of the state is looked at."""


class Answerer:
    """``providers`` are this node's, by the name of their model; "" is the default one, and
    ``unserved`` says why there is none. ``models`` is what the registry is told of them, before any
    is called. Those named in ``early`` cost nothing to ask, and are asked while their question is
    still being chosen (see `early`).

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
        early: Collection[str] = (),
        unserved: str = "configure one",
        concurrency: int = 4,
        reassign_after_s: float = 3.0,
        poll_s: float = POLL_S,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._port = port
        self._own = OwnModels(providers, models)
        self._unserved = unserved
        self._concurrency = concurrency
        self._poll_s = poll_s
        self._rng = rng or random.Random()
        self._asked_early = frozenset(early)
        self._early = EarlyCalls()
        self._load = Load(lambda: port.machine)
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
        self._hedges: dict[Generation, Hedging] = {}
        self._resting: set[Generation] = set()  # hedges without a call, which wait for their holder
        self._main: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; returns without waiting for a quorum."""
        assert self._main is None, "an answerer is started once"
        self._port.subscribe_touched(self._on_touched)
        self._port.subscribe_asking(self._on_asking)
        self._main = asyncio.create_task(self._run())
        self._main.add_done_callback(_report_bug)

    async def close(self) -> None:
        """End every call and task. What was not recorded stays open in the state."""
        if self._main is not None:
            await end(self._main)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await end(*self._running.values(), *self._ending)
        await self._early.close()
        await self._duties.close()

    # Finding work -------------------------------------------------------------------------------

    def _on_touched(self, conversation: str, turn: int) -> None:
        self._touched.add((conversation, turn))
        if len(self._touched) > TOUCHED_MAX:
            self._touched.clear()
            self._poll_due = True
        self._wake.set()

    def _on_asking(self, query: SubmitQuery) -> None:
        """Ask early what is this node's own of it, as far as there is room."""
        if self._timer is None or not self._asked_early:
            return
        turn = self._port.machine.foreseen(query)
        if turn is None:
            return
        for each in turn.candidates:
            provider = self._own.provider(each.model)
            if each.node != self._port.node or provider is None:
                continue
            served = self._own.served(provider)
            room = self._concurrency - self._busy() - len(self._early)
            if room < 1 or served.name not in self._asked_early:
                continue
            with suppress(TooLong):
                what = self._port.machine.asked(query.conversation, turn, each, served)
                key = Generation(query.conversation, turn.turn, each.number, each.attempt)
                others = stand_in(each, self._port, self._load) is not None
                self._early.begin(key, provider, request_of(what, "", others=others))

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
                reply = await self._port.submit(ServeModels(self._port.node, self._own.models))
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
        """The open candidates of ``turns`` that are this node's, or hedged here."""
        for conversation, turn in turns:
            for each in turn.candidates:
                hedge = each.hedge_waits
                if not each.ended and each.node == self._port.node:
                    yield Generation(conversation, turn.turn, each.number, each.attempt)
                if hedge is not None and hedge.node == self._port.node:
                    yield Generation(conversation, turn.turn, each.number, hedge.attempt)

    def _candidate(self, key: Generation) -> Candidate | None:
        turn = self._port.machine.turn(key.conversation, key.turn)
        return turn.candidate(key.candidate) if turn is not None else None

    def _held(self, key: Generation) -> tuple[RecordedTurn, Candidate]:
        """Of a ``key`` under which an answer can be recorded."""
        turn = self._port.machine.turn(key.conversation, key.turn)
        candidate = turn.candidate(key.candidate) if turn is not None else None
        assert turn is not None, "the key holds"
        assert candidate is not None, "the key holds"
        return turn, candidate

    def _holds(self, key: Generation) -> bool:
        """Whether an answer could still be recorded under ``key``, by this node."""
        return self._is_holder(key) or self._is_hedge(key)

    def _is_hedge(self, key: Generation) -> bool:
        candidate = self._candidate(key)
        hedge = candidate.hedge_waits if candidate is not None else None
        return hedge is not None and (hedge.attempt, hedge.node) == (key.attempt, self._port.node)

    def _is_holder(self, key: Generation) -> bool:
        candidate = self._candidate(key)
        return (
            candidate is not None
            and not candidate.ended
            and (candidate.attempt, candidate.node) == (key.attempt, self._port.node)
        )

    def _look(self, turns: Iterable[tuple[str, RecordedTurn]]) -> None:
        for key in self._assigned(turns):
            # A hedge of an earlier process is left alone: the holder answers.
            left_alone = key in self._found and self._is_hedge(key)
            if key not in self._begun and key not in self._running and not left_alone:
                self._waiting[key] = None
        for key, hedging in list(self._hedges.items()):
            if not self._is_holder(key) or hedging.holds.is_set():
                continue
            if key in self._resting or hedging.fits(self._held(key)[1], self._provider(key)):
                hedging.holds.set()
                continue
            self._stop(key)
            self._waiting[key] = None
        for key in [key for key in self._running if not self._holds(key)]:
            self._stop(key)
        while self._waiting and self._busy() < self._concurrency:
            key = next(iter(self._waiting))
            del self._waiting[key]
            if self._holds(key):
                self._begin(key)
        self._early.keep(max(0, self._concurrency - self._busy()), kept=self._running)

    def _stop(self, key: Generation) -> None:
        """Once only: a second cancellation would break into the first one's cleaning up."""
        self._hedges.pop(key, None)  # the task may take a while to end
        task = self._running.pop(key)
        task.cancel()
        self._ending[task] = None

    def _busy(self) -> int:
        """Candidates that are worked on."""
        return len(self._running) - len(self._resting)

    # Doing it -----------------------------------------------------------------------------------

    def _begin(self, key: Generation) -> None:
        provider = self._provider(key)
        _, candidate = self._held(key)
        goes_on = provider is not None and provider.continues
        if self._is_hedge(key):
            work = partial(self._answer_first, key, provider)
        elif key in self._found or (candidate.text and not goes_on):
            work = partial(self._claim, key, keep=len(candidate.text) if goes_on else 0)
        else:
            self._begun.add(key)
            work = partial(self._answer, key, provider, prefix=candidate.text)
        task = self._running[key] = asyncio.create_task(self._if_held(key, work))
        task.add_done_callback(_report_bug)
        task.add_done_callback(lambda task: self._ended(key, task))

    async def _if_held(self, key: Generation, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work``, unless a batch that was applied since it was found has made it void."""
        if self._holds(key):
            await work()

    def _ended(self, key: Generation, task: asyncio.Task[None]) -> None:
        if task in self._ending:
            del self._ending[task]
        else:
            del self._running[key]
            self._wake.set()

    def _asked(
        self, key: Generation, provider: Provider | None
    ) -> tuple[Provider, Asked] | RecordCandidate:
        """Who is asked, and what; or a record of why nobody is."""
        uncalled = RecordCandidate(*key, text="", model="", finish_reason="", usage=Usage(0, 0))
        if provider is None:
            why = f"node {self._port.node} serves no model: {self._unserved}"
            return failed(uncalled, why)
        of = (key.conversation, *self._held(key), self._own.served(provider))
        try:
            return provider, self._port.machine.asked(*of)
        except TooLong as error:
            exact = provider.model[:MODEL_CHARACTERS]
            return failed(replace(uncalled, model=exact, provider=provider.name), str(error))

    async def _answer(self, key: Generation, provider: Provider | None, prefix: str) -> None:
        """Answer a candidate that this node holds; where nothing comes, have it hedged."""
        called = self._asked(key, provider)
        if isinstance(called, RecordCandidate):
            await self._finish(key, called)
            return
        provider, what = called
        log.info("answering", **key._asdict(), provider=provider.name)
        turn, candidate = self._held(key)
        after_s = hedge_after_s(turn, candidate, self._own.served(provider).hedge_ms)
        timer = HedgeTimer(self._port, self._load, key, after_s)
        checkpoints = Checkpoints(self._port, key, len(prefix))
        others = stand_in(candidate, self._port, self._load) is not None
        request = request_of(what, prefix, others=others)

        async def begins() -> None:
            timer.stop()
            if timer.asked:
                checkpoints.hurry()

        try:
            record = await call(
                *(self._port, key, provider, self._own.name_of(provider), what, request),
                early=self._early.take(key, provider, request),
                checkpoints=checkpoints,
                begins=begins,
                gather_s=lambda: gather_s(len(self._running)),
            )
        finally:
            await timer.close()
        if timer.asked:
            record = replace(record, hedge_usage=what.usage(prefix, ""))
        await self._finish(key, record)

    async def _answer_first(self, key: Generation, provider: Provider | None) -> None:
        """Answer as a hedge: take the candidate over with the first text. Without one, wait for
        what the holder comes to: if it fails too, the candidate is handed on from here."""
        _, candidate = self._held(key)
        assert candidate.hedge is not None, "the key is a hedge's"
        hedging = self._hedges[key] = Hedging(provider)
        holds = hedging.holds
        try:
            called = self._asked(key, provider)
            if isinstance(called, RecordCandidate):
                record = called
            else:
                provider, what = called
                claim = ReassignCandidate(
                    *(key.conversation, key.turn, key.candidate, key.attempt),
                    node=self._port.node,
                    keep=0,
                    model=candidate.hedge.model,
                    usage=what.usage("", ""),
                    hedged=True,
                )
                log.info("answering too", **key._asdict(), provider=provider.name)
                record = await call(
                    *(self._port, key, provider, self._own.name_of(provider), what),
                    request_of(what, "", others=True),
                    checkpoints=Checkpoints(self._port, key, 0),
                    begins=lambda: self._take(claim, holds),
                    gather_s=lambda: gather_s(len(self._running)),
                )
            self._resting.add(key)
            self._wake.set()
            await holds.wait()
            self._begun.add(key)
        finally:
            if self._hedges.get(key) is hedging:
                del self._hedges[key]
            self._resting.discard(key)
        await self._finish(key, record)

    async def _take(self, claim: ReassignCandidate, holds: asyncio.Event) -> None:
        """Return once this node holds the candidate; where it cannot, this is cancelled."""
        while not holds.is_set():
            try:
                reply = await self._port.submit(claim)
            except SubmitFailed as error:
                log.warning("not taken over yet", error=str(error))
                await self._pause()
                continue
            if isinstance(reply, Refused):
                await holds.wait()
            else:
                holds.set()

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
        _, candidate = self._held(key)
        hedge = candidate.hedge if self._is_hedge(key) else None
        return self._own.provider(candidate.model if hedge is None else hedge.model)

    async def _finish(self, key: Generation, record: RecordCandidate) -> None:
        """Record how a call ended, or hand the candidate on to a model that stands in for it."""
        if record.error:
            log.warning("no answer", **key._asdict(), error=record.error)
            if (fallback := self._fallback(key, record)) is not None:
                with self._load.giving(fallback.node):
                    await self._submit_until_done(fallback)
                return
        await self._record(key, record)

    def _fallback(self, key: Generation, record: RecordCandidate) -> ReassignCandidate | None:
        """Who goes on in place of a model that failed; None where nobody is left."""
        candidate = self._candidate(key)
        if candidate is None:
            return None
        place = stand_in(candidate, self._port, self._load)
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
            hedge_usage=record.hedge_usage,
        )

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
            record = failed(record, f"the answer cannot be recorded: {reply.message}")

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


def _report_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("a bug in the answerer: this node may answer no more", exc_info=task.exception())
