"""The relay's core: takes batches of envelopes in, applies the faults, gives batches out.

It owns the attached nodes with a bounded outbox each, the messages that are held back by a delay,
and the subscribers of the trace. It knows envelopes as protobuf messages, never looks into a body,
and starts no task: the server's streams feed it and drain it, and delays are one timer.

A message is in flight while it is held back or waits in an outbox. Every change of the faults calls
``faults_changed``, which settles both anew: what is now cut is lost, what is delayed is re-timed.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from ..transport import GONE, Outbox, QueueLimits, checksum
from ..wire.alone import alone
from ..wire.generated import orchestrator_pb2, peer_pb2
from .faults import Decision, Directed, FaultTable

Summarise = Callable[[str, bytes], str]
"""Makes one short line of a message's kind and body, for the trace."""

TRACE_LIMITS = QueueLimits(max_items=10_000, max_bytes=4 * 1024 * 1024)
READERS_MAX = 64
"""Of the trace at a time."""

log = structlog.get_logger(__name__)


class Forged(Exception):
    """A node sent an envelope in the name of another node or cluster."""


class Attached:
    """One node's place at the relay, as long as its stream lives."""

    def __init__(self, node: int, address: str, limits: QueueLimits) -> None:
        self.node = node
        self.address = address
        self.outbox: Outbox[peer_pb2.Envelope] = Outbox(limits)
        self.ended_because = ""
        self.replaced = False

    def end(self, why: str, *, replaced: bool = False) -> None:
        """Tell the stream's owner to end it, and why; ``replaced``: the node is here anew."""
        self.ended_because = why
        self.replaced = replaced
        self.outbox.close()


class TooManyReaders(Exception):
    """One line for whoever asked."""


class Subscription:
    """One reader of the trace; ``kinds`` empty means every kind."""

    def __init__(self, kinds: frozenset[str]) -> None:
        self.kinds = kinds
        self.outbox: Outbox[orchestrator_pb2.TraceEvent] = Outbox(TRACE_LIMITS)
        self._skipped = 0

    def put(self, event: orchestrator_pb2.TraceEvent) -> None:
        """Queue ``event``, which others may have as well; where some before it found the queue
        full, a copy that says how many. Or skip it."""
        if self._skipped:
            copy = orchestrator_pb2.TraceEvent(skipped=self._skipped)
            copy.MergeFrom(event)
            event = copy
        self._skipped = 0 if self.outbox.put(event, event.ByteSize()) else self._skipped + 1

    async def take(self) -> list[orchestrator_pb2.TraceEvent] | None:
        """Wait for events and take them; None at the end."""
        return await self.outbox.take(TRACE_LIMITS.max_bytes)


@dataclass(order=True, slots=True)
class _Held:
    """An envelope that a delay holds back. Times are of the event loop, in seconds."""

    due: float
    number: int
    sent_at: float
    size_bytes: int
    envelope: peer_pb2.Envelope


class Relay:
    """Moves envelopes between the members of ``faults``; everything runs on one event loop.

    ``limits`` bound what waits for one node, and what is held back in one direction of a link.
    """

    def __init__(
        self,
        cluster_id: str,
        faults: FaultTable,
        *,
        limits: QueueLimits = QueueLimits(),  # noqa: B008 (frozen)
        summarise: Summarise = lambda kind, body: "",
    ) -> None:
        self.cluster_id = cluster_id
        self.faults = faults
        self._limits = limits
        self._summarise = summarise
        self._attached: dict[int, Attached] = {}
        self._subscriptions: list[Subscription] = []
        self._held: list[_Held] = []
        self._held_items: Counter[Directed] = Counter()
        self._held_bytes: Counter[Directed] = Counter()
        self._numbers = itertools.count()
        self.fates: Counter[str] = Counter()
        """How many messages had which fate, while there was a fault or a reader of the trace; and
        how many were "held", which are counted once more when they are settled."""
        self._timer: asyncio.TimerHandle | None = None

    # Nodes ---------------------------------------------------------------------------------

    def attached(self) -> tuple[int, ...]:
        """The nodes that hold a stream now, in order."""
        return tuple(sorted(self._attached))

    def attach(self, node: int, address: str) -> Attached:
        """Give ``node``, a member, its place. A node that is there already is replaced."""
        assert node in self.faults.members, f"{node} is not a member"
        older = self._attached.get(node)
        if older is not None:
            why = f"node {node} attached again, as {address or 'another process'}"
            older.end(why, replaced=True)
        self._attached[node] = newer = Attached(node, address, self._limits)
        return newer

    def detach(self, place: Attached) -> None:
        """``place``'s stream is over; what waits for it is lost. The others are told, over the
        same links, as by the end of a connection."""
        if self._attached.get(place.node) is not place:
            return
        del self._attached[place.node]
        for node in self.attached():
            envelope = peer_pb2.Envelope(
                cluster_id=self.cluster_id,
                src=place.node,
                dst=node,
                kind=GONE,
                checksum=checksum(self.cluster_id, place.node, node, GONE, b""),
            )
            self._route(envelope)

    def take_in(self, place: Attached, envelopes: Sequence[peer_pb2.Envelope]) -> None:
        """Relay a batch from ``place``. Raises ``Forged`` at an envelope that is not its own."""
        if self._attached.get(place.node) is not place:
            return  # replaced: its last words are lost, as with a cut connection
        node, cluster_id, attached = place.node, self.cluster_id, self._attached
        plain = self.faults.clear and not self._subscriptions
        for envelope in envelopes:
            if envelope.src != node or envelope.cluster_id != cluster_id:
                raise Forged(
                    f"node {node} of cluster {cluster_id!r} sent an envelope as node "
                    f"{envelope.src} of cluster {envelope.cluster_id!r:.80}"
                )
            if len(envelopes) > 1:
                envelope = alone(envelope)
            if plain:
                target = attached.get(envelope.dst)
                if target is not None:
                    target.outbox.put(envelope, envelope.ByteSize())
            else:
                self._route(envelope)

    def close(self) -> None:
        """End every stream and subscription."""
        if self._timer is not None:
            self._timer.cancel()
        self._held.clear()
        for place in self._attached.values():
            place.end("the orchestrator is stopping")
        for subscription in self._subscriptions:
            subscription.outbox.close()

    # Faults --------------------------------------------------------------------------------

    def faults_changed(self) -> None:
        """Settle what is in flight by the faults as they are now."""
        for place in self._attached.values():
            place.outbox.discard(self._is_lost)
        self._held = [held for held in self._held if not self._is_lost(held.envelope)]
        self._held_items.clear()
        self._held_bytes.clear()
        for held in self._held:
            self._count(held, 1)
            envelope = held.envelope
            held.due = held.sent_at + self.faults.delay_s(envelope.src, envelope.dst)
        heapq.heapify(self._held)
        self._set_timer()

    def _is_lost(self, envelope: peer_pb2.Envelope) -> bool:
        lost = self.faults.lost(envelope.src, envelope.dst, ended=envelope.kind == GONE)
        if lost is not None:
            self._trace(envelope, lost.fate)
        return lost is not None

    def _route(self, envelope: peer_pb2.Envelope) -> None:
        decision = self.faults.route(envelope.src, envelope.dst, ended=envelope.kind == GONE)
        if decision.delay_s > 0:
            self._hold(envelope, decision.delay_s)
        else:
            self._settle(envelope, decision)

    def _settle(self, envelope: peer_pb2.Envelope, decision: Decision) -> None:
        fate = decision.fate
        target = self._attached.get(envelope.dst)
        if decision.copies and target is None:
            fate = "not attached"
        elif target is not None:
            size_bytes = envelope.ByteSize()
            for _ in range(decision.copies):
                if not target.outbox.put(envelope, size_bytes):
                    fate = "overflow"
        self._trace(envelope, fate)

    # Delays --------------------------------------------------------------------------------

    def _hold(self, envelope: peer_pb2.Envelope, delay_s: float) -> None:
        size_bytes, link = envelope.ByteSize(), (envelope.src, envelope.dst)
        if (
            self._held_items[link] >= self._limits.max_items
            or self._held_bytes[link] + size_bytes > self._limits.max_bytes
        ):
            self._trace(envelope, "overflow")
            return
        now = asyncio.get_running_loop().time()
        held = _Held(now + delay_s, next(self._numbers), now, size_bytes, envelope)
        heapq.heappush(self._held, held)
        self._count(held, 1)
        self.fates["held"] += 1
        if self._held[0] is held:
            self._set_timer()

    def _count(self, held: _Held, sign: int) -> None:
        link = held.envelope.src, held.envelope.dst
        self._held_items[link] += sign
        self._held_bytes[link] += sign * held.size_bytes

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._held[0].due, self._release)

    def _release(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._held and self._held[0].due <= now:
            held = heapq.heappop(self._held)
            self._count(held, -1)
            envelope = held.envelope
            ended = envelope.kind == GONE
            self._settle(envelope, self.faults.deliver(envelope.src, envelope.dst, ended=ended))
        self._set_timer()

    # Trace ---------------------------------------------------------------------------------

    def subscribe(self, kinds: Iterable[str]) -> Subscription:
        """Trace messages of ``kinds`` (none: all) from now on, until ``unsubscribe``. Raises
        TooManyReaders: each takes a little of every message's time."""
        if len(self._subscriptions) >= READERS_MAX:
            raise TooManyReaders(f"{READERS_MAX} read the trace already: end one of them first")
        subscription = Subscription(frozenset(kinds))
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop tracing for ``subscription``."""
        self._subscriptions.remove(subscription)

    def _trace(self, envelope: peer_pb2.Envelope, fate: str) -> None:
        self.fates[fate] += 1
        readers = [s for s in self._subscriptions if not s.kinds or envelope.kind in s.kinds]
        if not readers:
            return
        event = orchestrator_pb2.TraceEvent(
            time_ms=time.time_ns() // 1_000_000,
            src=envelope.src,
            dst=envelope.dst,
            kind=envelope.kind,
            size_bytes=len(envelope.body),
            fate=fate,
            body_summary=self._summary(envelope),
        )
        for reader in readers:
            reader.put(event)

    def _summary(self, envelope: peer_pb2.Envelope) -> str:
        try:
            return self._summarise(envelope.kind, envelope.body)
        except Exception:  # the body is a stranger's bytes: no trace of it may stop the relay
            return "(unreadable)"
