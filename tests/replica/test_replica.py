"""A replica's requests are forwarded, repeated, answered once, and unknown rather than failed."""

from __future__ import annotations

import pytest
from replica_cluster import ReplicaCluster

from consensusllm.conversations.commands import CompareAndSwap, Put, SessionCommand
from consensusllm.conversations.replies import Done, Refused
from consensusllm.paxos import Role
from consensusllm.paxos.messages import (
    Forward,
    ForwardRefused,
    ReadIndex,
    ReadIndexReply,
)
from consensusllm.replica.outcomes import Failure, FailureKind
from consensusllm.replica.requests import RETRY_AFTER_MAX_MS, RETRY_AFTER_MIN_MS
from consensusllm.storage.port import DiskFailed
from consensusllm.wire.commands import encode_command


def kinds(outcomes: list[object]) -> list[FailureKind]:
    return [outcome.kind for outcome in outcomes if isinstance(outcome, Failure)]


def test_a_command_is_answered_by_the_node_that_it_came_to_when_that_node_has_applied_it() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    follower = cluster.follower()
    assert cluster.submit(follower, Put("k", b"v"), 1) == [Done()]
    assert cluster.replicas[follower].machine.get("k") == b"v"


def test_commands_of_one_turn_are_forwarded_in_one_message() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    follower = cluster.follower()
    outcomes: list[object] = []
    for number in range(1, 101):
        decoded = SessionCommand(cluster.session, number, 1, Put(f"k{number}", b"v"))
        cluster.replicas[follower].submit(
            encode_command(decoded), decoded, cluster.now + 5, outcomes.append, cluster.now
        )
    cluster.settle()
    assert outcomes == [Done()] * 100
    assert sum(isinstance(message, Forward) for _, _, message in cluster.sent) == 1


def test_a_command_without_a_majority_says_that_nothing_was_written() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    node = cluster.follower()
    cluster.isolate(node)
    cluster.run(2.0)  # it has given up its leader
    outcomes = cluster.submit(node, Put("k", b"v"), 1, timeout_s=1.0)
    assert outcomes == []
    cluster.run(1.2)
    assert kinds(outcomes) == [FailureKind.NO_QUORUM]


def test_a_command_that_was_proposed_and_not_seen_again_is_unknown_and_not_failed() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    leader = cluster.leader()
    cluster.isolate(leader)
    outcomes = cluster.submit(leader, Put("k", b"v"), 1, timeout_s=1.0)
    cluster.run(1.5)
    assert kinds(outcomes) == [FailureKind.UNKNOWN]


def test_a_command_survives_the_leader_that_it_was_sent_to() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    leader, follower = cluster.leader(), cluster.follower()
    cluster.cut.add((follower, leader))  # the forward is lost, and the leader dies
    outcomes = cluster.submit(follower, Put("k", b"v"), 1, timeout_s=30.0)
    assert outcomes == []
    cluster.crash(leader)
    cluster.run(5.0)
    assert outcomes == [Done()]


def test_a_command_that_arrives_at_several_nodes_happens_once() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    cluster.submit(1, Put("n", b"0"), 1)
    swap = CompareAndSwap("n", b"0", b"1")
    outcomes = [cluster.submit(node, swap, 2) for node in cluster.ids]
    assert outcomes == [[Done()]] * 3
    assert cluster.replicas[1].machine.get("n") == b"1"


def test_a_repeated_command_waits_for_the_same_answer() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    follower, leader = cluster.follower(), cluster.leader()
    cluster.cut.add((leader, follower))
    first = cluster.submit(follower, Put("k", b"v"), 1)
    second = cluster.submit(follower, Put("k", b"v"), 1)
    assert first + second == []
    cluster.cut.clear()
    cluster.run(1.0)
    assert first == second == [Done()]


def test_who_repeats_a_command_is_told_by_the_deadline_of_each_asking() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    leader = cluster.leader()
    cluster.isolate(leader)
    first = cluster.submit(leader, Put("k", b"v"), 1, timeout_s=1.0)
    second = cluster.submit(leader, Put("k", b"v"), 1, timeout_s=30.0)
    cluster.run(1.5)
    assert kinds(first) == [FailureKind.UNKNOWN]
    assert second == []
    cluster.cut.clear()
    cluster.run(5.0)
    assert second == [Done()]


def test_a_command_is_not_called_unwritten_to_one_while_another_waits_for_it() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    node = cluster.follower()
    cluster.isolate(node)
    cluster.run(2.0)  # it has given up its leader
    first = cluster.submit(node, Put("k", b"v"), 1, timeout_s=1.0)
    second = cluster.submit(node, Put("k", b"v"), 1, timeout_s=30.0)
    cluster.run(1.5)
    assert kinds(first) == [FailureKind.UNKNOWN]
    cluster.cut.clear()
    cluster.run(5.0)
    assert second == [Done()]


def test_who_repeats_a_command_counts_as_one_more_who_waits() -> None:
    cluster = ReplicaCluster(paxos={"max_pending_commands": 5})
    cluster.open_session()
    leader = cluster.leader()
    cluster.isolate(leader)
    askings = [cluster.submit(leader, Put("k", b"v"), 1, timeout_s=1.0) for _ in range(7)]
    assert [kinds(each) for each in askings] == [[]] * 5 + [[FailureKind.OVERLOADED]] * 2
    assert all(each[0].may_have_happened for each in askings[5:])
    cluster.run(1.5)
    assert [kinds(each) for each in askings[:5]] == [[FailureKind.UNKNOWN]] * 5
    cluster.run(2.0)
    assert [cluster.submit(leader, Put("k", b"v"), n) for n in range(2, 7)] == [[]] * 5


def test_a_command_that_waits_while_a_ballot_is_prepared_is_proposed_once() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    cluster.crash(cluster.leader())
    node = cluster.preparing()
    outcomes: list[object] = []
    command, decoded = cluster.packed(Put("k", b"v"), 1)
    replica = cluster.replicas[node]
    replica.submit(command, decoded, cluster.now + 9, outcomes.append, cluster.now)
    cluster.run(1.0)
    assert outcomes == [Done()]
    entries = cluster.disks[node].load().entries
    packed = [each for entry in entries for each in entry.batch.unpack()[1]]
    assert packed.count(command) == 1


def test_a_command_that_waited_for_a_ballot_that_failed_is_proposed_in_the_next_one() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    cluster.crash(cluster.leader())
    node = cluster.preparing()
    (other,) = set(cluster.replicas) - {node}
    outcomes: list[object] = []
    command, decoded = cluster.packed(Put("k", b"v"), 1)
    replica = cluster.replicas[node]
    replica.submit(command, decoded, cluster.now + 30, outcomes.append, cluster.now)
    cluster.wire.clear()
    cluster.isolate(node)
    cluster.run(3.0)
    assert outcomes == []
    assert replica.role is not Role.LEADING
    cluster.crash(other)  # so that it is this one that leads
    cluster.cut.clear()
    cluster.start(other)
    cluster.run(5.0)
    assert outcomes == [Done()]


def test_a_full_queue_is_said_early() -> None:
    cluster = ReplicaCluster(paxos={"max_pending_commands": 5})
    cluster.open_session()
    leader = cluster.leader()
    cluster.isolate(leader)
    outcomes = [cluster.submit(leader, Put("k", b"v"), number) for number in range(1, 12)]
    refused = [each for each in outcomes if kinds(each) == [FailureKind.OVERLOADED]]
    assert len(refused) >= 6


@pytest.mark.parametrize("at", ["leader", "follower"])
def test_a_command_that_waits_is_pending_at_the_node_of_its_client(at: str) -> None:
    cluster = ReplicaCluster(paxos={"pipeline_slots": 1, "max_batch_commands": 1})
    cluster.open_session()
    node = cluster.leader() if at == "leader" else cluster.follower()
    outcomes: list[object] = []
    for number in range(1, 6):
        command, decoded = cluster.packed(Put("k", b"v"), number)
        cluster.replicas[node].submit(
            command, decoded, cluster.now + 5, outcomes.append, cluster.now
        )
    assert {each: cluster.replicas[each].pending for each in cluster.ids} == {
        each: 5 * (each == node) for each in cluster.ids
    }
    cluster.settle()
    assert outcomes == [Done()] * 5
    assert [cluster.replicas[each].pending for each in cluster.ids] == [0, 0, 0]


@pytest.mark.parametrize("at", ["leader", "follower"])
def test_at_overload_every_command_is_applied_or_refused_with_a_time_to_try_again(at: str) -> None:
    cluster = ReplicaCluster(paxos={"max_pending_commands": 8, "max_batch_commands": 2})
    cluster.open_session()
    node = cluster.leader() if at == "leader" else cluster.follower()
    replica = cluster.replicas[node]
    outcomes: list[list[object]] = [[] for _ in range(100)]
    for number, outcome in enumerate(outcomes, 1):
        decoded = SessionCommand(cluster.session, number, 1, Put(f"k{number}", b"v"))
        replica.submit(
            encode_command(decoded), decoded, cluster.now + 5, outcome.append, cluster.now
        )
        assert replica.pending <= 8
    cluster.settle()
    assert [len(outcome) for outcome in outcomes] == [1] * 100
    done = [number for number, outcome in enumerate(outcomes, 1) if outcome == [Done()]]
    assert done
    for number, [outcome] in enumerate(outcomes, 1):
        assert (cluster.replicas[node].machine.get(f"k{number}") == b"v") == (number in done)
        if number not in done:
            assert isinstance(outcome, Failure)
            assert outcome.kind is FailureKind.OVERLOADED
            assert RETRY_AFTER_MIN_MS <= outcome.retry_after_ms <= RETRY_AFTER_MAX_MS


def test_the_time_to_try_again_is_about_how_long_the_queue_takes() -> None:
    cluster = ReplicaCluster(paxos={"max_pending_commands": 5})
    cluster.open_session()
    leader = cluster.leader()
    cluster.isolate(leader)
    for number in range(1, 6):
        cluster.submit(leader, Put("k", b"v"), number)
    cluster.run(0.3)
    [refused] = cluster.submit(leader, Put("k", b"v"), 6)
    assert isinstance(refused, Failure)
    assert refused.retry_after_ms == pytest.approx(300, abs=20)


def test_a_command_that_no_node_can_decode_is_refused_alike_by_all() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    leader = cluster.leader()
    cluster.replicas[leader].receive(Forward(cluster.follower(), 1, (b"\xff\xff",)), cluster.now)
    cluster.run(0.3)
    hashes = {replica.machine.state_hash() for replica in cluster.replicas.values()}
    assert len(hashes) == 1
    assert cluster.submit(leader, Put("k", b"v"), 1) == [Done()]


def test_stopping_tells_everybody_who_waits() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    leader = cluster.leader()
    cluster.isolate(leader)
    sent = cluster.submit(leader, Put("k", b"v"), 1)
    reads = cluster.read(leader)
    cluster.replicas[leader].stop()
    assert kinds(sent) == [FailureKind.UNKNOWN]
    assert kinds(reads) == [FailureKind.STOPPED]


# Reads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["leader", "follower"])
def test_a_read_sees_what_was_acknowledged_before_it(where: str) -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    node = cluster.leader() if where == "leader" else cluster.follower()
    other = next(each for each in cluster.ids if each != node)
    assert cluster.submit(other, Put("k", b"v"), 1) == [Done()]
    assert cluster.read(node) == [None]
    assert cluster.replicas[node].machine.get("k") == b"v"


def test_reads_of_one_turn_share_a_barrier() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    follower = cluster.follower()
    outcomes: list[object] = []
    for _ in range(50):
        cluster.replicas[follower].read(cluster.now + 5, outcomes.append, cluster.now)
    cluster.settle()
    assert outcomes == [None] * 50
    assert sum(isinstance(message, ReadIndex) for _, _, message in cluster.sent) == 1


def test_a_read_of_a_deposed_leader_is_not_served_from_its_old_state() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    old = cluster.leader()
    cluster.isolate(old)
    outcomes = cluster.read(old, timeout_s=2.0)
    assert outcomes == []
    cluster.run(3.0)
    assert kinds(outcomes) == [FailureKind.NO_QUORUM]


def test_reads_of_one_turn_are_answered_each_by_its_own_deadline_and_told_nothing_of_writing() -> (
    None
):
    cluster = ReplicaCluster()
    old = cluster.leader()
    cluster.isolate(old)
    cluster.run(2.0)
    soon: list[Failure | None] = []
    late: list[Failure | None] = []
    for outcomes, timeout_s in ((soon, 1.0), (late, 3.0)):
        cluster.replicas[old].read(cluster.now + timeout_s, outcomes.append, cluster.now)
    cluster.run(1.5)
    assert [failure.message for failure in soon if failure] == [
        "no majority of the nodes can be reached: heal the network or start nodes"
    ]
    assert late == []
    cluster.run(2.0)
    assert kinds(late) == [FailureKind.NO_QUORUM]


def test_a_read_that_lost_its_leader_is_asked_again() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    leader, follower = cluster.leader(), cluster.follower()
    cluster.cut.add((follower, leader))
    outcomes = cluster.read(follower, timeout_s=30.0)
    cluster.crash(leader)
    cluster.run(5.0)
    assert outcomes == [None]


# Disk -------------------------------------------------------------------------------------------


def test_rule_13_a_failed_write_is_not_tried_again() -> None:
    class Full:
        def before(self, operation: str) -> None:
            if operation == "write":
                raise DiskFailed("the disk is full")

        def after(self, operation: str) -> None: ...

    cluster = ReplicaCluster(size=1)
    cluster.open_session()
    cluster.disks[1]._faults = Full()
    outcomes: list[object] = []
    with pytest.raises(DiskFailed):
        outcomes = cluster.submit(1, Put("k", b"v"), 1)
    assert outcomes == []
    cluster.disks[1]._faults.before = lambda operation: None  # type: ignore[method-assign]
    with pytest.raises(DiskFailed):
        cluster.submit(1, Put("k", b"v"), 2)


def test_rule_14_a_replica_without_a_vote_serves_what_it_learns_and_is_admitted() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    cluster.submit(1, Put("k", b"v"), 1)
    lost = cluster.follower()
    cluster.crash(lost)
    cluster.platters[lost].lose()
    cluster.platters[lost].format(incarnation=2, voting=False)
    cluster.start(lost)
    assert cluster.replicas[lost].role is Role.LEARNING
    cluster.run(5.0)
    assert cluster.replicas[lost].role is Role.FOLLOWING
    assert cluster.replicas[lost].machine.get("k") == b"v"
    assert cluster.submit(lost, Put("k", b"w"), 2) == [Done()]


def test_a_session_that_was_never_opened_is_refused() -> None:
    cluster = ReplicaCluster()
    cluster.leader()
    [reply] = cluster.submit(1, Put("k", b"v"), 1)
    assert isinstance(reply, Refused)
    cluster.open_session()
    assert cluster.submit(1, Put("k", b"v"), 1) == [Done()]


# Schedules that once broke it --------------------------------------------------------------------


def test_an_answer_to_an_earlier_life_confirms_no_read_of_a_later_one() -> None:
    cluster = ReplicaCluster()
    cluster.open_session()
    leader, follower = cluster.leader(), cluster.follower()
    cluster.read(follower)
    late = [m for _, dst, m in cluster.sent if isinstance(m, ReadIndexReply) and dst == follower]
    cluster.crash(follower)
    cluster.start(follower)
    cluster.run(0.2)
    cluster.cut.add((follower, leader))
    outcomes = cluster.read(follower, timeout_s=1.0)
    for reply in late:
        cluster.replicas[follower].receive(reply, cluster.now)
    cluster.settle()
    assert outcomes == []


def test_snapshots_are_taken_although_a_write_always_waits() -> None:
    cluster = ReplicaCluster(size=1, snapshot_every_slots=20)
    cluster.open_session()
    replica, disk = cluster.replicas[1], cluster.disks[1]
    for number in range(1, 400):
        decoded = SessionCommand(cluster.session, number, number, Put("k", b"v"))
        replica.submit(encode_command(decoded), decoded, cluster.now + 5, _ignore, cluster.now)
        replica.pump()
        job = replica.next_job()  # one job for each new command: the disk never catches up
        if job is not None:
            job.run(disk)
            job.done()
    assert replica.snapshot_slot > 200


def test_a_large_queue_is_forwarded_in_messages_of_a_bounded_size() -> None:
    cluster = ReplicaCluster(paxos={"chunk_bytes": 10_000})
    cluster.open_session()
    follower = cluster.follower()
    outcomes: list[object] = []
    for number in range(1, 31):
        decoded = SessionCommand(cluster.session, number, 1, Put(f"k{number}", b"v" * 1000))
        cluster.replicas[follower].submit(
            encode_command(decoded), decoded, cluster.now + 5, outcomes.append, cluster.now
        )
    cluster.settle()
    assert outcomes == [Done()] * 30
    forwards = [message for _, _, message in cluster.sent if isinstance(message, Forward)]
    assert len(forwards) >= 3
    assert all(sum(map(len, forward.commands)) <= 10_000 for forward in forwards)


def test_a_forward_that_does_not_fit_whole_is_not_proposed_in_part() -> None:
    cluster = ReplicaCluster(paxos={"max_pending_commands": 5})
    cluster.open_session()
    leader, follower = cluster.leader(), cluster.follower()
    commands = tuple(
        encode_command(SessionCommand(cluster.session, number, 1, Put(f"k{number}", b"v")))
        for number in range(1, 9)
    )
    cluster.replicas[leader].receive(Forward(follower, 1, commands), cluster.now)
    cluster.run(0.5)
    assert cluster.replicas[leader].machine.keys("", "", 10) == []
    refusals = [m for _, dst, m in cluster.sent if isinstance(m, ForwardRefused)]
    assert [refusal.overloaded for refusal in refusals] == [True]


def test_overload_says_whether_an_earlier_try_may_have_happened() -> None:
    cluster = ReplicaCluster(paxos={"max_pending_commands": 1})
    cluster.open_session()
    leader, follower = cluster.leader(), cluster.follower()
    cluster.isolate(leader)
    cluster.cut -= {(follower, leader), (leader, follower)}
    cluster.replicas[leader].submit(
        b"x", SessionCommand(b"t" * 16, 1, 1, Put("a", b"")), cluster.now + 9, _ignore, cluster.now
    )
    sent = cluster.submit(follower, Put("k", b"v"), 1)
    cluster.run(0.2)
    for outcome in sent:
        assert outcome == Done() or outcome.may_have_happened  # it was forwarded


def test_a_long_log_is_applied_in_bounded_turns() -> None:
    cluster = ReplicaCluster(size=1)
    cluster.open_session()
    for number in range(1, 13):
        cluster.submit(1, Put(f"k{number}", b"v" * 900_000), number)
    cluster.crash(1)
    cluster.start(1)
    replica = cluster.replicas[1]
    replica.pump()
    assert replica.unfinished
    assert replica.machine.applied_slot < 12
    cluster.run(2.0)
    assert replica.machine.get("k12") is not None


def _ignore(outcome: object) -> None: ...
