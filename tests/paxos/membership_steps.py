"""Steps of a leader that changes the members, for the tests of that."""

from __future__ import annotations

from core_driver import Driver, only

from consensusllm.paxos import Ballot, RemoveNode
from consensusllm.paxos.messages import Accept, Heartbeat, HeartbeatReply


def settled(leader: Driver) -> Ballot:
    """Make it lead, with its ballot's first slot chosen."""
    ballot = leader.elect(2)
    leader.vote(2, ballot, 1)
    return ballot


def remove(leader: Driver, node: int, *present: int) -> None:
    """Ask for the removal of ``node``, let ``present`` vote, and ask again."""
    call_roll(leader, node, *present)
    ask_removal(leader, node)


def call_roll(leader: Driver, node: int, *present: int, asked: int = 0) -> int:
    """Ask for the removal of ``node``, and let ``present`` vote in the slot that it opens."""
    assert ask_removal(leader, node, asked) == "the members to vote"
    (slot,) = {accept.ballot.op_num for accept in only(Accept, leader.sync())}
    for peer in present:
        leader.vote(peer, leader.core.ballot, slot)
    return slot


def changes_proposed(leader: Driver) -> list[Accept]:
    return [each for each in only(Accept, leader.sync()) if each.batches[0].is_change]


def ask_removal(leader: Driver, node: int, asked: int = 0) -> str:
    """Ask for the removal of ``node``; what it waits for."""
    return leader.core.change(RemoveNode(node, asked), leader.now).waits_for


def hear(leader: Driver, seconds: float, *peers: int, removing: int | None = None) -> None:
    """Let ``peers`` answer heartbeats for so long; a removal of ``removing`` is asked for again and
    again."""
    until = leader.now + seconds
    while leader.now < until:
        for sent in only(Heartbeat, leader.pass_time(leader.config.heartbeat_s)):
            for peer in peers:
                leader.receive(HeartbeatReply(peer, leader.core.ballot, sent.round, 1))
        if removing is not None:
            ask_removal(leader, removing)
