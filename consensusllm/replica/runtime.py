"""The asyncio shell around a Replica: clock, timer, transport, disk thread.

Everything that happens within one turn of the event loop is pumped together at its end, which is
where batches come from: the commands of a turn share a slot, and the changes that gathered while
the disk was busy share a sync. The disk is used inline while its syncs are quicker than a hop to a
thread, and from a thread otherwise (docs/DECISIONS.md has the figures).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from consensusllm.conversations.commands import SessionCommand
from consensusllm.conversations.replies import Reply
from consensusllm.paxos import (
    Change,
    ChangeProgress,
    ChangeRefused,
    Membership,
    NotLeader,
    Role,
)
from consensusllm.paxos.messages import Message
from consensusllm.storage.port import Disk
from consensusllm.transport.port import GONE, Envelope, Transport
from consensusllm.wire.errors import MalformedMessage
from consensusllm.wire.peer import decode_message, encode_message, kind_of

from .jobs import Job, Write
from .outcomes import STOPPED, Failure
from .replica import Replica

log = structlog.get_logger()

INLINE_BELOW_S = 0.001
"""A sync that takes less than this is cheaper on the loop than the hop to a thread and back."""
_LAG_INTERVAL_S = 0.02
_LAG_WINDOW = 500
_PROGRESS_INTERVAL_S = 1.0
_FAR_BEHIND_SLOTS = 1_000
_IN_STEP_POLL_S = 0.01


class Runtime:
    """Owns ``replica`` and ``disk`` from `start` to `close`.

    ``on_broken`` is called once, with the error, when the disk fails or a bug shows, also during
    `close`: the process must end then, because what reached the disk is unknown.
    """

    def __init__(
        self,
        replica: Replica,
        disk: Disk,
        transport: Transport,
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self.replica = replica
        self.transport = transport
        self.started_at = asyncio.get_running_loop().time()
        self._disk = disk
        self._on_broken = on_broken
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._loop = asyncio.get_running_loop()
        self._pump_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._job_running = False
        self._sync_s = 0.0
        self._closed = False
        self._broken = False
        self._other_kinds: dict[str, Callable[[Envelope], None]] = {}
        self._lag_ms: deque[float] = deque(maxlen=_LAG_WINDOW)
        self.loop_lag_max_ms = 0.0
        """The event loop's worst lag since `start`, in ms."""
        self._tasks: list[asyncio.Task[None]] = []
        self._malformed = 0
        self._told: tuple[Role, int | None] | None = None
        self.on_members: Callable[[Membership], None] = lambda membership: None
        """Called with the members in force, at the start and after every change of them."""
        self._met: Membership | None = None

    def clock(self) -> float:
        """The clock of every ``now`` and ``deadline`` here: the loop's, in seconds, monotonic."""
        return self._loop.time()

    async def start(self) -> None:
        await self.transport.start(self._receive)
        watches = (self._measure_lag(), self._tell_progress())
        self._tasks = [asyncio.create_task(watch) for watch in watches]
        self._schedule()

    def on_kind(self, kind: str, receiver: Callable[[Envelope], None]) -> None:
        """Hand envelopes of another kind than the protocol's to ``receiver``."""
        self._other_kinds[kind] = receiver

    # Requests -------------------------------------------------------------------------------

    def submit(
        self,
        command: bytes,
        decoded: SessionCommand,
        timeout_s: float,
        resolve: Callable[[Reply | Failure], None],
    ) -> None:
        """See Replica.submit; ``timeout_s`` from now."""
        if self._closed:
            resolve(STOPPED)
            return
        now = self._loop.time()
        try:
            self.replica.submit(command, decoded, now + timeout_s, resolve, now)
        except Exception as error:
            self._break(error)
        if not self._pump_due:
            self._schedule()

    def read(self, timeout_s: float, resolve: Callable[[Failure | None], None]) -> None:
        """See Replica.read; ``timeout_s`` from now."""
        if self._closed:
            resolve(STOPPED)
            return
        now = self.clock()
        self._guarded(lambda: self.replica.read(now + timeout_s, resolve, now))
        self._schedule()

    async def barrier(self, timeout_s: float) -> Failure | None:
        """`read`, for those who can wait."""
        done: asyncio.Future[Failure | None] = self._loop.create_future()

        def resolve(failure: Failure | None) -> None:
            if not done.done():
                done.set_result(failure)

        self.read(timeout_s, resolve)
        return await done

    def change(self, change: Change) -> ChangeProgress:
        """See Replica.change. Raises NotLeader, ChangeRefused."""
        if self._closed:
            raise NotLeader(None)
        self._schedule()
        try:
            return self.replica.change(change, self.clock())
        except (NotLeader, ChangeRefused):
            raise
        except Exception as error:
            self._break(error)
            raise NotLeader(None) from error

    # The pump -------------------------------------------------------------------------------

    def _receive(self, envelope: Envelope) -> None:
        if envelope.kind == GONE:
            if not self._closed:
                self._guarded(lambda: self.replica.peer_gone(envelope.src, self.clock()))
                self._schedule()
            return
        receiver = self._other_kinds.get(envelope.kind)
        if receiver is not None:
            self._guarded(lambda: receiver(envelope))
            return
        try:
            message = decode_message(envelope.src, envelope.body)
        except MalformedMessage as error:
            self._malformed += 1
            if self._malformed == 1:
                log.warning("malformed message dropped", peer=envelope.src, error=str(error))
            return
        if not self._closed:
            try:
                self.replica.receive(message, self._loop.time())
            except Exception as error:
                self._break(error)
            self._schedule()

    def _guarded(self, action: Callable[[], None]) -> None:
        """Run the core, or who receives another kind. An exception in it is a bug, and a node with
        a bug must not go on."""
        try:
            action()
        except Exception as error:
            self._break(error)

    def _schedule(self) -> None:
        if not self._pump_due and not self._closed:
            self._pump_due = True
            self._loop.call_soon(self._guarded, self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        if self._closed:
            return
        self.replica.pump()
        if self._send():
            # An inline sync would hold the loop: let what was queued for the peers leave first.
            self._loop.call_soon(self._guarded, self._next_job)
        else:
            self._next_job()
        self._arm_timer()
        self._tell_role()
        if self.replica.paxos.membership is not self._met:
            self._met = self.replica.paxos.membership
            self.on_members(self._met)
        if self.replica.unfinished:
            self._schedule()

    def _tell_role(self) -> None:
        """One line when leadership moves: what a person who watches the log is looking for."""
        now = (self.replica.role, self.replica.leader)
        if now != self._told:
            self._told = now
            role, leader = now
            log.info(
                role.value,
                leader=leader or "none",
                ballot=str(self.replica.ballot),
                chosen=self.replica.paxos.chosen_through,
            )

    def _send(self) -> bool:
        """Whether there was something to send."""
        last: Message | None = None
        kind, body = "", b""
        for dst, message in self.replica.take_messages():
            if message is not last:
                last, kind, body = message, kind_of(message), encode_message(message)
            self.transport.send(dst, kind, body)
        return last is not None

    def _arm_timer(self) -> None:
        at = self.replica.deadline()
        if self._timer is not None:
            if self._timer_at <= at:
                return  # it fires early, finds nothing due, and is armed again
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - self.clock()), self._guarded, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self._closed:
            self.replica.tick(self.clock())
            self._pump()

    # The disk -------------------------------------------------------------------------------

    def _next_job(self) -> None:
        if self._job_running or self._closed:
            return
        job = self.replica.next_job()
        if job is None:
            return
        self._job_running = True
        if isinstance(job, Write) and 0.0 < self._sync_s < INLINE_BELOW_S:
            self._timed(job)
            self._finish(job)
            self._schedule()
        else:
            future = self._loop.run_in_executor(self._executor, self._timed, job)
            future.add_done_callback(lambda done, job=job: self._job_done(done, job))  # type: ignore[misc]

    def _timed(self, job: Job) -> None:
        start = time.perf_counter()
        job.run(self._disk)
        if isinstance(job, Write):
            took_s = time.perf_counter() - start
            self._sync_s = took_s if self._sync_s == 0.0 else 0.9 * self._sync_s + 0.1 * took_s

    def _job_done(self, future: asyncio.Future[None], job: Job) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._break(error)
        else:
            self._guarded(lambda: self._finish(job))
            self._schedule()

    def _finish(self, job: Job) -> None:
        self._job_running = False
        if not self._closed:
            job.done()

    def _break(self, error: BaseException) -> None:
        """Stop acting at once: neither a vote nor an answer may leave after this."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if not self._broken:
            self._broken = True
            self._on_broken(error)

    # The loop's own health ----------------------------------------------------------------------

    async def _measure_lag(self) -> None:
        while True:
            due = self.clock() + _LAG_INTERVAL_S
            await asyncio.sleep(_LAG_INTERVAL_S)
            lag_ms = (self.clock() - due) * 1000
            self._lag_ms.append(lag_ms)
            self.loop_lag_max_ms = max(self.loop_lag_max_ms, lag_ms)

    async def _tell_progress(self) -> None:
        """Lines while the node is far behind, for who waits for it."""
        told = False
        while True:
            await asyncio.sleep(_PROGRESS_INTERVAL_S)
            progress, applied = self.replica.progress, self.replica.machine.applied_slot
            behind = progress.known_slot - applied
            if progress.bytes:
                log.info("receiving a snapshot", bytes=progress.bytes_received, of=progress.bytes)
                told = True
            elif behind >= _FAR_BEHIND_SLOTS:
                log.info("catching up", applied=applied, of=progress.known_slot)
                told = True
            elif told:
                log.info("caught up", applied=applied)
                told = False

    async def in_step(self, unled_s: float) -> None:
        """Return once a leader is known and all is applied that is known to be chosen; or where no
        leader is heard of within ``unled_s``."""
        unled_until = self.clock() + unled_s
        while not self._closed:
            replica = self.replica
            if replica.leader is None:
                if self.clock() >= unled_until:
                    return
            elif replica.machine.applied_slot >= replica.progress.known_slot:
                return
            await asyncio.sleep(_IN_STEP_POLL_S)

    @property
    def loop_lag_ms(self) -> float:
        """The event loop's worst lag in the last ten seconds, in ms."""
        return max(self._lag_ms, default=0.0)

    async def close(self) -> None:
        """Answer who waits, let the running disk job end, and stop. The disk stays open."""
        for task in self._tasks:
            task.cancel()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.replica.stop()
        await self.transport.close()
        await self._loop.run_in_executor(None, self._executor.shutdown)
