"""Whole councils through answerers, duties and real state machines, with members that fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from council_fakes import Cluster, Port, until

from consensusllm.conversations import (
    CloseStage,
    Code,
    ConveneCouncil,
    Council,
    CreateConversation,
    Member,
    Stage,
    StageKind,
    Turn,
    TurnOpened,
    outcome,
    shortfalls,
    tally,
)
from consensusllm.council.answerer import Answerer
from consensusllm.council.duties import Duties
from consensusllm.llm.port import GenerateRequest
from consensusllm.llm.scripted import Scripted
from consensusllm.llm.settings import ProviderSettings

STAGES = (
    Stage(StageKind.OPINIONS, (1, 2, 3), deadline_ms=5000, instructions="be brief"),
    Stage(StageKind.REVIEW, (1, 2, 3), deadline_ms=5000),
    Stage(StageKind.SYNTHESIS, (4, 5), deadline_ms=5000),
)
MEMBERS = (
    Member(1),
    Member(2, instructions="doubt"),
    Member(3),
    Member(1, role="chair"),
    Member(2),
)
COUNCIL = Council("three-stage", "r", 9, MEMBERS, STAGES)


class Heard(Scripted):
    """Remembers what it was asked."""

    def __init__(self, node: int, **options: Any) -> None:
        super().__init__(ProviderSettings("scripted", node=node, options=options))
        self.requests: list[GenerateRequest] = []

    def generate(self, request: GenerateRequest) -> Any:
        self.requests.append(request)
        return super().generate(request)


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    monkeypatch.setattr("consensusllm.council.answerer.RETRY_S", 0.01)
    answerers: list[Answerer] = []

    async def start(port: Port, provider: Heard) -> Heard:
        answerer = Answerer(port, {"": provider}, poll_s=0.01, reassign_after_s=0.05)
        answerers.append(answerer)
        await answerer.start()
        await until(lambda: port.passed)
        return provider

    yield start
    for answerer in answerers:
        await answerer.close()


def convene(cluster: Cluster, council: Council = COUNCIL) -> None:
    cluster.propose(CreateConversation("c1"))
    reply = cluster.propose(ConveneCouncil("c1", "Why?", council))
    assert isinstance(reply, TurnOpened)


async def closed(cluster: Cluster) -> Turn:
    await until(lambda: cluster.turn().closed)
    return cluster.turn()


async def test_a_council_of_three_answers_reviews_and_sums_up(start):
    cluster = Cluster()
    heard = {
        node: await start(cluster.ports[node], Heard(node, texts=["opinion {node}"]))
        for node in (1, 2, 3)
    }
    convene(cluster)
    turn = await closed(cluster)
    assert shortfalls(turn) == ()
    assert outcome(turn) == 7
    assert [each.ballots for each in tally(turn)] == [2, 2, 2]
    opinion, review = heard[2].requests
    assert opinion.turns[-1].text == "Why?"
    assert opinion.system == "doubt\n\nbe brief"
    assert opinion.schema is None
    assert review.system is None
    assert review.schema is not None
    assert "opinion 1" in review.turns[-1].text
    assert "opinion 2" not in review.turns[-1].text
    synthesis = heard[1].requests[-1].turns[-1].text
    assert all(f"opinion {node}" in synthesis for node in (1, 2, 3))
    assert {turn.candidate(number).text for number in (4, 5, 6)} != {""}
    same = [cluster.turn(node=node) for node in (1, 2, 3)]
    assert same == [turn] * 3
    assert len({port.machine.state_hash() for port in cluster.ports.values()}) == 1


async def test_members_that_fail_or_do_not_rank_degrade_it_and_are_never_shown(start):
    cluster = Cluster()
    heard = await start(cluster.ports[1], Heard(1, texts=["opinion {node}"]))
    await start(cluster.ports[2], Heard(2, ranks=False))
    await start(cluster.ports[3], Heard(3, failures={"rejected": 1.0}))
    convene(cluster)
    turn = await closed(cluster)
    assert outcome(turn)
    lacked = [(each.stage, each.seat, each.reason) for each in shortfalls(turn)]
    assert lacked[0] == (1, 3, "scripted: rejected, as told")
    # Only the seat that failed was shown two answers of others.
    assert {(stage, seat) for stage, seat, _ in lacked[1:]} == {(2, 1), (2, 2), (2, 3)}
    assert not any("as told" in request.turns[-1].text for request in heard.requests)


async def test_the_next_chairman_sums_up_where_the_first_one_fails(start):
    cluster = Cluster()
    await start(cluster.ports[1], Heard(1, failures={"unavailable": 1.0}))
    await start(cluster.ports[2], Heard(2))
    await start(cluster.ports[3], Heard(3))
    convene(cluster)
    turn = await closed(cluster)
    found = turn.candidate(outcome(turn))
    assert (found.seat, found.node) == (5, 2)
    assert (3, 4) in {(each.stage, each.seat) for each in shortfalls(turn)}


async def test_a_member_whose_node_is_gone_is_replaced_and_the_council_ends(start):
    cluster = Cluster()
    for node in (1, 2):
        await start(cluster.ports[node], Heard(node))
    cluster.live = frozenset({1, 2})
    convene(cluster)
    turn = await closed(cluster)
    assert outcome(turn) == 7
    assert {(each.seat, each.reason) for each in shortfalls(turn)} == {
        (3, "node 1 took the place of node 3")
    }


async def test_the_leader_ends_a_stage_past_its_deadline_once_and_the_council_goes_on(start):
    cluster = Cluster()
    await start(cluster.ports[1], Heard(1))
    await start(cluster.ports[2], Heard(2))
    convene(cluster)  # node 3 is alive, and says nothing
    await until(lambda: cluster.candidate(1).ended and cluster.candidate(2).ended)
    assert cluster.turn().stage == 1
    cluster.time_ms += 5001
    await until(lambda: cluster.turn().stage > 1)
    assert cluster.candidate(3).error == "deadline passed: no answer in 5 s"
    late = cluster.turn()
    assert late.deadline_ms >= cluster.time_ms + 4000
    cluster.time_ms += 5001  # the reviews' time, of which node 3 has one
    turn = await closed(cluster)
    assert outcome(turn)
    assert shortfalls(turn)


async def test_two_leaders_that_end_a_stage_do_no_harm():
    cluster = Cluster()
    convene(cluster)
    cluster.time_ms += 5001
    duties = [Duties(cluster.ports[node], 3.0, lambda: 0.0) for node in (1, 2)]
    cluster.leader = 1
    duties[0].look()
    cluster.leader = 2
    duties[1].look()
    await until(lambda: len(cluster.operations(CloseStage)) == 2)
    # Nobody answered, so the council is over; the second leader was refused.
    assert cluster.turn().closed
    again = cluster.propose(CloseStage("c1", 1, 3, "deadline passed"))
    assert again.code is Code.STALE
    for each in duties:
        await each.close()
