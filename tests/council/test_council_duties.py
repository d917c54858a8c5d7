"""What a leader owes open turns: when it proposes to close or to reassign, and how much at once."""

from __future__ import annotations

import asyncio

import pytest
from council_fakes import Cluster, until

from consensusllm.conversations import (
    CreateConversation,
    PlannedCandidate,
    ReassignCandidate,
    RecordCheckpoint,
    RetryTurn,
    ServedModel,
    ServeModels,
    SubmitQuery,
)
from consensusllm.conversations.commands import CloseTurn
from consensusllm.council.duties import PROPOSALS_MAX, Duties


async def test_a_leader_that_was_deposed_counts_absence_anew():
    cluster = Cluster()
    cluster.live -= {3}
    cluster.ask((3,))
    now = 100.0
    duties = Duties(cluster.ports[1], 3.0, lambda: now)

    async def look(leader: int) -> int:
        cluster.leader = leader
        duties.look()
        await asyncio.gather(*duties._proposals.values())
        return len(cluster.operations(ReassignCandidate))

    assert await look(leader=1) == 0
    now += 2.9
    assert await look(leader=1) == 0
    assert await look(leader=2) == 0
    now += 2.9
    assert await look(leader=1) == 0
    now += 2.9
    assert await look(leader=1) == 0
    now += 0.2
    assert await look(leader=1) == 1
    assert await look(leader=1) == 1


async def test_a_turn_is_closed_once_and_after_its_deadline_not_at_it():
    cluster = Cluster()
    cluster.ask((1,), deadline_ms=5000)
    duties = Duties(cluster.ports[1], 3.0)
    cluster.time_ms += 5000
    duties.look()
    assert duties._proposals == {}
    cluster.time_ms += 1
    duties.look()
    duties.look()
    await until(lambda: not duties._proposals)
    assert len(cluster.operations(CloseTurn)) == 1
    assert cluster.turn().closed


async def test_a_leader_whose_wall_clock_is_ahead_closes_no_turn_before_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster()
    cluster.ask((1,), deadline_ms=5000)
    night_ms = 8 * 3_600_000
    monkeypatch.setattr(cluster.ports[1], "now_ms", lambda: cluster.time_ms + night_ms)
    duties = Duties(cluster.ports[1], 3.0)
    duties.look()
    await until(lambda: not duties._proposals)
    assert not cluster.turn().closed
    cluster.time_ms += 5001
    duties.look()
    await until(lambda: cluster.turn().closed)


async def test_a_turn_that_is_asked_again_meanwhile_is_not_closed_for_the_deadline_before() -> None:
    cluster = Cluster()
    cluster.ask((1,), deadline_ms=5000)
    duties = Duties(cluster.ports[1], 3.0)
    cluster.time_ms += 5001
    duties.look()
    cluster.propose(RetryTurn("c1", 1, (PlannedCandidate(1, 2),)))
    await until(lambda: not duties._proposals)
    assert len(cluster.operations(CloseTurn)) == 1
    assert not cluster.turn().closed
    assert not cluster.candidate(2).ended


async def test_commands_of_the_duties_are_bounded():
    cluster = Cluster()
    port = cluster.ports[1]
    for number in range(PROPOSALS_MAX + 5):
        cluster.ask((3,), conversation=f"c{number}", deadline_ms=1)
    cluster.time_ms += 2
    duties = Duties(port, 3.0)
    duties.look()
    duties.look()
    await asyncio.gather(*duties._proposals.values())
    assert len(cluster.operations(CloseTurn)) == PROPOSALS_MAX
    port.connected = False
    duties.look()
    await asyncio.gather(*duties._proposals.values())
    port.connected = True
    duties.look()
    await duties.close()
    assert len(cluster.operations(CloseTurn)) == PROPOSALS_MAX
    duties.look()
    await asyncio.gather(*duties._proposals.values())
    assert len(cluster.operations(CloseTurn)) == PROPOSALS_MAX + 5
    assert port.machine.open_turns() == []


@pytest.mark.parametrize(
    ("served", "model", "kept"),
    [("only", "", 8), ("other", "other", 0)],
    ids=["its own", "another"],
)
async def test_no_other_model_goes_on_with_what_one_has_written(
    served: str, model: str, kept: int
) -> None:
    cluster = Cluster()
    cluster.live -= {3}
    cluster.propose(ServeModels(3, (ServedModel("only", "builtin"),)))
    cluster.propose(ServeModels(2, (ServedModel(served, "builtin"),)))
    cluster.propose(CreateConversation("c1"))
    cluster.propose(SubmitQuery("c1", "what?", (PlannedCandidate(1, 3, "only"),)))
    cluster.propose(RecordCheckpoint("c1", 1, 1, 1, 0, "I think "))
    assert cluster.candidate().text == "I think "
    duties = Duties(cluster.ports[1], 0.0, lambda: 0.0)
    duties.look()
    await asyncio.gather(*duties._proposals.values())
    (reassigned,) = cluster.operations(ReassignCandidate)
    assert (reassigned.node, reassigned.model, reassigned.keep) == (2, model, kept)
