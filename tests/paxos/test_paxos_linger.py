"""What waits for company, and for how long at most: commands, and the news of what is chosen."""

from __future__ import annotations

from core_driver import Driver, only

from consensusllm.paxos import Ballot
from consensusllm.paxos.messages import Accept, Accepted, Commit
from consensusllm.paxos.proposer import ENOUGH_COMMANDS

LINGER_S = 0.005


def leader(**settings: float) -> tuple[Driver, Ballot]:
    """A leader of three whose own no-op is chosen and known to the peers."""
    driver = Driver(linger_s=LINGER_S, **settings)
    ballot = driver.elect(2)
    driver.vote(2, ballot, 1)
    driver.pass_time(driver.config.heartbeat_s)
    return driver, ballot


def commands(sent: list) -> list[tuple[bytes, ...]]:
    """The commands of each slot that was proposed to node 2."""
    return [
        batch.unpack()[1]
        for peer, message in sent
        if peer == 2 and isinstance(message, Accept)
        for batch in message.batches
    ]


def test_a_command_that_finds_no_slot_open_is_proposed_at_once() -> None:
    core, _ = leader()
    core.core.propose(b"a", core.now)
    assert commands(core.sync()) == [(b"a",)]


def test_commands_that_come_while_a_slot_is_open_share_the_next_one() -> None:
    core, ballot = leader()
    core.core.propose(b"a", core.now)
    core.sync()
    core.core.propose(b"b", core.now)
    core.core.propose(b"c", core.now)
    assert commands(core.sync()) == []
    core.core.receive(_vote(ballot, 2), core.now)
    assert commands(core.ready()) == [(b"b", b"c")]


def test_they_wait_no_longer_than_the_linger() -> None:
    core, _ = leader()
    core.core.propose(b"a", core.now)
    core.sync()
    core.core.propose(b"b", core.now)
    core.sync()
    assert core.core.deadline() <= core.now + LINGER_S
    assert commands(core.pass_time(LINGER_S)) == [(b"b",)]


def test_a_batch_that_is_full_does_not_wait() -> None:
    core, _ = leader(max_batch_commands=2)
    core.core.propose(b"a", core.now)
    core.sync()
    core.core.propose(b"b", core.now)
    core.core.propose(b"c", core.now)
    assert commands(core.sync()) == [(b"b", b"c")]


def test_a_batch_that_is_large_enough_does_not_wait() -> None:
    core, _ = leader()
    core.core.propose(b"a", core.now)
    core.sync()
    for _ in range(ENOUGH_COMMANDS - 1):
        core.core.propose(b"b", core.now)
    assert commands(core.sync()) == []
    core.core.propose(b"b", core.now)
    assert commands(core.sync()) == [(b"b",) * ENOUGH_COMMANDS]


def test_what_gathers_behind_a_full_window_shares_a_slot_however_much_it_is() -> None:
    core, ballot = leader(pipeline_slots=1)
    core.core.propose(b"a", core.now)
    core.sync()
    for _ in range(3 * ENOUGH_COMMANDS):
        core.core.propose(b"b", core.now)
    assert commands(core.sync()) == []
    core.core.receive(_vote(ballot, 2), core.now)
    assert commands(core.ready()) == [(b"b",) * (3 * ENOUGH_COMMANDS)]


def test_a_full_window_is_not_looked_at_again_and_again() -> None:
    core, _ = leader(pipeline_slots=1)
    core.core.propose(b"a", core.now)
    core.sync()
    core.core.propose(b"b", core.now)
    core.sync()
    core.pass_time(2 * LINGER_S)
    assert core.core.deadline() > core.now


def test_what_is_chosen_rides_on_the_next_proposal() -> None:
    core, ballot = leader()
    core.core.propose(b"a", core.now)
    core.sync()
    sent = core.receive(_vote(ballot, 2))
    assert core.core.chosen_through == 2
    assert only(Commit, sent) == []
    core.core.propose(b"b", core.now)
    assert [accept.chosen_through for accept in only(Accept, core.sync())] == [2, 2]
    assert only(Commit, core.pass_time(LINGER_S)) == []


def test_it_is_told_by_itself_when_nothing_carries_it_for_the_linger() -> None:
    core, ballot = leader()
    core.core.propose(b"a", core.now)
    core.sync()
    core.receive(_vote(ballot, 2))
    assert core.core.deadline() <= core.now + LINGER_S
    told = only(Commit, core.pass_time(LINGER_S))
    assert [commit.chosen_through for commit in told] == [2, 2]
    assert only(Commit, core.pass_time(LINGER_S)) == []


def test_a_command_that_a_peer_answers_for_is_told_at_once() -> None:
    core, ballot = leader()
    core.core.propose(b"a", core.now, awaited=True)
    core.sync()
    told = only(Commit, core.receive(_vote(ballot, 2)))
    assert [commit.chosen_through for commit in told] == [2, 2]
    core.core.propose(b"b", core.now)
    core.sync()
    assert only(Commit, core.receive(_vote(ballot, 3))) == []


def _vote(ballot: Ballot, slot: int) -> Accepted:
    return Accepted(2, ballot.at(slot), 1, 0, 1)
