"""The parts that the simulation is made of."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import asdict, replace
from random import Random
from typing import Any

import pytest

from consensusllm.conversations import (
    CreateConversation,
    Limits,
    Machine,
    OpenSession,
    Operation,
    PlannedCandidate,
    ReassignCandidate,
    RecordCheckpoint,
    Refused,
    Reply,
    SessionCommand,
    SessionOpened,
    SubmitQuery,
    Turn,
)
from consensusllm.paxos import Ballot, Batch, Persist, first_members
from consensusllm.paxos.messages import Accepted, Entry, Prepare, Promise
from consensusllm.simulation.faults import (
    Fault,
    UnknownFault,
    draw,
    from_json,
    parse_kinds,
    to_json,
)
from consensusllm.simulation.invariants import Invariants, Violation
from consensusllm.simulation.network import Network, Weather
from consensusllm.simulation.virtual_loop import Stuck, VirtualLoop
from consensusllm.storage import MemoryPlatter
from consensusllm.wire.commands import encode_command


def loop_for(test: pytest.FixtureRequest) -> VirtualLoop:
    loop = VirtualLoop()
    test.addfinalizer(loop.close)
    return loop


def all_arrives(loop: VirtualLoop) -> None:
    """Run until nothing is on its way any more."""
    with pytest.raises(Stuck, match="nothing is scheduled"):
        loop.run_forever()


def test_time_jumps_to_the_next_timer(request: pytest.FixtureRequest) -> None:
    loop = loop_for(request)
    woken: list[tuple[float, str]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((loop.time(), name))

    async def both() -> None:
        await asyncio.gather(sleeper("late", 3600.0), sleeper("early", 0.25))

    loop.run_until_complete(both())
    assert woken == [(0.25, "early"), (3600.0, "late")]


def test_waiting_for_what_never_comes_is_an_error(request: pytest.FixtureRequest) -> None:
    loop = loop_for(request)
    with pytest.raises(Stuck, match="for ever"):
        loop.run_until_complete(loop.create_future())


def test_a_moment_that_does_not_end_is_an_error(request: pytest.FixtureRequest) -> None:
    loop = loop_for(request)

    def again() -> None:
        loop.call_soon(again)

    again()
    with pytest.raises(Stuck, match="stands still"):
        loop.run_forever()


def test_what_is_in_flight_when_its_link_is_cut_is_lost(request: pytest.FixtureRequest) -> None:
    loop = loop_for(request)
    network = Network(loop, Random(1), Counter())
    arrived: list[str] = []
    network.post(1, 2, lambda: arrived.append("cut"))
    network.post(2, 1, lambda: arrived.append("the other way"))
    mend = network.cut([(1, 2)])
    all_arrives(loop)
    mend()
    network.post(1, 2, lambda: arrived.append("mended"))
    all_arrives(loop)
    assert arrived == ["the other way", "mended"]


def test_a_link_that_two_faults_cut_is_up_when_both_are_over(
    request: pytest.FixtureRequest,
) -> None:
    loop = loop_for(request)
    network = Network(loop, Random(1), Counter())
    arrived: list[int] = []
    first, second = network.cut([(1, 2)]), network.cut([(1, 2), (2, 1)])
    first()
    network.post(1, 2, lambda: arrived.append(1))
    all_arrives(loop)
    second()
    network.post(1, 2, lambda: arrived.append(2))
    all_arrives(loop)
    assert arrived == [2]


def test_weather_loses_repeats_and_reorders(request: pytest.FixtureRequest) -> None:
    loop = loop_for(request)
    network = Network(loop, Random(1), Counter())
    network.weather = Weather(loss=0.3, duplicate=0.3, straggle=0.3)
    arrived: list[int] = []
    for number in range(300):
        network.post(1, 2, lambda number=number: arrived.append(number))  # type: ignore[misc]
    all_arrives(loop)
    assert 0 < len(set(arrived)) < 300
    assert len(set(arrived)) < len(arrived)
    assert arrived != sorted(arrived)


# Schedules --------------------------------------------------------------------------------------


def test_a_schedule_is_a_function_of_the_seed_and_survives_its_file() -> None:
    kinds = parse_kinds("all")
    members = (2, 5, 13)  # of 1 to 3 at first; others were added
    faults = draw(Random("7"), 1, 60.0, members, kinds)
    assert faults == draw(Random("7"), 1, 60.0, members, kinds)
    assert faults != draw(Random("8"), 1, 60.0, members, kinds)
    assert any(fault.node == 13 for fault in faults)
    assert from_json(to_json(faults)) == faults


def test_no_link_is_drawn_of_a_node_with_itself_nor_a_partition_of_one_side() -> None:
    kinds = parse_kinds("cut,flap,partition")
    for members in ((1,), (1, 2, 3), (2, 4, 5, 6, 9)):
        for seed in range(100):
            for fault in draw(Random(seed), 1, 30.0, members, kinds):
                assert fault.node not in fault.others
                if fault.kind == "partition" and len(members) > 1:
                    assert set(fault.others) < set(members)


def test_faults_are_chosen_by_family_or_by_kind() -> None:
    assert parse_kinds("none") == ()
    assert parse_kinds("pause, cut") == ("cut", "pause")
    assert set(parse_kinds("network")) < set(parse_kinds("all"))
    with pytest.raises(UnknownFault, match="no fault is called 'fire'"):
        parse_kinds("cut,fire")


@pytest.mark.parametrize("text", ["{}", "nothing", '{"round": 1}', "[1]", "[" * 10**6])
def test_what_is_no_schedule_is_refused_by_line(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        from_json(text)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kind": "fire"}, "no fault is called 'fire'"),
        ({"kind": "network"}, "no fault is called 'network'"),
        ({"kind": ["cut"]}, "no fault is called"),
        ({"at_s": "soon"}, "at_s is 'soon'"),
        ({"at_s": -1.0}, "at_s is -1.0"),
        ({"lasts_s": float("nan")}, "lasts_s is nan"),
        ({"rate": 7}, "rate is 7: not a number from 0 to 1"),
        ({"round": 0}, "round is 0"),
        ({"node": -2}, "there is no node -2: they have numbers from 1 to 1000000"),
        ({"node": 10**30}, "there is no node 1000"),
        ({"node": True}, "there is no node True"),
        ({"others": ["a"]}, "there is no node 'a'"),
        ({"others": 3}, "not iterable"),
        ({"detail": "sideways"}, "cut: what it meets is missing or wrong"),
        ({"node": 0}, "cut: what it meets is missing or wrong"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_by_line(changed: dict[str, Any], said: str) -> None:
    fault = {**asdict(Fault(1, 2.0, "cut", 1, (2,), 1.0, 0.5, "both")), **changed}
    with pytest.raises(ValueError, match=f"^line 1: .*{said}"):
        from_json(json.dumps(fault))


# Invariants: each one can fail -------------------------------------------------------------------

BALLOT = Ballot(3, 1)


def watched() -> tuple[Invariants, MemoryPlatter]:
    invariants = Invariants((1, 2, 3), Limits())
    platter = MemoryPlatter()
    for node in (1, 2, 3):
        invariants.formatted(node, True)
    platter.format(1, True)
    return invariants, platter


def entry(slot: int, ballot: Ballot, text: bytes) -> Entry:
    return Entry(slot, ballot, Batch.pack(0, [text]))


def test_what_is_compacted_is_not_missed_where_the_state_has_rotted_since() -> None:
    invariants, platter = watched()
    vote = Accepted(1, BALLOT.at(1), 2, 2, 1)
    with pytest.raises(Violation, match="what it has not synced"):
        invariants.sent(1, 1, vote, platter)
    platter.rot_hard_state()
    invariants.sent(1, 1, vote, platter)
    platter.log[2] = entry(2, Ballot(2, 1), b"older")
    with pytest.raises(Violation, match="what it has not synced"):
        invariants.sent(1, 1, vote, platter)


class Applied:
    """A state machine whose every slot is chosen, and seen to be applied."""

    def __init__(self) -> None:
        self.invariants, self.platter = watched()
        self.machine = Machine(Limits())
        self._sequence = -1
        self._session = bytes(16)

    def do(self, *operations: Operation) -> Reply:
        """The last one's reply."""
        for operation in operations:
            self._sequence += 1
            slot = self.machine.applied_slot + 1
            command = SessionCommand(self._session, self._sequence, 0, operation)
            chosen = entry(slot, BALLOT, encode_command(command))
            for node in (1, 2):
                self.invariants.written(node, self.platter, [Persist(entries=(chosen,))])
            (reply,) = self.machine.apply(slot, 0, [command])
            self.invariants.applied(1, slot, chosen.batch, self.machine)
            if isinstance(reply, SessionOpened):
                self._session = reply.session
        return reply


def test_what_a_takeover_keeps_was_produced_and_one_that_is_refused_keeps_nothing() -> None:
    said = ("c1", 1, 1)
    attempts = [(*said, number) for number in (1, 2)]
    for kept in ("one ", "two "):
        seen = Applied()
        query = SubmitQuery("c1", "?", (PlannedCandidate(1, 1),))
        seen.do(OpenSession(), CreateConversation("c1"), query)
        seen.invariants.produced(1, attempts[0], 0, "one two")
        seen.machine._state.write_turn("c1", with_text(seen.machine.turn("c1", 1), kept))
        takeover = ReassignCandidate(*attempts[1], node=2, keep=4)
        if kept == "two ":
            with pytest.raises(Violation, match="attempt 2 keeps 'two ' of"):
                seen.do(takeover)
            continue
        seen.do(takeover)
        seen.invariants.produced(2, attempts[1], 0, "one three")
        seen.do(RecordCheckpoint(*attempts[1], 4, "three"))
        late = ReassignCandidate(*attempts[1], node=3, keep=4)
        assert isinstance(seen.do(late), Refused)


def with_text(turn: Turn | None, text: str) -> Turn:
    assert turn is not None
    return turn.with_candidate(replace(turn.candidates[0], text=text))


def test_a_promise_that_is_not_on_disk_may_not_be_sent() -> None:
    invariants, platter = watched()
    promise = Promise(1, BALLOT, (), 0, None, 1, ())
    with pytest.raises(Violation, match="durable before revealed"):
        invariants.sent(1, 1, promise, platter)


def test_a_vote_that_is_not_on_disk_may_not_be_sent() -> None:
    invariants, platter = watched()
    platter.log[4] = entry(4, Ballot(2, 1), b"older")
    with pytest.raises(Violation, match="durable before revealed"):
        invariants.sent(1, 1, Accepted(1, BALLOT.at(4), 1, 0, 1), platter)


def test_two_majorities_with_two_values_in_one_slot_are_seen() -> None:
    invariants, platter = watched()
    for node in (1, 2):
        invariants.written(node, platter, [Persist(entries=(entry(1, BALLOT, b"a"),))])
    later = Persist(entries=(entry(1, Ballot(4, 3), b"b"),))
    invariants.written(2, platter, [later])
    with pytest.raises(Violation, match="one chosen value a slot"):
        invariants.written(3, platter, [later])


def test_a_ballot_that_two_lives_open_is_seen() -> None:
    invariants, platter = watched()
    invariants._promised[1] = BALLOT
    invariants.sent(1, 1, Prepare(1, BALLOT, ()), platter)
    invariants.sent(1, 1, Prepare(1, BALLOT, ()), platter)
    with pytest.raises(Violation, match="a ballot is never reused"):
        invariants.sent(1, 2, Prepare(1, BALLOT, ()), platter)


def test_an_attempt_that_begins_twice_is_seen() -> None:
    invariants, _ = watched()
    invariants.produced(1, ("c", 1, 1, 1), 0, "one")
    invariants.produced(1, ("c", 1, 1, 1), 3, " two")
    with pytest.raises(Violation, match="an attempt is begun once"):
        invariants.produced(1, ("c", 1, 1, 1), 0, "one")


def test_an_empty_disk_that_votes_is_seen() -> None:
    invariants, _ = watched()
    invariants.formatted(1, False)
    with pytest.raises(Violation, match="no vote after a lost disk"):
        invariants.formatted(1, True)


# Members ----------------------------------------------------------------------------------------

THREE = first_members((1, 2, 3))


def chosen(invariants: Invariants, *batches: Batch, nodes: tuple[int, ...] = (1, 2, 3)) -> None:
    """``batches`` are on the disks of ``nodes``, in the next slots, and applied."""
    machine = Machine(Limits())
    for batch in batches:
        slot = invariants.frontier + 1
        for node in nodes:
            if node not in invariants._held:
                invariants.formatted(node, False)
            platter = MemoryPlatter()
            persist = Persist(entries=(Entry(slot, BALLOT.at(slot), batch),))
            invariants.written(node, platter, [persist])
        invariants.applied(nodes[0], slot, batch, machine)


def test_a_value_is_chosen_by_the_members_of_its_slot() -> None:
    invariants, _ = watched()
    grown = THREE.adding(4, "h:4").promoting(4, 7)
    chosen(invariants, Batch.change(0, THREE.adding(4, "h:4")), Batch.change(0, grown))
    with pytest.raises(Violation, match="chosen is durable on a majority"):
        chosen(invariants, Batch.noop(0), nodes=(1, 2))
    assert invariants.voters == (1, 2, 3, 4)


def test_the_vote_of_one_that_has_left_does_not_count() -> None:
    invariants, _ = watched()
    chosen(invariants, Batch.change(0, THREE.without(3)), nodes=(1, 3))
    with pytest.raises(Violation, match="chosen is durable on a majority"):
        chosen(invariants, Batch.noop(0), nodes=(1, 3))


def test_two_changes_in_one_are_seen() -> None:
    invariants, _ = watched()
    with pytest.raises(Violation, match="one change at a time"):
        chosen(invariants, Batch.change(0, THREE.without(1).without(2)))


def test_an_id_that_comes_back_is_seen() -> None:
    invariants, _ = watched()
    chosen(invariants, Batch.change(0, THREE.without(3)))
    with pytest.raises(Violation, match="an id is never used again"):
        chosen(invariants, Batch.change(0, replace(THREE, version=2)))


def test_a_change_that_others_overtook_changes_nothing() -> None:
    invariants, _ = watched()
    overtaken = [Batch.change(0, THREE.without(each)) for each in (3, 2)]
    chosen(invariants, *overtaken, nodes=(1, 2))
    assert invariants.voters == (1, 2)


def test_a_change_of_members_that_never_were_is_seen() -> None:
    invariants, _ = watched()
    with pytest.raises(Violation, match="one change at a time"):
        chosen(invariants, Batch.change(0, replace(THREE.without(3), version=2)))


def test_a_vote_of_one_who_is_no_member_is_seen() -> None:
    invariants, platter = watched()
    with pytest.raises(Violation, match="no vote before it is a member"):
        invariants.sent(4, 1, Accepted(4, BALLOT.at(1), 1, 0, 1), platter)
