"""Bad input at every edge of a real cluster: one clear line, a status, and nothing is changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from real_cluster import PATIENCE_S, RealCluster, eventually, free_ports

from consensusllm.client import Candidate, Conflict, ConsensusError, Conversation, NotAnswered, Turn
from consensusllm.client.export import export
from consensusllm.conversations.commands import (
    CompareAndSwap,
    Put,
    RecordCandidate,
    SessionCommand,
)
from consensusllm.paxos import Ballot
from consensusllm.paxos.messages import Prepare
from consensusllm.storage import format_disk
from consensusllm.transport.envelopes import pack
from consensusllm.transport.port import Envelope
from consensusllm.wire.commands import encode_command
from consensusllm.wire.generated import client_pb2, orchestrator_pb2, peer_pb2
from consensusllm.wire.peer import encode_message, kind_of
from consensusllm_cli.main import run

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
        yield cluster
    finally:
        await cluster.__aexit__()


# What was there before, and what is there after ------------------------------------------------


async def content(cluster: RealCluster) -> tuple[Any, ...]:
    """Everything that clients see. A refusal by the state machine changes its session and so the
    state's hash; of this it must change nothing."""
    client = cluster.client()
    conversations = await client.conversations()
    views = [await client.view(one.conversation) for one in conversations]
    return views, [(key, await client.get(key)) for key in await client.keys()]


async def state_hash(cluster: RealCluster) -> str:
    return (await cluster.agreement()).state_hash


def files(directory: Path) -> dict[str, str]:
    """Every file below ``directory`` with its digest."""
    return {
        str(path.relative_to(directory)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@dataclass
class Ended:
    status: int
    out: str
    err: list[str]

    def refused(self, status: int, *words: str) -> None:
        """One line on standard error, with all of ``words``, and nothing on standard output."""
        assert (self.status, self.out, len(self.err)) == (status, "", 1), self
        for word in words:
            assert word in self.err[0], self


async def command(*arguments: object, stdin: str | bytes = "", **environment: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "consensusllm_cli.main"),
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
    )
    data = stdin.encode() if isinstance(stdin, str) else stdin
    out, err = await asyncio.wait_for(process.communicate(data), 60)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode().splitlines())


def at_once(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ended:
    """A command line that is refused before any event loop would run: in this process."""
    capsys.readouterr()
    status = run([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return Ended(status, said.out, said.err.splitlines())


async def repl(cluster: RealCluster, *lines: str) -> Ended:
    """Give all lines to one REPL through its standard input."""
    stdin = "".join(f"{line}\n" for line in lines)
    return await command("repl", "--config", cluster.config_path, stdin=stdin)


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
    assert (ended.status, ended.out, len(ended.err)) == (1, "", 2)
    assert "5242880 bytes" in ended.err[0]
    assert "5242880 bytes" in ended.err[1]
    assert "1048576" in ended.err[0]
    session = os.urandom(16)
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


# Raw gRPC --------------------------------------------------------------------------------------


async def pipeline(cluster: RealCluster, *requests: client_pb2.Request) -> list[Any]:
    """Send each request in a message of its own, and collect all responses."""
    found: list[Any] = []
    async with channel(cluster.addresses[1]) as raw:
        call = raw.stream_stream(
            "/consensusllm.client.v1.Client/Pipeline",
            request_serializer=client_pb2.Requests.SerializeToString,
            response_deserializer=client_pb2.Responses.FromString,
        )(iter([client_pb2.Requests(requests=[each]) for each in requests]))
        async for message in call:
            found.extend(message.responses)
    return found


def channel(address: str) -> grpc.aio.Channel:
    options = [("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
    return grpc.aio.insecure_channel(address, options=options)


async def refusal(
    address: str, method: str, *messages: Any, streams: bool = True
) -> tuple[grpc.StatusCode, str]:
    """How the stream ends that sends ``messages``, which are bytes or protobuf."""
    data = [each if isinstance(each, bytes) else each.SerializeToString() for each in messages]
    async with channel(address) as raw:
        if streams:
            call = raw.stream_stream(method)(iter(data))
        else:
            call = raw.unary_stream(method)(data[0])
        with pytest.raises(grpc.aio.AioRpcError) as error:
            async for _ in call:
                pass
    return error.value.code(), error.value.details() or ""


async def test_bytes_that_are_no_message_are_refused_on_every_kind_of_call(
    cluster: RealCluster,
) -> None:
    before = await state_hash(cluster)
    expected = (grpc.StatusCode.INVALID_ARGUMENT, "a message is not valid protobuf")
    node, network = cluster.addresses[2], cluster.orchestrator
    garbage = b"\xff\xff\xff\xff"
    for address, method, streams in (
        (node, "/consensusllm.client.v1.Client/Pipeline", True),
        (node, "/consensusllm.client.v1.Client/Watch", False),
        (node, "/consensusllm.client.v1.Client/GetStatus", False),
        (node, "/grpc.health.v1.Health/Check", False),
        (node, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True),
        (network, "/consensusllm.orchestrator.v1.Orchestrator/Attach", True),
        (network, "/consensusllm.orchestrator.v1.Faults/Inject", False),
        (network, "/consensusllm.orchestrator.v1.Faults/Trace", False),
        (network, "/consensusllm.orchestrator.v1.Faults/Processes", True),
    ):
        assert await refusal(address, method, garbage, streams=streams) == expected, method
    unknown = await refusal(node, "/consensusllm.client.v1.Client/NoSuchMethod", b"")
    assert unknown[0] is grpc.StatusCode.UNIMPLEMENTED
    assert await state_hash(cluster) == before


async def test_a_stranger_is_not_let_into_the_network(cluster: RealCluster) -> None:
    attach = "/consensusllm.orchestrator.v1.Orchestrator/Attach"
    hello = orchestrator_pb2.Hello
    faults = await cluster.faults.faults()

    async def attempt(*messages: orchestrator_pb2.FromNode) -> tuple[grpc.StatusCode, str]:
        return await refusal(cluster.orchestrator, attach, *messages)

    code, why = await attempt(orchestrator_pb2.FromNode(hello=hello(cluster_id="another", node=1)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "correct the cluster id" in why
    envelopes = peer_pb2.Envelopes(envelopes=[peer_pb2.Envelope(src=1, dst=2)])
    code, why = await attempt(orchestrator_pb2.FromNode(envelopes=envelopes))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "the first message of a stream is the hello" in why
    assert await cluster.faults.faults() == faults


async def test_who_is_no_member_may_attach_to_join_but_is_not_heard(cluster: RealCluster) -> None:
    before = await cluster.client().status()
    prepare = Prepare(9, Ballot(before.ballot_seq_num + 1_000, 9, 1), ())
    body = encode_message(prepare)
    envelopes = peer_pb2.Envelopes()
    sent = [Envelope(9, node, kind_of(prepare), body) for node in cluster.addresses]
    pack(envelopes, "test", sent)
    hello = orchestrator_pb2.Hello(cluster_id="test", node=9)
    async with channel(cluster.orchestrator) as raw:
        call = raw.stream_stream(
            "/consensusllm.orchestrator.v1.Orchestrator/Attach",
            request_serializer=orchestrator_pb2.FromNode.SerializeToString,
            response_deserializer=orchestrator_pb2.ToNode.FromString,
        )()
        await call.write(orchestrator_pb2.FromNode(hello=hello))
        await call.write(orchestrator_pb2.FromNode(envelopes=envelopes))
        await call.done_writing()
        async for _ in call:
            pass  # the orchestrator ends the stream once it has read it all
    await cluster.client().put("still", b"here")
    after = await cluster.client().status()
    assert after.ballot_seq_num == before.ballot_seq_num


async def test_commands_of_the_nodes_and_nonsense_are_refused_before_the_log(
    cluster: RealCluster,
) -> None:
    before = await state_hash(cluster)
    record = RecordCandidate("told", 1, 2, 1, "forged", "m", "stop")
    forged = encode_command(SessionCommand(b"s" * 16, 1, 1, record))
    short = client_pb2.Ask(session=b"short", conversation="told", question="q")
    responses = await pipeline(
        cluster,
        client_pb2.Request(id=1),
        client_pb2.Request(id=2, command=b"\xff\xff"),
        client_pb2.Request(id=3, command=b""),
        client_pb2.Request(id=4, command=forged),
        client_pb2.Request(id=5, ask=short),
        client_pb2.Request(id=6, read=client_pb2.Read()),
    )
    assert sorted(each.id for each in responses) == [1, 2, 3, 4, 5, 6]
    assert all(each.failure.kind == client_pb2.Failure.INVALID for each in responses)
    assert all(each.failure.message for each in responses)
    assert await state_hash(cluster) == before


# The command line, configurations, ports and directories ------------------------------------------


async def test_misuse_of_the_command_line_is_one_line_and_status_2(
    cluster: RealCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    config = cluster.config_path
    cases: Sequence[tuple[Sequence[object], str]] = (
        (("frob",), "no such command 'frob'"),
        (("node", "1"), "Missing option '--config'"),
        (("node", "one", "--config", config), "'ID'"),
        (("node", "1", "--config", "nowhere.json"), "nowhere.json: cannot be read"),
        (("node", "7", "--config", config), "there is no node 7 in the configuration"),
        (("up", "--nodes", "0"), "'--nodes'"),
        (("up", "--base-port", "70000"), "'--base-port'"),
        (("up", "--config", config, "--nodes", "3"), "--nodes cannot go with --config"),
        (("status", "--config", config, "--base-port", "1"), "use only one of them"),
        (("repl", "--connect", "nonsense"), "'nonsense' is not HOST:PORT"),
        (("repl", "--config", config, "nowhere.script"), "'nowhere.script'"),
    )
    for arguments, expected in cases:
        at_once(capsys, *arguments).refused(2, expected)


async def test_a_node_that_is_not_there_cannot_be_spoken_to(cluster: RealCluster) -> None:
    ended = await command("repl", "--config", cluster.config_path, "--node", "9", "-c", "viewall")
    ended.refused(1, "there is no node 9: the nodes are 1, 2, 3")


async def test_a_bad_configuration_is_named_and_nothing_is_made(
    cluster: RealCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = json.loads(cluster.config_path.read_text())
    one, two = good["nodes"][:2]
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "key": ({**good, "nodse": []}, 'nodse: unknown key; did you mean "nodes"?'),
        "type": ({**good, "paxos": {"heartbeat_ms": "fast"}}, "paxos.heartbeat_ms: must be"),
        "id": ({**good, "nodes": [one, {**two, "id": 1}]}, "nodes[1].id: another node has"),
        "address": (
            {**good, "nodes": [one, {**two, "address": one["address"]}]},
            f"nodes[1].address: node 1 has the address {one['address']}",
        ),
        "variable": (
            {**good, "client_token": "${NO_SUCH_VARIABLE_HERE}"},
            "client_token: the environment variable NO_SUCH_VARIABLE_HERE is not set",
        ),
    }
    for name, (document, expected) in cases.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document))
        for arguments in (("node", 1), ("orchestrator",), ("up", "--data-dir", tmp_path / "data")):
            ended = at_once(capsys, *arguments, "--config", path)
            ended.refused(2, f"{name}.json: {expected}")
    assert not (tmp_path / "data").exists()


async def test_ports_and_directories_in_use_are_refused_and_left_as_they_are(
    cluster: RealCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(cluster.config_path.read_text())
    elsewhere, running, fresh = (tmp_path / name for name in ("other.json", "same.json", "fresh"))
    running.write_text(json.dumps({**document, "data_dir": str(cluster.data_dir)}))
    elsewhere.write_text(json.dumps({**document, "data_dir": str(fresh)}))
    listed = sorted(cluster.data_dir.rglob("*"))
    at_once(capsys, "up", "--config", running).refused(
        1, f"{cluster.data_dir} is in use by another launcher", "use another --data-dir"
    )
    at_once(capsys, "up", "--config", elsewhere).refused(
        1, "meant for the orchestrator, is in use", "choose another with"
    )
    node, network = await asyncio.gather(
        command("node", "1", "--config", running), command("orchestrator", "--config", running)
    )
    node.refused(1, "node-1: another process uses it; stop that one first")
    network.refused(1, f"cannot listen on {cluster.orchestrator}", "choose another port")
    assert not fresh.exists()
    assert sorted(cluster.data_dir.rglob("*")) == listed
    await cluster.all_up()


async def test_data_of_another_node_or_cluster_is_refused_and_left_as_it_is(
    cluster: RealCluster, tmp_path: Path
) -> None:
    document = json.loads(cluster.config_path.read_text())
    document["data_dir"] = str(tmp_path)
    format_disk(tmp_path / "node-1", "test", 2, 1, voting=True)
    format_disk(tmp_path / "node-2", "another", 2, 1, voting=True)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(document))
    before = files(tmp_path)
    of_two, of_another = await asyncio.gather(
        command("node", "1", "--config", config), command("node", "2", "--config", config)
    )
    of_two.refused(1, "belongs to node 2 of cluster 'test', not to node 1", "directory of its own")
    of_another.refused(1, "belongs to node 2 of cluster 'another'", "directory of its own")
    assert files(tmp_path) == before


@pytest.mark.parametrize("damage", ["corrupt", "truncated", "empty"])
async def test_a_damaged_database_of_a_lone_node_is_refused_and_left_as_it_is(
    tmp_path: Path, damage: str
) -> None:
    format_disk(tmp_path / "node-1", "test", 1, 1, voting=True)
    database = tmp_path / "node-1" / "node.db"
    data = bytearray(database.read_bytes())
    if damage == "corrupt":
        data[len(data) // 2 :] = b"\xa5" * (len(data) - len(data) // 2)
    else:
        del data[len(data) // 2 if damage == "truncated" else 0 :]
    database.write_bytes(data)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "cluster_id": "test",
                "network": "direct",
                "data_dir": str(tmp_path),
                "nodes": [{"id": 1, "address": address}],
            }
        )
    )
    before = files(tmp_path)
    ended = await command("node", "1", "--config", config, "--bootstrap")
    ended.refused(1, str(database), "damaged", "bring the directory back from a copy")
    assert files(tmp_path) == before


async def test_a_damaged_database_among_three_is_set_aside_and_repaired(
    cluster: RealCluster,
) -> None:
    leader = await cluster.leader()
    node = next(each for each in cluster.addresses if each != leader)
    before = await content(cluster)
    await cluster.faults.fail_node(node)
    database = cluster.data_dir / f"node-{node}" / "node.db"
    database.write_bytes(os.urandom(database.stat().st_size))
    await cluster.faults.fix_node(node)

    async def repaired() -> bool:
        status = await cluster.status(node)
        return status is not None and status.role == "following"

    await eventually(repaired, "the node votes again")
    assert (database.parent / "node.db.damaged-1").exists()
    await cluster.agreement()
    assert await content(cluster) == before


# No majority -----------------------------------------------------------------------------------


async def test_without_a_majority_writes_say_so_in_time_and_stale_reads_go_on(
    cluster: RealCluster,
) -> None:
    """The last test: it kills two nodes."""
    await cluster.all_up()
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
    shown, status, dead, alive = await asyncio.gather(
        repl(cluster, "view told --stale", "viewall --stale", "status", "nodes"),
        command("status", "--config", cluster.config_path),
        repl(cluster, "failNode 2"),
        repl(cluster, "fixNode 1"),
    )
    assert (shown.status, shown.err) == (0, [])
    assert "candidate 2 is chosen" in shown.out
    assert shown.out.count("does not answer") >= 2
    assert status.status == 1
    assert status.err[-1] == "consensusllm: no node leads: a majority must be up and linked"
    dead.refused(1, "node-2 is not running: fixNode 2 starts it")
    alive.refused(1, "node-1 is running already")
    for node in down:
        await cluster.faults.fix_node(node)
    await cluster.all_up()
    await cluster.agreement()
    assert await content(cluster) == before


async def test_no_log_holds_a_traceback(cluster: RealCluster) -> None:
    for path in (cluster.data_dir / "logs").glob("*.log"):
        assert "Traceback" not in path.read_text(), path
