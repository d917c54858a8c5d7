"""What the leader does for candidates and turns that nobody else can help, and what each node says
of itself.

A candidate whose node is gone is reassigned to one that lives, under the next attempt, which fences
the old one; a turn, or a council's stage, past its deadline is closed. Both are decided anew from
the state each time, by whoever leads then, so nothing here needs to outlive a leader. A node whose
models are not what the registry says of it says so; for one that is no member any more the leader
does.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Hashable

import structlog

from consensusllm.conversations.commands import (
    CloseStage,
    CloseTurn,
    Operation,
    ReassignCandidate,
    ServedModel,
    ServeModels,
)
from consensusllm.conversations.records import Candidate, Turn

from .load import Load
from .planning import Cluster, Place, load_of, successor
from .port import ReplicaPort, SubmitFailed

log = structlog.get_logger()

PROPOSALS_MAX = 32
"""Commands under way at a time; what is left over is found at the next look."""


class Duties:
    """`look` is called often, on the event loop. ``models`` are those that this node serves.

    A node counts as gone once this leader has not heard from it for ``reassign_after_s`` of
    ``clock`` (seconds, monotonic).
    """

    def __init__(
        self,
        port: ReplicaPort,
        reassign_after_s: float,
        clock: Callable[[], float] = time.monotonic,
        models: tuple[ServedModel, ...] = (),
    ) -> None:
        self._port = port
        self._models = models
        self._clock = clock
        self._reassign_after_s = reassign_after_s
        self._absent_since: dict[int, float] = {}
        self._proposals: dict[Hashable, asyncio.Task[None]] = {}

    def look(self) -> None:
        """Propose what the state now asks for, each thing once at a time."""
        if not self.registered():
            self._propose("models", ServeModels(self._port.node, self._models))
        if not self._port.is_leader():
            self._absent_since.clear()
            return
        open_turns = self._port.machine.open_turns()
        now_ms = self._port.now_ms()
        in_time = []
        for conversation, turn in open_turns:
            if now_ms <= turn.deadline_ms:
                in_time.append((conversation, turn))
            else:
                self._close_turn(conversation, turn)
        self._reassign(in_time)
        for node in sorted(self._port.machine.registry.keys() - self._port.members()):
            self._propose(("models", node), ServeModels(node, ()))

    def registered(self) -> bool:
        """Whether the registry has this node's models."""
        found = self._port.machine.registry.get(self._port.node, ())
        return tuple(each.served for each in found) == self._models

    async def close(self) -> None:
        await end(*self._proposals.values())

    def _close_turn(self, conversation: str, turn: Turn) -> None:
        """A council goes on with what there is."""
        begun_ms = turn.retries[-1].time_ms if turn.retries else turn.opened_ms
        allowed_s = (turn.deadline_ms - begun_ms) / 1000
        reason = f"deadline passed: no answer in {allowed_s:g} s"
        last = turn.candidates[-1].number
        operation: Operation = CloseTurn(conversation, turn.turn, reason, last)
        if turn.council is not None:
            operation = CloseStage(conversation, turn.turn, last, reason)
        self._propose((conversation, turn.turn, last), operation)

    def _reassign(self, turns: list[tuple[str, Turn]]) -> None:
        now = self._clock()
        live = self._port.live()
        open_candidates = [
            (conversation, turn.turn, each)
            for conversation, turn in turns
            for each in turn.candidates
            if not each.ended
        ]
        nodes = {each.node for _, _, each in open_candidates}
        self._absent_since = {
            node: self._absent_since.get(node, now) for node in sorted(nodes - live)
        }
        gone = {
            node
            for node, since in self._absent_since.items()
            if now - since >= self._reassign_after_s
        }
        if not gone or not live:
            return
        load = load_of(turns)
        for conversation, number, each in open_candidates:
            if len(self._proposals) >= PROPOSALS_MAX:
                break
            if each.node in gone:
                node, model, keep = self._taker(each, live, load)
                load[node] += 1
                attempt = each.attempt + 1
                operation = ReassignCandidate(
                    conversation, number, each.number, attempt, node, keep, model
                )
                self._propose((conversation, number, each.number, attempt), operation)

    def _taker(
        self, candidate: Candidate, live: frozenset[int], load: Counter[int]
    ) -> tuple[int, str, int]:
        """Who is to go on with ``candidate``, with which model, and from which character: with its
        own or a fallback where a live node serves one. Where none does, the node that has least to
        do begins anew with its default model, whose name then stands there: what was written so far
        is no other model's to go on with."""
        cluster = Cluster(self._port.machine.registry, sorted(live), load, self._port.now_ms())
        place = successor(candidate, cluster, failed=False)
        if place is not None:
            model = place.name if place.name != candidate.model else ""
            return place.node, model, len(candidate.text)
        default = {each.node: each.name for each in reversed(cluster.places())}
        node = min(default or cluster.live, key=lambda each: load[each])
        return node, default.get(node, ""), 0 if default else len(candidate.text)

    def _propose(self, key: Hashable, operation: Operation) -> None:
        if key in self._proposals or len(self._proposals) >= PROPOSALS_MAX:
            return
        task = self._proposals[key] = asyncio.create_task(self._submit(operation))
        task.add_done_callback(lambda _: self._proposals.pop(key))

    async def _submit(self, operation: Operation) -> None:
        try:
            reply = await self._port.submit(operation)
        except SubmitFailed as error:
            log.warning("not done yet", operation=operation, error=str(error))
        else:
            log.info("done for lack of an answer", operation=operation, reply=reply)


def stand_in(candidate: Candidate, port: ReplicaPort, load: Load) -> Place | None:
    """Who can be asked in place of the model of ``candidate``, as far as this node knows."""
    if not candidate.fallbacks and not candidate.takeovers:
        return None  # as of most: the load need not be reckoned
    live = sorted(port.live() or port.members())
    cluster = Cluster(port.machine.registry, live, load.by_node(), port.now_ms())
    return successor(candidate, cluster, failed=True)


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancel ``tasks`` and wait until they have ended, however they do."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
