"""How the answers of Gemini, OpenAI and Ollama end: once, early, in each piece, never."""

from __future__ import annotations

import asyncio
import json

import pytest

from consensusllm.llm import ending
from consensusllm.llm.port import Unavailable
from tests.llm.calls import collect, failure, gather_texts
from tests.llm.dialects import DIALECTS, Dialect


@pytest.mark.parametrize("end", ["cut", "whole"])
async def test_a_stream_that_stops_without_a_finish_reason_is_unavailable(
    server, dialect, provider_of, end
):
    server.replies = [dialect.stream(["half ", "an "], finish="", end=end)]
    texts: list[str] = []
    with pytest.raises(Unavailable):
        await gather_texts(provider_of(dialect.settings(server)), texts)
    assert "".join(texts) == "half an "


async def test_a_connection_cut_after_the_finish_reason_costs_nothing(server, dialect, provider_of):
    server.replies = [dialect.stream(["whole"], end="cut")]
    chunks = await collect(provider_of(dialect.settings(server)))
    assert "".join(chunk.text for chunk in chunks) == "whole"
    assert chunks[-1].finish_reason == "stop"


@pytest.mark.parametrize("after", [None, b"{no json}"])
async def test_what_does_not_come_after_the_finish_reason_costs_nothing(
    server, dialect, provider_of, monkeypatch, after
):
    monkeypatch.setattr(ending, "USAGE_S", 0.1)
    monkeypatch.setattr(ending, "DOUBTFUL_PART", 0.005)  # of 20 s
    pieces = dialect.chunks(["whole"], "stop")
    if dialect.provider == "openai":
        del pieces[-2:]  # its usage and its last word
    if after is not None:
        pieces.append(
            after + b"\n" if dialect.provider == "ollama" else b"data: " + after + b"\n\n"
        )
    server.replies = [dialect.reply(pieces, end="hang")]
    chunks = await collect(provider_of(dialect.settings(server)))
    assert "".join(chunk.text for chunk in chunks) == "whole"
    assert chunks[-1].finish_reason == "stop"
    await asyncio.wait_for(server.left.wait(), 10)


def speaking_on(dialect: Dialect, finish: str = "stop") -> list[bytes]:
    """The pieces of an answer of three whose server says with each of them that it has ended."""
    if dialect.provider == "gemini":
        return [dialect.chunks([text], finish)[0] for text in ("Take it. ", "Never ", "twice.")]
    each = []
    for text in ("Take it. ", "Never ", "twice."):
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        each.append(b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n")
    return each


@pytest.mark.parametrize("name", ["gemini", "openai"])
async def test_text_behind_a_finish_reason_is_waited_for(server, provider_of, monkeypatch, name):
    monkeypatch.setattr(ending, "USAGE_S", 0.0)
    dialect = DIALECTS[name]
    server.replies = [dialect.reply(speaking_on(dialect))]
    chunks = await collect(provider_of(dialect.settings(server)))
    assert "".join(chunk.text for chunk in chunks) == "Take it. Never twice."
    assert chunks[-1].finish_reason == "stop"


@pytest.mark.parametrize("name", ["gemini", "openai"])
async def test_who_spoke_on_once_has_not_ended_where_the_connection_is_cut(
    server, provider_of, name
):
    dialect = DIALECTS[name]
    server.replies = [dialect.reply(speaking_on(dialect)[:2], end="cut")]
    error = await failure(provider_of(dialect.settings(server)))
    assert type(error) is Unavailable


async def test_a_finish_reason_before_the_first_text_is_no_end(server, provider_of, monkeypatch):
    monkeypatch.setattr(ending, "USAGE_S", 0.0)
    dialect = DIALECTS["gemini"]
    server.replies = [dialect.reply([*dialect.chunks([""], "stop"), *speaking_on(dialect)])]
    chunks = await collect(provider_of(dialect.settings(server)))
    assert "".join(chunk.text for chunk in chunks) == "Take it. Never twice."


async def test_empty_events_behind_the_end_hold_nobody_up(server, provider_of, monkeypatch):
    monkeypatch.setattr(ending, "USAGE_S", 0.2)
    dialect = DIALECTS["openai"]
    pieces = dialect.chunks(["whole"], "stop")[:-2]
    empty = b'data: {"id": "x", "choices": []}\n\n'
    server.replies = [dialect.reply([*pieces, *[empty] * 100_000], end="hang")]
    chunks = await collect(provider_of(dialect.settings(server)))
    assert "".join(chunk.text for chunk in chunks) == "whole"
    assert server.sent_bytes < 100_000 * len(empty), "it did not read on for ever"


@pytest.mark.parametrize("word", ["insufficient_system_resource", "abort", "error", "CANCELLED"])
async def test_an_answer_that_the_server_broke_off_is_not_whole(server, provider_of, word):
    dialect = DIALECTS["openai"]
    server.replies = [dialect.stream(["The dose is 5 mg, but never"], word)]
    error = await failure(provider_of(dialect.settings(server)))
    assert type(error) is Unavailable
    assert str(error) == f"openai: the server broke the answer off: {word.lower()}"


@pytest.mark.parametrize(
    ("word", "reason"),
    [("max_tokens", "length"), ("model_length", "length"), ("LENGTH", "length"),
     ("safety", "filtered"), ("eos", "stop"), ("tool_calls", "stop")],
)  # fmt: skip
async def test_servers_have_many_words_for_an_end(server, provider_of, word, reason):
    dialect = DIALECTS["openai"]
    server.replies = [dialect.stream(["an answer"], word)]
    chunks = await collect(provider_of(dialect.settings(server)))
    assert chunks[-1].finish_reason == reason
