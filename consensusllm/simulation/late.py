"""Messages of before that come again, or at last: what comes late and what never came cannot be
told apart, and nothing bounds how late a message may be.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from random import Random
from typing import TYPE_CHECKING

from consensusllm.paxos import Ballot, Role
from consensusllm.paxos.messages import (
    Accept,
    Accepted,
    Commit,
    Heartbeat,
    HeartbeatReply,
    Message,
    Nack,
    Prepare,
    Promise,
)

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Life

REPLAYED = 256
"""How many votes and promises a replay has for each node, and how many other messages."""

REMEMBERED = 64
"""How many messages of a kind are remembered for each node: half the last, half of any age."""

_OF_A_BALLOT = (Accept, Accepted, Commit, Heartbeat, HeartbeatReply, Nack, Prepare, Promise)


class Replay:
    """Whoever promises another ballot, or begins to lead in it, gets what was sent to it of ballots
    before, since the replay began."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._kept: defaultdict[tuple[int, bool], deque[Message]] = defaultdict(
            lambda: deque(maxlen=REPLAYED)
        )
        self._known: dict[int, tuple[Role, Ballot]] = {}

    def sent(self, dst: int, message: Message) -> None:
        """``message`` is under way to ``dst``."""
        if isinstance(message, _OF_A_BALLOT):
            answer = isinstance(message, Accepted | Promise)  # other messages are many more
            self._kept[dst, answer].append(message)

    def arrived(self, dst: int, life: Life) -> None:
        """``dst`` has just taken a message."""
        now = life.replica.role, life.replica.ballot
        if self._known.setdefault(dst, now) == now:
            return
        self._known[dst] = now
        for late in (*self._kept[dst, True], *self._kept[dst, False]):
            self._cluster.deliver_late(dst, life, late)


class Past:
    """A sample of all that was ever sent to each node, of every kind."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._sent: Counter[tuple[int, str]] = Counter()
        self._kept: defaultdict[tuple[int, str], list[tuple[int, Message]]] = defaultdict(list)
        self._number = 0

    def sent(self, dst: int, message: Message) -> None:
        """``message`` is under way to ``dst``."""
        key = dst, type(message).__name__
        kept, before = self._kept[key], self._sent[key]
        self._sent[key] += 1
        self._number += 1
        entry = self._number, message
        if before < REMEMBERED:
            kept.append(entry)
            return
        half = REMEMBERED // 2
        kept[half + before % half] = entry
        if (at := self._rng.randrange(before)) < half:  # Vitter's reservoir (TOMS 11(1), 1985)
            kept[at] = entry

    def some(self, dst: int, rng: Random) -> list[Message]:
        """Some of what was sent to ``dst``, in the order in which it was: of one kind, of a few, or
        of all."""
        kinds = sorted(kind for whom, kind in self._kept if whom == dst)
        if rng.random() < 0.7:
            kinds = rng.sample(kinds, min(len(kinds), rng.randrange(1, 4)))
        share = rng.choice((1.0, 0.5, 0.1))
        kept = {number: message for kind in kinds for number, message in self._kept[dst, kind]}
        return [kept[number] for number in sorted(kept) if rng.random() < share]
