"""Owns what is seen of the nodes while a drill runs: state hashes by slot, ballots, elections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from consensusllm.client import Status

POLL_S = 0.25

Statuses = Callable[[], Awaitable[Mapping[int, Status | None]]]


class Observer:
    """Two nodes that have applied the same slot must have the same state: it reports a difference
    to ``problem``, whenever the two are seen."""

    def __init__(self, statuses: Statuses, problem: Callable[[str], None]) -> None:
        self._statuses = statuses
        self._problem = problem
        self._hashes: dict[int, tuple[int, str]] = {}
        self._differing: set[int] = set()
        self._first_ballot: int | None = None
        self._last_ballot = 0

    @property
    def elections(self) -> int:
        """How far the ballot has risen since the first look; every election raises it."""
        return self._last_ballot - (self._first_ballot or 0) if self._first_ballot else 0

    def see(self, statuses: Mapping[int, Status | None]) -> None:
        """Take one look at all nodes into account."""
        for node, status in statuses.items():
            if status is None:
                continue
            self._last_ballot = max(self._last_ballot, status.ballot_seq_num)
            slot, state_hash = status.applied_slot, status.state_hash
            if not state_hash:
                continue
            other, expected = self._hashes.setdefault(slot, (node, state_hash))
            if state_hash != expected and slot not in self._differing:
                self._differing.add(slot)
                self._problem(
                    f"states differ at slot {slot}: node {other} has {expected[:12]}, "
                    f"node {node} has {state_hash[:12]}"
                )
        if self._first_ballot is None and self._last_ballot:
            self._first_ballot = self._last_ballot

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.see(await self._statuses())
            await asyncio.sleep(POLL_S)


def agreed_slot(statuses: Mapping[int, Status | None]) -> int | None:
    """The slot that every node has applied, and says the state's hash at."""
    said = [status for status in statuses.values() if status is not None]
    slots = {status.applied_slot for status in said}
    whole = len(said) == len(statuses) and all(status.state_hash for status in said)
    if len(slots) > 1 or not whole or {each.role for each in said} - {"leading", "following"}:
        return None
    return next(iter(slots), None)
