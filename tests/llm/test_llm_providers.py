"""Gemini, OpenAI and Ollama against a local server that speaks their protocols."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from dataclasses import replace

import pytest

from consensusllm.llm.openai import OpenAI
from consensusllm.llm.port import (
    Chunk,
    Malformed,
    ProviderError,
    RateLimited,
    Rejected,
    TimedOut,
    Unavailable,
)
from consensusllm.llm.registry import make_provider
from consensusllm.llm.settings import Limits, ProviderSettings, Timeouts
from tests.llm.calls import REQUEST, collect, failure, gather_texts
from tests.llm.dialects import DIALECTS

SECRET = "sk-very-secret-0123456789"


async def test_an_answer_is_streamed_with_its_model_finish_reason_and_usage(
    server, dialect, provider_of
):
    server.replies = [dialect.stream(["A ", "quorum ", "is “enough”. 🗳"])]
    chunks = await collect(provider_of(dialect.settings(server)))
    assert "".join(chunk.text for chunk in chunks) == "A quorum is “enough”. 🗳"
    assert [bool(chunk.finish_reason) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1] == Chunk(chunks[-1].text, "stop", "m1-real", 7, 3)
    assert server.seen[0].method == "POST"
    assert server.seen[0].path.endswith(dialect.answer_path)


async def test_a_count_of_tokens_that_cannot_be_is_taken_for_none(server, dialect, provider_of):
    for count in (1 << 64, -1):
        reply = dialect.stream(["x"])
        pieces = [each.replace(b": 7", b": %d" % count) for each in reply.pieces]
        server.replies = [replace(reply, pieces=pieces)]
        chunks = await collect(provider_of(dialect.settings(server)))
        assert (chunks[-1].prompt_tokens, chunks[-1].completion_tokens) == (None, 1)


async def test_the_request_carries_history_system_prompt_options_and_key(
    server, dialects, provider_of
):
    bodies = {}
    for name, dialect in dialects.items():
        server.replies = [dialect.stream(["x"])]
        await collect(provider_of(dialect.settings(server)))
        seen = server.seen[-1]
        bodies[name] = seen.body
        where = "x-goog-api-key" if name == "gemini" else "authorization"
        assert SECRET in seen.headers[where]
    roles = [("user", "What is Paxos?"), ("assistant", "A protocol."), ("user", "Why?")]
    messages = [{"role": role, "content": text} for role, text in roles]
    messages.insert(0, {"role": "system", "content": "Be brief."})
    assert bodies["openai"]["messages"] == messages
    assert bodies["ollama"]["messages"] == messages
    assert bodies["openai"]["stream_options"] == {"include_usage": True}
    for name, value in (("model", "m1"), ("temperature", 0.5), ("max_tokens", 99), ("seed", 7)):
        assert bodies["openai"][name] == value
    assert bodies["ollama"]["model"] == "m1"
    assert bodies["ollama"]["options"] == {"temperature": 0.5, "num_predict": 99, "seed": 7}
    gemini = bodies["gemini"]
    assert [c["role"] for c in gemini["contents"]] == ["user", "model", "user"]
    assert gemini["contents"][2]["parts"] == [{"text": "Why?"}]
    assert gemini["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    config = gemini["generationConfig"]
    assert (config["temperature"], config["maxOutputTokens"], config["seed"]) == (0.5, 99, 7)


async def test_ollama_makes_room_for_the_context_that_is_configured(server, dialects, provider_of):
    dialect = dialects["ollama"]
    server.replies = [dialect.stream(["x"])]
    await collect(provider_of(replace(dialect.settings(server), context_tokens=32768)))
    assert server.seen[-1].body["options"]["num_ctx"] == 32768


async def test_a_request_names_another_model_than_the_configured_one(server, dialect, provider_of):
    server.replies = [dialect.stream(["x"])]
    await collect(provider_of(dialect.settings(server)), replace(REQUEST, model="m2"))
    assert "m2" in server.seen[0].path or server.seen[0].body["model"] == "m2"


@pytest.mark.parametrize("finish", ["length", "filtered"])
async def test_an_answer_that_was_cut_short_by_the_model_says_so(
    server, dialect, provider_of, finish
):
    if dialect.provider == "ollama" and finish == "filtered":
        pytest.skip("Ollama has no filter")
    server.replies = [dialect.stream(["a", "b"], finish)]
    assert (await collect(provider_of(dialect.settings(server))))[-1].finish_reason == finish


async def test_characters_split_over_network_chunks_arrive_whole(server, dialect, provider_of):
    text = "né 漢字 🗳\u2028\u2029\u0085 end"
    stream = b"".join(dialect.chunks([text, text], "stop"))
    server.replies = [dialect.reply([stream[i : i + 1] for i in range(len(stream))])]
    chunks = await collect(provider_of(dialect.settings(server)))
    assert "".join(chunk.text for chunk in chunks) == text + text


async def test_surrogate_halves_in_two_events_become_one_character(server, dialect, provider_of):
    halves = [
        piece.replace(b"HIGH", b"\\ud83d").replace(b"LOW", b"\\uddf3")
        for piece in dialect.chunks(["a HIGH", "LOW b HIGH", "c"], "stop")
    ]
    server.replies = [dialect.reply(halves)]
    chunks = await collect(provider_of(dialect.settings(server)))
    assert "".join(chunk.text for chunk in chunks) == "a 🗳 b \ufffdc"


async def test_models_are_listed(server, dialect, provider_of):
    body = json.dumps(dialect.models_body).encode()
    server.replies = [replace(dialect.reply([body]), headers={"content-type": "application/json"})]
    assert await provider_of(dialect.settings(server)).models() == ("m1",)
    assert server.seen[0].method == "GET"
    assert dialect.models_path in server.seen[0].path


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (401, Rejected),
        (403, Rejected),
        (404, Rejected),
        (429, RateLimited),
        (500, Unavailable),
        (503, Unavailable),
        (302, Rejected),
    ],
)
async def test_statuses_become_the_ports_errors_and_are_not_retried_by_the_sdk(
    server, dialect, provider_of, status, kind
):
    server.replies = [dialect.failure(status, "model\n\x1b[31m says no", location="/elsewhere")]
    error = await failure(provider_of(dialect.settings(server)))
    assert type(error) is kind
    assert str(status) in str(error)
    if status != 302:
        assert "model [31m says no" in str(error)
    assert len(server.seen) == 1
    server.replies = [dialect.failure(status, "no")]
    with pytest.raises(kind):
        await provider_of(dialect.settings(server)).models()


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_read_from_the_header(server, dialect, provider_of, status):
    server.replies = [dialect.failure(status, "later", retry_after="17")]
    assert (await failure(provider_of(dialect.settings(server)))).retry_after_s == 17


async def test_geminis_retry_delay_is_read_from_the_body(server, dialects, provider_of):
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"}
    body = {"error": {"code": 429, "message": "quota", "details": [{}, info]}}
    reply = replace(dialects["gemini"].failure(429, ""), pieces=[json.dumps(body).encode()])
    server.replies = [reply]
    error = await failure(provider_of(dialects["gemini"].settings(server)))
    assert error.retry_after_s == 12.5


@pytest.mark.parametrize("content_type", ["application/json", "the stream's"])
@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (429, "rate limit reached, too many requests", RateLimited),
        (500, "the runner has stopped", Unavailable),
        (404, "model 'm1' not found", Rejected),
    ],
)
async def test_an_error_object_under_status_200_is_that_error_and_no_answer(
    server, dialect, provider_of, content_type, status, message, kind
):
    body = dialect.error(status, message)
    if content_type != "application/json":
        content_type = dialect.content_type
        body = body + b"\n" if dialect.provider == "ollama" else b"data: " + body + b"\n\n"
    server.replies = [replace(dialect.reply([body]), headers={"content-type": content_type})]
    error = await failure(provider_of(dialect.settings(server)))
    assert type(error) is kind
    assert message in str(error)


async def test_an_error_object_in_mid_stream_ends_the_answer(server, dialect, provider_of):
    body = dialect.error(500, "the runner has stopped")
    pieces = dialect.chunks(["half an "], "")
    pieces.append(body + b"\n" if dialect.provider == "ollama" else b"data: " + body + b"\n\n")
    server.replies = [dialect.reply(pieces)]
    error = await failure(provider_of(dialect.settings(server)))
    assert type(error) is Unavailable


async def test_a_byte_order_mark_takes_no_text(server, provider_of):
    dialect = DIALECTS["openai"]
    first, *rest = dialect.chunks(["Not ", "safe"], "stop")[1:]
    server.replies = [dialect.reply([b"\xef", b"\xbb\xbf" + first, *rest])]
    chunks = await collect(provider_of(dialect.settings(server)))
    assert "".join(chunk.text for chunk in chunks) == "Not safe"


def test_openai_itself_is_known_with_a_slash_as_well():
    for url in ("", "https://api.openai.com/v1", "https://api.openai.com/v1/"):
        assert OpenAI(ProviderSettings("openai", "m", base_url=url, api_key=SECRET)).is_own
    other = ProviderSettings("openai", "m", base_url="http://127.0.0.1:8000/v1", api_key=SECRET)
    assert not OpenAI(other).is_own


async def test_an_answer_without_a_word_says_what_it_used(server, dialect, provider_of):
    server.replies = [dialect.stream([""], "length")]
    error = await failure(provider_of(dialect.settings(server)))
    assert type(error) is Rejected
    assert error.ended is not None
    assert (error.ended.prompt_tokens, error.ended.completion_tokens) == (7, 1)


async def test_geminis_thoughts_are_tokens_that_it_wrote(server, dialects, provider_of):
    def thinking(piece: bytes) -> bytes:
        return piece.replace(
            b'"candidatesTokenCount"', b'"thoughtsTokenCount": 900, "candidatesTokenCount"'
        )

    dialect = dialects["gemini"]
    server.replies = [dialect.reply([*map(thinking, dialect.chunks(["a", "b"], "stop"))])]
    chunks = await collect(provider_of(dialect.settings(server)))
    assert chunks[-1].completion_tokens == 902


@pytest.mark.parametrize("content_type", [None, "text/plain; charset=utf-8"])
async def test_a_stream_that_is_not_called_one_is_read_as_it_comes(
    server, dialect, provider_of, content_type
):
    named = {} if content_type is None else {"content-type": content_type}
    server.replies = [replace(dialect.stream(["a ", "b"], "", end="hang"), headers=named)]
    chunks = provider_of(dialect.settings(server)).generate(REQUEST)
    assert (await anext(chunks)).text.startswith("a ")
    await chunks.aclose()


@pytest.mark.parametrize("finish", ["stop", ""])
async def test_an_empty_answer_is_malformed(server, dialect, provider_of, finish):
    server.replies = [dialect.stream([""], finish)]
    assert type(await failure(provider_of(dialect.settings(server)))) is Malformed


@pytest.mark.parametrize(
    "noise",
    [
        b"data: {not json}\n\n",
        b'data: ["a list"]\n\n',
        b'data: {"candidates": 5, "choices": 5, "message": 5}\n\n',
        b'data: {"choices": [{"delta": {"content": ["x"]}, "index": 0}], "candidates": ["x"]}\n\n',
        b"\xff\xfe\x00 no text at all \xff\n\n",
        b"<html><body>welcome</body></html>\n\n",
        b"",
    ],
)
async def test_noise_in_place_of_an_answer_is_malformed(server, dialect, provider_of, noise):
    if dialect.provider == "ollama":
        noise = noise.removeprefix(b"data: ").replace(b"\n\n", b"\n")
    server.replies = [dialect.reply([noise])]
    assert type(await failure(provider_of(dialect.settings(server)))) is Malformed


async def test_a_gigantic_line_is_malformed_and_not_read_to_its_end(server, dialect, provider_of):
    limits = Limits(attempts=1, max_answer_bytes=1000)
    server.replies = [dialect.reply([b"data: " + b"x" * 1000] * 3, end="hang")]
    error = await failure(provider_of(dialect.settings(server, limits=limits)))
    assert type(error) is Malformed
    assert "over 2000 bytes" in str(error)
    await asyncio.wait_for(server.left.wait(), 10)


async def test_a_stream_of_nothing_is_malformed_before_it_is_endless(server, dialect, provider_of):
    limits = Limits(attempts=1, max_answer_bytes=1000)
    server.replies = [dialect.stream([""] * 1000, finish="", end="hang")]
    error = await failure(provider_of(dialect.settings(server, limits=limits)))
    assert type(error) is Malformed
    assert "over 64000 bytes" in str(error)


async def test_an_error_page_without_end_is_malformed(server, dialect, provider_of):
    page = replace(dialect.failure(500, "x"), pieces=[b"<p>\n" * 16_384] * 20, end="hang")
    server.replies = [page]
    error = await failure(provider_of(dialect.settings(server)))
    assert type(error) is Malformed


async def test_a_model_name_that_is_no_string_is_malformed(server, dialects, provider_of):
    pieces = dialects["openai"].chunks(["x"], "stop")
    server.replies = [
        dialects["openai"].reply([piece.replace(b'"m1-real"', b"[5]") for piece in pieces])
    ]
    error = await failure(provider_of(dialects["openai"].settings(server)))
    assert type(error) is Malformed


async def test_an_answer_over_the_bound_is_malformed(server, dialect, provider_of):
    limits = Limits(attempts=1, max_answer_bytes=1000)
    server.replies = [dialect.stream(["é" * 100] * 6, end="hang")]
    texts: list[str] = []
    with pytest.raises(Malformed, match="over 1000 bytes"):
        await gather_texts(provider_of(dialect.settings(server, limits=limits)), texts)
    assert len("".join(texts).encode()) <= 1000


async def test_a_compressed_answer_is_refused_unread(server, dialect, provider_of):
    reply = dialect.reply([gzip.compress(b"".join(dialect.chunks(["x"], "stop")))])
    reply.headers["content-encoding"] = "gzip"
    server.replies = [reply]
    assert type(await failure(provider_of(dialect.settings(server)))) is Malformed
    assert server.seen[0].headers["accept-encoding"] == "identity"


async def test_a_compressed_refusal_keeps_its_status(server, dialect, provider_of):
    reply = dialect.failure(429, "x", retry_after="17", content_encoding="gzip")
    server.replies = [reply]
    error = await failure(provider_of(dialect.settings(server)))
    assert (type(error), error.retry_after_s) == (RateLimited, 17)


@pytest.mark.parametrize("texts", [[], ["first "]])
async def test_a_server_that_falls_silent_is_timed_out(server, dialect, provider_of, texts):
    server.replies = [dialect.stream(texts, finish="", end="hang")]
    timeouts = Timeouts(first_token_s=0.3 if not texts else 20, idle_s=0.3)
    error = await failure(provider_of(dialect.settings(server, timeouts=timeouts)))
    assert type(error) is TimedOut
    await asyncio.wait_for(server.left.wait(), 10)


async def test_the_key_is_in_no_repr_error_or_log(server, dialect, provider_of, caplog):
    caplog.set_level(logging.DEBUG)
    settings = dialect.settings(server)
    provider = provider_of(settings)
    shown = [repr(settings), repr(provider)]
    for reply in (
        dialect.failure(401, f"bad key {SECRET}."),
        dialect.failure(500, f"{SECRET}"),
        dialect.reply([dialect.error(400, f"echo {SECRET}") + b"\n"]),
        dialect.stream(["half"], finish=""),
        dialect.stream(["whole"]),
    ):
        server.replies = [reply]
        try:
            await collect(provider)
        except ProviderError as error:
            shown += [repr(error), str(error), repr(error.__cause__)]
    bad = provider_of(replace(settings, api_key=SECRET + "\né"))
    shown.append(repr(await failure(bad)))
    assert len(shown) > 10
    assert not [text for text in (*shown, caplog.text) if SECRET in text]
    assert any("[key]" in text for text in shown)


async def test_a_key_of_the_environment_is_not_quoted_either(
    server, dialect, provider_of, monkeypatch
):
    monkeypatch.setenv("ANYBODYS_API_KEY", "sk-of-the-environment")
    server.replies = [dialect.failure(401, "bad key sk-of-the-environment.")]
    error = await failure(provider_of(dialect.settings(server)))
    assert "bad key [key]." in str(error)


async def test_a_provider_without_its_package_names_the_extra(server, dialect, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Rejected, match=rf"pip install 'consensusllm\[{dialect.provider}\]'"):
        make_provider(dialect.settings(server))


async def test_what_a_provider_lacks_is_said_before_any_call(server, dialects, provider_of):
    gemini, openai = dialects["gemini"], dialects["openai"]
    with pytest.raises(Rejected, match="GEMINI_API_KEY"):
        make_provider(gemini.settings(server, api_key=""))
    with pytest.raises(Rejected, match='no option "speed"'):
        make_provider(gemini.settings(server, options={"speed": 1}))
    with pytest.raises(Rejected, match='no provider "gemni"'):
        make_provider(gemini.settings(server, provider="gemni"))
    with pytest.raises(Rejected, match="no model is named"):
        await collect(provider_of(openai.settings(server, model="")))
    assert server.seen == []


async def test_geminis_refusal_of_a_prompt_is_rejected(server, dialects, provider_of):
    body = json.dumps({"promptFeedback": {"blockReason": "SAFETY"}}).encode()
    server.replies = [dialects["gemini"].reply([b"data: " + body + b"\n\n"])]
    error = await failure(provider_of(dialects["gemini"].settings(server)))
    assert type(error) is Rejected
    assert "SAFETY" in str(error)


async def test_geminis_thoughts_are_left_out(server, dialects, provider_of):
    parts = [{"text": "hm", "thought": True}, {"text": "Yes."}]
    candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": "STOP"}
    event = b"data: " + json.dumps({"candidates": [candidate]}).encode() + b"\n\n"
    server.replies = [dialects["gemini"].reply([event])]
    chunks = await collect(provider_of(dialects["gemini"].settings(server)))
    assert "".join(chunk.text for chunk in chunks) == "Yes."


async def test_ollamas_address_may_come_from_the_environment(
    server, dialects, provider_of, monkeypatch
):
    monkeypatch.setenv("OLLAMA_HOST", server.url.removeprefix("http://"))
    monkeypatch.setenv("OLLAMA_API_KEY", SECRET)
    server.replies = [dialects["ollama"].failure(400, f"echo {SECRET}")]
    error = await failure(provider_of(dialects["ollama"].settings(server, base_url="", api_key="")))
    assert "[key]" in str(error)
    monkeypatch.setenv("OLLAMA_HOST", "[::1]")
    make = provider_of(dialects["ollama"].settings(server, base_url="", api_key=""))
    assert make._provider.base_url == "http://[::1]:11434"


async def test_a_key_that_no_header_can_hold_is_told(server, dialect, provider_of):
    error = await failure(provider_of(dialect.settings(server, api_key="kéy")))
    assert isinstance(error, Rejected)
    assert str(error).endswith(": check base_url and key")
    assert server.seen == []
