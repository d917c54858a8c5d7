"""Bad input at every edge of a real cluster: one clear line, a status, and nothing is changed."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from edges import (
    command,
    content,
    no_log_holds_a_traceback,
    pipeline,
    repl,
    state_hash,
)
from real_cluster import PATIENCE_S, RealCluster, eventually

from consensusllm.client import Candidate, Conflict, ConsensusError, Conversation, NotAnswered, Turn
from consensusllm.client.export import export
from consensusllm.conversations.commands import (
    CompareAndSwap,
    Put,
    SessionCommand,
)
from consensusllm.wire.commands import encode_command
from consensusllm.wire.generated import client_pb2
from consensusllm_cli.standing import NO_LEADER

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = {"provider": "scripted", "options": {"first_token_s": 3600}}
NO_SERVER = {"provider": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
NO_KEY = {"provider": "gemini"}
NO_MODEL = {"provider": "openai"}  # a second model without a name is not the default one
MIB = 1 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealCluster]:
    """Node 1 never answers, node 2's provider has no server, node 3's has no key."""
    cluster = RealCluster(tmp_path_factory.mktemp("cluster"), answering={"retries": 0})
    config = json.loads(cluster.config_path.read_text())
    models = ([SLOW], [NO_SERVER], [NO_KEY, NO_MODEL])
    for node, served in zip(config["nodes"], models, strict=True):
        node["models"] = served
    cluster.config_path.write_text(json.dumps(config))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENAI_API_KEY"):
            patch.delenv(name, raising=False)
        await cluster.start()
    try:
        await cluster.all_registered()

        async def looked_at() -> bool:
            """The first look at node 2's server is recorded, and changes the state too."""
            status = await cluster.status(2)
            registry = status.registry if status is not None else ()
            return any(node == 2 and model.probed_ms for node, model in registry)

        await eventually(looked_at, "node 2's server was looked at")
        yield cluster
    finally:
        await cluster.__aexit__()


# The REPL --------------------------------------------------------------------------------------

LONG_ID = "a" * 65
BAD_ID = "is not a conversation id: use 1 to 64 of letters, digits, '.', '_' and '-'"
NODES = "is not a node: give one of 1, 2, 3"

MISUSE = [
    ("frobnicate c1", "unknown command 'frobnicate'"),
    ("x" * 100_000, "help lists them"),
    ("chose c1 2", "did you mean choose?"),
    ("create a/b", f"'a/b' {BAD_ID}"),
    (f"create {LONG_ID}", BAD_ID),
    ('create ""', BAD_ID),
    ("create ü", BAD_ID),
    ("create", "usage: create ID"),
    ("rename c1 not/good", BAD_ID),
    ('create "open', 'the quote in "open is not closed'),
    ("choose c1 0", "give one from 1 up"),
    ("choose c1 -1", "give one from 1 up"),
    ("choose c1 two", "give one from 1 up"),
    ("choose c1 99999999999999999999", "give one from 1 up"),
    ("failNode abc", f"'abc' {NODES}"),
    ("failNode 9", f"'9' {NODES}"),
    ("failNode 99999999999999999999", NODES),
    ("failNode", "usage: failNode NODE"),
    ("fixNode 0", NODES),
    ("failLink 1", "usage: failLink A B"),
    ("failLink 1 9", f"'9' {NODES}"),
    ("failLink 1 1", "give another one than 1 twice"),
    ("failLink a b", f"'a' {NODES}"),
    ("failLink 1 2 --sometimes", "unknown flag '--sometimes'"),
    ("fixLink 3 4", f"'4' {NODES}"),
    ("partition 1,2 2", "a node is in two groups"),
    ("partition 1,9", NODES),
    ("isolate x", NODES),
    ("delay 1 2 -5", "is not a time in milliseconds"),
    ("drop 1 2 200", "give a number from 0 to 100"),
]

UNKNOWN = [
    ("view nope", "no conversation 'nope'"),
    ("query nope hello", "no conversation 'nope'"),
    ("choose nope 1", "no conversation 'nope'"),
    ("retry nope", "no conversation 'nope'"),
    ("fork nope other", "no conversation 'nope'"),
    ("rename nope other", "no conversation 'nope'"),
    ("delete nope", "no conversation 'nope'"),
    ("export nope", "no conversation 'nope'"),
    ("get nope", "no key 'nope'"),
    ("import /no/such/file", "/no/such/file: No such file"),
]


async def test_a_line_that_is_no_command_is_one_line_and_changes_nothing(
    cluster: RealCluster,
) -> None:
    before, faults = await state_hash(cluster), await cluster.faults.faults()
    ended = await repl(cluster, *(line for line, _ in MISUSE))
    assert (ended.status, ended.out) == (2, "")
    assert len(ended.err) == len(MISUSE), ended.err
    for said, (line, expected) in zip(ended.err, MISUSE, strict=True):
        assert expected in said, (line, said)
        assert len(said) < 2000
    assert await state_hash(cluster) == before
    assert await cluster.faults.faults() == faults


async def test_what_does_not_exist_is_named_and_nothing_comes_into_being(
    cluster: RealCluster,
) -> None:
    before = await content(cluster)
    ended = await repl(cluster, *(line for line, _ in UNKNOWN))
    assert (ended.status, ended.out) == (1, "")
    assert len(ended.err) == len(UNKNOWN), ended.err
    for said, (line, expected) in zip(ended.err, UNKNOWN, strict=True):
        assert expected in said, (line, said)
    assert await content(cluster) == before


async def test_input_that_is_no_text_or_has_no_end_is_refused(cluster: RealCluster) -> None:
    before = await state_hash(cluster)
    ended = await command(
        *("repl", "--config", cluster.config_path),
        stdin=b'view c1 \xff\xfe\nnul\0byte\nquery c1 """never closed\n',
    )
    assert (ended.status, ended.out, len(ended.err)) == (2, "", 3), ended
    assert "line 1 is not UTF-8 text" in ended.err[0]
    assert "unknown command 'nul\\x00byte'" in ended.err[1]
    assert 'the """ block of line 3 is not closed' in ended.err[2]
    assert await state_hash(cluster) == before


# Candidates and choices ------------------------------------------------------------------------


def told(*choices: int) -> Conversation:
    """A conversation whose turns have an error as candidate 1 and answers as 2 and 3."""
    return Conversation(
        "told",
        len(choices) + 1,
        tuple(
            Turn(
                turn=number,
                question="q",
                candidates=tuple(
                    Candidate(
                        number=each,
                        node=each,
                        model="m",
                        ended=True,
                        text=text,
                        error="" if text else "timed out",
                        planned_node=each,
                        opened_revision=number + 1,
                        ended_revision=number + 1,
                    )
                    for each, text in enumerate(("", "two", "three"), 1)
                ),
                choice=choice,
                closed=True,
                asked_revision=number,
                choice_revision=number + 1 if choice else 0,
            )
            for number, choice in enumerate(choices, 1)
        ),
    )


async def test_only_an_answer_can_be_chosen_and_only_once(cluster: RealCluster) -> None:
    client = cluster.client()
    await client.import_conversation(told(0), "told")
    before = await content(cluster)
    refused = await repl(cluster, "choose told 4", "choose told 1")
    assert (refused.status, refused.out, len(refused.err)) == (1, "", 2)
    assert "no candidate 4 in turn 1 of told: it has 1, 2, 3" in refused.err[0]
    assert "candidate 1" in refused.err[1]
    with pytest.raises(NotAnswered):
        await client.choose("told", 1)
    assert await content(cluster) == before
    await client.choose("told", 2)
    before = await content(cluster)
    again = await repl(cluster, "choose told 3", "choose told 2", "retry told")
    assert (again.status, again.out, len(again.err)) == (1, "", 3)
    assert all("candidate 2" in line for line in again.err), again.err
    with pytest.raises(Conflict) as conflict:
        await client.choose("told", 3)
    assert (conflict.value.winner, conflict.value.turn) == (2, 1)
    assert await content(cluster) == before


async def test_a_provider_without_a_server_or_a_key_says_so_in_its_candidate(
    cluster: RealCluster,
) -> None:
    client = cluster.client()
    await client.create("asked")
    turn = await client.ask("asked", "Are you there?")

    async def ended() -> Any:
        candidates = (await client.view("asked")).turns[turn - 1].candidates
        return candidates if sum(each.ended for each in candidates) == 2 else None

    one, two, three = await eventually(ended, "two candidates failed")
    assert "openai: no connection to http://127.0.0.1:9" in two.error
    assert "gemini: there is no API key: set GEMINI_API_KEY" in three.error
    assert not one.ended
    with pytest.raises(NotAnswered):
        await client.choose("asked", 1)
    models = await repl(cluster, "models", "delete asked")
    assert "set GEMINI_API_KEY in the environment" in models.out
    assert models.err == []


async def test_an_import_that_fails_half_way_leaves_nothing(
    cluster: RealCluster, tmp_path: Path
) -> None:
    before = await content(cluster)
    first, second = told(2, 0).turns
    long = Conversation("told", 3, (first, replace(second, question="x" * (MIB + 1))))
    (tmp_path / "long.json").write_text(json.dumps(export(long)))
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "noise.json").write_bytes(bytes(range(256)))
    (tmp_path / "deep.json").write_text("[" * 100_000)
    ended = await repl(
        cluster,
        *(f"import {tmp_path}/{name}.json fresh" for name in ("long", "list", "noise", "deep")),
    )
    assert (ended.status, ended.out, len(ended.err)) == (1, "", 4), ended
    assert "1048577 bytes" in ended.err[0], ended
    assert await content(cluster) == before


# Too large -------------------------------------------------------------------------------------


async def test_a_question_or_value_of_5_mib_is_refused_early(cluster: RealCluster) -> None:
    before = await state_hash(cluster)
    ended = await repl(cluster, "query told " + "x" * (5 * MIB), "set k " + "x" * (5 * MIB))
    assert (ended.status, ended.out, len(ended.err)) == (2, "", 2)
    assert "5242880 bytes" in ended.err[0]
    assert "5242880 bytes" in ended.err[1]
    assert "1048576" in ended.err[0]
    session = os.urandom(24)
    ask = client_pb2.Ask(
        session=session, sequence=1, acknowledged=1, conversation="told", question="x" * (5 * MIB)
    )
    too_large = b"x" * (5 * MIB)
    responses = await pipeline(
        cluster,
        client_pb2.Request(id=1, ask=ask),
        client_pb2.Request(
            id=2, command=encode_command(SessionCommand(session, 1, 1, Put("k", too_large)))
        ),
        client_pb2.Request(
            id=3,
            command=encode_command(
                SessionCommand(session, 2, 1, CompareAndSwap("k", None, too_large))
            ),
        ),
    )
    assert {each.id for each in responses} == {1, 2, 3}
    for response in responses:
        assert response.failure.kind == client_pb2.Failure.INVALID, response
        assert "5242880 bytes" in response.failure.message
    assert await state_hash(cluster) == before


# No majority -----------------------------------------------------------------------------------


async def test_without_a_majority_writes_say_so_in_time_and_stale_reads_go_on(
    cluster: RealCluster,
) -> None:
    """The last test: it kills two nodes, and leaves a leader without its majority."""
    await cluster.all_up()
    if await cluster.leader() != 1:
        await cluster.client().transfer_leader(1)
    assert await cluster.leader() == 1
    before = await content(cluster)
    down = [each for each in cluster.addresses if each != 1]
    for node in down:
        await cluster.faults.fail_node(node)
    client = cluster.client(timeout_s=1.5)
    calls = {
        "create": client.create("lost"),
        "put": client.put("lost", b"v"),
        "choose": client.choose("told", 3),
        "view": client.view("told"),
    }
    gathered = asyncio.gather(*calls.values(), return_exceptions=True)
    errors = await asyncio.wait_for(gathered, PATIENCE_S)
    for name, error in zip(calls, errors, strict=True):
        assert isinstance(error, ConsensusError), name
        assert "majority" in str(error), (name, error)
    stale = cluster.client(timeout_s=10)
    assert (await stale.view("told", stale=True)).conversation == "told"

    async def nobody_leads() -> bool:
        """A leader that has lost its majority stands down after a silence, not at once."""
        status = await cluster.status(1)
        return status is not None and status.role != "leading"

    await eventually(nobody_leads, "node 1 leads no more")
    shown, status, dead, alive = await asyncio.gather(
        repl(cluster, "view told --stale", "viewall --stale", "status", "nodes"),
        command("status", "--config", cluster.config_path),
        repl(cluster, "failNode 2"),
        repl(cluster, "fixNode 1"),
    )
    assert (shown.status, shown.err) == (1, [f"status: {NO_LEADER}"])
    assert "candidate 2 is chosen" in shown.out
    assert shown.out.count("does not answer") >= 2
    assert status.status == 1
    assert status.err == [f"consensusllm: {NO_LEADER}"]
    dead.refused(1, "node 2 is not running: fixNode 2 starts it")
    alive.refused(1, "node 1 is running already")
    for node in down:
        await cluster.faults.fix_node(node)
    await cluster.all_up()
    await cluster.agreement()
    assert await content(cluster) == before


async def test_no_log_holds_a_traceback(cluster: RealCluster) -> None:
    no_log_holds_a_traceback(cluster)
