"""Who leaves: when a removal is let through, and what the removed node is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_driver import Driver, only
from membership_steps import ask_removal, call_roll, changes_proposed, hear, remove, settled

from consensusllm.paxos import (
    Ballot,
    Batch,
    ChangeRefused,
    RemoveNode,
    Role,
    first_members,
)
from consensusllm.paxos.messages import (
    Accept,
    Accepted,
    CatchUp,
    CatchUpReply,
    Entry,
    HeartbeatReply,
    Prepare,
    PreVote,
    PreVoteReply,
    Promise,
    TimeoutNow,
)

THREE = first_members((1, 2, 3))
FOUR = replace(THREE.adding(4, "h:4").promoting(4, 7), version=1)
"""As if one change had led to it."""


def test_removals_that_are_asked_for_in_turn_do_not_hinder_each_other() -> None:
    leader = Driver(size=5)
    leader.elect(2, 3)
    leader.vote(2, leader.core.ballot, 1)
    leader.vote(3, leader.core.ballot, 1)
    call_roll(leader, 4, 2, 3)
    call_roll(leader, 5, 2, 3)
    assert ask_removal(leader, 4) == "the change to be chosen"
    assert ask_removal(leader, 5) == "the change that is under way"


def removed() -> Driver:
    """Node 3, after it has learned of its removal."""
    node = Driver(node=3)
    node.receive(
        CatchUpReply(1, (Entry(1, Ballot(5, 1, 1), Batch.change(1, THREE.without(3))),), 1)
    )
    return node


def test_a_removed_node_never_stands_again() -> None:
    node = removed()
    for _ in range(50):
        assert only(PreVote, node.pass_time(1.0)) == []
    assert node.receive(TimeoutNow(1, Ballot(5, 1))) == []


def test_a_removed_node_still_answers_those_who_may_not_know() -> None:
    node = removed()
    sent = node.receive(Prepare(1, Ballot(6, 1, 2), ())) + node.sync()
    assert len(only(Promise, sent)) == 1


def test_a_node_that_missed_its_removal_is_refused_and_told() -> None:
    member = Driver()
    member.receive(
        CatchUpReply(2, (Entry(1, Ballot(5, 2, 1), Batch.change(1, THREE.without(3))),), 1)
    )
    (reply,) = only(PreVoteReply, member.receive(PreVote(3, Ballot(9, 3))))
    assert not reply.granted
    assert len(only(CatchUpReply, member.receive(CatchUp(3, 1)))) == 1
    assert member.receive(Prepare(3, Ballot(9, 3, 1), ())) + member.sync() == []


def test_a_removal_that_would_leave_no_live_majority_is_refused() -> None:
    leader = Driver(election_timeout_s=0.35)
    ballot = settled(leader)
    leader.pass_time(0.2)
    leader.receive(HeartbeatReply(2, ballot, 1, 1))
    leader.pass_time(0.2)
    with pytest.raises(ChangeRefused, match="only 1 of 2 nodes would be alive"):
        leader.core.change(RemoveNode(2), leader.now)
    remove(leader, 3, 2)  # the dead one
    assert only(Accept, leader.ready())


def test_a_removal_waits_until_those_who_stay_have_voted_since_it_was_asked_for() -> None:
    """A member that was heard a moment ago may have died since, or its disk hang, and its vote be
    needed: that it answers heartbeats does not say that it writes."""
    leader = Driver()
    ballot = settled(leader)
    leader.vote(3, ballot, 1)
    slot = call_roll(leader, 2)
    hear(leader, leader.config.heartbeat_s, 3)
    assert ask_removal(leader, 2) == "a vote of node 3"
    assert changes_proposed(leader) == []
    leader.vote(3, ballot, slot)
    ask_removal(leader, 2)
    assert changes_proposed(leader)


def test_a_removal_waits_for_the_leaders_own_disk_too() -> None:
    leader = Driver()
    ballot = settled(leader)
    leader.vote(3, ballot, 1)
    ask_removal(leader, 2)
    (slot,) = {accept.ballot.op_num for accept in only(Accept, leader.ready())}  # not written
    for peer in (2, 3):
        leader.vote(peer, ballot, slot)
    assert leader.core.chosen_through == slot
    assert ask_removal(leader, 2) == "a vote of node 1"
    leader.sync()
    ask_removal(leader, 2)
    assert changes_proposed(leader)


def test_votes_for_one_asking_do_not_count_when_the_same_removal_is_asked_for_anew() -> None:
    """Whoever cast them may have died a moment before."""
    leader = Driver()
    ballot = settled(leader)
    leader.vote(3, ballot, 1)
    call_roll(leader, 2, 3, asked=1)
    call_roll(leader, 2, asked=2)
    ask_removal(leader, 2, asked=2)
    assert changes_proposed(leader) == []


def test_who_asks_for_the_same_removal_as_another_does_not_hinder_it() -> None:
    leader = Driver()
    ballot = settled(leader)
    leader.vote(3, ballot, 1)
    first = call_roll(leader, 2, asked=1)
    call_roll(leader, 2, asked=2)
    leader.vote(3, ballot, first)
    assert ask_removal(leader, 2, asked=2) == "a vote of node 3"
    assert changes_proposed(leader) == []
    ask_removal(leader, 2, asked=1)
    assert changes_proposed(leader)


def test_a_removal_counts_its_votes_however_seldom_it_is_asked_for() -> None:
    """Whoever asks may be far away."""
    leader = Driver()
    ballot = settled(leader)
    leader.vote(3, ballot, 1)
    call_roll(leader, 2, 3, asked=1)
    hear(leader, 8 * leader.config.election_timeout_s, 3)
    ask_removal(leader, 2, asked=1)
    assert changes_proposed(leader)


def test_a_removal_that_was_proposed_is_refused_no_more() -> None:
    leader = Driver()
    ballot = settled(leader)
    leader.vote(3, ballot, 1)
    call_roll(leader, 3, 2, 3)
    assert ask_removal(leader, 3) == "the change to be chosen"
    proposed = changes_proposed(leader)[0]
    hear(leader, 2 * leader.config.election_timeout_s, 3)  # 2 is gone, and the disk of 3 slow
    assert ask_removal(leader, 3) == "the change that is under way"
    leader.vote(3, ballot, proposed.ballot.op_num)
    assert leader.core.membership.removed == (3,)


def test_votes_of_long_before_do_not_count_however_often_a_removal_is_asked_for() -> None:
    leader = Driver(size=5)
    ballot = leader.elect(2, 3)
    leader.vote(2, ballot, 1)
    leader.vote(3, ballot, 1)
    slot = call_roll(leader, 5, 2, 5)
    hear(leader, 9 * leader.config.election_timeout_s, 2, 3, 4, removing=5)
    assert ask_removal(leader, 5) == "a vote of node 3 or 4"
    hear(leader, 1.5 * leader.config.election_timeout_s, 2, 3, 4, removing=5)
    leader.sync()
    leader.vote(3, ballot, slot)
    assert ask_removal(leader, 5) == "a vote of node 2 or 3 or 4"


def test_a_leader_that_is_to_leave_hands_over_first() -> None:
    leader = Driver()
    ballot = settled(leader)
    leader.receive(Accepted(3, ballot.at(1), 1, 1, 1))
    remove(leader, 1, 2, 3)
    assert only(TimeoutNow, leader.ready())
    assert leader.core.role is Role.FOLLOWING
    assert leader.core.membership == THREE


def test_a_roll_call_holds_for_as_long_as_votes_may_take() -> None:
    leader = Driver()
    ballot = settled(leader)
    leader.vote(3, ballot, 1)
    slot = call_roll(leader, 2)
    hear(leader, 8 * leader.config.election_timeout_s, 3, removing=2)  # a slow disk
    leader.vote(3, ballot, slot)
    assert ask_removal(leader, 2) == "the change to be chosen"
    assert changes_proposed(leader)


def test_a_vote_that_was_lost_is_asked_for_again_and_others_go_on_counting() -> None:
    """What is chosen without it is sent to nobody again."""
    leader = Driver()
    ballot = settled(leader)
    leader.vote(3, ballot, 1)
    slot = call_roll(leader, 2, 2)
    assert leader.core.chosen_through == slot
    assert ask_removal(leader, 2) == "a vote of node 3"
    assert only(Accept, leader.sync()) == []
    hear(leader, 1.5 * leader.config.election_timeout_s, 3, removing=2)
    hear(leader, 1.5 * leader.config.election_timeout_s, 3)
    assert ask_removal(leader, 2) == "a vote of node 3"
    asked = {accept.ballot.op_num for accept in only(Accept, leader.sync())}
    assert asked == {slot + 1}
    assert ask_removal(leader, 2) == "a vote of node 3"
    assert only(Accept, leader.sync()) == [], "once at a time"
    leader.vote(3, ballot, slot + 1)
    assert ask_removal(leader, 2) == "the change to be chosen"
    assert changes_proposed(leader)
