"""Who answers, asked by name, over real processes and the command line."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from real_cluster import PATIENCE_S, RealCluster, eventually

from consensusllm.client import File, InvalidRequest, Plan, cluster_models


def model(name: str, **more: Any) -> dict[str, Any]:
    options = {"texts": ["{model} on node {node}: {question}"]}
    known = {"provider": "scripted", "model": f"{name}-exact", "name": name, "options": options}
    return known | more


async def command(cluster: RealCluster, *words: str) -> str:
    """What ``consensusllm`` prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "consensusllm_cli.main", *words),
        *("--config", str(cluster.config_path)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0, err
    return out.decode()


async def all_registered(cluster: RealCluster) -> None:
    async def registered() -> bool:
        status = await cluster.status(1)
        return status is not None and len({node for node, _ in status.registry}) == cluster.size

    await eventually(registered, "every node has told of its models")


async def test_questions_are_answered_by_the_models_that_are_named(tmp_path: Path) -> None:
    broken = {"provider": "scripted", "options": {"failures": {"unavailable": 1.0}}}
    served = [
        model("small"),
        model("large", price={"completion": 2.0}),
        {**broken, "name": "broken", "fallbacks": ["large"]},
    ]
    async with RealCluster(tmp_path, models=served) as cluster:
        client = cluster.client()
        await cluster.everybody_is_live()
        await all_registered(cluster)
        await client.create("c1", system="be kind")
        turn = await client.query("c1", "why?", plan=Plan(("large@2", "large@3", "small")))
        asked = [(each.node, each.model) for each in turn.candidates]
        assert asked[:2] == [(2, "large-exact"), (3, "large-exact")]
        assert asked[2][1] == "small-exact"
        assert turn.candidates[0].text == "large-exact on node 2: why?"
        assert {each.provider for each in turn.candidates} == {"scripted"}
        # Question, system prompt and parameters are the same: so is what was asked.
        assert len({each.prompt_hash for each in turn.candidates}) == 1
        assert [each.cost for each in turn.candidates] == [10, 10, 0]

        turn = await client.query("c1", "and?", plan=Plan(("small",), samples=4))
        assert {each.node for each in turn.candidates} == {1, 2, 3}
        turn = await client.query("c1", "one", plan=Plan(one=True, files=[File("a.md", "A\n")]))
        assert len(turn.candidates) == 1
        assert turn.question == 'one\n\n<file name="a.md">\nA\n</file>'

        turn = await client.query("c1", "and you?", plan=Plan(("broken@2",)))
        (candidate,) = turn.candidates
        assert (candidate.planned_model, candidate.model) == ("broken", "large-exact")
        assert candidate.takeovers[0].reason == "scripted: unavailable, as told"

        for plan, why in (
            (Plan(("smal",)), "there is no model 'smal': did you mean small"),
            (Plan(("small@7",)), "node 7 does not serve small"),
            (Plan(domain="lwa"), "there is no domain 'lwa': did you mean law"),
        ):
            with pytest.raises(InvalidRequest, match=why):
                await client.query("c1", "why?", plan=plan)
        with pytest.raises(InvalidRequest, match="cannot close after 3 of 2"):
            await client.query("c1", "why?", close_after=3, plan=Plan(("small",), samples=2))

        registry = cluster_models((await client.statuses()).values())
        large = [each for each in registry if each.served.name == "large"]
        assert sum(each.total.answers for each in large) == 3
        assert sum(each.total.cost for each in large) == 10 + 10 + candidate.cost

        (tmp_path / "notes.md").write_text("Notes.", encoding="utf-8")
        options = ["--models", "small@3", "--file", str(tmp_path / "notes.md"), "--json"]
        shown = await command(cluster, "query", "c1", "what", "now?", *options)
        document = json.loads(shown)
        assert document["conversation"] == "c1"
        assert document["question"].startswith("what now?\n\n<file")
        assert document["candidates"][0]["text"].startswith("small-exact on node 3: what now?")
        rows = json.loads(await command(cluster, "models", "--json"))
        assert len(rows) == 9
