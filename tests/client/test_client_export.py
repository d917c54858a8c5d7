"""A conversation leaves a cluster as JSON and comes into another one, whole or not at all."""

from __future__ import annotations

import asyncio
import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.client import (
    AlreadyExists,
    Client,
    InvalidRequest,
    OutcomeUnknown,
    TooLarge,
    export,
)
from consensusllm.conversations import (
    Candidate,
    Conversation,
    Delete,
    ImportTurn,
    Limits,
    Rename,
    Turn,
)
from consensusllm.wire.generated import client_pb2

Failure = client_pb2.Failure
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


def candidates():
    return st.builds(
        Candidate,
        number=st.integers(1, 65_535),
        node=st.integers(0, 2**32 - 1),
        model=TEXT,
        attempt=st.integers(1, 9),
        ended=st.just(True),
        text=TEXT,
        error=st.one_of(st.just(""), TEXT),
    )


@st.composite
def turns(draw):
    found = draw(st.lists(candidates(), min_size=1, max_size=4, unique_by=lambda each: each.number))
    answered = [each.number for each in found if each.answered]
    return Turn(
        1, draw(TEXT), tuple(found), choice=draw(st.sampled_from([0, *answered])), closed=True
    )


def essence(conversation):
    return [
        (
            turn.question,
            turn.choice,
            [
                (each.number, each.node, each.model, each.text, each.error)
                for each in turn.candidates
            ],
        )
        for turn in conversation.turns
    ]


@given(st.lists(turns(), max_size=4).map(lambda each: Conversation("c1", 1, tuple(each))))
def test_a_document_keeps_questions_candidates_and_choices(conversation):
    document = json.loads(json.dumps(export.to_document(conversation)))
    imported = export.from_document(document, "target")
    assert all(each.conversation == "target" for each in imported)
    assert [
        (
            each.question,
            each.choice,
            [(one.number, one.node, one.model, one.text, one.error) for one in each.candidates],
        )
        for each in imported
    ] == essence(conversation)


def test_a_candidate_that_is_still_open_is_exported_as_such():
    turn = Turn(1, "q", (Candidate(1, 1, "m", text="half an ans"),))
    document = export.to_document(Conversation("c1", 1, (turn,)))
    assert document["turns"][0]["candidates"][0] == {
        "number": 1,
        "node": 1,
        "model": "m",
        "text": "half an ans",
        "error": export.STILL_OPEN,
    }


GOOD = {
    "format": export.FORMAT,
    "version": 1,
    "conversation": "c1",
    "turns": [
        {
            "question": "q1",
            "choice": 0,
            "candidates": [{"number": 1, "node": 1, "model": "m", "text": "", "error": "failed"}],
        },
        {
            "question": "q2",
            "choice": 2,
            "candidates": [
                {"number": 1, "node": 1, "model": "m", "text": "a\n🙂", "error": ""},
                {"number": 2, "node": 2, "model": "n", "text": "b", "error": ""},
            ],
        },
    ],
}


def spoilt(path, value):
    document = copy.deepcopy(GOOD)
    *way, last = path
    place = document
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "the document must be a JSON object"),
        (spoilt(["format"], "other"), "only 'consensusllm-conversation' version 1"),
        (spoilt(["version"], 2), "only 'consensusllm-conversation' version 1"),
        (spoilt(["version"], True), "version must be a whole number"),
        (spoilt(["turns"], ...), "lacks 'turns'"),
        (spoilt(["extra"], 1), "'extra', which is not known"),
        (spoilt(["turns", 1], "q"), r"turns\[1\] must be a JSON object"),
        (spoilt(["turns", 1, "question"], None), r"turns\[1\]\.question must be a string"),
        (spoilt(["turns", 1, "choice"], 3), r"turns\[1\]\.choice is 3"),
        (spoilt(["turns", 0, "choice"], 1), r"turns\[0\]\.choice is 1"),
        (spoilt(["turns", 1, "candidates", 1, "number"], 1), "a number of its own"),
        (spoilt(["turns", 1, "candidates", 1, "number"], 0), "a number of its own"),
        (spoilt(["turns", 1, "candidates", 0, "node"], -1), "not negative"),
        (spoilt(["turns", 1, "candidates", 0, "text"], "\ud800"), "surrogate"),
        (spoilt(["turns", 1, "candidates", 0, "seed"], 1), "'seed', which is not known"),
    ],
)
def test_a_malformed_document_is_refused_with_the_place(document, words):
    with pytest.raises(InvalidRequest, match=words):
        export.from_document(document, "c1")


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
        document = json.loads(json.dumps(await first.export_conversation("c1")))
        await second.import_conversation(document, "c2")
        assert await second.export_conversation("c2") == {**document, "conversation": "c2"}
        assert [each.conversation for each in await second.conversations()] == ["c2"]
        assert (await second.view("c2")).turns[1].choice == 1


async def test_an_import_over_an_existing_conversation_changes_nothing(start_cluster):
    cluster = await start_cluster()
    async with Client(cluster.addresses) as client:
        await client.create("c1")
        with pytest.raises(AlreadyExists, match="c1"):
            await client.import_conversation(GOOD, "c1")
        assert (await client.view("c1")).turns == ()
        assert [each.conversation for each in await client.conversations()] == ["c1"]


async def test_an_import_that_fails_half_way_leaves_nothing(start_cluster):
    cluster = await start_cluster(limits=Limits(text_bytes=5))
    async with Client(cluster.addresses) as client:
        document = spoilt(["turns", 1, "candidates", 1, "text"], "too long")
        with pytest.raises(TooLarge):
            await client.import_conversation(document, "c1")
        assert await client.conversations() == []


async def test_an_import_that_is_cancelled_leaves_nothing(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    node.faulty = lambda command: command is not None and isinstance(command.operation, ImportTurn)
    node.fault("silent")
    async with Client(cluster.addresses) as client:
        importing = asyncio.create_task(client.import_conversation(GOOD, "c1"))
        await node.faced.wait()
        importing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await importing
        assert await client.conversations() == []


async def test_an_import_whose_last_answer_is_lost_is_known_to_have_happened(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    node.faulty = lambda command: command is not None and isinstance(command.operation, Rename)
    node.always_fault("silent", applied=True)
    async with Client(cluster.addresses) as client:
        await client.import_conversation(GOOD, "c1", timeout_s=0.5)
        assert essence(await client.view("c1")) == essence_of_document(GOOD)


def essence_of_document(document):
    return [
        (turn["question"], turn["choice"], [tuple(each.values()) for each in turn["candidates"]])
        for turn in document["turns"]
    ]


async def test_what_a_failed_import_could_not_remove_is_named(start_cluster):
    cluster = await start_cluster()
    node = cluster.nodes[0]
    node.faulty = lambda command: (
        command is not None and isinstance(command.operation, (Rename, Delete))
    )
    node.always_fault("silent")
    async with Client(cluster.addresses, timeout_s=0.5) as client:
        with pytest.raises(OutcomeUnknown, match=r"left as \.import-[0-9a-f]{16}: delete it"):
            await client.import_conversation(GOOD, "c1")
        assert len(await client.conversations()) == 1
