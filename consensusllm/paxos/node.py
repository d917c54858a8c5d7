"""PaxosNode: one replica's consensus, as a synchronous object without I/O.

Put messages, commands, reads and the time in; take `Ready` out and act on it in the order that it
states. ``now`` is in seconds of a monotonic clock that only this node reads; calls may not go back
in time. The class joins the parts and owns the role; each part's rules are in its own module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from .acceptor import Acceptor
from .admission import Admission
from .ballot import Ballot
from .changes import Changes
from .clock import Clock
from .config import PaxosConfig
from .delivery import Delivery
from .election import Election
from .heartbeats import Heartbeats
from .learner import Learner
from .log import Log
from .membership import Configuration, Membership, first_members
from .messages import (
    Accept,
    Accepted,
    CatchUp,
    CatchUpReply,
    Commit,
    Compacted,
    Heartbeat,
    HeartbeatReply,
    Message,
    Nack,
    Prepare,
    PreVote,
    PreVoteReply,
    Promise,
    Rejoin,
    Rejoined,
    SnapshotChunk,
    SnapshotRequest,
    TimeoutNow,
)
from .outbox import Outbox
from .proposer import Proposer
from .reads import Reads
from .ready import Ready, Recovered
from .reconfiguration import Reconfiguration
from .roles import TRANSITIONS, Event, NotLeader, Role
from .timing import Timing

_QUESTIONS = (PreVote, CatchUp, SnapshotRequest, Rejoin)
"""What a node may ask that has missed its removal."""

_ANSWERS = (CatchUpReply, Compacted, SnapshotChunk)
_LEADERS_WORD = (Accept, Heartbeat, Commit)
"""From whoever leads; it says how far the leader's chosen prefix goes."""


class PaxosNode(Reconfiguration):
    """See the module. ``recovered`` is what storage gave back; ``rng`` spreads elections."""

    def __init__(
        self, config: PaxosConfig, recovered: Recovered, rng: Random, now: float = 0.0
    ) -> None:
        self.config = config
        self._now = now
        self._outbox = Outbox(config.node)
        self._timing = timing = Timing(config, now)
        self.clock = Clock(config.epoch_ms)
        membership = recovered.membership or first_members(config.members)
        self._members = Configuration(config.node, membership, recovered.membership_slot)
        self._members_batch = 0
        if recovered.membership is None and recovered.voting:
            self._outbox.record_membership(0, membership)
        self._log = Log(recovered.entries, recovered.chosen_through, recovered.compacted_through)
        if recovered.snapshot_slot > recovered.chosen_through:
            self._log.replace_by_snapshot(recovered.snapshot_slot)
            self._outbox.record_compaction(recovered.snapshot_slot)
        members, log, outbox = self._members, self._log, self._outbox
        self._acceptor = acceptor = Acceptor(config, recovered, log, outbox, now)
        self._proposer = Proposer(config, members, log, acceptor, outbox, timing, self.clock)
        self._learner = Learner(config, members, log, acceptor, outbox, rng, timing)
        self._election = Election(
            config, members, recovered.promised, outbox, rng, timing, acceptor.grant
        )
        self._heartbeats = Heartbeats(config, members, outbox, timing)
        self._reads = Reads(self._heartbeats)
        self._delivery = Delivery(self._log, recovered.snapshot_slot)
        if recovered.snapshot_slot > 0:  # it may have become durable, and what it replaces not gone
            self.compact(recovered.snapshot_slot)
        self._live: tuple[int, ...] = ()
        self._admission = Admission(
            config,
            self._members,
            self._log,
            self._acceptor,
            self._proposer,
            self._outbox,
            rng,
            now,
        )
        self._changes = Changes(
            config, self._members, self._log, self._proposer, self._heartbeats, self._admission
        )
        self.role = Role.FOLLOWING if recovered.voting else Role.LEARNING
        self.elections = 0
        self._handlers: dict[type, Callable[[Any], None]] = {
            PreVote: self._on_pre_vote,
            PreVoteReply: self._on_pre_vote_reply,
            Heartbeat: self._on_heartbeat,
            HeartbeatReply: self._on_heartbeat_reply,
            Prepare: self._on_prepare,
            Promise: self._on_promise,
            Nack: self._on_nack,
            Accept: self._on_accept,
            Accepted: self._on_accepted,
            Commit: self._on_commit,
            CatchUp: self._learner.on_catch_up,
            CatchUpReply: self._on_catch_up_reply,
            Compacted: self._on_compacted,
            SnapshotRequest: self._learner.on_snapshot_request,
            SnapshotChunk: self._on_snapshot_chunk,
            Rejoin: self._on_rejoin,
            Rejoined: self._on_rejoined,
            TimeoutNow: self._on_timeout_now,
        }
        self._adopt_own_vote()
        self._end_fenced_life()

    # In -------------------------------------------------------------------------------------

    def receive(self, message: Message, now: float) -> None:
        """Handle one message of a peer. Repeated, late and foreign ones are harmless."""
        self._advance(now)
        if self._hears(message):
            self._handlers[type(message)](message)
            self._adopt_change()
        elif isinstance(message, _LEADERS_WORD):
            # Its members may have come since this node last heard of any: learn that, through it.
            self._learner.on_known(message.chosen_through, message.sender)
        elif isinstance(message, PreVote):
            # So may those of one that wants to lead, and without this node perhaps nobody can.
            self._ask_for_chosen(message.sender)

    def _hears(self, message: Message) -> bool:
        """Strangers are not answered. But what is chosen may be learned from anybody; who has no
        vote yet may not know the members; and who was removed may not know that, and asks."""
        sender = message.sender
        return (
            sender in self._members.peers
            or isinstance(message, _ANSWERS)
            or (self.role is Role.LEARNING and sender != self.config.node)
            or (sender in self._members.membership.removed and isinstance(message, _QUESTIONS))
        )

    def peer_gone(self, peer: int, now: float) -> None:
        """The connection of ``peer`` has ended, and everything that it sent on it was received: it
        may have died. A hint, which need not be true."""
        self._advance(now)
        self._election.peer_gone(peer)

    def propose(self, command: bytes, now: float, *, awaited: bool = False) -> None:
        """Queue ``command`` for the log. Raises NotLeader or Overloaded; nothing is queued then.
        ``awaited``: a peer waits for it, so the peers are told at once that it is chosen.

        Without an error the outcome is still open until the command comes back in
        ``Ready.chosen``: when leadership is lost it is unknown, never failed. What comes while a
        ballot is prepared waits for it.
        """
        self._advance(now)
        if not self.admits:
            raise NotLeader(self.leader)
        self._proposer.enqueue(command, awaited=awaited)

    def has_room(self, commands: Sequence[bytes]) -> bool:
        """Whether `propose` would take all of ``commands`` now, if this node leads."""
        return self._proposer.has_room(len(commands), sum(map(len, commands)))

    def read(self, token: int, now: float) -> None:
        """Begin a read barrier; ``token`` comes back in ``Ready.reads`` or ``failed_reads``.
        Raises NotLeader."""
        self._advance(now)
        if self.role is not Role.LEADING:
            raise NotLeader(self.leader)
        through = self._log.chosen_through
        leased = self._heartbeats.lease.holds(now) and through >= self._proposer.first_own_slot
        self._reads.add(token, through if leased else None)

    def tick(self, now: float) -> None:
        """Let time pass. Early and late calls are harmless; `deadline` says when one is due."""
        self._advance(now)
        self._learner.tick()
        if self.role is Role.LEADING:
            self._tick_leading()
        elif self.role is Role.PREPARING:
            self._tick_preparing()
        elif self.role is Role.FOLLOWING:
            if self._election.tick(self._acceptor.promised, now):
                self._prepare(Event.PRE_VOTE_WON)
        else:
            self._admission.tick(now)

    def persisted(self, batch: int) -> None:
        """Every ``Ready.persist`` up to number ``batch`` is durable."""
        self._outbox.persisted(batch, self._now)

    def applied(self, slot: int) -> None:
        """The owner has applied everything up to ``slot``."""
        self._delivery.apply(slot)

    def compact(self, snapshot_slot: int) -> None:
        """A snapshot of ``snapshot_slot`` is durable here: the log behind it may go, but for a tail
        that spares slightly late peers the snapshot."""
        assert snapshot_slot <= self._delivery.applied, "a snapshot holds what was applied"
        if snapshot_slot > self._log.compacted_through:
            through = self._log.retained_from(snapshot_slot, self.config.log_retain_bytes)
            if through > self._log.compacted_through:
                self._log.compact(through)
                self._outbox.record_compaction(through)

    def snapshot_staged(self) -> None:
        """The next chunk of ``Ready.install`` is durable, or given up: another may come."""
        self._learner.staged()

    def snapshot_installed(
        self, slot: int, membership: Membership | None = None, since: int = 0
    ) -> None:
        """The owner replaced state and stored snapshot by a peer's of ``slot`` and made that
        durable, with the log up to ``slot`` dropped; it holds ``membership``, of slot ``since``.

        A snapshot does not say at which ballots its slots were chosen. Of a leader's own slots some
        may be among them, with other values, chosen above its ballot: it leads no more, since its
        followers take what they accepted at its ballot for chosen as far as it says.
        """
        if self.role is Role.LEADING and slot > self._log.chosen_through:
            self._step_down(Event.OVERTAKEN)
        self._learner.installed(slot)
        self._proposer.drop_chosen()
        self._delivery.replaced(slot)
        if membership is not None and since > self._members.since:
            self._reconfigure(membership, since)
        self._admit_if_ready()

    def snapshot_rejected(self) -> None:
        """A peer's snapshot did not verify; nothing was installed."""
        self._learner.rejected()

    # Out ------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When the next `tick` is due, on the clock of ``now``."""
        if self.role is Role.LEADING:
            at = min(self._heartbeats.deadline(), self._proposer.deadline())
        elif self.role is Role.PREPARING:
            at = min(self._election.deadline(), self._proposer.deadline())
        elif self.role is Role.FOLLOWING:
            at = self._election.deadline()
        else:
            at = self._admission.deadline()
        return min(at, self._learner.deadline())

    def take_ready(self) -> Ready:
        """What is to be done now. Take it after every call or after several; see `Ready`."""
        while own := self._outbox.take_own_messages():
            for message in own:
                self._handlers[type(message)](message)
                self._adopt_change()
        if self.role is Role.LEADING:
            self._proposer.flush(self._now)
            self._reads.confirm()
            if self._proposer.owns_slots and self._reads.wants_round():
                self._begin_round()
                self._reads.confirm()
            if self._proposer.announcement_due(self._now):
                self._announce()
        batch, persist = self._outbox.take_changes(self._log.chosen_through, self._now)
        send = self._outbox.take_messages()
        reads, self._reads.confirmed = self._reads.confirmed, []
        failed, self._reads.failed = self._reads.failed, []
        installs, self._learner.installs = self._learner.installs, []
        snapshot_reads, self._learner.snapshot_reads = self._learner.snapshot_reads, []
        return Ready(
            batch=batch,
            persist=persist,
            send=tuple(send),
            chosen=self._delivery.take(),
            reads=tuple(reads),
            failed_reads=tuple(failed),
            role=self.role,
            leader=self.leader,
            install=tuple(installs),
            snapshot_reads=tuple(snapshot_reads),
        )

    def has_ready(self) -> bool:
        """Whether `take_ready` would have more: a Ready may be cut to a bounded size."""
        return self._delivery.waiting() or self._outbox.waiting()

    # Roles ----------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        assert now >= self._now, "time does not go back"
        self._now = now
        self._timing.advance(now)

    def _turn(self, event: Event) -> None:
        self.role = TRANSITIONS[self.role, event]

    def _step_down(self, event: Event) -> None:
        if self.role in (Role.PREPARING, Role.LEADING):
            self._turn(event)
            self._proposer.stop()
            self._reads.fail()
            self._election.stand_down()

    def _prepare(self, event: Event) -> None:
        assert self._members.votes_here, "who is no voter never stands"
        self._turn(event)
        self._reads.fail()
        self.elections += 1
        ballot = self._election.next_ballot(self._acceptor.promised)
        self._election.begin(ballot)
        self._proposer.prepare(ballot, self._now)

    def _tick_preparing(self) -> None:
        if self._election.due():
            self._step_down(Event.QUORUM_LOST)
        else:
            self._proposer.tick(self._now)

    def _tick_leading(self) -> None:
        if self._heartbeats.lost_quorum():
            self._step_down(Event.QUORUM_LOST)
            return
        if self._now - self._outbox.silent_since() >= self._timing.disk_patience_s:
            self._step_down(Event.DISK_SILENT)
            return
        self._proposer.tick(self._now)
        if self._heartbeats.due(self._now):
            self._begin_round()

    def _begin_round(self) -> None:
        chosen_through = self._log.chosen_through
        number = self._heartbeats.begin_round(
            self._proposer.ballot, self._proposer.next_slot, chosen_through, self._now
        )
        if self._proposer.owns_slots:
            self._reads.joined(number, max(chosen_through, self._proposer.first_own_slot))

    def _announce(self) -> None:
        commit = Commit(self.config.node, self._proposer.ballot, self._log.chosen_through)
        for peer in self._members.peers:
            self._outbox.send(peer, commit)
        self._proposer.announced()

    def _leads(self, ballot: Ballot) -> bool:
        return self.role is Role.LEADING and ballot == self._proposer.ballot

    # Elections and leaders ----------------------------------------------------------------------

    def _on_pre_vote(self, request: PreVote) -> None:
        if request.sender in self._members.membership.removed:
            # It has missed its removal: refused, it asks for what it missed.
            promised = self._acceptor.promised
            reply = PreVoteReply(self.config.node, request.ballot, False, promised)
            self._outbox.send(request.sender, reply)
        elif self._acceptor.voting:
            leading = self.role is Role.LEADING
            self._election.on_pre_vote(request, self._acceptor.promised, leading, self._now)
        else:  # it may be a voter by now, and nobody can lead before it knows
            self._ask_for_chosen(request.sender)

    def _on_pre_vote_reply(self, reply: PreVoteReply) -> None:
        won = self._election.on_pre_vote_reply(reply)
        if self.role is not Role.FOLLOWING:
            return
        if won:
            self._prepare(Event.PRE_VOTE_WON)
        elif not reply.granted and not self._election.hears_leader():
            # It hears a leader that this node does not: learn through it.
            self._ask_for_chosen(reply.sender)

    def _ask_for_chosen(self, peer: int) -> None:
        self._learner.ask_for_log(peer)

    def _follow(self, sender: int, ballot: Ballot) -> bool:
        """A leader speaks at ``ballot``. Whether it is to be followed."""
        self._election.saw(ballot)
        if ballot < self._acceptor.promised:
            self._outbox.send_durable(
                sender, Nack(self.config.node, ballot, self._acceptor.promised)
            )
            return False
        if ballot.pid != self.config.node:
            self._step_down(Event.HIGHER_BALLOT)
        self._election.heard_leader(ballot)
        self._changes.led_by(ballot.pid)
        return True

    def _on_heartbeat(self, heartbeat: Heartbeat) -> None:
        if self._follow(heartbeat.sender, heartbeat.ballot):
            self._live = heartbeat.live
            self._timing.told_round_trip(heartbeat.round_trip_ms)
            self._learn_commit(heartbeat.ballot, heartbeat.chosen_through)
            if self._acceptor.voting:  # a lost disk may have promised more: it confirms nobody
                node, sender, ballot = self.config.node, heartbeat.sender, heartbeat.ballot
                leased = self._acceptor.grant.give(ballot, heartbeat.lease_ms, self._now)
                through = self._durably_chosen_through()
                reply = HeartbeatReply(node, ballot, heartbeat.round, through, leased)
                self._outbox.send(sender, reply)

    def _on_heartbeat_reply(self, reply: HeartbeatReply) -> None:
        if self._leads(reply.ballot):
            self._heartbeats.on_reply(reply)

    def _on_nack(self, nack: Nack) -> None:
        self._election.saw(nack.promised)
        if nack.ballot == self._proposer.ballot and nack.promised > nack.ballot:
            self._step_down(Event.HIGHER_BALLOT)

    # Phase 1 --------------------------------------------------------------------------------

    def _on_prepare(self, prepare: Prepare) -> None:
        self._election.saw(prepare.ballot)
        higher = prepare.ballot > self._acceptor.promised
        if self._acceptor.on_prepare(prepare, self._now) and higher:
            self._step_down(Event.HIGHER_BALLOT)
            self._election.stand_down()
        self._end_fenced_life()

    def _on_promise(self, promise: Promise) -> None:
        if self.role is not Role.PREPARING or promise.ballot != self._proposer.ballot:
            return
        promised_by_quorum = self._proposer.on_promise(promise)
        if not self._end_fenced_life() and not self._adopt_change() and promised_by_quorum:
            self._turn(Event.PROMISED_BY_QUORUM)
            self._election.won()
            self._admission.reports.clear()
            self._heartbeats.start(self._proposer.promised_by(), self._now)
            self._learner.give_up_snapshot()
            self._proposer.lead(self._now)
            self._begin_round()

    # Phase 2 --------------------------------------------------------------------------------

    def _on_accept(self, accept: Accept) -> None:
        if self._follow(accept.sender, accept.ballot):
            self._acceptor.on_accept(accept)
            self._learn_commit(accept.ballot, accept.chosen_through)

    def _on_accepted(self, accepted: Accepted) -> None:
        if not self._leads(accepted.ballot):
            return
        if not self._acceptor.fence.admits(accepted.sender, accepted.incarnation):
            self._admission.refuse_vote(accepted.sender)
            return
        if accepted.sender != self.config.node:
            self._heartbeats.heard(accepted.sender)
        self._proposer.on_accepted(accepted)

    def _on_commit(self, commit: Commit) -> None:
        if self._follow(commit.sender, commit.ballot):
            self._learn_commit(commit.ballot, commit.chosen_through)

    def _learn_commit(self, ballot: Ballot, chosen_through: int) -> None:
        self._learner.on_commit(ballot, chosen_through)
        self._admit_if_ready()

    # Catching up and coming back ----------------------------------------------------------------

    def _on_catch_up_reply(self, reply: CatchUpReply) -> None:
        self._learner.on_catch_up_reply(reply)
        self._depose_if_outvoted()
        self._proposer.drop_chosen()
        if self.role is Role.LEADING and not self._log.chosen_changes(self._members.since):
            self._proposer.advance()
        self._admit_if_ready()

    def _depose_if_outvoted(self) -> None:
        """What was learned may carry a ballot above one's own."""
        if self._acceptor.promised > self._proposer.ballot:
            self._step_down(Event.HIGHER_BALLOT)

    def _on_compacted(self, answer: Compacted) -> None:
        if answer.slot > self._log.chosen_through and self.role is not Role.LEADING:
            self._step_down(Event.COMPACTED)
            self._learner.on_compacted(answer)

    def _on_snapshot_chunk(self, chunk: SnapshotChunk) -> None:
        self._learner.on_snapshot_chunk(chunk)
