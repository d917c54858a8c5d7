"""A conversation's history over real processes: verified, viewed at a revision, carried over."""

from __future__ import annotations

import json
from pathlib import Path

from real_cluster import RealCluster, eventually

from consensusllm.client import NodeCopy, found_at
from consensusllm_cli.main import run


async def test_a_noted_head_outlives_a_dead_node_and_a_move_to_another_cluster(
    tmp_path: Path,
) -> None:
    async with RealCluster(tmp_path / "one") as cluster:
        client = cluster.client()
        await client.create("c1")
        await cluster.everybody_is_live()
        for question in ("What is Paxos?", "And Raft?"):
            turn = await client.query("c1", question)
            await client.choose("c1", 2, turn.turn)
        await cluster.agreement()
        noted = await client.verify("c1")
        assert [(copy.node, copy.differs_from) for copy in noted.copies] == [(1, 0), (2, 0), (3, 0)]
        assert {copy.revision for copy in noted.copies} == {noted.conversation.revision}
        then = await client.view("c1")

        await cluster.faults.fail_node(3)
        await client.query("c1", "And Zab?")
        two = await client.verify("c1")
        assert {copy.node or copy.trouble[:0] for copy in two.copies} == {1, 2, ""}
        assert found_at(two.conversation, noted.head)[0] == noted.conversation.revision
        at_then = await client.view("c1", at=noted.conversation.revision)
        assert at_then.turns == then.turns

        await cluster.faults.fix_node(3)

        async def caught_up() -> tuple[NodeCopy, ...]:
            copies = (await client.verify("c1")).copies
            revisions = {copy.revision for copy in copies}
            return copies if len(revisions) == 1 and None not in revisions else ()

        copies = await eventually(caught_up, "node 3 has what the others have")
        assert all(not copy.differs_from for copy in copies)
        document = await client.export_conversation("c1")

    file = tmp_path / "c1.json"
    file.write_text(json.dumps(document))
    assert run(["verify", str(file), "--head", noted.head]) == 0
    async with RealCluster(tmp_path / "two", size=1) as other:
        connect = ["repl", "--connect", ",".join(other.addresses.values())]
        import_ = ["-c", f"import {file} moved", "-c", f"verify moved --head {noted.head}"]
        assert await in_process([*connect, *import_]) == 0
        moved = await other.client().view("moved")
        assert moved.turns == two.conversation.turns
        revision = str(noted.conversation.revision)
        assert await in_process([*connect, "-c", f"view moved --at {revision}"]) == 0
        assert await in_process([*connect, "-c", "view moved --at 999"]) == 2


async def in_process(arguments: list[str]) -> int:
    """The status of one command line, run in a process of its own."""
    import asyncio
    import sys

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "consensusllm_cli.main", *arguments
    )
    return await process.wait()
