"""Has a second model asked where the first is slow to begin.

The node that holds a candidate waits for its model's first text. Where that does not come in time,
it proposes that the candidate's next fallback is asked too, on whichever node serves it. From then
on the log decides who was first: the holder records its first text at once, the hedge takes the
candidate over, and each can do so only while the other has not.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import structlog

from consensusllm.conversations.commands import HedgeCandidate
from consensusllm.conversations.records import Candidate
from consensusllm.conversations.records import Turn as RecordedTurn
from consensusllm.conversations.replies import Refused
from consensusllm.llm.port import Provider

from .duties import end, stand_in
from .generation import Generation
from .load import Load
from .port import ReplicaPort, SubmitFailed

log = structlog.get_logger()


class Hedging:
    """A call of this node beside that of a candidate's holder, by ``provider``. ``holds`` is set
    where this node holds the candidate now, and the call is the candidate's."""

    def __init__(self, provider: Provider | None) -> None:
        self.holds = asyncio.Event()
        self._provider = provider

    def fits(self, candidate: Candidate, provider: Provider | None) -> bool:
        """Whether the call is that of ``candidate``, which this node holds and whose model is
        ``provider``'s. Where its holder handed on what it had written, that is gone on from."""
        return not candidate.text and provider is self._provider


class HedgeTimer:
    """Proposes the hedge of ``key`` once ``after_s`` (0.0: never) have passed. ``asked``: it may
    have been proposed."""

    def __init__(self, port: ReplicaPort, load: Load, key: Generation, after_s: float) -> None:
        self.asked = False
        self._load = load
        self._port = port
        self._key = key
        self._task = asyncio.create_task(self._ask(after_s)) if after_s else None
        if self._task is not None:
            self._task.add_done_callback(_report_bug)

    def stop(self) -> None:
        """There is text: do not propose it any more."""
        if self._task is not None and not self.asked:
            self._task.cancel()

    async def close(self) -> None:
        if self._task is not None:
            await end(self._task)

    async def _ask(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        turn = self._port.machine.turn(self._key.conversation, self._key.turn)
        candidate = turn.candidate(self._key.candidate) if turn is not None else None
        if candidate is None or candidate.ended or candidate.hedge is not None:
            return
        place = stand_in(candidate, self._port, self._load)
        if place is None:
            return
        self.asked = True
        hedge = HedgeCandidate(*self._key, node=place.node, model=place.name)
        try:
            with self._load.giving(hedge.node):
                reply = await self._port.submit(hedge)
        except SubmitFailed as error:
            log.warning("nobody else is asked", **self._key._asdict(), error=str(error))
        else:
            why = reply.message if isinstance(reply, Refused) else ""
            log.info("another model is asked too", **asdict(hedge), refused=why)


def _report_bug(task: asyncio.Task[None]) -> None:
    """The holder's call goes on all the same."""
    if not task.cancelled() and task.exception() is not None:
        log.error("a bug: nobody else is asked", exc_info=task.exception())


def hedge_after_s(turn: RecordedTurn, candidate: Candidate, own_ms: int) -> float:
    """After how long without text the candidate is hedged; 0.0: never. ``own_ms`` is what its
    model is configured with."""
    hedge_ms = turn.options.hedge_ms if turn.options.hedge_ms is not None else own_ms
    can_be = not candidate.text and candidate.hedge is None and candidate.fallbacks_left
    return hedge_ms / 1000 if can_be else 0.0
