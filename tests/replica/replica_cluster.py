"""Replicas in one thread, over in-memory disks and a network that delivers at once unless cut."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from consensusllm.conversations import Limits, Machine, restore
from consensusllm.conversations.commands import OpenSession, Operation, SessionCommand
from consensusllm.conversations.replies import Reply, SessionOpened
from consensusllm.paxos import PaxosConfig, Role
from consensusllm.paxos.messages import Message
from consensusllm.replica.jobs import Job, StageSnapshot, TakeSnapshot, snapshot_chunks
from consensusllm.replica.members import from_extra
from consensusllm.replica.outcomes import Failure
from consensusllm.replica.replica import Replica, ReplicaConfig
from consensusllm.storage import MemoryDisk, MemoryPlatter
from consensusllm.wire.commands import encode_command

NAME = b"s" * 16


class ReplicaCluster:
    def __init__(
        self,
        size: int = 3,
        *,
        paxos: dict[str, Any] | None = None,
        limits: Limits | None = None,
        **settings: Any,
    ) -> None:
        self.ids = tuple(range(1, size + 1))
        self.now = 100.0
        self.seeds = itertools.count()
        self.cut: set[tuple[int, int]] = set()
        self.settings = settings
        self.limits = limits or Limits()
        self.session = NAME
        """Of the commands that name none: as the last `open_session` opened it."""
        self.paxos = {"linger_s": 0.0, **(paxos or {})}
        self.platters = {node: MemoryPlatter(f"node {node}") for node in self.ids}
        self.disks: dict[int, MemoryDisk] = {}
        self.replicas: dict[int, Replica] = {}
        self.wire: deque[tuple[int, int, Message]] = deque()
        self.sent: list[tuple[int, int, Message]] = []
        self.held_up: type[TakeSnapshot | StageSnapshot] | None = None
        """The kind of job that the disks do not come to."""
        for node in self.ids:
            self.platters[node].format(incarnation=1, voting=True)
            self.start(node)

    def start(self, node: int) -> None:
        disk = MemoryDisk(self.platters[node])
        recovered = disk.load()
        machine = Machine(self.limits)
        if recovered.snapshot_slot:
            machine = restore(snapshot_chunks(disk, recovered.snapshot_slot), self.limits)
            membership, since = from_extra(machine.extra)
            if since > recovered.membership_slot:
                recovered = replace(recovered, membership=membership, membership_slot=since)
        config = ReplicaConfig(
            PaxosConfig(node=node, members=self.ids, **self.paxos), **self.settings
        )
        self.disks[node] = disk
        self.replicas[node] = Replica(
            config, recovered, machine, Random(next(self.seeds)), self.now
        )

    def install(self, node: int) -> None:
        """A new machine, which is to join."""
        self.platters[node] = MemoryPlatter(f"node {node}")
        self.platters[node].format(incarnation=node, voting=False)
        self.start(node)

    def crash(self, node: int) -> None:
        del self.replicas[node]

    def isolate(self, node: int) -> None:
        for peer in self.ids:
            self.cut |= {(node, peer), (peer, node)}

    def settle(self, until: Callable[[], bool] = lambda: False) -> None:
        """Run everything that can run without time passing; or until so, after some message."""
        busy = True
        while busy:
            busy = False
            for node, replica in list(self.replicas.items()):
                replica.pump()
                busy = busy or replica.unfinished
                for dst, message in replica.take_messages():
                    self.wire.append((node, dst, message))
                    self.sent.append((node, dst, message))
                    busy = True
                while (job := self._next_job(replica)) is not None:
                    job.run(self.disks[node])
                    job.done()
                    busy = True
            while self.wire:
                src, dst, message = self.wire.popleft()
                if dst in self.replicas and (src, dst) not in self.cut:
                    self.replicas[dst].receive(message, self.now)
                    busy = True
                    if until():
                        return

    def _next_job(self, replica: Replica) -> Job | None:
        for _ in range(2):  # a snapshot's is at most every other one
            job = replica.next_job()
            if self.held_up is None or not isinstance(job, self.held_up):
                return job
            if isinstance(job, StageSnapshot):
                replica._stages.appendleft(job)
        return None

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.01)
            for replica in self.replicas.values():
                replica.tick(self.now)
            self.settle()

    def preparing(self) -> int:
        """The next node that prepares a ballot, as soon as it does."""

        def found() -> list[int]:
            return [n for n, each in self.replicas.items() if each.role is Role.PREPARING]

        for _ in range(1000):
            self.now += 0.01
            for replica in self.replicas.values():
                replica.tick(self.now)
            self.settle(until=lambda: bool(found()))
            if nodes := found():
                return nodes[0]
        raise AssertionError("nobody prepares")

    def leader(self) -> int:
        for _ in range(1000):
            leaders = [n for n, each in self.replicas.items() if each.role is Role.LEADING]
            if leaders:
                return max(leaders, key=lambda node: self.replicas[node].ballot)
            self.run(0.05)
        raise AssertionError("nobody leads")

    def follower(self) -> int:
        leader = self.leader()
        return next(node for node in self.replicas if node != leader)

    def submit(
        self,
        node: int,
        operation: Operation,
        sequence: int = 0,
        *,
        timeout_s: float = 5.0,
        session: bytes | None = None,
    ) -> list[Reply | Failure]:
        """Submit at ``node``; the list gets the outcome when there is one."""
        outcomes: list[Reply | Failure] = []
        command, decoded = self.packed(operation, sequence, session)
        self.replicas[node].submit(
            command, decoded, self.now + timeout_s, outcomes.append, self.now
        )
        self.settle()
        return outcomes

    def packed(
        self, operation: Operation, sequence: int, session: bytes | None = None
    ) -> tuple[bytes, SessionCommand]:
        decoded = SessionCommand(session or self.session, sequence, 1, operation)
        return encode_command(decoded), decoded

    def open_session(self, name: bytes = NAME, node: int | None = None) -> bytes:
        """By ``node``, or by the leader."""
        (opened,) = self.submit(node or self.leader(), OpenSession(), session=name)
        assert isinstance(opened, SessionOpened), opened
        self.session = opened.session
        return opened.session

    def read(self, node: int, *, timeout_s: float = 5.0) -> list[Failure | None]:
        outcomes: list[Failure | None] = []
        self.replicas[node].read(self.now + timeout_s, outcomes.append, self.now)
        self.settle()
        return outcomes
