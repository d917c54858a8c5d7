"""What must be durable when, and disks that fail or are lost (rules 1, 3, 5, 7 and 13 to 15)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from consensusllm.paxos import BOTTOM
from consensusllm.paxos.acceptor import Acceptor
from consensusllm.paxos.messages import Accepted, Nack, Promise, Rejoined
from consensusllm.paxos.node import PaxosNode
from consensusllm.paxos.outbox import Outbox
from consensusllm.paxos.proposer import Proposer
from consensusllm.replica.jobs import Write
from consensusllm.replica.replica import Replica
from consensusllm.simulation import node as node_module
from consensusllm.storage import DiskFailed, MemoryDisk

from .bug import (
    AGREE,
    ASSERTED,
    CHOSEN,
    DURABLE,
    LINEARIZABLE,
    LOST_DISK,
    MAJORITY,
    REGRESSED,
    Patch,
    bug,
)


def _unsynced(patch: Patch, early: Callable[[int, Any], bool]) -> None:
    durable = Outbox.send_durable

    def send(self: Outbox, dst: int, message: Any) -> None:
        if early(dst, message):
            self.send(dst, message)
        else:
            durable(self, dst, message)

    patch.setattr(Outbox, "send_durable", send)


@bug(DURABLE, faults="depose")
def promise_not_synced(patch: Patch) -> None:
    _unsynced(patch, lambda _, message: isinstance(message, Promise))


@bug(DURABLE, faults="depose")
def vote_not_synced(patch: Patch) -> None:
    _unsynced(patch, lambda _, message: isinstance(message, Accepted))


@bug(DURABLE, faults="replay,tear")
def refusal_not_synced(patch: Patch) -> None:
    _unsynced(patch, lambda _, message: isinstance(message, Nack))


@bug(MAJORITY, faults="slow disk,depose")
def own_vote_not_synced(patch: Patch) -> None:
    propose = Proposer._propose

    def counting(self: Proposer, batches: Any, now: float) -> None:
        propose(self, batches, now)
        for proposal in self._window.values():
            proposal.voters.add(self._config.node)

    patch.setattr(Proposer, "_propose", counting)


@bug(DURABLE, faults="crash")
def ballot_reused_after_a_restart(patch: Patch) -> None:
    raise_promise = Acceptor._raise_promise

    def forgetful(self: Acceptor, ballot: Any, incarnations: Any) -> None:
        if ballot.pid == self._config.node:
            self.promised = max(self.promised, ballot)
        else:
            raise_promise(self, ballot, incarnations)

    patch.setattr(Acceptor, "_raise_promise", forgetful)


@bug(
    ASSERTED + "a promise never goes down",
    CHOSEN,
    LINEARIZABLE,
    faults="crash,depose,lose",
    within=69,
    full=True,
)
def promise_forgotten_at_a_restart(patch: Patch) -> None:
    start = Acceptor.__init__

    def begin(self: Acceptor, config: Any, recovered: Any, *rest: Any) -> None:
        start(self, config, replace(recovered, promised=BOTTOM), *rest)

    patch.setattr(Acceptor, "__init__", begin)


@bug(AGREE, ASSERTED + "slot ", faults="isolate,crash", within=66, full=True)
def compacted_acceptor_answers_empty(patch: Patch) -> None:
    on_prepare = Acceptor.on_prepare

    def empty(self: Acceptor, prepare: Any, now: float) -> bool:
        compacted, self._log.compacted_through = self._log.compacted_through, 0
        try:
            return on_prepare(self, prepare, now)
        finally:
            self._log.compacted_through = compacted

    patch.setattr(Acceptor, "on_prepare", empty)


@bug(DURABLE, ASSERTED + "the log does not hold all of", faults="failed sync,crash")
def failed_sync_ignored(patch: Patch) -> None:
    """Of a vote that was lost the disk later hears that it is chosen, and refuses."""
    run = Write.run

    def careless(self: Write, disk: Any) -> None:
        try:
            run(self, disk)
        except DiskFailed:
            disk._failed = False

    patch.setattr(Write, "run", careless)


@bug(REGRESSED, faults="rot,crash all,crash in disk")
def damaged_log_entry_dropped_in_silence(patch: Patch) -> None:
    load = MemoryDisk.load

    def truncating(self: MemoryDisk) -> Any:
        platter = self._platter
        rotten = [slot for slot, entry in platter.log.items() if entry is None]
        if rotten and platter.hard_state is not None:
            platter.log = {s: e for s, e in platter.log.items() if s < min(rotten)}
            chosen = min(platter.hard_state.chosen_through, min(rotten) - 1)
            platter.hard_state = replace(platter.hard_state, chosen_through=chosen)
        return load(self)

    patch.setattr(MemoryDisk, "load", truncating)


@bug(LOST_DISK, faults="lost disk")
def vote_after_a_lost_disk(patch: Patch) -> None:
    opened = node_module.open_replica

    def bold(*arguments: Any, alone: bool, bootstrap: bool) -> Any:
        return opened(*arguments, alone=alone, bootstrap=True)

    patch.setattr(node_module, "open_replica", bold)


@bug(LOST_DISK, faults="lost disk,depose,lose")
def rejoined_before_the_fence(patch: Patch) -> None:
    def hasty(self: PaxosNode, rejoin: Any) -> None:
        if self.role.value == "leading":
            ballot = self._proposer.ballot.at(1)
            answer = Rejoined(self.config.node, ballot, rejoin.incarnation, (), self.membership)
            self._outbox.send(rejoin.sender, answer)

    patch.setattr(PaxosNode, "_on_rejoin", hasty)


@bug(ASSERTED + "only what a snapshot covers is compacted", faults="none")
def log_compacted_before_its_snapshot_is_durable(patch: Patch) -> None:
    take = Replica.take_snapshot

    def early(self: Replica) -> None:
        take(self)
        self._paxos.compact(self.machine.applied_slot)

    patch.setattr(Replica, "take_snapshot", early)
