"""``status`` against nodes that answer over real gRPC."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from consensusllm.wire.generated import client_pb2 as pb
from consensusllm.wire.generated import client_pb2_grpc
from consensusllm_cli.main import run
from consensusllm_cli.options import NOBODY
from consensusllm_cli.standing import NO_LEADER


class Node(client_pb2_grpc.ClientServicer):
    """Answers with ``status``, to those who bring ``token``."""

    def __init__(self) -> None:
        self.status = pb.Status()
        self.token = ""
        self.address = ""
        self.asked = asyncio.Event()

    async def GetStatus(self, request: Any, context: Any) -> pb.Status:
        self.asked.set()
        given = dict(context.invocation_metadata()).get("authorization", "")
        if self.token and given != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        return self.status


@pytest.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    """Nodes 1 and 2; node 2 leads, and node 3 is a member that nobody can reach."""
    nodes, servers = [Node(), Node()], []
    for node in nodes:
        server = grpc.aio.server()
        client_pb2_grpc.add_ClientServicer_to_server(node, server)  # type: ignore[no-untyped-call]
        node.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        servers.append(server)
    for number, node in enumerate(nodes, 1):
        node.status = pb.Status(
            node=number,
            role="leading" if number == 2 else "following",
            leader=2,
            ballot_seq_num=4,
            ballot_pid=2,
            chosen_through=17,
            applied_slot=16,
            state_hash="ab" * 32,
            models=[pb.ModelStatus(node=number, provider="builtin", model="extractive")],
            members=[
                pb.MemberStatus(node=1, address=nodes[0].address, voting=True),
                pb.MemberStatus(node=2, address=nodes[1].address, voting=True),
                pb.MemberStatus(node=3, address="127.0.0.1:1", voting=True),
            ],
        )
    yield nodes
    for server in servers:
        await server.stop(None)


Ask = Callable[..., Any]


@pytest.fixture
def ask(nodes: list[Node], capsys: pytest.CaptureFixture[str]) -> Ask:
    async def ask(*arguments: str, connect: str = "", config: str = "") -> tuple[int, str, str]:
        where = ["--config", config] if config else ["--connect", connect or nodes[0].address]
        command = ["status", *where, *arguments]
        status = await asyncio.to_thread(run, command)
        output, errors = capsys.readouterr()
        return status, output, errors

    return ask


async def test_every_member_is_shown_and_the_silent_one_is_named(ask: Ask) -> None:
    status, output, errors = await ask()
    assert status == 0
    lines = [[cell.strip() for cell in line.split("│")] for line in output.splitlines()]
    rows = [cells[1:9] for cells in lines if len(cells) > 8]
    shown = ["4.2", "17", "16", "abababababab", "builtin:extractive"]
    assert ["1", "following", "2", *shown] in rows
    assert ["2", "leading", "2", *shown] in rows
    assert ["127.0.0.1:1", "unreachable"] in [row[:2] for row in rows]
    assert errors == "consensusllm: no answer from 127.0.0.1:1\n"


async def test_json_has_the_same_for_programs(ask: Ask) -> None:
    status, output, errors = await ask("--json")
    report = json.loads(output)
    assert (status, errors, report["leader"]) == (0, "", 2)
    by_node = {row["node"]: row for row in report["nodes"] if row["reachable"]}
    assert by_node[1]["role"] == "following"
    assert by_node[2]["hash"] == "ab" * 32
    silent = {"node": 3, "address": "127.0.0.1:1", "reachable": False}
    assert [row for row in report["nodes"] if not row["reachable"]] == [silent]


async def test_what_a_node_is_busy_with_is_told(ask: Ask, nodes: list[Node]) -> None:
    nodes[0].status.progress.CopyFrom(
        pb.Progress(
            known_slot=5016, records_encoded=40, records=100, bytes_received=1 << 20, bytes=4 << 20
        )
    )
    nodes[0].status.loop_lag_max_ms = 12.34
    _, output, _ = await ask()
    assert output.splitlines()[-3:] == [
        "node 1: receiving a snapshot: 1.0 of 4.0 MiB",
        "node 1: catching up: 5,000 slots behind 5,016",
        "node 1: taking a snapshot: 40 of 100 records",
    ]
    _, output, _ = await ask("--json")
    [row] = [row for row in json.loads(output)["nodes"] if row.get("node") == 1]
    assert row["progress"]["known_slot"] == 5016
    assert row["loop_lag_max_ms"] == 12.3


async def test_waiting_ends_when_all_are_in_step(ask: Ask, nodes: list[Node]) -> None:
    for node in nodes:
        del node.status.members[2:]
    nodes[0].status.progress.known_slot = 5_016
    waiting = asyncio.ensure_future(ask("--wait", "60"))
    asked = nodes[0].asked
    await asyncio.wait_for(asked.wait(), 30)
    asked.clear()
    await asyncio.wait_for(asked.wait(), 30)
    assert not waiting.done(), "it is 5,000 slots behind"
    nodes[0].status.applied_slot = nodes[1].status.applied_slot = 5_016
    status, _, errors = await waiting
    assert (status, errors) == (0, "")


async def test_a_member_without_a_vote_is_not_in_step(ask: Ask, nodes: list[Node]) -> None:
    for node in nodes:
        del node.status.members[2:]
    assert (await ask("--wait", "0"))[0] == 0
    vain = "consensusllm: not all nodes were in step within 0 s: node 1 has no vote yet\n"
    nodes[0].status.role = "learning"  # it has lost its disk
    status, _, errors = await ask("--wait", "0")
    assert (status, errors) == (1, vain)
    nodes[0].status.role = "following"
    nodes[1].status.members[0].voting = False  # it joins, as the leader knows and it does not
    status, _, errors = await ask("--wait", "0")
    assert (status, errors) == (1, vain)


async def test_who_is_no_member_is_not_waited_for(ask: Ask, nodes: list[Node]) -> None:
    nodes[1].status.progress.known_slot = nodes[1].status.applied_slot = 5_016
    del nodes[1].status.members[2]
    assert "node 1: 5,000 slots behind" in (await ask("--wait", "0"))[2]
    del nodes[1].status.members[0]
    for role in ("removed", "following", "learning"):  # it knows, or not yet, or waits to be added
        nodes[0].status.role = role
        assert (await ask("--wait", "0"))[0] == 0


async def test_two_that_lead_other_members_each_are_two_clusters(
    ask: Ask, nodes: list[Node]
) -> None:
    nodes[0].status.role = "leading"
    status, _, errors = await ask()  # it does not know yet that it was deposed
    assert (status, errors) == (0, "consensusllm: no answer from 127.0.0.1:1\n")
    del nodes[0].status.members[2]
    for arguments in ((), ("--json",)):
        status, _, errors = await ask(*arguments)
        assert status == 1
        assert errors == (
            "consensusllm: nodes 1 and 2 both lead, each with other members: unless one has just "
            "been deposed, they are clusters of their own under one name; look at each alone with "
            "--connect, and stop what is not to be\n"
        )


async def test_other_states_at_one_slot_are_status_1(ask: Ask, nodes: list[Node]) -> None:
    nodes[0].status.state_hash = "cd" * 32
    status, _, errors = await ask()
    assert status == 1
    assert errors == (
        "consensusllm: nodes DIFFER at slot 16: node 1 cdcdcdcdcdcd, node 2 abababababab: "
        "stop those that are the fewer with theirs, and keep their data\n"
    )
    nodes[0].status.applied_slot = 15  # it is late
    assert (await ask())[0] == 0
    nodes[0].status.applied_slot, nodes[0].status.state_hash = 16, ""  # it is still being made
    assert (await ask())[0] == 0


async def test_nodes_that_do_not_answer_have_the_numbers_of_the_file(
    ask: Ask, tmp_path: Path
) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"nodes": [{"id": 7, "address": "127.0.0.1:1"}]}))
    _, output, _ = await ask("--json", config=str(path))
    silent = {"node": 7, "address": "127.0.0.1:1", "reachable": False}
    assert json.loads(output)["nodes"] == [silent]


async def test_what_the_standard_output_cannot_show_is_escaped(nodes: list[Node]) -> None:
    nodes[0].status.models[0].model = "模型"
    for command in (["status"], ["repl", "-c", "status"]):
        shown = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "consensusllm_cli.main", *command),
            *("--connect", nodes[0].address),
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await shown.communicate()
        assert shown.returncode == 0, errors
        assert rb"\u6a21\u578b" in output


async def test_waiting_in_vain_is_status_1(ask: Ask, nodes: list[Node]) -> None:
    status, _, errors = await ask("--wait", "0")
    assert status == 1
    assert errors == (
        "consensusllm: not all nodes were in step within 0 s: 127.0.0.1:1 does not answer\n"
    )
    nodes[1].status.role = "preparing"
    status, _, errors = await ask("--wait", "0")
    assert status == 1
    assert errors == f"consensusllm: not all nodes were in step within 0 s: {NO_LEADER}\n"


async def test_no_leader_is_status_1(ask: Ask, nodes: list[Node]) -> None:
    nodes[1].status.role = "preparing"
    status, _, errors = await ask()
    assert status == 1
    assert errors == f"consensusllm: {NO_LEADER}\n"


async def test_why_nodes_that_all_run_elect_nobody_is_told(ask: Ask, nodes: list[Node]) -> None:
    """As where a new cluster was started without --bootstrap."""
    for node in nodes:
        node.status.role = "learning"
    status, _, errors = await ask()
    assert status == 1
    assert errors.startswith(
        "consensusllm: no node leads, and only a leader gives a vote to nodes 1, 2"
    )
    assert "start them with --bootstrap" in errors
    nodes[0].status.role = "following"
    assert (await ask())[2] == f"consensusllm: {NO_LEADER}\n"


async def test_the_higher_ballot_leads_where_two_say_so(ask: Ask, nodes: list[Node]) -> None:
    nodes[0].status.role = "leading"
    nodes[0].status.ballot_seq_num = 5
    _, output, _ = await ask("--json")
    assert json.loads(output)["leader"] == 1


async def test_nobody_there_is_status_1(ask: Ask) -> None:
    status, _, errors = await ask(connect="127.0.0.1:1")
    assert status == 1
    assert errors == f"consensusllm: {NOBODY}\n"


async def test_the_token_is_sent_and_a_wrong_one_is_one_line(
    ask: Ask, nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in nodes:
        node.token = "right"
    monkeypatch.setenv("CONSENSUSLLM_CLIENT_TOKEN", "right")
    assert (await ask())[0] == 0
    monkeypatch.setenv("CONSENSUSLLM_CLIENT_TOKEN", "wrong")
    status, output, errors = await ask()
    assert (status, output) == (1, "")
    assert "in CONSENSUSLLM_CLIENT_TOKEN" in errors
    assert errors.count("\n") == 1
