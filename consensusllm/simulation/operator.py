"""The operator: changes members and leaders as a person does, who repeats what was not answered.

Several changes may be wanted at a time, by people who do not know of each other; the cluster makes
one after another, or refuses. In a calm the operator brings the cluster back to the size that it
began with, of whatever nodes that then are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from async_timeout import timeout

from consensusllm.paxos import (
    AddNode,
    Change,
    ChangeProgress,
    ChangeRefused,
    NotLeader,
    RemoveNode,
    TransferLeader,
)
from consensusllm.paxos.membership import MEMBERS_MAX

from .network import CLIENTS

if TYPE_CHECKING:
    from .cluster import Cluster
    from .faults import Fault
    from .node import Life

ANSWER_S = 0.5
"""How long the operator waits for an answer before another node is asked."""

BEGUN_MAX = 3
"""Nodes that were begun and are no members; then one of them is taken, and no other one begun."""

UNDER_WAY = 3
"""For so many election timeouts after it was last asked for a removal is under way: whoever has
voted since it was asked for first may still die before it is proposed."""

Answer: TypeAlias = ChangeProgress | ChangeRefused | None
"""None: that node does not lead, or nothing came."""


class Operator:
    def __init__(self, cluster: Cluster, rng: Random) -> None:
        self._cluster = cluster
        self._rng = rng
        self._wanted: dict[asyncio.Task[None], None] = {}  # in order
        self._next_id = max(cluster.first_members) + 1
        self._gone: list[int] = []
        self._askings = 0  # of removals, the number of each
        self._asked_to_go: dict[int, float] = {}  # when last
        self.restored = True
        """Whether the cluster is of its own size and nothing is under way."""

    # In a storm -----------------------------------------------------------------------------------

    def begin(self, fault: Fault) -> bool:
        """Want what ``fault`` says, for as long as it lasts. Whether the cluster can bear it. It is
        of the fault's node, or of a voter in place of one that does not vote."""
        cluster = self._cluster
        if not self.bears_one_less():
            return False
        voters = cluster.voters()
        whom = fault.node if fault.node in voters else voters[fault.node % len(voters)]
        work: dict[str, Callable[[], Coroutine[None, None, object]]] = {
            "add node": lambda: self._add(self._one_more()),
            "remove node": lambda: self._remove(whom),
            "replace node": lambda: self._replace(whom),
            "transfer": lambda: self._until_done(TransferLeader(whom)),
            "hanging newcomer": lambda: self._add(self._one_more(), hangs=True),
        }
        if fault.kind != "transfer":
            self.restored = False
        task = cluster.loop.create_task(_patient(work[fault.kind](), fault.lasts_s + 5.0))
        self._wanted[task] = None
        task.add_done_callback(lambda done: self._wanted.pop(done, None))
        return True

    def bears_one_less(self, *and_harmed: int) -> bool:
        """Whether a majority would still have data and links with one voter less, and
        ``and_harmed`` down. The cluster itself sees to it where all who are harmed are down or cut
        off, for they do not answer; that a disk has rotted nobody knows before it is read."""
        cluster = self._cluster
        harmed = cluster.harmed() | {*and_harmed}
        return not cluster.damaged() or len(harmed) <= (len(cluster.voters()) - 2) // 2

    def removes(self, node: int) -> bool:
        """Whether a removal of ``node`` is under way."""
        asked_at = self._asked_to_go.get(node)
        since = self._cluster.loop.time() - UNDER_WAY * self._cluster.patience_s
        return asked_at is not None and asked_at > since

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _one_more(self) -> int:
        """A number that nobody had, or one of those that were begun in vain where these are many:
        each of them keeps clients waiting."""
        cluster = self._cluster
        members = {*cluster.voters(), *self._gone}
        begun = [node for node in cluster.members if node not in members]
        return self._rng.choice(begun) if len(begun) >= BEGUN_MAX else self._new_id()

    async def _add(self, node: int, *, hangs: bool = False) -> None:
        if len(self._cluster.nodes) >= MEMBERS_MAX:
            return
        await self._try_a_used_id()
        if node in self._gone:  # begun in vain, it seemed, and was a member that was just removed
            return
        if node not in self._cluster.nodes:
            self._cluster.install(node)
            if hangs:
                self._cluster.hang_newcomer(node)
        if await self._until_done(_adding(node)):
            self._cluster.figures["nodes added"] += 1

    async def _try_a_used_id(self) -> None:
        """Somebody takes an old number, which must be refused."""
        if self._gone and self._rng.random() < 0.3:
            await self._ask(_adding(self._rng.choice(self._gone)))

    async def _remove(self, node: int) -> None:
        self._askings += 1
        if await self._until_done(RemoveNode(node, self._askings)):
            self._cluster.figures["nodes removed"] += 1
            self._gone.append(node)
            self._cluster.retire(node)

    async def _replace(self, node: int) -> None:
        await self._add(self._one_more())
        await self._remove(node)

    async def _until_done(self, change: Change) -> bool:
        """Ask for ``change`` until it is done, or cannot be any more."""
        while True:
            answer = await self._ask(change)
            if isinstance(answer, ChangeProgress) and not answer.waits_for:
                return True
            if isinstance(answer, ChangeRefused):
                self._cluster.figures["changes refused"] += 1
                if self._rng.random() < 0.5:
                    return False
            await asyncio.sleep(0.05 + 0.2 * self._rng.random())

    async def _ask(self, change: Change) -> Answer:
        """What one node says to ``change``: the leader, as far as anybody can tell."""
        cluster, network = self._cluster, self._cluster.network
        if isinstance(change, RemoveNode):
            self._asked_to_go[change.node] = cluster.loop.time()
        node = cluster.leader() if self._rng.random() < 0.7 else None
        node = node or self._rng.choice(cluster.members)
        done: asyncio.Future[Answer] = cluster.loop.create_future()

        def settle(answer: Answer) -> None:
            if not done.done():
                done.set_result(answer)

        def arrive() -> None:
            life = cluster.life(node)
            if life is not None:
                life.change(
                    change, lambda answer: network.post(node, CLIENTS, partial(settle, answer))
                )

        network.post(CLIENTS, node, arrive)
        await asyncio.wait((done,), timeout=ANSWER_S)
        if not done.done():
            return None
        cluster.trace.add(0, "operator", (change, done.result()))
        return done.result()

    # In a calm ------------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Give up what is under way, and bring the cluster back to its size."""
        for task in [*self._wanted]:
            task.cancel()
        cluster = self._cluster
        while not self.restored:
            await asyncio.sleep(0.1)
            life = cluster.leading()
            if life is None:
                continue
            change = self._missing(life)
            if change is None:
                self.restored = True
                return
            if isinstance(change, AddNode) and change.node not in cluster.nodes:
                cluster.install(change.node)
            answer = await self._ask(change)
            done = isinstance(answer, ChangeProgress) and not answer.waits_for
            if done and isinstance(change, RemoveNode):
                cluster.retire(change.node)

    def _missing(self, life: Life) -> Change | None:
        """What is still to be done, by what the leader says that the members are."""
        cluster, paxos = self._cluster, life.replica.paxos
        membership = paxos.membership
        size = len(cluster.first_members)
        learner = membership.learner
        if learner is not None:
            wanted = learner in cluster.nodes and len(membership.voters) < size
            return _adding(learner) if wanted else RemoveNode(learner)
        if len(membership.voters) > size:
            return RemoveNode(max(membership.voters))
        if len(membership.voters) < size:
            return _adding(self._spare() or self._new_id())
        for node in cluster.members:
            if node in membership.removed:
                return RemoveNode(node)  # done already, and known to enough of the members?
            if node not in membership.voters:
                cluster.retire(node)  # it never came to be one
        return None

    def _spare(self) -> int | None:
        """A node that was begun for a change which was given up."""
        life = self._cluster.leading()
        assert life is not None
        membership = life.replica.paxos.membership
        known = {*membership.voters, *membership.removed}
        return next((node for node in self._cluster.members if node not in known), None)


def _adding(node: int) -> AddNode:
    return AddNode(node, f"node-{node}:1")


async def _patient(work: Coroutine[None, None, object], patience_s: float) -> None:
    """Whoever wants it loses patience in the end; what was begun may still happen."""
    with suppress(asyncio.TimeoutError):
        async with timeout(patience_s):
            await work


def answered(change: Callable[[], ChangeProgress]) -> Answer:
    """What a node says, as the operator hears it."""
    try:
        return change()
    except ChangeRefused as refusal:
        return refusal
    except NotLeader:
        return None
