"""The replicated clock goes on, whoever's wall clock was ahead."""

from __future__ import annotations

from random import Random

from consensusllm.conversations import Limits, Machine
from consensusllm.paxos import Ballot, Batch, PaxosConfig, Recovered
from consensusllm.paxos.messages import Entry
from consensusllm.replica.replica import Replica, ReplicaConfig

CONFIG = ReplicaConfig(PaxosConfig(node=1, members=(1,), epoch_ms=5_000))


def test_time_goes_on_where_the_wall_clock_is_behind_what_was_applied() -> None:
    entry = Entry(1, Ballot(1, 2, 1), Batch.pack(3_600_000, []))  # of a leader an hour ahead
    recovered = Recovered(incarnation=1, voting=True, entries=(entry,), chosen_through=1)
    replica = Replica(CONFIG, recovered, Machine(Limits()), Random(1), 10.0)
    assert replica.time_ms(10.0) == 15_000
    replica.pump()
    assert replica.machine.applied_slot == 1
    assert replica.time_ms(10.0) == 3_600_000
    assert replica.time_ms(30.0) == 3_620_000


def test_time_goes_on_from_that_of_a_snapshot() -> None:
    ahead = Machine(Limits())
    ahead.apply(1, 3_600_000, ())
    recovered = Recovered(
        incarnation=1, voting=True, chosen_through=1, compacted_through=1, snapshot_slot=1
    )
    replica = Replica(CONFIG, recovered, ahead, Random(1), 10.0)
    assert replica.time_ms(10.0) == 3_600_000
    assert replica.time_ms(11.5) == 3_601_500
