"""One core under test: messages in, and what it says and stores."""

from __future__ import annotations

from random import Random

from consensusllm.paxos import (
    BOTTOM,
    Ballot,
    Batch,
    PaxosConfig,
    PaxosNode,
    Persist,
    Recovered,
    Role,
    first_members,
)
from consensusllm.paxos.messages import (
    Accept,
    Accepted,
    Entry,
    Message,
    Prepare,
    PreVote,
    PreVoteReply,
    Promise,
    Rejoin,
)

A, B = Batch.pack(1, [b"a"]), Batch.pack(2, [b"b"])
MEMBERS = first_members((1, 2, 3))


class Driver:
    """One core of a cluster, its time, and everything that it has sent and stored."""

    def __init__(
        self,
        node: int = 1,
        size: int = 3,
        recovered: Recovered | None = None,
        seed: int = 1,
        **settings,
    ):
        settings.setdefault("linger_s", 0.0)  # each proposal gets a slot of its own, at once
        self.config = PaxosConfig(node=node, members=tuple(range(1, size + 1)), **settings)
        self.recovered = recovered or Recovered(incarnation=1, voting=True)
        self.now = 0.0
        self.core = PaxosNode(self.config, self.recovered, Random(seed), self.now)
        self.batch = 0
        self.persists: list[Persist] = []
        self.chosen: list[tuple[int, Batch]] = []
        self.reads: list[tuple[int, int]] = []
        self.failed_reads: list[int] = []

    def ready(self) -> list[tuple[int, Message]]:
        """Take everything that is ready, without reporting anything as durable."""
        sent: list[tuple[int, Message]] = []
        while True:
            ready = self.core.take_ready()
            sent.extend(ready.send)
            if ready.persist is not None:
                self.batch = ready.batch
                self.persists.append(ready.persist)
            self.chosen.extend(ready.chosen)
            if ready.chosen:
                self.core.applied(ready.chosen[-1][0])
            self.reads.extend(ready.reads)
            self.failed_reads.extend(ready.failed_reads)
            self.installs = ready.install
            if not self.core.has_ready():
                return sent

    def sync(self) -> list[tuple[int, Message]]:
        """Report everything as durable, and take what that sets free."""
        sent = self.ready()
        self.core.persisted(self.batch)
        return sent + self.ready()

    def receive(self, message: Message) -> list[tuple[int, Message]]:
        self.core.receive(message, self.now)
        return self.ready()

    def pass_time(self, seconds: float) -> list[tuple[int, Message]]:
        """Tick whenever the core asks for it, as an owner does that is never held up."""
        sent: list[tuple[int, Message]] = []
        end = self.now + seconds
        while True:
            self.core.tick(self.now)
            sent += self.ready()
            if self.now >= end:
                return sent
            self.now = min(end, max(self.core.deadline(), self.now + 1e-4))

    def elect(self, *supporters: int, promises: dict[int, Promise] | None = None) -> Ballot:
        """Make this core lead with the promises of ``supporters``."""
        ballot = self.prepare(*supporters)
        for peer in supporters:
            promise = (promises or {}).get(peer) or promise_of(peer, ballot)
            self.core.receive(promise, self.now)
        self.sync()
        assert self.core.role is Role.LEADING
        return ballot

    def prepare(self, *supporters: int) -> Ballot:
        """Win the pre-vote and send Prepare."""
        ballots: list[Ballot] = []
        while not ballots:
            sent = self.pass_time(self.config.heartbeat_s / 5)
            ballots = [message.ballot for message in only(PreVote, sent)]
        for peer in supporters:
            self.core.receive(PreVoteReply(peer, ballots[0], True, BOTTOM), self.now)
        prepares = only(Prepare, self.sync())
        assert prepares
        assert self.core.role is Role.PREPARING
        return prepares[0].ballot

    def vote(self, peer: int, ballot: Ballot, slot: int, count: int = 1) -> None:
        self.receive(Accepted(peer, ballot.at(slot), count, 0, 1))

    def asked_for_a_vote(self, node: int, life: int, *voters: int) -> list[tuple[int, Message]]:
        """``node`` says that it has no vote, and learns the slot that is opened for it, which
        ``voters`` vote for: so it lives."""
        (opened,) = {
            message.ballot for message in only(Accept, self.receive(Rejoin(node, life, 0)))
        }
        self.sync()
        for voter in voters:
            self.vote(voter, opened, opened.op_num)
        return self.receive(Rejoin(node, life, opened.op_num)) + self.sync()


def promise_of(
    peer: int,
    ballot: Ballot,
    *entries: Entry,
    chosen_through: int = 0,
    next_slot: int | None = None,
    incarnation: int = 1,
    incarnations: tuple[tuple[int, int], ...] = (),
) -> Promise:
    return Promise(peer, ballot, entries, chosen_through, next_slot, incarnation, incarnations)


def only(kind: type, sent: list[tuple[int, Message]]) -> list:
    return [message for _, message in sent if isinstance(message, kind)]


def settled_leader() -> tuple[Driver, Ballot]:
    leader = Driver()
    ballot = leader.elect(2)
    leader.vote(2, ballot, 1)
    return leader, ballot
