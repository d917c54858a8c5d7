"""Late copies: commands that a node which was cut off kept, and forwards when it is joined."""

from __future__ import annotations

from replica_cluster import ReplicaCluster

from consensusllm.conversations import Limits
from consensusllm.conversations.commands import (
    Code,
    Done,
    OpenSession,
    Operation,
    Put,
    Refused,
    Reply,
    SessionOpened,
)
from consensusllm.paxos.messages import Forward
from consensusllm.replica.outcomes import Failure

S, T = b"s" * 16, b"t" * 16


def code(outcome: Reply | Failure) -> Code | None:
    return outcome.code if isinstance(outcome, Refused) else None


def arrive_late(cluster: ReplicaCluster, *copies: tuple[Operation, int, bytes]) -> None:
    """A node that was cut off forwards (operation, number, session) to the leader."""
    commands = tuple(cluster.packed(*copy)[0] for copy in copies)
    cluster.replicas[cluster.leader()].receive(
        Forward(cluster.follower(), 1, commands), cluster.now
    )
    cluster.settle()
    cluster.run(0.5)


def test_rule_09_an_evicted_session_does_not_come_back_by_a_late_copy_of_its_opening() -> None:
    cluster = ReplicaCluster(limits=Limits(sessions=2))
    evicted = cluster.open_session(S)
    assert cluster.submit(1, Put("k", b"first"), 1) == [Done()]
    for name in (b"u" * 16, T):
        cluster.open_session(name)
    assert cluster.submit(1, Put("k", b"second"), 1) == [Done()]
    arrive_late(cluster, (OpenSession(), 0, S), (Put("k", b"first"), 1, evicted))
    states = {replica.machine.state_hash() for replica in cluster.replicas.values()}
    assert len(states) == 1
    for replica in cluster.replicas.values():
        assert replica.machine.get("k") == b"second"
        assert evicted not in dict(replica.machine.freeze().sessions)
    assert (
        code(cluster.submit(1, Put("k", b"first"), 1, session=evicted)[0]) is Code.SESSION_EXPIRED
    )
    (again,) = cluster.submit(1, OpenSession(), session=S)
    assert isinstance(again, SessionOpened)
    assert again.session != evicted


def test_rule_09_a_repeated_opening_is_answered_with_the_session_that_it_opened() -> None:
    cluster = ReplicaCluster()
    first = cluster.open_session(S)
    cluster.submit(1, Put("k", b"v"), 1)
    for node in cluster.ids:
        assert cluster.open_session(S, node) == first
    assert cluster.submit(1, Put("k", b"w"), 1) == [Done()]
    assert cluster.replicas[1].machine.get("k") == b"v"
