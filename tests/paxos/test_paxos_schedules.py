"""Schedules of single messages that broke the core, and that no random search had met."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_driver import MEMBERS, A, B, Driver, only, promise_of, settled_leader

from consensusllm.paxos import (
    BOTTOM,
    AddNode,
    Ballot,
    Batch,
    Recovered,
    Role,
    first_members,
)
from consensusllm.paxos.messages import (
    Accept,
    Accepted,
    CatchUp,
    CatchUpReply,
    Commit,
    Compacted,
    Entry,
    Heartbeat,
    HeartbeatReply,
    Nack,
    Prepare,
    PreVote,
    PreVoteReply,
    Promise,
    Rejoin,
    Rejoined,
    SnapshotChunk,
)


def test_a_snapshot_beyond_what_a_leader_knew_to_be_chosen_ends_its_ballot() -> None:
    # Of the slots of the snapshot some may be chosen above its ballot, with other values than those
    # that its followers accepted at it; they take these for chosen as far as it says.
    leader = Driver(size=5)
    leader.receive(Compacted(5, 3))
    leader.receive(SnapshotChunk(5, 5, 0, 1, b"d" * 32, b"s"))
    assert [install.last for install in leader.installs] == [True]  # its owner is at it
    ballot = leader.elect(2, 4)
    for number in range(4):
        leader.core.propose(b"%d" % number, leader.now)
        leader.sync()
    leader.core.snapshot_staged()
    leader.core.snapshot_installed(5)
    assert leader.core.role is Role.FOLLOWING
    assert leader.core.chosen_through == 5
    sent = leader.sync() + leader.pass_time(2 * leader.config.heartbeat_s)
    told = [m for m in only(Heartbeat, sent) + only(Commit, sent) if m.ballot == ballot]
    assert told == []


def test_whoever_leads_waits_for_no_snapshot() -> None:
    leader = Driver(size=5)
    leader.receive(Compacted(5, 3))
    leader.elect(2, 4)
    assert not leader.core.installing
    leader.receive(SnapshotChunk(5, 5, 0, 1, b"d" * 32, b"s"))
    assert leader.installs == ()
    assert leader.core.role is Role.LEADING


def test_a_snapshot_that_is_installed_while_a_ballot_is_prepared_does_not_end_it() -> None:
    # Nobody has accepted anything at that ballot yet: its own slots begin behind the snapshot.
    candidate = Driver(size=5)
    candidate.receive(Compacted(5, 3))
    candidate.receive(SnapshotChunk(5, 5, 0, 1, b"d" * 32, b"s"))
    ballot = candidate.prepare(2, 4)
    candidate.core.snapshot_staged()
    candidate.core.snapshot_installed(5)
    assert candidate.core.role is Role.PREPARING
    candidate.receive(promise_of(2, ballot, Entry(4, Ballot(1, 3, 4), A)))
    sent = candidate.receive(promise_of(4, ballot))
    assert candidate.core.role is Role.LEADING
    accepts = {(dst, m.ballot.op_num, m.chosen_through) for dst, m in sent if type(m) is Accept}
    assert accepts == {(peer, 6, 5) for peer in (2, 3, 4, 5)}


def test_who_is_asked_for_a_vote_by_a_stranger_asks_it_for_what_is_chosen() -> None:
    # Node 2 was away while 4 came in the place of 3. Then 1 died: nobody can lead without 2, which
    # must learn of 4 from 4 itself.
    node = Driver(node=2)
    sent = node.receive(PreVote(4, Ballot(9, 4)))
    assert sent == [(4, CatchUp(2, 1))]  # a stranger gets no vote
    members = replace(first_members((1, 2, 4)), version=1)
    entries = (Entry(1, Ballot(1, 1, 1), A), Entry(2, Ballot(1, 1, 2), Batch.change(0, members)))
    node.receive(CatchUpReply(4, entries, 2))
    sent = node.receive(PreVote(4, Ballot(9, 4)))
    assert [(dst, reply.granted) for dst, reply in sent] == [(4, True)]


def test_a_leader_tells_who_votes_in_a_life_that_is_fenced() -> None:
    # The fence came in a promise, so this ballot's Prepare did not say so; or that was lost.
    leader = Driver()
    ballot = leader.prepare(3)
    leader.receive(promise_of(3, ballot, incarnations=((2, 7),)))
    leader.sync()
    leader.vote(3, ballot, 1)
    assert leader.core.chosen_through == 1
    leader.core.propose(b"x", leader.now)
    leader.sync()
    told = leader.receive(Accepted(2, ballot.at(2), 1, 1, 1))
    assert leader.core.chosen_through == 1
    assert [dst for dst, _ in told] == [2]
    fenced = Driver(node=2)
    fenced.receive(Heartbeat(1, ballot, 1, 1, (1, 2, 3)))
    sent = fenced.receive(told[0][1])
    fenced.pass_time(fenced.config.election_timeout_s)
    sent += fenced.sync()
    assert fenced.core.role is Role.LEARNING
    rejoins = only(Rejoin, sent)
    assert rejoins != []
    assert all(rejoin.incarnation > 7 for rejoin in rejoins)


def test_a_life_is_fenced_only_where_the_others_who_live_could_promise_that() -> None:
    leader = Driver()
    ballot = leader.elect(2)
    leader.vote(2, ballot, 1)
    leader.pass_time(leader.config.heartbeat_s)
    for through in (0, 1, 2):
        assert leader.receive(Rejoin(2, 2000, through)) + leader.sync() == []
    leader.receive(HeartbeatReply(3, ballot, 1, 1))
    prepares = only(Prepare, leader.asked_for_a_vote(2, 2000, 3))
    assert {prepare.incarnations for prepare in prepares} == {((2, 2000),)}


def test_no_life_is_fenced_while_the_members_change() -> None:
    leader, ballot = settled_leader()
    for peer in (2, 3):
        leader.receive(HeartbeatReply(peer, ballot, 1, 1))
    leader.core.change(AddNode(4, "h:4"), leader.now)
    leader.sync()
    slot = 2
    for through in (1, slot, slot):
        sent = leader.receive(Rejoin(2, 2000, through)) + leader.sync()
        assert only(Prepare, sent) + only(Accept, sent) == []
    leader.vote(3, ballot, slot)
    assert leader.core.membership.member(4) is not None


def test_what_was_learned_in_the_place_of_what_a_leader_proposed_is_told_as_let_go() -> None:
    leader, ballot = settled_leader()
    leader.core.propose(b"x", leader.now)
    leader.sync()
    before = leader.core.abandoned
    other = Entry(2, Ballot(ballot.seq_num + 1, 3, 2), B)
    leader.receive(CatchUpReply(3, (other,), 2))
    assert leader.core.role is Role.FOLLOWING
    assert leader.core.abandoned > before


def test_terms_of_its_own_are_no_silence_of_the_leader_before() -> None:
    node = Driver()
    usual_s = node.core._timing.timeout_s
    for _ in range(4):
        ballot = node.elect(2)
        for _ in range(2):  # not too long to be taken for a silence
            for heartbeat in only(Heartbeat, node.pass_time(node.config.heartbeat_s))[:1]:
                node.receive(HeartbeatReply(2, ballot, heartbeat.round, 0))
        assert node.core.role is Role.LEADING
        other = Ballot(ballot.seq_num + 1, 2)
        for number in range(3):
            node.now += node.config.heartbeat_s
            node.receive(Heartbeat(2, other, 0, number, (1, 2)))
            node.sync()
    assert node.core._timing.timeout_s == pytest.approx(usual_s)


@pytest.mark.parametrize("again", [True, False])
def test_what_passes_until_a_leader_leads_again_is_no_silence_of_it(again: bool) -> None:
    node = Driver(node=3)
    usual_s = node.core._timing.timeout_s
    ballot = Ballot(1, 1)
    for number in range(5):
        node.receive(Heartbeat(1, ballot.at(1), 0, number, (1, 3)))
        node.pass_time(node.config.election_timeout_s)
        ballot = ballot.above(1) if again else ballot
    assert (node.core._timing.timeout_s == pytest.approx(usual_s)) == again


@pytest.mark.parametrize("ends", [True, False])
def test_a_disk_that_ends_its_writes_is_not_silent_however_long_they_take(ends: bool) -> None:
    leader, ballot = settled_leader()
    waiting: list[int] = []

    def write() -> None:
        leader.core.propose(b"%d" % len(waiting), leader.now)
        leader.ready()
        waiting.append(leader.batch)

    write()
    for _ in range(4):
        write()  # behind the one that runs
        end = leader.now + 0.7 * leader.core._timing.disk_patience_s
        while leader.now < end and leader.core.role is Role.LEADING:
            for heartbeat in only(Heartbeat, leader.pass_time(leader.config.heartbeat_s))[:1]:
                leader.receive(HeartbeatReply(2, ballot, heartbeat.round, 1))
        if not ends:
            break
        leader.core.persisted(waiting.pop(0))
    leader.pass_time(0.0)
    if ends:
        assert leader.core.role is Role.LEADING
        return
    leader.now += 0.4 * leader.core._timing.disk_patience_s
    leader.pass_time(0.0)
    assert leader.core.role is Role.FOLLOWING


def test_a_disk_that_hangs_keeps_no_answer_twice() -> None:
    node = Driver(node=3)
    node.receive(Heartbeat(1, Ballot(5, 1, 1), 0, 1, (1, 2, 3)))
    node.sync()
    accept = Accept(1, Ballot(5, 1, 1), (A,), 0)
    node.receive(accept)  # the disk hangs from here on
    for number in range(2, 100):
        node.receive(accept)
        node.receive(Accept(1, Ballot(5, 1, 2), (B,), 0))
        node.receive(Heartbeat(1, Ballot(5, 1, 1), 0, number, (1, 2, 3)))
    node.receive(Prepare(2, Ballot(6, 2, 1), ()))
    for number in range(100, 200):
        node.receive(Prepare(2, Ballot(6, 2, 1), ()))
        node.receive(Heartbeat(1, Ballot(5, 1, number), 0, number, (1, 2, 3)))
    sent = node.sync()
    assert [(dst, type(message)) for dst, message in sent] == [
        (1, Accepted),
        (1, Accepted),
        (2, Promise),
        (1, Nack),
    ]
    again = node.receive(accept) + node.sync()  # what has left may be asked for again
    assert [(dst, type(message)) for dst, message in again] == [(1, Nack)]


def test_prepares_that_wait_for_the_disk_end_with_their_try() -> None:
    candidate = Driver()
    ballots: list[Ballot] = []
    for _ in range(3):  # its own promise is not written
        asked: list[Ballot] = []
        while not asked:
            sent = candidate.pass_time(candidate.config.heartbeat_s)
            assert only(Prepare, sent) == []
            asked = [message.ballot for message in only(PreVote, sent)]
        candidate.receive(PreVoteReply(2, asked[0], True, BOTTOM))
        assert candidate.core.role is Role.PREPARING
        ballots.append(asked[0])
    prepares = only(Prepare, candidate.sync())
    assert {prepare.ballot for prepare in prepares} == {ballots[-1]}


def test_who_learns_of_its_removal_while_it_asks_for_votes_does_not_stand() -> None:
    # 2 and 3 voted for the removal and do not know that it is chosen: they would let it lead.
    node = Driver(size=4)
    asked: list[Ballot] = []
    while not asked:
        asked = [each.ballot for each in only(PreVote, node.pass_time(node.config.heartbeat_s))]
    members = replace(first_members((1, 2, 3, 4)).without(1), version=1)
    entries = (Entry(1, Ballot(1, 4, 1), A), Entry(2, Ballot(1, 4, 2), Batch.change(0, members)))
    node.receive(CatchUpReply(4, entries, 2))
    for peer in (2, 3):
        node.receive(PreVoteReply(peer, asked[0], True, BOTTOM))
    assert node.core.role is Role.FOLLOWING
    assert only(Prepare, node.sync()) == []


def test_what_has_its_votes_behind_a_slot_that_a_leader_learns_is_chosen() -> None:
    # The vote for the first one was lost. Whoever voted is not asked again, so nothing else would
    # ever make the leader look.
    leader = Driver()
    old = Ballot(0, 3)
    ballot = leader.prepare(2)
    entries = tuple(Entry(slot, old.at(slot), batch) for slot, batch in ((1, A), (2, B)))
    leader.receive(promise_of(2, ballot, *entries))
    leader.sync()
    leader.vote(2, ballot, 2, count=2)
    assert leader.core.chosen_through == 0
    leader.receive(CatchUpReply(3, entries[:1], 1))
    assert leader.core.role is Role.LEADING
    assert leader.core.chosen_through == 3


def test_votes_behind_a_change_that_a_leader_learns_count_for_nothing() -> None:
    # It was chosen above this ballot, whose votes are those of other members.
    leader = Driver()
    ballot = leader.prepare(2)
    leader.receive(promise_of(2, ballot, Entry(1, Ballot(0, 3, 1), A)))
    leader.sync()
    leader.vote(2, ballot, 2)
    members = replace(first_members((1, 2, 3)).without(2), version=1)
    change = Entry(1, ballot.above(3).at(1), Batch.change(0, members))
    leader.receive(CatchUpReply(3, (change,), 1))
    assert leader.core.role is not Role.LEADING
    assert leader.core.chosen_through == 1


def test_a_joining_node_that_is_asked_for_its_vote_asks_what_is_chosen() -> None:
    # It may be a voter by now, and all whom it knows be gone.
    learner = Driver(node=4, recovered=Recovered(incarnation=77, voting=False))
    sent = learner.receive(PreVote(6, Ballot(9, 6)))
    assert sent == [(6, CatchUp(4, 1))]


@pytest.mark.parametrize("leads", [False, True])
def test_a_node_without_a_vote_that_has_missed_its_removal_is_told(leads: bool) -> None:
    members = replace(first_members((1, 2, 3, 4)).without(4), version=1)
    node = Driver(
        recovered=Recovered(
            entries=(Entry(1, Ballot(1, 2, 1), Batch.change(0, members)),),
            promised=Ballot(1, 2),
            chosen_through=1,
            incarnation=1,
            voting=True,
            membership=members,
            membership_slot=1,
        )
    )
    if leads:
        node.elect(2)
    sent = node.receive(Rejoin(4, 77, 0))
    assert [(dst, type(message)) for dst, message in sent] == [(4, CatchUpReply)]
    assert node.receive(Rejoin(4, 77, node.core.chosen_through)) == []


def test_a_log_that_the_snapshot_covers_is_dropped_at_the_start() -> None:
    # The process ended between the two. Nothing is applied from that log any more, so no snapshot
    # would ever be due for it, and a full one would stay full.
    entries = tuple(Entry(slot, Ballot(1, 2, slot), A) for slot in (1, 2, 3, 4))
    node = Driver(
        recovered=Recovered(
            promised=Ballot(1, 2),
            entries=entries,
            chosen_through=4,
            snapshot_slot=3,
            incarnation=1,
            voting=True,
        ),
        log_retain_bytes=0,
    )
    node.sync()
    assert node.core.log_first_slot == 4
    assert node.persists[0].compact_through == 3
    assert [slot for slot, _ in node.chosen] == [4]


def test_an_answer_to_an_earlier_life_ends_no_later_one() -> None:
    learner = Driver(node=3, recovered=Recovered(incarnation=9, voting=False))
    fence = ((3, 9),)
    learner.receive(Rejoined(1, BOTTOM, 9, fence, MEMBERS))  # to a late question of life 5
    assert learner.core.incarnation == 9
    learner.receive(Rejoined(1, Ballot(5, 1, 1), 9, fence, MEMBERS))
    assert learner.core.role is Role.FOLLOWING
