"""Linearizable reads (rule 8)."""

from __future__ import annotations

from consensusllm.paxos.heartbeats import Heartbeats
from consensusllm.paxos.lease import Lease
from consensusllm.paxos.node import PaxosNode
from consensusllm.replica.barriers import Barriers
from consensusllm.replica.replica import Replica

from .bug import LINEARIZABLE, Patch, bug


@bug(LINEARIZABLE, faults="isolate")
def read_without_a_barrier(patch: Patch) -> None:
    patch.setattr(Replica, "read", lambda self, deadline, resolve, now: resolve(None))


@bug(LINEARIZABLE, faults="drift,depose", within=10, full=True)
def leader_reads_without_a_round(patch: Patch) -> None:
    patch.setattr(Heartbeats, "confirmed_round", lambda self: self.round)


@bug(LINEARIZABLE, faults="linger")
def lease_outlives_drift(patch: Patch) -> None:
    def granted(self: Lease, asked_at: float) -> None:
        self._until = max(self._until, asked_at + self.asked_ms / 1000)

    patch.setattr(Lease, "granted", granted)


@bug(LINEARIZABLE, faults="depose,slow link", within=45, full=True)
def new_leader_reads_before_its_own_slot(patch: Patch) -> None:
    """Rare: a read must come before the first slot is chosen, to a leader that lags behind."""
    begin = PaxosNode._begin_round

    def early(self: PaxosNode) -> None:
        first, self._proposer.first_own_slot = self._proposer.first_own_slot, 0
        begin(self)
        self._proposer.first_own_slot = first

    patch.setattr(PaxosNode, "_begin_round", early)


@bug(LINEARIZABLE, faults="slow link,depose")
def read_not_waiting_for_apply(patch: Patch) -> None:
    def hasty(self: Barriers, applied: int) -> None:
        reads = self._reads
        for token in [token for token, read in reads.items() if read.slot is not None]:
            reads.pop(token).answer(None)

    patch.setattr(Barriers, "serve", hasty)
