"""Replica: the synchronous glue of consensus, state machine and disk.

It does no I/O and knows no clock: messages, requests and the time go in; messages, disk jobs and
answers come out. The asyncio runtime and the simulator both own one and drive it the same way:

1. call `receive`, `submit`, `read` or `tick` as things happen;
2. call `pump`, then hand `take_messages` to the network;
3. run `next_job` on the disk, one at a time, and call the job's `done` afterwards; go to 2.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from consensusllm.conversations import Encoding, Limits, Machine
from consensusllm.conversations.commands import (
    ReassignCandidate,
    RetryTurn,
    SessionCommand,
    SubmitQuery,
)
from consensusllm.paxos import (
    Ballot,
    Batch,
    Change,
    ChangeProgress,
    NotLeader,
    Overloaded,
    PaxosConfig,
    PaxosNode,
    Persist,
    Ready,
    Recovered,
    Role,
    in_parts,
)
from consensusllm.paxos.log import ENTRY_OVERHEAD_BYTES
from consensusllm.paxos.messages import (
    CatchUp,
    Compacted,
    Forward,
    ForwardRefused,
    Message,
    ReadIndex,
    ReadIndexReply,
    SnapshotChunk,
)

from .barriers import Barriers
from .fetchers import Fetchers
from .jobs import Job, ServeSnapshot, StageSnapshot, TakeSnapshot, Write
from .members import from_extra, to_extra
from .outcomes import Failure
from .pace import Pace
from .progress import Progress, progress
from .requests import Key, PendingCommand, Requests, Resolve, decoded

_OURS = (Forward, ForwardRefused, ReadIndex, ReadIndexReply)
"""The messages that are not the core's."""
_WORK = (SubmitQuery, RetryTurn, ReassignCandidate)
"""What other nodes begin to answer as soon as they have applied it."""
_REMEMBERED_FORWARDS = 1024
_REPEAT_STRETCH_MAX = 4
"""Each silent try doubles the wait before the next, up to two to this power: what is slow because
the leader is loaded must not be repeated into its queue."""
_READY_PER_PUMP = 4
"""What one pump acts on at most; more waits for the next turn of the owner's loop."""


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """``sweep_s``: how often deadlines and silences are looked at while requests wait.
    ``repeat_s``: the silence after which a command or barrier is sent again.
    ``snapshot_bytes_per_s``: how fast a stored snapshot is read out to peers, in all."""

    paxos: PaxosConfig
    limits: Limits = field(default_factory=Limits)
    snapshot_every_bytes: int = 16 << 20
    snapshot_every_slots: int = 10_000
    snapshot_bytes_per_s: int = 64 << 20
    sweep_s: float = 0.1
    repeat_s: float = 1.0


class Replica:
    """``machine`` is the state at ``recovered.snapshot_slot``; ``now`` as for PaxosNode."""

    def __init__(
        self,
        config: ReplicaConfig,
        recovered: Recovered,
        machine: Machine,
        rng: Random,
        now: float,
    ) -> None:
        assert machine.applied_slot == recovered.snapshot_slot
        self.config = config
        self.node = config.paxos.node
        self.machine = machine
        self.snapshot_slot = recovered.snapshot_slot
        self.on_applied: Callable[[], None] = lambda: None
        self._paxos = PaxosNode(config.paxos, recovered, rng, now)
        self._paxos.clock.reached(machine.time_ms, now)
        self.members = self._paxos.membership
        """The members as of the applied state, which slot ``members_since`` chose."""
        self.members_since = self._paxos.membership_slot
        self._now = now
        self._requests = Requests(config.paxos.max_pending_commands, config.paxos.max_pending_bytes)
        self._messages: list[tuple[int, Message]] = []
        self.unfinished = False
        """Whether the last `pump` left something to the next one."""
        # Requests on their way to the leader.
        self._leader: int | None = None
        self._forwards: dict[int, list[bytes]] = {}
        self._forwarded: OrderedDict[int, list[Key]] = OrderedDict()
        self._numbers = itertools.count(1 + rng.getrandbits(60))  # not an earlier life's
        self._barriers = Barriers(
            self.node,
            self._paxos,
            self._requests,
            self._numbers,
            lambda dst, message: self._messages.append((dst, message)),
        )
        self._sweep_at = now
        # Disk.
        self._unwritten: list[Persist] = []
        self._unwritten_batch = 0
        self._stages: deque[StageSnapshot] = deque()
        self._taking: TakeSnapshot | None = None
        self._serving: dict[int, ServeSnapshot] = {}  # by peer: its latest question
        self._serve_at = now
        self._fetchers = Fetchers()
        self._pace = Pace(
            config.snapshot_every_bytes, config.snapshot_every_slots, config.paxos.max_log_bytes
        )
        self._wrote = False  # the last job was a write

    # In -------------------------------------------------------------------------------------

    def receive(self, message: Message, now: float) -> None:
        """Handle one message of a peer."""
        self._now = now
        if not isinstance(message, _OURS):
            if isinstance(message, CatchUp) and message.sender in self._fetchers:
                last = self._paxos.ends_with_a_chunk(message.first_slot)
                self._fetchers.asked_for_log(message.sender, last, now)
            self._paxos.receive(message, now)
        elif isinstance(message, Forward):
            self._on_forward(message)
        elif isinstance(message, ForwardRefused):
            self._on_forward_refused(message)
        elif isinstance(message, ReadIndex):
            self._barriers.on_read_index(message, now)
        else:
            self._barriers.on_read_index_reply(message, self.machine.applied_slot)

    def peer_gone(self, peer: int, now: float) -> None:
        """The connection of ``peer`` has ended, behind the last message that came over it."""
        self._now = now
        self._paxos.peer_gone(peer, now)

    def submit(
        self,
        command: bytes,
        decoded: SessionCommand,
        deadline: float,
        resolve: Resolve,
        now: float,
    ) -> None:
        """Get ``command`` (which ``decoded`` is) into the log. ``resolve`` is called once, with the
        reply when this replica applies it, or with a Failure by ``deadline``."""
        self._now = now
        pending = self._requests.add(command, decoded, deadline, resolve, now)
        if pending is not None:
            self._send_command(pending)

    def read(self, deadline: float, resolve: Callable[[Failure | None], None], now: float) -> None:
        """Run a read barrier. ``resolve`` is called once: with None when this replica's state
        reflects everything that was acknowledged before the call, or with a Failure."""
        self._now = now
        self._barriers.add(deadline, resolve)

    def change(self, change: Change, now: float) -> ChangeProgress:
        """See PaxosNode.change. Raises NotLeader, ChangeRefused."""
        self._now = now
        return self._paxos.change(change, now)

    def tick(self, now: float) -> None:
        self._now = now
        self._paxos.tick(now)
        if now >= self._sweep_at:
            self._sweep_at = now + self.config.sweep_s
            self._sweep()
        self._maybe_snapshot()

    def deadline(self) -> float:
        """When `tick` is due next."""
        at = self._paxos.deadline()
        if self._requests.reads or len(self._requests):
            at = min(at, self._sweep_at)
        waits = self._serving and self._serve_at > self._now  # else for the disk, which wakes us
        return min(at, self._serve_at) if waits else at

    def time_ms(self, now: float) -> int:
        """The replicated clock, as far as it is known here: what was applied, and what a batch of
        this replica's would say. In ms since the epoch; every time in the state is of this clock.
        """
        return self._paxos.clock.time_ms(now)

    def stop(self) -> None:
        """Answer everybody who still waits."""
        self._requests.stop()

    # Out ------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Act on what is ready, up to the messages and jobs to be taken next. Where `unfinished`
        is true afterwards, there is more, and pump is to be called again soon."""
        self._barriers.ask_gathered(self._now)
        applied = False
        for _ in range(_READY_PER_PUMP):
            ready = self._paxos.take_ready()
            self._messages.extend(ready.send)
            if ready.persist is not None:
                self._unwritten.append(ready.persist)
                self._unwritten_batch = ready.batch
            for slot, batch in ready.chosen:
                self._apply(slot, batch)
                applied = True
            self._barriers.finish(ready, self.machine.applied_slot)
            self._queue_snapshots(ready)
            self.unfinished = self._paxos.has_ready()
            if not self.unfinished:
                break
        leader = self._paxos.leader
        if leader != self._leader:
            self._leader = leader
            self._resend_all()
        self._flush_forwards()
        if applied:
            self._barriers.serve(self.machine.applied_slot)
            self._maybe_snapshot()
            self.on_applied()

    def take_messages(self) -> list[tuple[int, Message]]:
        messages, self._messages = self._messages, []
        return messages

    def next_job(self) -> Job | None:
        """The next job for the disk: log writes first, but a snapshot's next step after each, since
        under load there is always a write."""
        may_serve = bool(self._serving) and self._now >= self._serve_at
        snapshots_wait = self._taking is not None or self._stages or may_serve
        if self._unwritten and not (self._wrote and snapshots_wait):
            self._wrote = True
            changes, self._unwritten = self._unwritten, []
            batch = self._unwritten_batch
            return Write(changes, lambda: self._paxos.persisted(batch))
        self._wrote = False
        if may_serve:
            chunk_bytes = self.config.paxos.chunk_bytes
            self._serve_at = self._now + chunk_bytes / self.config.snapshot_bytes_per_s
            return self._serving.pop(next(iter(self._serving)))
        if self._taking is not None:
            return self._taking
        return self._stages.popleft() if self._stages else None

    # What is known ----------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        return self._paxos.role

    @property
    def leader(self) -> int | None:
        return self._paxos.leader

    @property
    def ballot(self) -> Ballot:
        return self._paxos.ballot

    @property
    def paxos(self) -> PaxosNode:
        """For status: read only."""
        return self._paxos

    @property
    def progress(self) -> Progress:
        """How far its long work is."""
        return progress(self._paxos, self.machine, self._taking)

    @property
    def pending(self) -> int:
        """Commands of this node's clients that are admitted and not yet applied. One that another
        node forwarded is counted there."""
        return len(self._requests)

    # Commands -------------------------------------------------------------------------------

    def _send_command(self, pending: PendingCommand) -> None:
        pending.sent_at = self._now
        try:
            awaited = isinstance(pending.decoded.operation, _WORK)
            self._paxos.propose(pending.command, self._now, awaited=awaited)
            pending.sent_to = self.node
            pending.abandoned = self._paxos.abandoned
            pending.sends += 1
        except Overloaded:
            self._overloaded(pending)
        except NotLeader as refusal:
            pending.sent_to = refusal.leader
            if refusal.leader is not None:
                pending.sends += 1
                self._forwards.setdefault(refusal.leader, []).append(pending.command)

    def _stands_here(self, pending: PendingCommand) -> bool:
        """Whether it still waits for a slot of this node's, or has one."""
        return pending.sent_to == self.node and pending.abandoned == self._paxos.abandoned

    def _overloaded(self, pending: PendingCommand) -> None:
        """Say so early; the client sends it again, under the same number, when it likes."""
        failure = self._requests.overloaded(
            "the leader's queue is full: try again later",
            self._now,
            may_have_happened=pending.sends > 0,
        )
        self._requests.fail(pending, failure)

    def _flush_forwards(self) -> None:
        forwards, self._forwards = self._forwards, {}
        for leader, commands in forwards.items():
            for part in in_parts(commands, self.config.paxos.chunk_bytes):
                number = next(self._numbers)
                self._messages.append((leader, Forward(self.node, number, part)))
                decoded = [self._requests.decoded(command) for command in part]
                self._forwarded[number] = [
                    (each.session, each.sequence) for each in decoded if each is not None
                ]
                if len(self._forwarded) > _REMEMBERED_FORWARDS:
                    self._forwarded.popitem(last=False)

    def _on_forward(self, forward: Forward) -> None:
        """Propose all of it or nothing."""
        if not self._paxos.admits:
            self._refuse_forward(forward, self._paxos.leader, overloaded=False)
        elif not self._paxos.has_room(forward.commands):
            self._refuse_forward(forward, self.node, overloaded=True)
        else:
            for command in forward.commands:
                self._paxos.propose(command, self._now, awaited=True)

    def _refuse_forward(self, forward: Forward, leader: int | None, *, overloaded: bool) -> None:
        refusal = ForwardRefused(self.node, forward.number, leader, overloaded)
        self._messages.append((forward.sender, refusal))

    def _on_forward_refused(self, refusal: ForwardRefused) -> None:
        for key in self._forwarded.pop(refusal.number, ()):
            pending = self._requests.by_key(key)
            if pending is None:
                continue
            if refusal.overloaded:
                self._overloaded(pending)
            else:
                pending.sent_to = None  # the next sweep, or the next leader, has it again

    def _resend_all(self) -> None:
        """The leader changed: whatever the old one had may be lost, and repeating is harmless."""
        if self._leader is not None:
            for pending in self._requests.commands():
                if not self._stands_here(pending):
                    self._send_command(pending)
            self._barriers.ask_again(self._now, 0.0)

    def _sweep(self) -> None:
        self._requests.expire(self._now, self._paxos.leader)
        if self._paxos.leader is None:
            return
        for pending in self._requests.commands():
            patience_s = self.config.repeat_s * 2 ** min(
                max(0, pending.sends - 1), _REPEAT_STRETCH_MAX
            )
            silent = self._now >= pending.sent_at + patience_s
            if pending.sent_to is None or (silent and not self._stands_here(pending)):
                self._send_command(pending)
        self._barriers.ask_again(self._now, self.config.repeat_s)

    # Applying -------------------------------------------------------------------------------

    def _apply(self, slot: int, batch: Batch) -> None:
        time_ms, packed = batch.unpack()
        if batch.is_change:
            packed = ()
            if slot > self.members_since:
                self.members = self.members.followed_by(batch.membership())
                self.members_since = slot
        awaited = len(self._requests) > 0
        commands = [*map(self._requests.decoded if awaited else decoded, packed)]
        replies = self.machine.apply(slot, time_ms, commands)
        self._paxos.applied(slot)
        self._paxos.clock.reached(self.machine.time_ms, self._now)
        self._pace.applied(batch.size_bytes + ENTRY_OVERHEAD_BYTES)
        if awaited:
            self._requests.applied(commands, replies)

    # Snapshots ------------------------------------------------------------------------------

    def _maybe_snapshot(self) -> None:
        """Take one when enough has been applied since the last, and none is coming in. A log that
        filled meanwhile takes nothing more, so this waits for no command."""
        if self._taking is not None or self._paxos.installing:
            return
        slots = self.machine.applied_slot - self.snapshot_slot
        members_known = self.machine.applied_slot >= self.members_since
        if members_known and self._pace.due(slots, fetched=self._fetchers.any(self._now)):
            self.take_snapshot()

    def take_snapshot(self) -> None:
        """Begin a snapshot of the state as it is now; its bytes are made and stored in steps."""
        assert self._taking is None
        self._pace.begun()
        slot = self.machine.applied_slot
        members = to_extra(self.members, self.members_since)
        encoding = Encoding(self.machine.freeze(members))
        self._taking = TakeSnapshot(slot, encoding, self._snapshot_step)

    def _snapshot_step(self, step: TakeSnapshot) -> None:
        if step.finished:
            self._taking = None
            self.snapshot_slot = step.slot
            self._pace.taken(step.encoding.size_bytes)
            self._paxos.compact(step.slot)
            self._maybe_snapshot()

    def _queue_snapshots(self, ready: Ready) -> None:
        for install in ready.install:
            self._stages.append(StageSnapshot(install, self.config.limits, self._staged))
        for request in ready.snapshot_reads:
            chunk_bytes = self.config.paxos.chunk_bytes
            serve = ServeSnapshot(self.node, request, chunk_bytes, self._serve)
            self._serving[request.to] = serve
            self._fetchers.asked_for_snapshot(request.to, self._now)

    def _serve(self, to: int, answer: SnapshotChunk | Compacted) -> None:
        self._messages.append((to, answer))

    def _staged(self, stage: StageSnapshot) -> None:
        self._paxos.snapshot_staged()
        if not stage.install.last:
            return
        if stage.rejected or stage.machine is None:
            self._paxos.snapshot_rejected()
            return
        slot = stage.install.slot
        if slot > self.machine.applied_slot:
            self.machine = stage.machine
            self._requests.spared()
            self._paxos.clock.reached(self.machine.time_ms, self._now)
            self._pace.begun()
        self.snapshot_slot = slot
        membership, since = from_extra(stage.machine.extra)
        if since > self.members_since:
            self.members, self.members_since = membership, since
        self._paxos.snapshot_installed(slot, membership, since)
        self._paxos.compact(slot)
        self._barriers.serve(self.machine.applied_slot)
        self.on_applied()
