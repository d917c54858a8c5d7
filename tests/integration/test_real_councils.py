"""Councils between real processes: members are killed in the middle and it ends as what it is;
templates of one's own; what cannot be convened is refused in a line."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
from real_cluster import RealCluster

from consensusllm.client import (
    CandidateDone,
    Delta,
    InvalidRequest,
    Plan,
    StageOpened,
    Takeover,
    TurnClosed,
    read_export,
)
from consensusllm.conversations import StageKind, outcome, shortfalls, tally

SLOW = [
    {
        "provider": "scripted",
        "options": {"tokens_per_second": 10, "texts": ["{node} says " + "word " * 20]},
    }
]
OWN = """description: Mine.
roles: [{name: optimist, instructions: Hope.}, {name: pessimist, instructions: Fear.}]
stages:
  - {kind: opinions, deadline: 20s}
  - {kind: synthesis}
"""


async def test_a_council_of_five_loses_two_and_ends_labelled_as_what_it_is(
    tmp_path: Path,
) -> None:
    async with RealCluster(tmp_path, 5, models=SLOW) as cluster:
        client = cluster.client()
        await client.create("c1")
        turn = await client.ask("c1", "Why?", plan=Plan(council="three-stage"))
        stages: list[int] = []
        texts: dict[int, str] = {}
        done: dict[int, str] = {}
        killed: list[int] = []
        asked_by: dict[int, int] = {}
        events = client.watch("c1", turn, timeout_s=120)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, StageOpened):
                    stages.append(event.stage)
                    for number, seat in event.seats.items():
                        asked_by[number] = seat
                elif isinstance(event, Delta):
                    texts[event.candidate] = texts.get(event.candidate, "") + event.text
                    # One in the first stage while it writes, and one in the second.
                    if len(killed) < min(2, stages[-1]) and event.node not in killed:
                        killed.append(event.node)
                        await cluster.faults.fail_node(event.node)
                elif isinstance(event, Takeover):
                    texts[event.candidate] = texts.get(event.candidate, "")[: event.offset]
                elif isinstance(event, CandidateDone):
                    done[event.candidate.number] = event.candidate.text
                elif isinstance(event, TurnClosed):
                    closed = event.turn
        assert sorted(set(stages)) == [1, 2, 3]
        assert len(killed) == 2
        council = closed.council
        assert council is not None
        assert outcome(closed)
        assert closed.candidate(outcome(closed)).answered  # type: ignore[union-attr]
        lacked = {council.member(each.seat).node for each in shortfalls(closed) if each.seat}
        assert set(killed) <= lacked
        assert all(each.answered for each in closed.candidates)
        assert sum(each.ballots for each in tally(closed)) == 4 * 5
        assert texts == done == {each.number: each.text for each in closed.candidates}
        assert set(asked_by) == set(done)
        [viewed] = (await client.view("c1")).turns
        assert viewed == closed
        assert (await client.conversations())[0].degraded
        for node in killed:
            await cluster.faults.fix_node(node)
        await cluster.agreement()


async def test_ones_own_template_is_found_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "templates"
    own.mkdir()
    (own / "mine.yaml").write_text(OWN)
    (own / "broken.yaml").write_text(OWN.replace("kind: synthesis", "kind: synthesys"))
    async with RealCluster(tmp_path, council={"templates": str(own)}) as cluster:
        client = cluster.client()
        await client.create("c1")
        found = await client.templates()
        assert {"mine", "three-stage", "debate"} <= {each.name for each in found.templates}
        [problem] = found.problems
        assert problem.startswith(f"{own / 'broken.yaml'}:5: ")
        closed = await client.query("c1", "Is it?", plan=Plan(council="mine"))
        council = closed.council
        assert council is not None
        assert [each.role for each in council.members[:2]] == ["optimist", "pessimist"]
        assert [stage.kind for stage in council.stages] == [
            StageKind.OPINIONS,
            StageKind.SYNTHESIS,
        ]
        assert council.stages[0].deadline_ms == 20_000
        assert outcome(closed) == 3
        assert shortfalls(closed) == ()
        for name in ("mint", "thre-stage"):
            with pytest.raises(InvalidRequest, match=r"no council template .* did you mean "):
                await client.query("c1", "Is it?", plan=Plan(council=name))
        single = await client.query(
            "c1", "1+1?", plan=Plan(council="self-consistency", models=("builtin@2",))
        )
        assert single.council is not None
        assert {each.node for each in single.council.members} == {2}
        shell = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "consensusllm_cli.main", "query", "c1", "--council=mine"),
            *("--json", "--config", str(cluster.config_path), "Is it", "so?"),
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await shell.communicate()
        assert shell.returncode == 0
        asked = json.loads(printed)
        assert (asked["question"], asked["council"]["template"]) == ("Is it so?", "mine")
        assert asked["findings"]["outcome"] == 3
        document = await client.export_conversation("c1")
        assert [each["outcome"] for each in document["councils"]] == [3, 1, 3]
        exported = read_export(json.loads(json.dumps(document)))
        await client.import_conversation(exported.conversation, "c2")
        imported = [each.council for each in (await client.view("c2")).turns]
        assert imported[:2] == [council, single.council]
