"""One simulated machine: its clock, its disk, and the lives that a node lives on it.

`Life` is what `replica.runtime.Runtime` is in production: the shell that drives a Replica. The
replica, the answerer and what is between them are the product's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from consensusllm.conversations import Machine
from consensusllm.conversations.commands import SessionCommand, SubmitQuery
from consensusllm.conversations.replies import Reply
from consensusllm.council.answerer import Answerer
from consensusllm.council.live_text import KIND, LiveText
from consensusllm.council.port import Delta
from consensusllm.paxos import Batch, Change, Recovered, Role
from consensusllm.paxos.messages import Message
from consensusllm.replica.jobs import Job
from consensusllm.replica.local import LocalReplica
from consensusllm.replica.opening import open_replica
from consensusllm.replica.outcomes import Failure
from consensusllm.replica.replica import Replica, ReplicaConfig
from consensusllm.storage import DiskFailed, StorageError
from consensusllm.transport.port import Envelope
from consensusllm.wire.peer import decode_message, encode_message, kind_of

from .disk import Crash, SimulatedDisk
from .invariants import Violation
from .models import SimulatedModel
from .operator import Answer, answered

if TYPE_CHECKING:
    from .cluster import Cluster

WALL_MS = 1_700_000_000_000
"""The wall clock at simulated second 0, in ms since the epoch."""

TICKS_A_SECOND_MAX = 2000
"""A node whose timer goes off more often than that is busy with nothing."""

TAKING_S = 0.00002
"""How long a node needs to take one message of a backlog."""

OVER_THE_WIRE_EVERY = 64
"""Every so many messages, one is encoded and decoded as it would be between processes."""


class Clock:
    """A node's own clocks: ``rate`` of its seconds pass in a simulated one. The wall clock is set
    right by others all the time, and is off by ``ahead_ms`` all the same."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rate: float, ahead_ms: int) -> None:
        self._loop = loop
        self._since = loop.time()
        self._then = 0.0
        self._usual_rate = rate
        self.rate = rate
        self.ahead_ms = ahead_ms

    def now(self) -> float:
        """Monotonic, in seconds."""
        return self._then + (self._loop.time() - self._since) * self.rate

    def drift(self, rate: float | None) -> None:
        """Go at ``rate`` from now on; None: as usual."""
        self._then, self._since = self.now(), self._loop.time()
        self.rate = rate or self._usual_rate

    def wall_ms(self) -> int:
        return WALL_MS + self.ahead_ms + int(self._loop.time() * 1000)

    def epoch_ms(self) -> int:
        """The wall clock at ``now() == 0``, as a process that starts now reckons."""
        return self.wall_ms() - int(self.now() * 1000)


class Node:
    """The machine. ``life`` is None while it is down."""

    def __init__(self, cluster: Cluster, number: int, rng: Random) -> None:
        self.number = number
        self.cluster = cluster
        self.rng = rng
        self.clock = Clock(cluster.loop, rng.uniform(0.999, 1.001), rng.randrange(-500, 500))
        self.disk = SimulatedDisk(number, rng, self.clock.wall_ms, cluster.invariants)
        self.model = SimulatedModel(number, rng, cluster.mood, cluster.figures)
        self.lives = 0
        self.life: Life | None = None
        self.paused = False
        self.held_down = False
        """Whether it stays down for now, or for ever, whoever starts it."""

    def start(self) -> None:
        """Begin a life, if none is under way and its disk answers. One that does not get far is
        tried again."""
        if self.life is not None or self.held_down or self.disk.hanging:
            return
        self.lives += 1
        self.cluster.figures["starts"] += 1
        try:
            self.life = Life(self)
        except (Crash, StorageError) as error:
            self._after_failure(error)
        else:
            self.life.begin()

    def crash(self) -> None:
        """Power is lost: what is not on the platter is gone."""
        life, self.life = self.life, None
        if life is not None:
            self.cluster.figures["crashes"] += 1
            self.cluster.trace.add(self.number, "crash")
            life.end()
            if self.rng.random() < 0.7:  # else the machine died with its process
                self.cluster.connections_end(self.number)

    def fail(self, error: Exception) -> None:
        """The disk failed, or power was lost while it worked: the process ends, and whoever looks
        after it starts it again."""
        self.crash()
        self._after_failure(error)

    def _after_failure(self, error: Exception) -> None:
        self.cluster.trace.add(self.number, "ends", error)
        if isinstance(error, DiskFailed):
            self.cluster.figures["disk failures"] += 1
        self.cluster.loop.call_later(self.rng.uniform(0.2, 1.5), self.start)

    def disk_goes_on(self) -> None:
        """The disk hangs no more."""
        self.disk.hanging = False
        if self.life is not None:
            self.life.disk_goes_on()
        self.start()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        if self.life is not None:
            self.life.catch_up()


class _Watched(Replica):
    """The replica of production, with somebody looking over its shoulder."""

    def __init__(
        self,
        node: Node,
        config: ReplicaConfig,
        recovered: Recovered,
        machine: Machine,
        rng: Random,
        now: float,
    ) -> None:
        super().__init__(config, recovered, machine, rng, now)
        self._invariants = node.cluster.invariants

    def _apply(self, slot: int, batch: Batch) -> None:
        super()._apply(slot, batch)
        self._invariants.applied(self.node, slot, batch, self.machine)
        self._invariants.has_members(self.node, slot, self.members, self.members_since)

    def take_snapshot(self) -> None:
        self._invariants.hashed(self.node, self.machine)
        super().take_snapshot()


class _WatchedPort(LocalReplica):
    """The answerer's port of production; what models produce is noted."""

    def __init__(self, life: Life, node: Node, live: LiveText) -> None:
        super().__init__(life, live, node.rng.randbytes)
        self._invariants = node.cluster.invariants

    def publish(self, delta: Delta) -> None:
        attempt = (delta.conversation, delta.turn, delta.candidate, delta.attempt)
        self._invariants.produced(self.node, attempt, delta.offset, delta.text)
        super().publish(delta)


class Life:
    """One process on the machine, from a start to a crash. Implements replica.local.Shell.

    Raises Crash or StorageError where the disk does not even let it start.
    """

    def __init__(self, node: Node) -> None:
        cluster = node.cluster
        self.number = node.lives
        self._node = node
        self._cluster = cluster
        self._loop = cluster.loop
        self._clock = node.clock
        config = cluster.replica_config(node)
        self._disk, recovered, machine = open_replica(
            node.disk,
            config.limits,
            alone=cluster.voters() == (node.number,),
            bootstrap=self.number == 1 and node.number in cluster.first_members,
        )
        cluster.invariants.loaded(node.number, node.disk.platter)
        self._watch(machine)
        now = self._clock.now()
        self.replica: Replica = _Watched(
            node, config, recovered, machine, Random(node.rng.random()), now
        )
        self._role = self.replica.role
        self._ended = False
        self._pump_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._ticks = 0
        self._ticks_since = 0.0
        self._job: Job | None = None
        self._backlog: list[Callable[[], None]] = []
        self._live = LiveText(node.number, self._send_live)
        served = node.model.served(self.number)
        cluster.invariants.serves(node.number, served)
        self._port = _WatchedPort(self, node, self._live)
        self._answerer = Answerer(
            self._port,
            {"": node.model, served.name: node.model},
            models=(served,),
            early=(served.name,) if node.model.early else (),
            reassign_after_s=1.5,
            poll_s=cluster.poll_s,
            rng=Random(node.rng.random()),
            clock=self._clock.now,
        )
        self._ending: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._cluster.trace.add(
            self._node.number, "start", f"life {self.number}, {self._role.value}"
        )
        self._loop.create_task(self._answerer.start())
        self._schedule()

    def end(self) -> None:
        """Nothing that this process still does reaches anybody. The disk job that is under way may
        or may not have got through."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        job, self._job = self._job, None
        if job is not None and self._node.rng.random() < 0.5:
            with suppress(Crash, StorageError):
                job.run(self._disk)
        self._live.close()
        self._disk.close()
        self._ending = self._loop.create_task(self._answerer.close())

    def clock(self) -> float:
        return self._clock.now()

    # What comes in ------------------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        self._enter(lambda: self.replica.receive(message, self._clock.now()))

    def peer_gone(self, peer: int) -> None:
        self._enter(lambda: self.replica.peer_gone(peer, self._clock.now()))

    def receive_live(self, envelope: Envelope) -> None:
        self._enter(lambda: self._live.receive(envelope))

    def submit(
        self,
        command: bytes,
        decoded: SessionCommand,
        timeout_s: float,
        resolve: Callable[[Reply | Failure], None],
    ) -> None:
        def enter() -> None:
            now = self._clock.now()
            self.replica.submit(command, decoded, now + timeout_s, self._alive(resolve), now)
            if isinstance(decoded.operation, SubmitQuery):
                self._port.is_asking(decoded.operation)

        self._enter(enter)

    def read(self, timeout_s: float, resolve: Callable[[Failure | None], None]) -> None:
        def enter() -> None:
            now = self._clock.now()
            self.replica.read(now + timeout_s, self._alive(resolve), now)

        self._enter(enter)

    def change(self, change: Change, answer: Callable[[Answer], None]) -> None:
        """Take a step towards ``change`` if this node leads, and say how far it is."""

        def enter() -> None:
            answer(answered(lambda: self.replica.change(change, self._clock.now())))

        self._enter(enter)

    def _alive(self, resolve: Callable[[Any], None]) -> Callable[[Any], None]:
        return lambda outcome: None if self._ended else resolve(outcome)

    def _enter(self, action: Callable[[], None]) -> None:
        if self._ended:
            return
        if self._node.paused:
            self._backlog.append(action)
            return
        action()
        self._schedule()

    def catch_up(self) -> None:
        """The process runs on after a pause, and takes what came meanwhile one after another."""
        backlog, self._backlog = self._backlog, []
        for place, action in enumerate(backlog):
            self._loop.call_later(place * TAKING_S, self._enter, action)

    # The pump -------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        if self._ended or self._node.paused:
            return
        self.replica.pump()
        if self.replica.unfinished:
            self._schedule()
        self._send()
        if self._job is None:
            self._next_job()
        self._arm_timer()
        if self.replica.role is not self._role:
            self._role = self.replica.role
            self._cluster.trace.add(
                self._node.number, "role", f"{self._role.value} at {self.replica.ballot}"
            )
            if self._role is Role.LEADING:
                self._cluster.figures["elections"] += 1

    def _send(self) -> None:
        cluster, node = self._cluster, self._node
        for dst, message in self.replica.take_messages():
            cluster.invariants.sent(node.number, self.number, message, node.disk.platter)
            cluster.sent += 1
            if cluster.sent % OVER_THE_WIRE_EVERY == 0:
                decoded = decode_message(node.number, encode_message(message))
                assert decoded == message, f"{kind_of(message)} does not survive the wire"
            cluster.post(node.number, dst, message)

    def _send_live(self, dst: int, body: bytes) -> None:
        envelope = Envelope(self._node.number, dst, KIND, body)
        self._cluster.network.post(
            self._node.number, dst, partial(self._cluster.deliver_live, envelope)
        )

    def _arm_timer(self) -> None:
        at = self.replica.deadline()
        if self._timer is not None:
            if self._timer_at <= at:
                return  # it fires early, finds nothing due, and is armed again
            self._timer.cancel()
        self._timer_at = at
        delay_s = max(0.0, at - self._clock.now()) / self._clock.rate
        self._timer = self._loop.call_later(delay_s + 1e-6, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._ticks += 1
        if self._loop.time() > self._ticks_since + 1.0:
            self._ticks, self._ticks_since = 0, self._loop.time()
        elif self._ticks > TICKS_A_SECOND_MAX:
            raise Violation(
                "everything is bounded", f"node {self._node.number} does nothing but tick"
            )
        self._enter(lambda: self.replica.tick(self._clock.now()))

    # The disk -------------------------------------------------------------------------------------

    def _next_job(self) -> None:
        self._job = self.replica.next_job()
        if self._job is not None:
            self._loop.call_later(self._node.disk.latency_s(), self._run_job, self._job)

    def _run_job(self, job: Job) -> None:
        if self._ended or self._node.disk.hanging or job is not self._job:
            return
        machine = self.replica.machine
        try:
            job.run(self._disk)
        except (Crash, StorageError) as error:
            self._job = None  # how far it got was decided by what befell it
            self._node.fail(error)
            return
        self._enter(lambda: self._finish(job, machine))

    def disk_goes_on(self) -> None:
        """What has hung is done now."""
        if self._job is not None:
            self._loop.call_later(self._node.disk.latency_s(), self._run_job, self._job)

    def _finish(self, job: Job, machine: Machine) -> None:
        self._job = None
        job.done()
        if self.replica.machine is not machine:
            self._cluster.figures["snapshots installed"] += 1
            self._watch(self.replica.machine)

    def _watch(self, machine: Machine) -> None:
        """Compare a state that came from a snapshot."""
        if machine.applied_slot:
            self._cluster.invariants.hashed(self._node.number, machine)
