"""A conversation leaves a cluster as JSON and comes into another one, whole or not at all."""

from __future__ import annotations

import asyncio
import copy
import json
from dataclasses import replace

import pytest

from consensusllm.client import (
    AlreadyExists,
    Altered,
    Client,
    InvalidRequest,
    NotExtended,
    OutcomeUnknown,
    TooLarge,
    found_at,
    read_conversations,
    read_export,
)
from consensusllm.client.export import export
from consensusllm.conversations import (
    Candidate,
    Conversation,
    Delete,
    ImportTurn,
    Limits,
    Rename,
    TakenOver,
    Turn,
    Usage,
    at_revision,
    chain,
)
from consensusllm.wire.generated import client_pb2

Failure = client_pb2.Failure

FAILED = Candidate(
    1, 1, "m", ended=True, error="failed", planned_node=1, opened_revision=2, ended_revision=3
)
TAKEN_OVER = Candidate(
    1,
    2,
    "m",
    attempt=2,
    ended=True,
    text="a\n🙂",
    finish_reason="stop",
    usage=Usage(3, 5),
    takeovers=(TakenOver(2, 2, 1, 6),),
    planned_node=1,
    planned_model="n",
    opened_revision=5,
    ended_revision=7,
)
OTHER = replace(FAILED, number=2, text="b", error="", opened_revision=5, ended_revision=8)
CONVERSATION = Conversation(
    "c1",
    9,
    (
        Turn(1, "q1", (FAILED,), closed=True, asked_revision=1),
        Turn(
            2,
            "q2",
            (TAKEN_OVER, OTHER),
            choice=2,
            closed=True,
            opened_ms=5,
            asked_revision=4,
            choice_revision=9,
        ),
    ),
)
GOOD = export(CONVERSATION)
PLAIN = {key: value for key, value in GOOD.items() if key not in ("links", "head")}


def spoilt(path, value, document=PLAIN):
    document = copy.deepcopy(document)
    *way, last = path
    place = document
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


def test_a_document_has_all_that_is_known_and_a_link_for_each_turn():
    document = json.loads(json.dumps(GOOD))
    found = read_export(document)
    assert found.conversation == CONVERSATION
    assert list(found.links) == chain.links(CONVERSATION)
    assert found.head == document["head"] == document["links"][-1]
    assert read_export(PLAIN).links is None


TURNS = ["conversation", "turns"]
CANDIDATES = [*TURNS, 1, "candidates"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "the document is no conversation"),
        (None, "the document is no conversation"),
        ({}, "the document is no conversation"),
        (spoilt(["format"], "other"), "only 'consensusllm-conversation' version 2"),
        (spoilt(["version"], 1), "only 'consensusllm-conversation' version 2"),
        (spoilt(["extra"], 1), "'extra', which is not known"),
        (spoilt(["conversation"], ...), "conversation must be a JSON object"),
        (spoilt(TURNS, ...), "conversation lacks 'turns'"),
        (spoilt([*TURNS, 1], "q"), r"conversation\.turns\[1\] must be a JSON object"),
        (spoilt([*TURNS, 1, "question"], None), r"turns\[1\]\.question must be a string"),
        (spoilt([*CANDIDATES, 0, "node"], "1"), r"candidates\[0\]\.node must be a whole number"),
        (spoilt([*CANDIDATES, 0, "text"], "\ud800"), r"candidates\[0\]\.text holds half"),
        (spoilt([*CANDIDATES, 0, "seed"], 1), r"candidates\[0\] has 'seed', which is not known"),
        (spoilt([*TURNS, 1, "choice"], 3), "turn 2 does not fit: it chooses candidate 3"),
        (spoilt([*TURNS, 1, "turn"], 3), "turn 2 does not fit: it says that it is turn 3"),
        (spoilt([*TURNS, 1, "asked_revision"], 1), "turn 2 does not fit: it was asked before"),
        (spoilt(["conversation", "revision"], 8), "turn 2 does not fit: it changed after"),
        (spoilt([*CANDIDATES, 1, "number"], 1), "turn 2 does not fit: its candidates"),
        ({**PLAIN, "links": []}, "one of 'links' and 'head'"),
        ({**GOOD, "links": [1, 2]}, "64 hexadecimal digits"),
        ({**GOOD, "head": "zz"}, "64 hexadecimal digits"),
    ],
)
def test_a_malformed_document_is_refused_with_the_place(document, words):
    with pytest.raises(InvalidRequest, match=words):
        read_conversations(document)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (spoilt([*TURNS, 0, "question"], "Q1", GOOD), "turn 1 does not fit"),
        (spoilt([*CANDIDATES, 0, "text"], "A", GOOD), "turn 2 does not fit"),
        (spoilt([*TURNS, 1], ..., GOOD), "turn 2 does not fit: it is missing"),
        (spoilt(["links", 1], ..., GOOD), "turn 2 does not fit: it has no link"),
        (spoilt(["links", 0], "0" * 64, GOOD), "turn 1 does not fit"),
        (spoilt(["head"], "0" * 64, GOOD), "the head does not fit"),
        (spoilt(["conversation", "created_ms"], 1 << 60, GOOD), "it cannot be created at"),
    ],
)
def test_an_altered_document_is_refused_and_the_first_turn_that_does_not_fit_is_named(
    document, words
):
    with pytest.raises(Altered, match=words):
        read_export(document)


def test_a_head_that_was_noted_is_found_in_what_grew_from_it():
    noted = chain.head(at_revision(CONVERSATION, 4))
    assert found_at(CONVERSATION, noted.upper()) == (3, 4)
    forged = replace(
        CONVERSATION,
        turns=(replace(CONVERSATION.turns[0], question="Q1"), CONVERSATION.turns[1]),
    )
    with pytest.raises(NotExtended, match=f"c1 never had the head {noted}"):
        found_at(forged, noted)
    with pytest.raises(InvalidRequest, match="no head: give 64"):
        found_at(CONVERSATION, noted[1:])


async def test_what_is_exported_can_be_imported_into_another_cluster(start_cluster):
    here, there = await start_cluster(2), await start_cluster(3)
    async with Client(here.addresses) as first, Client(there.addresses) as second:
        await first.create("c1")
        for question in ("What is\nPaxos?", "و Raft؟ 🙂", "open"):
            turn = await first.ask("c1", question)
            if question != "open":
                here.record("c1", turn, 1, f"on {question}")
                here.record("c1", turn, 2, "", error="the model failed")
        await first.choose("c1", 1, 2)
        original = await first.view("c1")
        document = json.loads(json.dumps(await first.export_conversation("c1")))
        (read,) = read_conversations(document)
        assert read == original
        await second.import_conversation(read, "c2")
        assert [each.conversation for each in await second.conversations()] == ["c2"]
        imported = await second.view("c2")
        assert imported.turns[:2] == original.turns[:2]
        assert (imported.created_ms, imported.updated_ms) == (
            original.created_ms,
            original.updated_ms,
        )
        open_then = imported.turns[2]
        assert open_then.closed
        assert "not answered yet when it was exported" in open_then.candidates[0].error
        assert found_at(imported, document["head"])[1] == original.revision
        assert (await second.view("c2", at=original.revision)).turns == original.turns


async def test_a_view_at_a_revision_that_is_not_there_names_those_that_are(start_cluster):
    cluster = await start_cluster()
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        await client.ask("c1", "?")
        assert (await client.view("c1", at=1)).turns == ()
        assert len((await client.view("c1", at=2)).turns) == 1
        for at in (0, 3, -1, True, "1"):
            with pytest.raises(InvalidRequest, match=r"c1 has no revision .*: it has 1 to 2"):
                await client.view("c1", at=at)


async def test_an_import_over_an_existing_conversation_changes_nothing(start_cluster):
    cluster = await start_cluster()
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        with pytest.raises(AlreadyExists, match="c1"):
            await client.import_conversation(CONVERSATION, "c1")
        assert (await client.view("c1")).turns == ()
        assert [each.conversation for each in await client.conversations()] == ["c1"]


async def test_an_import_that_fails_half_way_leaves_nothing(start_cluster):
    cluster = await start_cluster(limits=Limits(text_bytes=6))
    (turn,) = CONVERSATION.turns[1:]
    long = replace(turn, candidates=(TAKEN_OVER, replace(OTHER, text="too long")))
    async with Client(cluster.addresses) as client:
        conversation = replace(CONVERSATION, turns=(CONVERSATION.turns[0], long))
        with pytest.raises(TooLarge):
            await client.import_conversation(conversation, "c1")
        assert await client.conversations() == []


async def test_a_number_that_is_out_of_range_is_refused_before_anything_is_done(start_cluster):
    cluster = await start_cluster()
    (turn,) = CONVERSATION.turns[1:]
    wrong = replace(turn, candidates=(TAKEN_OVER, replace(OTHER, node=1 << 40)))
    conversation = replace(CONVERSATION, turns=(CONVERSATION.turns[0], wrong))
    async with Client(cluster.addresses) as client:
        with pytest.raises(InvalidRequest, match="turn 2 cannot be imported"):
            await client.import_conversation(conversation, "c1")


async def test_an_import_that_is_cancelled_leaves_nothing(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    node.faulty = lambda command: command is not None and isinstance(command.operation, ImportTurn)
    node.fault("silent")
    async with Client(cluster.addresses) as client:
        importing = asyncio.create_task(client.import_conversation(CONVERSATION, "c1"))
        await node.faced.wait()
        importing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await importing
        assert await client.conversations() == []


async def test_who_shows_an_imports_progress_and_fails_leaves_nothing(start_cluster):
    cluster = await start_cluster()

    def tell(done, total):
        if done == 2:
            raise BrokenPipeError

    async with Client(cluster.addresses) as client:
        with pytest.raises(BrokenPipeError):
            await client.import_conversation(CONVERSATION, "c1", tell=tell)
        assert cluster.machine.counts().conversations == 0


async def test_an_import_whose_last_answer_is_lost_is_known_to_have_happened(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    node.faulty = lambda command: command is not None and isinstance(command.operation, Rename)
    node.always_fault("silent", applied=True)
    async with Client(cluster.addresses) as client:
        await client.import_conversation(CONVERSATION, "c1", timeout_s=0.5)
        assert (await client.view("c1")).turns == CONVERSATION.turns


async def test_what_a_failed_import_could_not_remove_is_named(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    node.faulty = lambda command: (
        command is not None and isinstance(command.operation, (Rename, Delete))
    )
    node.always_fault("silent")
    async with Client(cluster.addresses, timeout_s=0.5) as client:
        with pytest.raises(OutcomeUnknown, match=r"left as \.import-[0-9a-f]{16}: delete it"):
            await client.import_conversation(CONVERSATION, "c1")
        assert len(await client.conversations()) == 1


@pytest.mark.parametrize("again", [False, True])
async def test_what_a_cancelled_import_could_not_remove_is_named(start_cluster, again):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    node.faulty = lambda command: (
        command is not None and isinstance(command.operation, (ImportTurn, Delete))
    )
    node.always_fault("silent")
    async with Client(cluster.addresses, timeout_s=60 if again else 0.5) as client:
        importing = asyncio.create_task(client.import_conversation(CONVERSATION, "c1"))
        await node.faced.wait()
        node.faced.clear()
        importing.cancel()
        if again:
            await node.faced.wait()
            importing.cancel()
        with pytest.raises(
            asyncio.CancelledError, match=r"left as \.import-[0-9a-f]{16}: delete it"
        ):
            await importing
