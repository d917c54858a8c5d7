"""The core's settings. Times are in seconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PaxosConfig:
    """``members`` (1 to 9 of them, sorted, ids >= 1) are those with which the cluster begins; later
    the replicated membership counts. ``node`` need not be one of them: it may join.

    ``epoch_ms`` is the wall clock, in ms since the epoch, at ``now == 0``: the core is given a
    monotonic ``now`` and stamps its batches with the sum.

    ``linger_s`` bounds two waits for company: of commands, while a slot is open whose votes are on
    their way; and of the end of the chosen prefix, for an Accept that carries it.
    ``leader_lease_s`` 0.0: no leases; else at most ``election_timeout_s``. ``clock_drift`` is by
    how much of its rate a node's clock may be off at most where leases are used, 0.0 to below 1.0.
    """

    node: int
    members: tuple[int, ...]
    epoch_ms: int = 0
    heartbeat_s: float = 0.05
    election_timeout_s: float = 0.35
    resend_s: float = 0.1
    linger_s: float = 0.005
    leader_lease_s: float = 0.0
    clock_drift: float = 0.01
    pipeline_slots: int = 8
    max_batch_commands: int = 2048
    max_batch_bytes: int = 1 << 20
    max_pending_commands: int = 16384
    max_pending_bytes: int = 32 << 20
    max_log_bytes: int = 256 << 20
    log_retain_bytes: int = 8 << 20
    chunk_bytes: int = 512 << 10

    def __post_init__(self) -> None:
        assert 1 <= len(self.members) <= 9, "a cluster has 1 to 9 members"
        assert self.members == tuple(sorted(set(self.members))), "members are sorted and distinct"
        assert self.members[0] >= 1, "member ids start at 1"
        assert self.node >= 1, "node ids start at 1"
        assert self.heartbeat_s < self.election_timeout_s, (
            "an election waits for several heartbeats"
        )
        assert 0.0 <= self.leader_lease_s <= self.election_timeout_s, "a lease ends before patience"
        assert 0.0 <= self.clock_drift < 1.0, "a clock goes forward"
        assert self.max_batch_bytes <= self.max_pending_bytes <= self.max_log_bytes
