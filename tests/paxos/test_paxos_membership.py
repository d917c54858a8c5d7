"""Changes of members and of the leader: single messages to one core."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from core_driver import A, B, Driver, only, promise_of
from membership_steps import ask_removal, remove, settled

from consensusllm.paxos import (
    AddNode,
    Ballot,
    Batch,
    ChangeRefused,
    Membership,
    NotLeader,
    PaxosConfig,
    PaxosNode,
    Recovered,
    RemoveNode,
    Role,
    TransferLeader,
    first_members,
)
from consensusllm.paxos.membership import MalformedMembership
from consensusllm.paxos.messages import (
    Accept,
    CatchUpReply,
    Commit,
    Entry,
    Forward,
    Heartbeat,
    HeartbeatReply,
    Prepare,
    PreVote,
    Promise,
    Rejoin,
    TimeoutNow,
)

THREE = first_members((1, 2, 3))
FOUR = replace(THREE.adding(4, "h:4").promoting(4, 7), version=1)
"""As if one change had led to it."""


def change(membership: Membership) -> Batch:
    return Batch.change(1, membership)


# The list itself ----------------------------------------------------------------------------------


def test_a_membership_comes_back_as_it_was() -> None:
    members = FOUR.without(2)
    assert Membership.decode(members.encode()) == members
    assert (members.voters, members.removed) == ((1, 3, 4), (2,))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[[],[],0]",
        b'[[[1,"",true,0]],[]]',
        b'[[[1,"",true,0]],[],-1]',
        b'[[[1,"",true,0]],[],true]',
        b'[[[1,"",false,0]],[],0]',  # nobody votes
        b'[[[2,"",true,0],[1,"",true,0]],[],0]',
        b'[[[1,"",true,0]],[1],0]',
        b'[[[1,"",true,-1]],[],0]',
        b"[[[1,2,true,0]],[],0]",
        b"\xff",
    ],
)
def test_other_bytes_are_no_membership(data: bytes) -> None:
    with pytest.raises(MalformedMembership):
        Membership.decode(data)


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (lambda: THREE.without(2).adding(2, "h:9"), "its id is never used again"),
        (lambda: THREE.adding(4, "h:4").adding(5, "h:5"), "node 4 is joining"),
        (lambda: THREE.adding(4, "h:4").without(1), "node 4 is joining"),
        (lambda: FOUR.adding(5, "h:4"), "node 4 has the address h:4"),
        (lambda: first_members(tuple(range(1, 10))).adding(10, "h"), "at most 9 nodes"),
        (lambda: THREE.without(9), "node 9 is no member; they are 1, 2, 3"),
        (lambda: first_members((1,)).without(1), "node 1 is the last one"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(refused, said: str) -> None:
    with pytest.raises(ChangeRefused, match=said) as error:
        refused()
    assert "\n" not in str(error.value)


# When a change is in force ------------------------------------------------------------------------


def adding(leader: Driver) -> tuple[Ballot, int]:
    """The leader's ballot, and the slot in which it proposes that node 4 learns."""
    ballot = settled(leader)
    leader.core.change(AddNode(4, "h:4"), leader.now)
    (accept,) = {message.ballot.op_num for message in only(Accept, leader.sync())}
    return ballot, accept


def test_nothing_follows_a_change_in_its_ballot() -> None:
    leader = Driver()
    ballot, slot = adding(leader)
    leader.core.propose(b"x", leader.now)
    assert only(Accept, leader.sync()) == []
    leader.vote(2, ballot, slot)
    (prepare,) = {message.ballot for message in only(Prepare, leader.sync())}
    assert prepare > ballot
    assert prepare.op_num == slot + 1
    sent = leader.receive(promise_of(2, prepare)) + leader.sync()
    values = [batch for accept in only(Accept, sent) for batch in accept.batches]
    assert (b"x",) in [batch.commands for batch in values]


def test_a_change_that_is_not_chosen_changes_nothing() -> None:
    leader = Driver()
    adding(leader)
    assert leader.core.membership == THREE
    assert leader.core.role is Role.LEADING


def test_a_follower_takes_a_change_over_when_it_is_chosen_and_not_before() -> None:
    node = Driver()
    node.receive(Accept(2, Ballot(5, 2, 1), (change(FOUR),), 0))
    assert node.core.membership == THREE
    node.receive(Commit(2, Ballot(5, 2), 1))
    assert node.core.membership == FOUR
    assert node.persists[-1].membership == (1, FOUR)
    assert node.persists[-1].chosen_through == 1


def test_a_new_leader_proposes_nothing_beyond_a_change_that_it_recovers() -> None:
    leader = Driver()
    old = Ballot(1, 2)
    entries = (Entry(1, old.at(1), A), Entry(2, old.at(2), change(FOUR)), Entry(3, old.at(3), B))
    ballot = leader.prepare(2, 3)
    leader.core.receive(promise_of(2, ballot, *entries), leader.now)
    accepted = [batch for accept in only(Accept, leader.sync()) for batch in accept.batches]
    assert accepted[:2] == [A, change(FOUR)]
    assert B not in accepted


def test_a_change_that_was_made_from_other_members_is_void() -> None:
    """Slot 2 has the removal of node 2 by a leader that never got it chosen, and slot 1 that of
    node 3, by the next one, which did not know of it. Both are recovered, one after the other."""
    leader = Driver()
    ballot = leader.prepare(2, 3)
    entries = (
        Entry(1, Ballot(1, 3, 1), change(THREE.without(3))),
        Entry(2, Ballot(1, 2, 2), change(THREE.without(2))),
    )
    leader.receive(promise_of(2, ballot, *entries))
    leader.sync()
    leader.vote(2, ballot, 1)
    assert leader.core.membership == THREE.without(3)
    again = leader.core.ballot
    leader.sync()
    leader.receive(promise_of(2, again, entries[1]))
    leader.sync()
    leader.vote(2, again, 2)
    assert leader.core.chosen_through == 2
    assert leader.core.membership == THREE.without(3)
    assert leader.persists[-1].membership == (2, THREE.without(3))
    last = leader.core.ballot
    assert last > again  # what follows a change, void or not, is for the next ballot
    leader.sync()
    leader.receive(promise_of(2, last))
    leader.sync()
    leader.vote(2, last, 3)
    assert leader.core.role is Role.LEADING
    assert leader.core.chosen_through == 3


def test_a_follower_that_learns_of_several_changes_at_once_adopts_those_that_follow() -> None:
    node = Driver()
    changes = (THREE.without(3), THREE.without(2), THREE.without(3).adding(4, "h:4"))
    node.receive(Accept(2, Ballot(5, 2, 1), tuple(map(change, changes)), 0))
    node.receive(Commit(2, Ballot(5, 2), 3))
    assert node.core.membership == changes[2]
    assert node.core.membership.removed == (3,)


def test_a_candidate_that_learns_of_a_change_prepares_anew_with_the_new_members() -> None:
    candidate = Driver()
    ballot = candidate.prepare(2, 3)
    chosen = Entry(1, Ballot(1, 2, 1), change(FOUR))
    candidate.core.receive(promise_of(2, ballot, chosen, chosen_through=1), candidate.now)
    assert candidate.core.role is Role.PREPARING
    sent = candidate.sync()
    assert {dst for dst, message in sent if isinstance(message, Prepare)} == {2, 3, 4}
    assert candidate.core.ballot > ballot


def test_votes_are_counted_among_the_members_of_the_ballot() -> None:
    recovered = Recovered(1, True, membership=FOUR, membership_slot=0)
    leader = Driver(recovered=recovered)
    ballot = leader.prepare(2, 3)
    leader.receive(promise_of(2, ballot))
    assert leader.core.role is Role.PREPARING  # two of four are no majority
    leader.receive(promise_of(4, ballot, incarnation=7))
    assert leader.core.role is Role.LEADING


def test_a_restart_counts_in_the_members_of_its_disk_and_not_of_its_configuration() -> None:
    recovered = Recovered(1, True, membership=FOUR, membership_slot=0)
    core = PaxosNode(PaxosConfig(1, (1, 2, 3)), recovered, Random(1))
    assert core.membership == FOUR


def test_the_first_members_are_durable_with_the_first_promise() -> None:
    node = Driver()
    node.receive(Prepare(2, Ballot(1, 2, 1), ()))
    assert node.persists[0].membership == (0, THREE)


# Joining ------------------------------------------------------------------------------------------


def learner(incarnation: int = 7) -> Driver:
    return Driver(node=4, recovered=Recovered(incarnation, voting=False))


def test_a_learner_votes_once_it_has_learned_that_it_is_a_member() -> None:
    node = learner()
    ballot = Ballot(5, 2)
    assert node.receive(Prepare(2, ballot.at(1), ())) == []
    node.receive(CatchUpReply(2, (Entry(1, ballot.at(1), change(FOUR)),), 1))
    assert node.core.role is Role.FOLLOWING
    assert node.persists[-1].voting is True
    assert len(only(Promise, node.receive(Prepare(2, Ballot(6, 2, 2), ())) + node.sync())) == 1


def test_a_member_that_lost_its_disk_since_it_joined_does_not_vote_by_that() -> None:
    node = learner(incarnation=8)
    node.receive(CatchUpReply(2, (Entry(1, Ballot(5, 2, 1), change(FOUR)),), 1))
    assert node.core.role is Role.LEARNING


def with_a_learner(leader: Driver) -> tuple[Ballot, int]:
    """The leader's ballot, and the slot that made node 4 a learner; the one behind it is chosen."""
    ballot, slot = adding(leader)
    leader.vote(2, ballot, slot)
    (ballot,) = {message.ballot for message in only(Prepare, leader.sync())}
    for peer in (2, 3):
        leader.receive(promise_of(peer, ballot))
    leader.sync()
    leader.vote(2, ballot, slot + 1)
    return ballot, slot


def test_a_learner_is_promoted_when_it_has_what_was_opened_at_its_last_report() -> None:
    leader = Driver()
    ballot, slot = with_a_learner(leader)
    all_chosen = Rejoin(4, 7, slot + 1)
    opened, *_ = only(Accept, leader.receive(all_chosen))
    assert (opened.ballot.op_num, opened.batches[0].command_count) == (slot + 2, 0)
    leader.sync()
    leader.vote(2, ballot, slot + 2)
    for _ in range(2):  # late copies, perhaps of a life that has ended
        assert only(Accept, leader.receive(all_chosen)) == []
    accepts = only(Accept, leader.receive(Rejoin(4, 7, slot + 2)))
    assert accepts[0].batches[0].membership() == replace(FOUR, version=2)


def test_a_learner_whose_promotion_must_wait_is_asked_again_whether_it_lives() -> None:
    leader = Driver()
    ballot, slot = with_a_learner(leader)
    leader.receive(Rejoin(4, 7, slot + 1))
    leader.sync()
    leader.pass_time(leader.config.election_timeout_s)  # 2 and 3 are not heard
    assert leader.core.role is Role.LEADING
    opened, *_ = only(Accept, leader.receive(Rejoin(4, 7, slot + 2)))
    assert (opened.ballot.op_num, opened.batches[0].command_count) == (slot + 3, 0)
    leader.sync()
    leader.vote(2, ballot, slot + 2, 2)
    accepts = only(Accept, leader.receive(Rejoin(4, 7, slot + 3)))
    assert accepts[0].batches[0].is_change


def test_late_reports_of_a_life_that_has_ended_make_it_no_voter() -> None:
    """Of two members one would be dead for good, and nobody could fence it."""
    leader = Driver(size=1)
    while leader.core.role is not Role.LEADING:
        leader.pass_time(leader.config.heartbeat_s)
        leader.sync()
    while leader.core.membership.member(2) is None:
        leader.core.change(AddNode(2, "h:2"), leader.now)
        leader.sync()
    while leader.core.role is not Role.LEADING or leader.core.chosen_through < 3:
        leader.sync()
    late = Rejoin(2, 50, leader.core.chosen_through)
    for report in (Rejoin(2, 60, 0), late, late, Rejoin(2, 60, 0), late, late):
        leader.receive(report)
        leader.sync()
    assert leader.core.membership.voters == (1,)
    leader.receive(Rejoin(2, 60, leader.core.chosen_through))
    leader.sync()
    leader.receive(Rejoin(2, 60, leader.core.chosen_through))
    leader.sync()
    member = leader.core.membership.member(2)
    assert member is not None
    assert (member.voting, member.incarnation) == (True, 60)


def test_who_has_no_vote_is_told_what_is_chosen_where_nobody_leads() -> None:
    """Node 4 was made a voter, and the word of it was lost; without its vote nobody can lead."""
    leader = Driver()
    _, slot = adding(leader)
    leader.sync()
    entry = Entry(slot + 1, Ballot(9, 2, slot + 1), change(replace(FOUR, version=2)))
    before = Entry(slot, Ballot(9, 2, slot), change(replace(THREE.adding(4, "h:4"), version=1)))
    leader.receive(CatchUpReply(2, (before, entry), slot + 1))
    assert leader.core.membership.voters == (1, 2, 3, 4)
    assert leader.core.role is not Role.LEADING
    (reply,) = only(CatchUpReply, leader.receive(Rejoin(4, 7, slot)))
    assert reply.entries == (entry,)
    assert only(CatchUpReply, leader.receive(Rejoin(4, 7, slot + 1))) == []
    node = learner()
    node.receive(CatchUpReply(1, (Entry(1, Ballot(9, 2, 1), A), before), slot))
    node.receive(reply)
    assert node.core.role is Role.FOLLOWING


def test_a_ballot_that_only_finishes_a_change_confirms_no_read() -> None:
    """What follows the change may have been chosen and acknowledged, by the members it made."""
    leader = Driver()
    ballot = leader.prepare(2, 3)
    entries = (Entry(1, Ballot(1, 2, 1), change(FOUR)), Entry(2, Ballot(1, 2, 2), A))
    leader.receive(promise_of(2, ballot, *entries))
    leader.sync()
    assert leader.core.role is Role.LEADING
    leader.core.read(7, leader.now)
    heartbeats = only(Heartbeat, leader.pass_time(3 * leader.config.heartbeat_s))
    assert len(heartbeats) <= 2 * 4  # no more than there are without a read
    for each in heartbeats:
        leader.receive(HeartbeatReply(2, ballot, each.round, 0))
    assert (leader.reads, leader.failed_reads) == ([], [])
    leader.vote(2, ballot, 1)
    assert leader.core.membership == FOUR
    assert (leader.reads, leader.failed_reads) == ([], [7])


def test_a_change_waits_until_a_majority_of_the_new_members_knows_of_it() -> None:
    leader = Driver()
    ballot, slot = with_a_learner(leader)
    remove(leader, 4, 2)
    leader.sync()
    leader.vote(2, ballot, slot + 3)
    (ballot,) = {message.ballot for message in only(Prepare, leader.sync())}
    for peer in (2, 3):
        leader.receive(promise_of(peer, ballot))
    leader.sync()
    leader.vote(2, ballot, slot + 4)
    waiting = leader.core.change(RemoveNode(4), leader.now)
    assert "majority of the new members" in waiting.waits_for
    leader.receive(HeartbeatReply(2, ballot, 1, slot + 3))
    assert leader.core.change(RemoveNode(4), leader.now).waits_for == ""


def test_a_heartbeat_reply_does_not_reveal_a_change_that_a_crash_could_forget() -> None:
    node = Driver()
    node.receive(Accept(2, Ballot(5, 2, 1), (change(FOUR),), 0))
    node.sync()
    node.receive(Commit(2, Ballot(5, 2), 1))
    (reply,) = only(HeartbeatReply, node.receive(Heartbeat(2, Ballot(5, 2, 2), 1, 1, (1, 2))))
    assert reply.chosen_through == 0
    node.sync()
    (reply,) = only(HeartbeatReply, node.receive(Heartbeat(2, Ballot(5, 2, 2), 1, 2, (1, 2))))
    assert reply.chosen_through == 1


# Handing over -------------------------------------------------------------------------------------


def test_a_leader_hands_over_its_queue_and_stops_admitting() -> None:
    leader = Driver(pipeline_slots=1)
    ballot = settled(leader)
    for command in (b"x", b"y"):
        leader.core.propose(command, leader.now)
        leader.ready()
    leader.core.change(TransferLeader(2), leader.now)
    sent = leader.ready()
    assert [(dst, message.ballot) for dst, message in sent if isinstance(message, TimeoutNow)] == [
        (2, ballot)
    ]
    assert [message.commands for message in only(Forward, sent)] == [(b"y",)]
    assert leader.core.leader == 2
    with pytest.raises(NotLeader):
        leader.core.propose(b"z", leader.now)


def test_the_successor_prepares_at_once() -> None:
    node = Driver(node=2)
    node.receive(Heartbeat(1, Ballot(5, 1, 1), 0, 1, (1, 2, 3)))
    node.receive(TimeoutNow(1, Ballot(5, 1)))
    assert only(PreVote, node.ready()) == []
    assert {message.ballot for message in only(Prepare, node.sync())} == {Ballot(6, 2)}


def test_an_old_word_to_take_over_is_not_heeded() -> None:
    node = Driver(node=2)
    node.receive(Heartbeat(3, Ballot(6, 3, 1), 0, 1, (1, 2, 3)))
    node.sync()
    node.receive(TimeoutNow(1, Ballot(5, 1)))
    assert node.core.role is Role.FOLLOWING


def lead_again(leader: Driver) -> None:
    """Nobody took the lead that it handed over: with the votes of 2 and 3 it leads again."""
    slot = leader.core.chosen_through + 1
    ballot = leader.elect(2, 3)
    for peer in (2, 3):
        leader.vote(peer, ballot, slot)


def handed_to(leader: Driver, change: RemoveNode | TransferLeader) -> list[int]:
    """To whom it hands over for ``change``, while 2 and 3 vote whenever they are asked to."""
    leader.core.change(change, leader.now)
    sent = leader.sync()
    if opened := only(Accept, sent):
        for peer in (2, 3):
            leader.vote(peer, leader.core.ballot, opened[0].ballot.op_num)
        return handed_to(leader, change)
    return [dst for dst, message in sent if isinstance(message, TimeoutNow)]


def test_a_leader_that_is_to_go_hands_over_to_each_other_twice_and_then_waits() -> None:
    leader = Driver(size=4)
    lead_again(leader)
    for successor in (2, 3, 2, 3):
        assert handed_to(leader, RemoveNode(1)) == [successor]
        lead_again(leader)
    assert handed_to(leader, RemoveNode(1)) == []
    assert ask_removal(leader, 1) == "node 2 or 3 to be able to lead, which was tried"
    assert leader.core.role is Role.LEADING
    leader.now += 10 * leader.config.election_timeout_s
    assert handed_to(leader, RemoveNode(1)) == [2]


@pytest.mark.parametrize("led", [False, True])
def test_who_could_not_take_the_lead_is_not_given_it_again_at_once(led: bool) -> None:
    leader = Driver()
    lead_again(leader)
    for _ in range(2):  # the first word may have been lost
        assert handed_to(leader, TransferLeader(2)) == [2]
        lead_again(leader)
    if led:
        leader.receive(Heartbeat(2, Ballot(leader.core.ballot.seq_num + 1, 2, 2), 1, 1, (1, 2, 3)))
        lead_again(leader)
        assert handed_to(leader, TransferLeader(2)) == [2]
        return
    with pytest.raises(
        ChangeRefused, match=r"^node 2 was handed the lead twice and did not take it: "
    ):
        leader.core.change(TransferLeader(2), leader.now)
    assert handed_to(leader, TransferLeader(3)) == [3]


@pytest.mark.parametrize(("target", "said"), [(9, "no member"), (3, "does not answer")])
def test_nobody_who_cannot_lead_is_handed_over_to(target: int, said: str) -> None:
    leader = Driver()
    ballot = settled(leader)
    leader.pass_time(0.2)
    leader.receive(HeartbeatReply(2, ballot, 1, 1))
    leader.pass_time(0.2)
    with pytest.raises(ChangeRefused, match=said):
        leader.core.change(TransferLeader(target), leader.now)


def test_a_change_is_for_the_leader() -> None:
    with pytest.raises(NotLeader):
        Driver().core.change(RemoveNode(2), 0.0)


def test_a_learner_has_caught_up_where_its_round_began_however_far_the_leader_goes_on() -> None:
    leader = Driver()
    ballot, slot = with_a_learner(leader)
    leader.receive(Rejoin(4, 7, 0))
    leader.sync()
    leader.vote(2, ballot, slot + 2)
    for report in (slot, slot + 1):  # it is always behind: what it says is old when it comes
        assert only(Accept, leader.receive(Rejoin(4, 7, report))) == []
        chosen = leader.core.chosen_through
        leader.core.propose(b"x", leader.now)
        leader.sync()
        leader.vote(2, ballot, chosen + 1)
        assert leader.core.chosen_through == chosen + 1
    accepts = only(Accept, leader.receive(Rejoin(4, 7, slot + 2)))
    assert accepts[0].batches[0].is_change
