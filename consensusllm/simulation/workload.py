"""What the clients do: they work on conversations and keys, and remember what they were told.

That goes into a history for the linearizability checker. Names belong to one round, so that the
history of each is short.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from consensusllm.conversations import Machine, Turn
from consensusllm.conversations.commands import (
    Choose,
    CompareAndSwap,
    ConveneCouncil,
    CreateConversation,
    Delete,
    DeleteKey,
    Fork,
    GenerationOptions,
    Operation,
    PlannedCandidate,
    Put,
    Rename,
    RetryTurn,
    SetBudget,
    SubmitQuery,
)
from consensusllm.conversations.replies import (
    Chosen,
    Code,
    Done,
    Refused,
    TurnOpened,
)
from consensusllm.linearizability import History
from consensusllm.linearizability import Operation as Recorded
from consensusllm.linearizability.history import OperationName

from .budgets import USERS, random_change
from .client import Client
from .councils import random_council
from .told import Told

if TYPE_CHECKING:
    from .cluster import Cluster

KEYS = 4
CONVERSATIONS = 3
TURNS = 30
"""In a conversation; with so many it is only read and chosen in. Snapshots hold all of them."""

COPIES = 4
"""Conversations that came of forks, at a time."""

DEADLINE_MS = 20_000

CALM_ACTIONS = 5
"""What each client does after the faults have stopped: a cluster that recovers serves again."""

THINKING_S = (0.04, 0.15, 0.4)
"""How long a client thinks between two operations, on average; another for each round."""

LONGEST_THOUGHT_S = 30.0
"""No thought is longer. What is waited for after the faults have stopped is the cluster: a thought
that is under way ends then, and one that begins is as of the last of THINKING_S at most."""

SPENDING_S = 0.7
"""How long the one who sets budgets thinks between two operations, on average."""

FLOODERS = 4
"""Clients that do nothing but write as much as they can while there is a flood."""
FLOOD_LOOK_S = 0.25
"""How often they look whether there is one."""

FALLBACKS = ("shared-0", "shared-1")
HEDGE_MS = 100
"""About as long as a model's first piece takes: half of those that may be are hedged."""


class Workload:
    """The clients of one round, and what they have in common."""

    def __init__(
        self,
        cluster: Cluster,
        rng: Random,
        round_number: int,
        clients: int,
        think_s: float | None = None,
    ) -> None:
        self.cluster = cluster
        self.name = f"r{round_number}"
        self.history: list[Recorded] = []
        self.stopping = False
        drawn_s = rng.choice(THINKING_S)
        self.thinking_s = drawn_s if think_s is None else think_s
        self._calm: asyncio.Future[None] = cluster.loop.create_future()
        self.movable: list[str] = []
        self.asked: Counter[str] = Counter()
        self._numbers = 0
        self.conversations = [f"{self.name}-c{number}" for number in range(CONVERSATIONS)]
        self.told = Told(self.conversations)
        self.keys = [f"{self.name}-k{number}" for number in range(KEYS)]
        self.counter = f"{self.name}-count"
        self.counted = [0, 0]  # increments that are known to have happened; that may have
        self._clients = [_Worker(self, process, Random(rng.random())) for process in range(clients)]
        spender = _Spender(self, clients, Random(f"{cluster.seed}/budgets/{round_number}"))
        flooders = [
            _Flooder(self, clients + place, Random(f"{cluster.seed}/flood/{round_number}/{place}"))
            for place in range(1, FLOODERS + 1)
        ]
        self.refused: set[str] = set()  # questions that no budget allowed
        self.tasks = [
            cluster.loop.create_task(each.run()) for each in (*self._clients, spender, *flooders)
        ]

    def number(self) -> int:
        """A number that nothing else in the round has."""
        self._numbers += 1
        return self._numbers

    def waiting(self) -> str:
        """How many clients still wait for an answer; "" where none does."""
        waiting = sum(not task.done() for task in self.tasks)
        return f"{waiting} clients wait" if waiting else ""

    def served(self) -> Callable[[], str]:
        """From now on: how many clients have not yet finished `CALM_ACTIONS` more; "" for none."""
        self.thinking_s = min(self.thinking_s, THINKING_S[-1])
        self._calm.set_result(None)
        goals = [(client, client.finished + CALM_ACTIONS) for client in self._clients]

        def starved() -> str:
            waiting = sum(client.finished < goal for client, goal in goals)
            return f"{waiting} clients have not done {CALM_ACTIONS} things" if waiting else ""

        return starved

    async def thought(self, seconds: float) -> None:
        """A client thinks for ``seconds``."""
        seconds = min(seconds, LONGEST_THOUGHT_S)
        if self._calm.done():
            await asyncio.sleep(seconds)
        else:
            await asyncio.wait((self._calm,), timeout=seconds)

    def take_history(self) -> History:
        return History(tuple(self.history))

    def names_left(self, machine: Machine) -> list[Operation]:
        """What removes everything that the round left behind."""
        budgets = [SetBudget(scope, None) for scope in sorted(machine.budgets)]
        heads = [each.conversation for each in machine.summaries("", 10_000)]
        keys = machine.keys("", "", 10_000)
        return [*budgets, *map(Delete, heads), *map(DeleteKey, keys)]

    async def sweep(self, operations: list[Operation]) -> None:
        """Carry out ``operations`` one after another, by one client."""
        client = self._clients[0]
        for operation in operations:
            await client.command(operation, must=True)


class _Worker(Client):
    """Works on the round's keys and conversations."""

    def __init__(self, workload: Workload, process: int, rng: Random) -> None:
        super().__init__(workload, process, rng)
        self.finished = 0

    async def run(self) -> None:
        actions: list[tuple[int, Callable[[], Any]]] = [
            (24, self._get),
            (14, self._put),
            (16, self._swap),
            (3, self._delete_key),
            (8, self._count),
            (8, self._query),
            (2, self._convene),
            (12, self._choose),
            (8, self._view),
            (2, self._retry_turn),
            (5, self._move),
        ]
        weights = [weight for weight, _ in actions]
        for name in self._workload.conversations:
            await self.command(CreateConversation(name))
        while not self._workload.stopping:
            await self._workload.thought(self._rng.expovariate(1 / self._workload.thinking_s))
            (chosen,) = self._rng.choices(actions, weights)
            await chosen[1]()
            self.finished += 1

    # Keys -------------------------------------------------------------------------------------

    def _record(
        self, op: OperationName, key: str, value: Any, start: float, ok: bool | None, output: Any
    ) -> None:
        end = self._loop.time() if ok is not None else None
        self._workload.history.append(
            Recorded(self._process, op, key, value, start, end, ok, output)
        )

    def _value(self) -> bytes:
        return b"%d.%d" % (self._process, self._workload.number())

    async def _get(self) -> bytes | None:
        key = self._rng.choice(self._workload.keys)
        return await self._get_key(key)

    async def _get_key(self, key: str) -> bytes | None:
        start = self._loop.time()
        (value,) = await self.read(lambda machine: machine.get(key))
        self._record("get", key, None, start, True, _text(value))
        assert value is None or isinstance(value, bytes)
        return value

    async def _put(self) -> None:
        key, value = self._rng.choice(self._workload.keys), self._value()
        start = self._loop.time()
        reply = await self.command(Put(key, value))
        assert reply is None or reply == Done(), reply
        self._record("put", key, _text(value), start, True if reply else None, None)

    async def _delete_key(self) -> None:
        key = self._rng.choice(self._workload.keys)
        start = self._loop.time()
        reply = await self.command(DeleteKey(key))
        if isinstance(reply, Refused):
            self._record("get", key, None, start, True, None)
        else:
            self._record("put", key, None, start, True if reply else None, None)

    async def _swap(self) -> None:
        key, new = self._rng.choice(self._workload.keys), self._value()
        expected = await self._get_key(key)
        await self._swap_key(key, expected, new)

    async def _swap_key(self, key: str, expected: bytes | None, new: bytes) -> bool | None:
        start = self._loop.time()
        reply = await self.command(CompareAndSwap(key, expected, new))
        if isinstance(reply, Refused):
            assert reply.code is Code.CONFLICT, reply
            self._record("get", key, None, start, True, _text(reply.current))
            return False
        happened = True if reply else None
        pair = [_text(expected), _text(new)]
        self._record("cas", key, pair, start, happened, happened)
        return happened

    async def _count(self) -> None:
        """Add one to a counter: what is added twice shows."""
        workload = self._workload
        (value,) = await self.read(lambda machine: machine.get(workload.counter))
        expected = value if isinstance(value, bytes) else None
        new = b"%d" % (int(expected or b"0") + 1)
        happened = await self._swap_key(workload.counter, expected, new)
        if happened is not False:
            workload.counted[0 if happened else 1] += 1

    # Conversations ------------------------------------------------------------------------------

    def _to_be_asked(self) -> str | None:
        """A conversation that takes another turn; None where the one that was drawn does not."""
        workload = self._workload
        conversation = self._rng.choice(workload.conversations + workload.movable)
        workload.asked[conversation] += 1
        return conversation if workload.asked[conversation] <= TURNS else None

    async def _query(self) -> None:
        workload, rng = self._workload, self._rng
        conversation = self._to_be_asked()
        if conversation is None:
            return
        question = f"question {workload.number()} of {workload.name}"
        nodes = rng.sample(self._cluster.members, rng.randrange(1, len(self._cluster.members) + 1))
        plan = tuple(PlannedCandidate(number, node) for number, node in enumerate(nodes, 1))
        close_after = rng.choice((0, 0, 1))
        await self.command(
            SubmitQuery(conversation, question, plan, close_after, rng.choice((3000, DEADLINE_MS)))
        )

    async def _convene(self) -> None:
        workload, rng = self._workload, self._rng
        conversation = self._to_be_asked()
        if conversation is None:
            return
        number = workload.number()
        council = random_council(rng, self._cluster.members, number)
        question = f"question {number} of {workload.name}"
        reply = await self.command(ConveneCouncil(conversation, question, council))
        assert reply is None or isinstance(reply, TurnOpened | Refused), reply
        self._cluster.figures["councils"] += isinstance(reply, TurnOpened)

    async def _latest(self, conversation: str) -> Turn | None:
        """A late turn, by a read; what it says of the choice is recorded."""
        back = self._rng.choice((0, 0, 1, 2))

        def look(machine: Machine) -> Turn | None:
            whole = machine.conversation(conversation)
            if whole is None or len(whole.turns) <= back:
                return None
            return whole.turns[-1 - back]

        start = self._loop.time()
        (turn,) = await self.read(look)
        if turn is None:
            return None
        assert isinstance(turn, Turn)
        if conversation in self._workload.conversations:
            key = f"{conversation}/{turn.turn}"
            self._record("get", key, None, start, True, turn.choice or None)
        return turn

    async def _view(self) -> None:
        await self._latest(self._rng.choice(self._workload.conversations))

    async def _choose(self) -> None:
        workload, rng = self._workload, self._rng
        conversation = rng.choice(workload.conversations + workload.movable)
        turn = await self._latest(conversation)
        if turn is None:
            return
        candidate = rng.choice(turn.candidates).number
        start = self._loop.time()
        reply = await self.command(Choose(conversation, turn.turn, candidate))
        if conversation not in workload.conversations:
            return
        key = f"{conversation}/{turn.turn}"
        if reply is None or isinstance(reply, Chosen):
            self._record("choose", key, candidate, start, True if reply else None, None)
        elif isinstance(reply, Refused) and reply.code is Code.CONFLICT:
            self._record("choose", key, candidate, start, False, reply.winner)

    async def _retry_turn(self) -> None:
        conversation = self._rng.choice(self._workload.conversations)
        node = self._rng.choice(self._cluster.members)
        reply = await self.command(
            RetryTurn(conversation, 0, (PlannedCandidate(1, node),), DEADLINE_MS)
        )
        assert reply is None or isinstance(reply, TurnOpened | Refused), reply

    async def _move(self) -> None:
        """Fork, rename or delete: names of conversations that are not in the history."""
        workload, rng = self._workload, self._rng
        target = f"{workload.name}-x{workload.number()}"
        action = rng.random()
        if len(workload.movable) < COPIES and (action < 0.5 or not workload.movable):
            source = rng.choice(workload.conversations)
            turns = workload.told.turns(source)
            if await self.command(Fork(source, target)) == Done():
                workload.movable.append(target)
                workload.told.copied(source, target, turns)
            return
        source = rng.choice(workload.movable)
        if action < 0.8:
            if await self.command(Rename(source, target)) == Done():
                workload.told.renamed(source, target)
                workload.movable = [target if each == source else each for each in workload.movable]
        elif await self.command(Delete(source)) == Done() and source in workload.movable:
            workload.movable.remove(source)


class _Spender(Client):
    """Sets budgets and asks under them. What it does is drawn apart from what the others do."""

    async def run(self) -> None:
        while not self._workload.stopping:
            await asyncio.sleep(self._rng.expovariate(1 / SPENDING_S))
            if self._rng.random() < 0.4:
                await self.command(random_change(self._rng, self._places()))
            else:
                await self._ask_under_a_budget()

    def _places(self) -> list[str]:
        return self._workload.conversations + self._workload.movable

    async def _ask_under_a_budget(self) -> None:
        workload, rng = self._workload, self._rng
        conversation = rng.choice(self._places())
        if workload.asked[conversation] >= TURNS:
            return
        workload.asked[conversation] += 1
        nodes = rng.sample(self._cluster.members, rng.randrange(1, len(self._cluster.members) + 1))
        plan = tuple(
            PlannedCandidate(number, node, fallbacks=rng.choice(((), FALLBACKS)))
            for number, node in enumerate(nodes, 1)
        )
        question = f"question {workload.number()} of {workload.name} under a budget"
        options = GenerationOptions(
            max_tokens=rng.choice((None, 20)), hedge_ms=rng.choice((None, HEDGE_MS))
        )
        user = rng.choice(("", *USERS))
        await self.command(SubmitQuery(conversation, question, plan, 0, DEADLINE_MS, options, user))


class _Flooder(Client):
    """Writes one large value after another while there is a flood."""

    async def run(self) -> None:
        key = f"{self._workload.name}-flood{self._process}"
        while not self._workload.stopping:
            if size_bytes := self._cluster.flood_bytes:
                await self.command(Put(key, b"%d" % self._workload.number() + bytes(size_bytes)))
            else:
                await asyncio.sleep(FLOOD_LOOK_S)


def _text(value: bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else None
