"""Who answers, asked by name, over real processes and the command line."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from real_cluster import PATIENCE_S, RealCluster, eventually

from consensusllm.client import File, GenerationOptions, InvalidRequest, Plan, cluster_models


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
        model("slow", options={"first_token_s": 600}, fallbacks=["large"]),
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

        shown = await command(
            cluster, "query", "c1", "now?", "--models", "slow@1", "--hedge", "0.2"
        )
        assert "large was asked too, and was first" in await command(
            cluster, "repl", "-c", "view c1"
        )
        (candidate,) = (await client.view("c1")).turns[-1].candidates
        assert candidate.text in shown
        assert (candidate.model, candidate.planned_model) == ("large-exact", "slow")
        assert candidate.hedge_won
        hedged = GenerationOptions(hedge_ms=1)
        with pytest.raises(InvalidRequest, match="none of these models has fallbacks"):
            await client.query("c1", "why?", options=hedged, plan=Plan(("small",)))

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
        assert sum(each.total.answers for each in large) == 4
        cost = sum(
            each.cost
            for turn in (await client.view("c1")).turns
            for each in turn.candidates
            if each.model == "large-exact"
        )
        assert sum(each.total.cost for each in large) == cost

        (tmp_path / "notes.md").write_text("Notes.", encoding="utf-8")
        options = ["--models", "small@3", "--file", str(tmp_path / "notes.md"), "--json"]
        shown = await command(cluster, "query", "c1", "what", "now?", *options)
        document = json.loads(shown)
        assert document["conversation"] == "c1"
        assert document["question"].startswith("what now?\n\n<file")
        assert document["candidates"][0]["text"].startswith("small-exact on node 3: what now?")
        rows = json.loads(await command(cluster, "models", "--json"))
        assert len(rows) == 12


async def test_a_model_that_costs_nothing_is_asked_while_the_question_is_being_chosen(
    tmp_path: Path,
) -> None:
    options = {"first_token_s": 600}
    async with RealCluster(tmp_path, models=[model("slow", options=options)]) as cluster:
        client = cluster.client(1, pinned=True, timeout_s=PATIENCE_S)
        await client.create("c1")
        await all_registered(cluster)
        await cluster.faults.isolate(1)  # what it takes in now cannot be chosen
        asking = asyncio.create_task(client.ask("c1", "why?"))

        async def asked() -> bool:
            status = await cluster.status(1)
            return status is not None and status.models[0].in_flight == 1

        await eventually(asked, "the model is asked")
        asking.cancel()

        async def asked_no_more() -> bool:
            return not await asked()

        await eventually(asked_no_more, "what is not chosen is not asked any longer")
        assert (await client.view("c1", stale=True)).turns == ()


class Ollama:
    """The free part of an Ollama server; anything else that is asked is counted, and refused."""

    def __init__(self) -> None:
        self.there = ["llama3.2:latest", "qwen3:8b"]
        self.loaded = ["qwen3:8b"]
        self.paid = 0

    async def __aenter__(self) -> Ollama:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        names = {b"/api/tags": self.there, b"/api/ps": self.loaded}.get(head.split()[1])
        self.paid += names is None
        body = json.dumps({"models": [{"model": each} for each in names or ()]})
        status = b"500 No" if names is None else b"200 OK"
        writer.write(
            b"HTTP/1.1 %s\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%s" % (status, len(body), body.encode())
        )
        await writer.drain()
        writer.close()


async def test_a_query_may_allow_more_time_than_the_cluster_does_by_default(tmp_path: Path) -> None:
    slow = model("slow", options={"first_token_s": 1.0})
    answering = {"deadline_ms": 500, "retries": 0}
    async with RealCluster(tmp_path, 1, models=[slow], answering=answering) as cluster:
        client = cluster.client()
        await client.create("c1")
        (patient,) = (await client.query("c1", "?", deadline_ms=30_000)).candidates
        assert patient.error == ""
        (cut,) = (await client.query("c1", "?")).candidates
        assert cut.error == "deadline passed: no answer in 0.5 s"


async def test_what_a_free_look_at_the_model_servers_finds_is_shown(tmp_path: Path) -> None:
    async with Ollama() as ollama:
        served: list[dict[str, Any]] = [
            {"provider": "ollama", "model": name, "base_url": ollama.url}
            for name in ("llama3.2", "qwen3:8b", "gone")
        ]
        answering = {"probe_every_ms": 50}
        async with RealCluster(
            tmp_path, 1, models=[*served, model("plain")], answering=answering
        ) as cluster:
            client = cluster.client()

            async def shown(*loaded: bool | None) -> bool:
                found = cluster_models((await client.statuses()).values())
                return [each.total.loaded for each in found] == list(loaded)

            await eventually(lambda: shown(False, True, False, None), "the first look")
            rows = json.loads(await command(cluster, "models", "--json"))
            assert [each["probe"] for each in rows] == [
                "well",
                "well",
                "failing: ollama: the server does not have the model: ollama pull it",
                None,
            ]
            lines = (await command(cluster, "models")).splitlines()
            assert [line.split()[4] for line in lines[1:]] == ["no", "yes", "no", "-"]
            ollama.there.append("gone:latest")
            ollama.loaded = ["gone:latest", "llama3.2:latest"]
            await eventually(lambda: shown(True, False, True, None), "a later look")
            assert ollama.paid == 0
