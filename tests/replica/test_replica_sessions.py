"""Late copies: commands that a node which was cut off kept, and forwards when it is joined."""

from __future__ import annotations

from replica_cluster import ReplicaCluster

from consensusllm.conversations import Limits
from consensusllm.conversations.commands import CompareAndSwap, OpenSession, Put, SessionCommand
from consensusllm.conversations.replies import Code, Done, Refused, Reply, SessionOpened
from consensusllm.paxos.messages import Forward
from consensusllm.replica.outcomes import Failure, FailureKind
from consensusllm.replica.requests import Requests
from consensusllm.wire.commands import encode_command

S, T = b"s" * 16, b"t" * 16


def code(outcome: Reply | Failure) -> Code | None:
    return outcome.code if isinstance(outcome, Refused) else None


def arrive_late(cluster: ReplicaCluster, *copies: SessionCommand) -> None:
    """A node that was cut off forwards them to the leader."""
    commands = tuple(map(encode_command, copies))
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
    opening = SessionCommand(S, 0, 1, OpenSession())
    arrive_late(cluster, opening, SessionCommand(evicted, 1, 1, Put("k", b"first")))
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


def test_rule_09_what_is_refused_for_want_of_room_does_not_happen_by_a_late_copy() -> None:
    swap = CompareAndSwap("held", None, b"")
    for limits, refused in (
        (Limits(replies_per_session=2), Code.SESSION_EXPIRED),
        (Limits(reply_bytes_per_session=4), Code.TOO_LARGE),
    ):
        cluster = ReplicaCluster(limits=limits)
        session = cluster.open_session(S)
        cluster.submit(1, Put("held", b"value"), 1)
        assert code(cluster.submit(1, swap, 2)[0]) is Code.CONFLICT
        assert code(cluster.submit(1, Put("k", b"v"), 3)[0]) is refused
        acknowledged = SessionCommand(session, 4, 3, Put("room", b""))
        arrive_late(cluster, acknowledged, SessionCommand(session, 3, 1, Put("k", b"v")))
        assert {replica.machine.get("k") for replica in cluster.replicas.values()} == {None}
        assert len({replica.machine.state_hash() for replica in cluster.replicas.values()}) == 1
        assert cluster.submit(1, Put("k", b"v"), 3) != [Done()]


def test_the_end_of_its_session_leaves_the_outcome_of_a_command_unknown_whose_slot_was_spared() -> (
    None
):
    """The network delivers a forward twice, and a snapshot spares the sender the first copy."""
    cluster = ReplicaCluster(
        limits=Limits(sessions=2), snapshot_every_slots=1, paxos={"log_retain_bytes": 0}
    )
    cluster.open_session()
    leader, follower = cluster.leader(), cluster.follower()
    cluster.run(0.3)
    cluster.cut = {(peer, follower) for peer in cluster.ids}  # it is heard, and hears nobody
    outcomes = cluster.submit(follower, Put("k", b"v"), 1)
    (forward,) = [message for _, _, message in cluster.sent if isinstance(message, Forward)]
    assert cluster.replicas[leader].machine.get("k") == b"v"
    for name in (T, b"u" * 16):
        cluster.open_session(name)
    cluster.cut.clear()
    cluster.run(0.2)
    assert cluster.replicas[follower].machine.get("k") == b"v"
    assert outcomes == []
    cluster.replicas[leader].receive(forward, cluster.now)
    cluster.run(0.1)
    (outcome,) = outcomes
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.UNKNOWN


def test_where_every_slot_was_seen_the_end_of_a_session_is_certain() -> None:
    requests = Requests(10, 1000)
    command = SessionCommand(S + bytes(8), 1, 1, Put("k", b"v"))
    expired = Refused(Code.SESSION_EXPIRED, "gone")
    for sends, spared in ((0, False), (1, True), (2, True)):
        for seen in (True, False):
            outcomes: list[Reply | Failure] = []
            pending = requests.add(b"command", command, 9.0, outcomes.append, 0.0)
            assert pending is not None
            pending.sends = sends
            if not seen:
                requests.spared()
            requests.applied([command], [expired])
            (outcome,) = outcomes
            if seen or not spared:
                assert outcome == expired
            else:
                assert isinstance(outcome, Failure)
                assert outcome.may_have_happened
