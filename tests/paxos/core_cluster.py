"""A cluster of bare cores in one thread: a seeded network, and disks that a crash rolls back.

Time is simulated. A message waits a random while and may be lost or repeated; a disk write takes a
while, and what had not been written when its node crashed is gone.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from consensusllm.paxos import (
    Batch,
    NotLeader,
    Overloaded,
    PaxosConfig,
    PaxosNode,
    Persist,
    Recovered,
    Role,
)
from consensusllm.paxos.messages import Compacted, Message, SnapshotChunk


@dataclass
class Disk:
    """What survives a crash of one node."""

    recovered: Recovered = field(default_factory=lambda: Recovered(incarnation=1, voting=True))
    snapshot: tuple[int, list[tuple[int, Batch]]] | None = None

    def write(self, change: Persist) -> None:
        old = self.recovered
        entries = {entry.slot: entry for entry in old.entries}
        entries.update((entry.slot, entry) for entry in change.entries)
        compacted = max(old.compacted_through, change.compact_through or 0)
        promised = change.promised or old.promised
        assert promised >= old.promised, "a promise never regresses"
        self.recovered = replace(
            old,
            promised=promised,
            incarnations=(old.incarnations if change.incarnations is None else change.incarnations),
            entries=tuple(entries[slot] for slot in sorted(entries) if slot > compacted),
            chosen_through=max(old.chosen_through, change.chosen_through or 0),
            compacted_through=compacted,
            incarnation=change.incarnation or old.incarnation,
            voting=old.voting if change.voting is None else change.voting,
            membership=change.membership[1] if change.membership else old.membership,
            membership_slot=change.membership[0] if change.membership else old.membership_slot,
        )


@dataclass
class Member:
    """One node: its disk, its life (None while it is down), and what it applied."""

    disk: Disk
    core: PaxosNode | None = None
    life: int = 0
    applied: list[tuple[int, Batch]] = field(default_factory=list)
    unwritten: list[tuple[int, Persist]] = field(default_factory=list)
    writing: bool = False
    next_tick: float | None = None
    reads: dict[int, int] = field(default_factory=dict)
    failed_reads: list[int] = field(default_factory=list)


class CoreCluster:
    def __init__(
        self,
        size: int = 3,
        seed: int = 0,
        *,
        loss: float = 0.0,
        repeat: float = 0.0,
        late: float = 0.0,
        delay_s: float = 0.002,
        disk_s: float = 0.001,
        **settings: float,
    ) -> None:
        self.rng = Random(seed)
        self.late = late
        self.loss, self.repeat, self.delay_s, self.disk_s = loss, repeat, delay_s, disk_s
        self.settings = settings
        self.ids = tuple(range(1, size + 1))
        self.now = 0.0
        self.cut: set[tuple[int, int]] = set()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.members = {node: Member(Disk()) for node in self.ids}
        self.chosen: dict[int, Batch] = {}
        self.trace: list[tuple[int, int, Message]] = []
        for node in self.ids:
            self.start(node)

    # Life and death ---------------------------------------------------------------------------

    def start(self, node: int) -> None:
        member = self.members[node]
        assert member.core is None
        config = PaxosConfig(node=node, members=self.ids, **self.settings)  # type: ignore[arg-type]
        recovered = member.disk.recovered
        member.applied = []
        if member.disk.snapshot is not None:
            recovered = replace(recovered, snapshot_slot=member.disk.snapshot[0])
            member.applied = list(member.disk.snapshot[1])
        member.core = PaxosNode(config, recovered, Random(self.rng.random()), self.now)
        member.unwritten, member.writing, member.next_tick = [], False, None
        member.reads, member.failed_reads = {}, []
        self.pump(node)

    def crash(self, node: int) -> None:
        member = self.members[node]
        member.core = None
        member.life += 1

    def lose_disk(self, node: int) -> None:
        """Crash, and come back to an empty disk as a learner in a new life, whose number is above
        that of the first and says no more: clocks may show anything."""
        self.crash(node)
        incarnation = 2 + self.rng.getrandbits(40)
        self.members[node].disk = Disk(Recovered(incarnation=incarnation, voting=False))
        self.start(node)

    # Network ----------------------------------------------------------------------------------

    def _late_s(self) -> float:
        """Of some messages: seconds, so that they come behind a life or two of their reader."""
        return self.rng.uniform(0.0, 5.0) if self.late and self.rng.random() < self.late else 0.0

    def isolate(self, node: int) -> None:
        for peer in self.ids:
            self.cut |= {(node, peer), (peer, node)}

    def heal(self) -> None:
        self.cut = set()

    def later(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + delay, next(self.order), action))

    def send(self, src: int, dst: int, message: Message) -> None:
        self.trace.append((src, dst, message))
        copies = 0 if self.rng.random() < self.loss else 1
        copies += self.rng.random() < self.repeat
        for _ in range(copies):
            self.later(
                self.delay_s * (0.5 + self.rng.random()) + self._late_s(),
                lambda: self.deliver(src, dst, message),
            )

    def deliver(self, src: int, dst: int, message: Message) -> None:
        core = self.members[dst].core
        if core is not None and (src, dst) not in self.cut:
            core.receive(message, self.now)
            self.pump(dst)

    # The owner of a core ------------------------------------------------------------------------

    def pump(self, node: int) -> None:
        """Act on everything that the core has ready."""
        member = self.members[node]
        core = member.core
        assert core is not None
        while True:
            ready = core.take_ready()
            for dst, message in ready.send:
                self.send(node, dst, message)
            if ready.persist is not None:
                member.unwritten.append((ready.batch, ready.persist))
            for slot, batch in ready.chosen:
                self.apply(member, slot, batch)
                core.applied(slot)
            member.reads.update(ready.reads)
            member.failed_reads.extend(ready.failed_reads)
            for request in ready.snapshot_reads:
                self.serve_snapshot(node, request.to, request.slot, request.offset)
            for install in ready.install:
                core.snapshot_staged()
                if install.last:
                    self.install(node, install.slot, member.life)
            if not core.has_ready():
                break
        self.flush(node)
        due = core.deadline()
        if member.next_tick is None or due < member.next_tick:
            member.next_tick = due
            life = member.life
            self.later(max(0.0, due - self.now), lambda: self.tick(node, life, due))

    def tick(self, node: int, life: int, due: float) -> None:
        member = self.members[node]
        if member.core is not None and member.life == life and member.next_tick == due:
            member.next_tick = None
            member.core.tick(self.now)
            self.pump(node)

    def flush(self, node: int) -> None:
        member = self.members[node]
        if member.writing or not member.unwritten:
            return
        member.writing = True
        life, batches = member.life, member.unwritten
        member.unwritten = []

        def written() -> None:
            if member.life == life and member.core is not None:
                for _, change in batches:
                    member.disk.write(change)
                member.writing = False
                member.core.persisted(batches[-1][0])
                self.pump(node)

        self.later(self.disk_s * (0.5 + self.rng.random()), written)

    def apply(self, member: Member, slot: int, batch: Batch) -> None:
        assert slot == (member.applied[-1][0] if member.applied else 0) + 1, "a hole was applied"
        assert self.chosen.setdefault(slot, batch) == batch, f"two values were chosen in {slot}"
        member.applied.append((slot, batch))

    # Snapshots: of slot n, the bytes are just n in text -------------------------------------

    def snapshot(self, node: int) -> int:
        """Make a durable snapshot of what ``node`` has applied, and compact."""
        member = self.members[node]
        assert member.core is not None
        slot = member.applied[-1][0]
        member.disk.snapshot = (slot, list(member.applied))
        member.core.compact(slot)
        self.pump(node)
        return slot

    def serve_snapshot(self, node: int, to: int, slot: int, offset: int) -> None:
        snapshot = self.members[node].disk.snapshot
        if snapshot is None:
            self.send(node, to, Compacted(node, 0))
            return
        offset = offset if slot in (0, snapshot[0]) else 0
        content = str(snapshot[0]).encode()
        chunk = SnapshotChunk(
            node, snapshot[0], offset, len(content), b"digest", content[offset : offset + 1]
        )
        self.send(node, to, chunk)

    def install(self, node: int, slot: int, life: int) -> None:
        """The disk does one thing after another: what is being written comes first."""
        member = self.members[node]
        if member.core is None or member.life != life:
            return
        if member.writing:
            self.later(self.disk_s, lambda: self.install(node, slot, life))
            return
        applied = [(number, self.chosen[number]) for number in range(1, slot + 1)]
        if slot > (member.applied[-1][0] if member.applied else 0):
            member.applied = applied
            for _, change in member.unwritten:
                member.disk.write(change)
            batches, member.unwritten = member.unwritten, []
            member.disk.snapshot = (slot, list(applied))
            member.disk.write(Persist(chosen_through=slot, compact_through=slot))
            if batches:
                member.core.persisted(batches[-1][0])
        member.core.snapshot_installed(slot)

    # Running ----------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        self.run_until(lambda: False, seconds, must=False)

    def run_until(
        self, condition: Callable[[], bool], seconds: float = 30.0, *, must: bool = True
    ) -> None:
        end = self.now + seconds
        while not condition():
            if not self.events or self.events[0][0] > end:
                assert not must, f"not within {seconds} simulated seconds"
                self.now = end
                return
            self.now, _, action = heapq.heappop(self.events)
            action()

    # What tests ask -----------------------------------------------------------------------------

    def leaders(self) -> list[int]:
        return [
            node
            for node, member in self.members.items()
            if member.core is not None and member.core.role is Role.LEADING
        ]

    def leader(self, among: tuple[int, ...] | None = None) -> int:
        """Wait until somebody (of ``among``) leads in the highest ballot of all, and who."""
        found: list[int] = []

        def settled() -> bool:
            found[:] = [node for node in self.leaders() if among is None or node in among]
            return bool(found)

        self.run_until(settled)
        return max(found, key=lambda node: self.core(node).ballot)

    def core(self, node: int) -> PaxosNode:
        core = self.members[node].core
        assert core is not None
        return core

    def propose(self, node: int, command: bytes) -> bool:
        """Whether ``node`` took the command."""
        try:
            self.core(node).propose(command, self.now)
        except (NotLeader, Overloaded):
            return False
        self.pump(node)
        return True

    def propose_somewhere(self, command: bytes) -> None:
        """Propose at the leader, electing one first where there is none."""
        while not self.propose(self.leader(), command):
            self.run(0.01)

    def commands(self, node: int) -> list[bytes]:
        """Every command that ``node`` has applied, in order."""
        return [command for _, batch in self.members[node].applied for command in batch.unpack()[1]]

    def settle(self, seconds: float = 60.0) -> None:
        """Wait until all live members applied the same prefix, and somebody leads."""

        def agreed() -> bool:
            live = [member for member in self.members.values() if member.core is not None]
            ends = {len(member.applied) for member in live}
            return (
                len(ends) == 1
                and len(self.leaders()) == 1
                and self.core(self.leaders()[0]).pending == 0
                and len(live[0].applied) == max(self.chosen, default=0)
            )

        self.run_until(agreed, seconds)
