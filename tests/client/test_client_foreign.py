"""What is read of the exports of ChatGPT and of Open WebUI."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.client import Client, InvalidRequest, read_conversations
from consensusllm.client.export import export
from consensusllm.client.foreign import NO_ANSWER, NO_TEXT
from consensusllm.conversations.history import contradiction


def gpt(role: str, text: Any, parent: str, *children: str, **message: Any) -> dict[str, Any]:
    parts = text if isinstance(text, list) else [text]
    return {
        "parent": parent,
        "children": list(children),
        "message": {
            "author": {"role": role, "name": None, "metadata": {}},
            "create_time": 1_700_000_000.25,
            "content": {"content_type": "text", "parts": parts},
            "metadata": {"model_slug": "gpt-4o"} if role == "assistant" else {},
            "recipient": "all",
            **message,
        },
    }


CHATGPT: list[dict[str, Any]] = [
    {
        "title": "What is Paxos? 🙂",
        "create_time": 1_700_000_000.0,
        "current_node": "a2",
        "conversation_id": "x",
        "mapping": {
            "root": {"id": "root", "message": None, "parent": None, "children": ["sys"]},
            "sys": gpt("system", "", "root", "q1"),
            "q1": gpt("user", "What is Paxos?", "sys", "a1", "a1b"),
            "a1": gpt("assistant", "Wrong.", "q1", "q2x"),
            "q2x": gpt("user", "Really?", "a1"),
            "a1b": gpt("assistant", "search(paxos)", "q1", "tool", recipient="browser"),
            "tool": gpt("tool", "pages", "a1b", "a1c"),
            "a1c": gpt("assistant", "A protocol", "tool", "a1d"),
            "a1d": gpt("assistant", "for consensus.", "a1c", "q2", "q2b"),
            "q2": gpt("user", "An edited question", "a1d"),
            "q2b": gpt(
                "user",
                [{"content_type": "image_asset_pointer"}, "And\nthis?"],
                "a1d",
                "a2",
                content={
                    "content_type": "multimodal_text",
                    "parts": [{"content_type": "image_asset_pointer"}, "And\nthis?"],
                },
            ),
            "a2": gpt("assistant", "", "q2b"),
        },
    },
    {"title": "what is paxos", "current_node": None, "mapping": {}},
    {"title": "何", "current_node": "q", "mapping": {"q": gpt("user", "", None)}},
]


def webui(role: str, text: str, parent: str | None, *children: str, **more: Any) -> dict[str, Any]:
    return {
        "parentId": parent,
        "childrenIds": list(children),
        "role": role,
        "content": text,
        "timestamp": 1_700_000_000,
        **more,
    }


OPEN_WEBUI: list[dict[str, Any]] = [
    {
        "id": "x",
        "title": "outer",
        "chat": {
            "title": "Two models",
            "history": {
                "currentId": "b1",
                "messages": {
                    "q": webui("user", "Why?", None, "a", "b"),
                    "a": webui("assistant", "", "q", model="llama", error={"content": "no key"}),
                    "b": webui("assistant", "Because.", "q", "q1", model="qwen"),
                    "q1": webui("user", "Sure?", "b", "b1"),
                    "b1": webui("assistant", "Yes.", "q1", model="qwen"),
                },
            },
        },
    }
]


def told(conversation: Any) -> list[tuple[str, int, list[tuple[str, str, str]]]]:
    return [
        (turn.question, turn.choice, [(c.model, c.text, c.error) for c in turn.candidates])
        for turn in conversation.turns
    ]


def test_chatgpts_branches_become_candidates_and_the_current_one_is_chosen() -> None:
    first, second, third = read_conversations(json.loads(json.dumps(CHATGPT)))
    assert [each.conversation for each in (first, second, third)] == [
        "what-is-paxos",
        "what-is-paxos-2",
        "chat-3",
    ]
    assert told(first) == [
        (
            "What is Paxos?",
            2,
            [("gpt-4o", "Wrong.", ""), ("gpt-4o", "A protocol\n\nfor consensus.", "")],
        ),
        ("[image_asset_pointer]\nAnd\nthis?", 0, [("gpt-4o", "", NO_ANSWER)]),
    ]
    assert first.turns[0].opened_ms == 1_700_000_000_250
    assert second.turns == ()
    assert told(third) == [(NO_TEXT, 0, [("", "", NO_ANSWER)])]


def test_open_webuis_parallel_answers_become_candidates() -> None:
    (found,) = read_conversations(json.loads(json.dumps(OPEN_WEBUI)))
    assert found.conversation == "two-models"
    assert told(found) == [
        ("Why?", 2, [("llama", "", "no key"), ("qwen", "Because.", "")]),
        ("Sure?", 1, [("qwen", "Yes.", "")]),
    ]


def test_a_single_conversation_may_stand_outside_a_list() -> None:
    assert told(read_conversations(CHATGPT[0])[0]) == told(read_conversations(CHATGPT)[0])
    assert told(read_conversations(OPEN_WEBUI[0])[0]) == told(read_conversations(OPEN_WEBUI)[0])


async def test_what_is_read_can_be_imported_and_asked_on(start_cluster: Any) -> None:
    cluster = await start_cluster()
    async with Client(cluster.addresses) as client:
        for found in [*read_conversations(CHATGPT), *read_conversations(OPEN_WEBUI)]:
            await client.import_conversation(found, found.conversation)
            assert told(await client.view(found.conversation)) == told(found)
        turn = await client.ask("two-models", "And now?")
        asked = cluster.machine.turn("two-models", turn)
        assert cluster.machine.prompt("two-models", asked, asked.candidates[0]) == (
            ("user", "Why?"),
            ("assistant", "Because."),
            ("user", "Sure?"),
            ("assistant", "Yes."),
            ("user", "And now?"),
        )


def spoilt(document: Any, path: list[Any], value: Any) -> Any:
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


MAPPING = [0, "mapping"]
MESSAGES = [0, "chat", "history", "messages"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (spoilt(CHATGPT, [1], 3), r"\[1\] must be a JSON object"),
        (spoilt(CHATGPT, [1, "mapping"], ...), r"\[1\] lacks 'mapping'"),
        (spoilt(CHATGPT, [1, "mapping"], []), r"\[1\]\.mapping must be a JSON object"),
        (spoilt(CHATGPT, [*MAPPING, "q1"], 1), r"\[0\]\.mapping\['q1'\] must be a JSON object"),
        (spoilt(CHATGPT, [*MAPPING, "q1", "message", "author"], ...), "message lacks 'author'"),
        (
            spoilt(CHATGPT, [*MAPPING, "q1", "message", "content", "parts"], [1]),
            r"\['q1'\]\.message\.content\.parts\[0\] must be a string",
        ),
        (
            spoilt(CHATGPT, [*MAPPING, "q1", "message", "content", "parts"], None),
            r"parts must be a list",
        ),
        (spoilt(CHATGPT, [*MAPPING, "q1", "message", "create_time"], "now"), "number of seconds"),
        (spoilt(CHATGPT, [*MAPPING, "q1", "message", "create_time"], -1), "is no time: -1"),
        (spoilt(CHATGPT, [*MAPPING, "q1", "message", "create_time"], 3e11), "is no time: 3"),
        (spoilt(CHATGPT, [*MAPPING, "q1", "children"], "a1"), "children must be a list"),
        (spoilt(CHATGPT, [0, "current_node"], "gone"), r"\[0\]: message 'gone' is named, and not"),
        (spoilt(CHATGPT, [0, "current_node"], None), r"\[0\] names no current message"),
        (spoilt(CHATGPT, [*MAPPING, "root", "parent"], "a2"), "is its own ancestor"),
        (spoilt(CHATGPT, [*MAPPING, "a1", "children"], ["a1"]), "'a1' is its own ancestor"),
        (spoilt(CHATGPT, [*MAPPING, "q1", "children"], []), "'a1b' is no child of its parent"),
        (spoilt(OPEN_WEBUI, [0, "chat", "history"], ...), r"\[0\]\.chat lacks 'history'"),
        (spoilt(OPEN_WEBUI, [*MESSAGES, "q", "content"], None), r"\['q'\]\.content must be a str"),
        (spoilt(OPEN_WEBUI, [*MESSAGES, "q", "role"], ...), r"messages\['q'\] lacks 'role'"),
        ([], "the document is no conversation"),
        ([{"title": "x"}], "the document is no conversation"),
        ("text", "the document is no conversation"),
    ],
)
def test_a_malformed_file_is_refused_with_the_place(document: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        read_conversations(document)
    assert "\n" not in str(refused.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[list[Any]]:
    below = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [[*path, key] for key, _ in below] + [
        place for key, inner in below for place in places(inner, (*path, key))
    ]


@given(st.data())
def test_whatever_is_changed_in_a_file_it_is_read_or_refused_in_one_line(data: Any) -> None:
    document: Any = data.draw(st.sampled_from([CHATGPT, OPEN_WEBUI]))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(document)))
        document = spoilt(document, path, data.draw(JSON | st.just(...)))
        if not places(document):
            break
    try:
        found = read_conversations(document)
    except InvalidRequest:
        return
    for conversation in found:
        assert not any(contradiction(turn) for turn in conversation.turns)
        export(conversation)


def test_thousands_of_chats_of_one_title_are_named_in_little_time() -> None:
    chat = {"title": "New chat", "current_node": None, "mapping": {}}
    begun = time.process_time()
    found = read_conversations([chat] * 20_000)
    assert time.process_time() - begun < 5.0
    ids = [each.conversation for each in found]
    assert ids[:3] == ["new-chat", "new-chat-2", "new-chat-3"]
    assert len({*ids}) == 20_000
