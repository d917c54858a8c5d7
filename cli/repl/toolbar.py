"""Owns the line at the bottom of the prompt: who leads, and which nodes can be reached.

A task of its own asks the nodes, each time with a short deadline; typing never waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from async_timeout import timeout
from prompt_toolkit.formatted_text import StyleAndTextTuples

from consensusllm.client import ConsensusError, Status, Unauthenticated

from .render import ballot
from .session import Session

PERIOD_S = 1.0
_CONVERSATIONS_EVERY = 5
"""The ids for the completion are asked for every so many periods."""
_DENIED = " the client token is missing or wrong"
_UP, _DOWN = "●", "○"


class Toolbar:
    """Keeps the bottom line, and what the completion knows, up to date while `refresh` runs."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._statuses: dict[int, Status | None] = {}
        self._head = " looking for the cluster…"
        """Shown alone while nothing is known of the nodes."""
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Ask at once, because something may have changed."""
        self._woken.set()

    async def refresh(self, redraw: Callable[[], None]) -> None:
        """Ask again and again, until cancelled."""
        period = 0
        while True:
            try:
                self._statuses, self._head = await self._session.statuses(), ""
            except Unauthenticated:
                self._statuses, self._head = {}, _DENIED
            redraw()
            if self._woken.is_set() or period % _CONVERSATIONS_EVERY == 0:
                self._woken.clear()
                await self._learn_conversations()
            period += 1
            with contextlib.suppress(asyncio.TimeoutError):
                async with timeout(PERIOD_S):
                    await self._woken.wait()

    async def _learn_conversations(self) -> None:
        """What one node knows is enough here, so nobody else is asked."""
        with contextlib.suppress(ConsensusError):
            summaries = await self._session.client.conversations(stale=True, timeout_s=PERIOD_S)
            self._session.known.conversations[:] = [each.conversation for each in summaries]

    def __call__(self) -> StyleAndTextTuples:
        if self._head:
            return [("", self._head)]
        present = [status for status in self._statuses.values() if status is not None]
        # The highest ballot is the latest news of who leads.
        newest = max(present, key=lambda each: (each.ballot_seq_num, each.ballot_pid), default=None)
        if newest is None:
            head = " no node answers"
        else:
            leader = str(newest.leader) if newest.leader else "none"
            commit = max(status.chosen_through for status in present)
            head = f" leader {leader} · ballot {ballot(newest)} · commit {commit}"
        line: StyleAndTextTuples = [("", head + " · nodes")]
        for node, status in sorted(self._statuses.items()):
            style = "fg:ansigreen" if status is not None else "fg:ansired"
            line.append((style, f" {node}{_UP if status is not None else _DOWN}"))
        return line
