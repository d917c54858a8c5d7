"""What commands print with --json: one document, whole, and the same exit as without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consensusllm.client import Budget, Turn
from consensusllm.orchestrator.client import TraceEvent
from consensusllm_cli.repl.language import Command, Group
from consensusllm_cli.repl.session import Outcome
from consensusllm_cli.repl.table import TABLE
from consensusllm_cli.standing import NO_LEADER
from tests.cli.desk import Desk
from tests.cli.repl_fakes import ADDRESSES, status
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
    desk.cluster.by_node = {2: status(2), 3: None}
    document = await printed(desk, "status --json")
    assert document["leader"] == 2
    one, other = document["nodes"]
    assert (one["node"], one["role"]) == (2, "leading")
    assert (one["hash"], one["reachable"]) == (status(2).state_hash, True)
    assert other == {"node": 3, "address": ADDRESSES[3], "reachable": False}
    desk.cluster.by_node = {1: status(1)}
    assert await desk.run("status --json") is Outcome.FAILED
    assert json.loads(desk.out)["leader"] is None
    assert desk.err == f"status: {NO_LEADER}\n"


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


async def test_a_template_is_told_whole(desk: Desk) -> None:
    debate, _ = await printed(desk, "templates --json")
    assert debate["roles"][0] == {"name": "pro", "instructions": "Be for it."}
    assert (debate["samples"], debate["chairman"]) == (0, None)
    assert debate["stages"] == [
        {"kind": "opinions", "by": [], "quorum": 0, "deadline_ms": 0, "instructions": ""}
    ]


async def test_amounts_of_a_turn_are_in_the_currency(desk: Desk) -> None:
    desk.cluster.held["c1"] = [Turn(1, "?", (replace(TURN.candidates[0], cost=1_250_000),))]
    (turn,) = (await printed(desk, "view c1 --json"))["turns"]
    assert (turn["candidates"][0]["cost"], turn["candidates"][0]["reserved"]) == ("1.25", "0.00")


@pytest.mark.parametrize(
    ("line", "document"),
    [
        ("create c9 --system kind --json", {"conversation": "c9", "system": "kind"}),
        ("fork c1 c2 --at 1 --json", {"conversation": "c2", "source": "c1", "at_turn": 1}),
        ("rename c1 c2 --json", {"conversation": "c2", "before": "c1"}),
        ("delete c1 --json", {"deleted": "c1"}),
        ("choose c1 2 --json", {"conversation": "c1", "turn": 1, "candidate": 2}),
        ("cancel c1 --turn 1 --json", {"conversation": "c1", "turn": 1}),
        ("set word --json été", {"key": "word", "value": "été"}),
        ("get word --json", {"key": "word", "value": "été"}),
        ("get bytes --json", {"key": "bytes", "value": None, "hexadecimal": "0xff00"}),
        ("failNode 2 --json", {"command": "failNode", "node": 2, "done": "did fail_node"}),
        (
            "failLink 1 2 --one-way --json",
            {"command": "failLink", "a": 1, "b": 2, "one_way": True, "done": "did fail_link"},
        ),
        (
            "partition 1,2 3 --json",
            {"command": "partition", "groups": [[1, 2], [3]], "done": "did partition"},
        ),
        (
            "delay 1 2 80 --json",
            {"command": "delay", "a": 1, "b": 2, "delay_ms": 80, "jitter_ms": 0}
            | {"done": "did delay"},
        ),
        (
            "drop 1 2 30 --json",
            {"command": "drop", "a": 1, "b": 2, "percent": 30, "done": "did drop"},
        ),
        ("heal --json", {"command": "heal", "done": "did heal"}),
        ("faults --json", []),
        ("transferLeader 2 --json", {"leader": 2}),
        ("addNode 4 --json", {"added": 4}),
        ("removeNode 3 --json", {"removed": 3, "process_ended": True}),
        ("replaceNode 3 4 --json", {"added": 4, "removed": 3, "process_ended": True}),
    ],
)
async def test_what_was_done_is_one_object(desk: Desk, line: str, document: object) -> None:
    desk.cluster.held["c1"] = [Turn(1, "?", TURN.candidates[:2])]
    desk.cluster.values |= {"word": "été".encode(), "bytes": b"\xff\x00"}
    assert await printed(desk, line) == document


async def test_an_import_names_what_came_and_what_was_there(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "c1.json"
    await desk.done(f"export c1 {file}")
    document = await printed(desk, f"import {file} c2 --json")
    nothing = {"taken": [], "refused": {}, "remark": ""}
    assert document == {"file": str(file), "imported": ["c2"], **nothing}


async def test_an_export_is_its_document_or_says_where_that_is(desk: Desk, tmp_path: Path) -> None:
    document = await printed(desk, "export c1 --json")
    assert document == await printed(desk, "export c1")
    file = tmp_path / "c1.json"
    told = {"conversation": "c1", "file": str(file)}
    assert await printed(desk, f"export c1 {file} --json") == told
    assert json.loads(file.read_text()) == document
    shown = await printed(desk, "export c1 --markdown --json")
    assert shown["markdown"] == await desk.done("export c1 --markdown")


async def test_nodes_and_their_logs(desk: Desk) -> None:
    desk.cluster.by_node = {1: status(1), 2: None}
    assert desk.cluster.fake_faults is not None
    desk.cluster.fake_faults.cut = [(1, 3)]
    one, other, *_ = await printed(desk, "nodes --json")
    assert (one["node"], one["role"], one["network"]) == (1, status(1).role, status(1).transport)
    assert (other["node"], other["role"]) == (2, None)
    desk.cluster.fake_faults.down = [2]
    assert (await printed(desk, "nodes --json"))[1]["role"] == "failed"
    assert (one["cut_to"], one["cut_from"]) == ([3], [])
    one, other = await printed(desk, "log --json")
    assert (one["node"], one["chosen"]) == (1, status(1).chosen_through)
    assert other == {"node": 2}


async def test_a_trace_is_an_object_a_line(desk: Desk) -> None:
    assert desk.cluster.fake_faults is not None
    desk.cluster.fake_faults.events = [
        TraceEvent(1, 1, 2, "accept", 90, "delivered", "slot 1", 0),
        TraceEvent(2, 2, 1, "accepted", 40, "cut", "slot 1", 3),
    ]
    lines = (await desk.done("trace --json")).splitlines()
    events = [json.loads(line) for line in lines]
    assert [(each["kind"], each["fate"], each["skipped"]) for each in events] == [
        ("accept", "delivered", 0),
        ("accepted", "cut", 3),
    ]


async def test_the_drills_are_listed(desk: Desk) -> None:
    assert {"leader-crash"} < {each["drill"] for each in await printed(desk, "drill --json")}


@pytest.mark.parametrize("command", TABLE.commands, ids=lambda command: command.name)
def test_every_command_has_it_that_is_about_the_cluster(command: Command) -> None:
    """The others are about the prompt."""
    assert ("json" in [flag.name for flag in command.flags]) is (command.group is not Group.SHELL)
