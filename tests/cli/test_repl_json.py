"""What commands print with --json: one document, whole, and the same exit as without it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consensusllm.client import Budget
from consensusllm_cli.repl.session import Outcome
from consensusllm_cli.repl.table import TABLE
from tests.cli.desk import Desk
from tests.cli.repl_fakes import status
from tests.cli.test_repl_councils import TURN


async def printed(desk: Desk, *lines: str) -> Any:
    return json.loads(await desk.done(*lines))


async def test_a_conversation_has_its_turns_and_a_council_what_it_found(desk: Desk) -> None:
    desk.cluster.council = TURN
    await desk.done("query c1 Why?", "query c1 --council=three-stage And?")
    document = await printed(desk, "view c1 --json")
    assert (document["conversation"], document["revision"]) == ("c1", 7)
    first, second = document["turns"]
    assert first["question"] == "Why?"
    assert [each["number"] for each in first["candidates"]] == [1, 2, 3]
    assert "findings" not in first
    assert second["findings"]["outcome"] == 7
    assert second["council"]["template"] == "three-stage"
    assert [each["conversation"] for each in await printed(desk, "viewall --json")] == ["c1"]


async def test_a_retry_is_the_closed_turn(desk: Desk) -> None:
    document = await printed(desk, "query c1 Why?", "retry c1 --json")
    assert document["conversation"] == "c1"
    assert len(document["candidates"]) > 3


async def test_the_status_has_each_node_and_what_it_says(desk: Desk) -> None:
    desk.cluster.by_node = {1: status(1), 2: None}
    one, other = await printed(desk, "status --json")
    assert (one["node"], one["role"]) == (1, status(1).role)
    assert (one["hash"], one["reachable"]) == (status(1).state_hash, True)
    assert (other["node"], other["reachable"]) == (2, False)
    desk.cluster.by_node = {1: None}
    assert await desk.run("status --json") is Outcome.FAILED
    assert [each["reachable"] for each in json.loads(desk.out)] == [False]


async def test_budgets_are_in_the_currency(desk: Desk) -> None:
    assert await printed(desk, "budget --json") == []
    desk.cluster.limits = {"cluster": Budget(5_000_000, 1_250_000, 10)}
    told = [{"scope": "cluster", "limit": "5.00", "spent": "1.25", "reserved": "0.00001"}]
    assert await printed(desk, "budget --json") == told
    assert await printed(desk, "budget cluster --json") == told
    assert await printed(desk, "budget user:ann --json") == []


async def test_templates_and_copies(desk: Desk) -> None:
    first, second = await printed(desk, "templates --json")
    assert (first["name"], first["own"], second["name"]) == ("debate", True, "three-stage")
    await desk.done("query c1 Why?")
    document = await printed(desk, "verify c1 --json")
    assert (document["conversation"], document["copies"]) == ("c1", [])
    assert len(document["head"]) == 64


@pytest.mark.parametrize(
    "name",
    ["view", "viewall", "query", "retry", "templates", "verify", "status", "models", "budget"],
)
def test_whatever_shows_something_has_it(name: str) -> None:
    assert "json" in [flag.name for flag in TABLE.find(name).flags]
