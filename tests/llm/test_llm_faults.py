"""The wording and the mapping of errors, apart from any server."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.llm.faults import DETAIL_MAX, Faults, secrets_of
from consensusllm.llm.http import _escaped
from consensusllm.llm.port import ProviderError, RateLimited, Rejected, Unavailable

FAULTS = Faults("p", ("sk-secret",))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("17", 17.0),
        ("7.5", 7.5),
        ("1_0", None),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("1e400", None),
        ("Mon, 01 Jan 2001 00:00:00 +99999999999999999", None),
    ],
)
def test_retry_after_in_seconds(value, expected):
    assert FAULTS.status(429, {"retry-after": value}, b"").retry_after_s == expected


def test_retry_after_in_milliseconds_where_nothing_else_is_said():
    assert FAULTS.status(429, {"retry-after-ms": "1500"}, b"").retry_after_s == 1.5
    assert FAULTS.status(429, {"retry-after-ms": "soon"}, b"").retry_after_s is None
    both = {"retry-after-ms": "1500", "retry-after": "2"}
    assert FAULTS.status(429, both, b"").retry_after_s == 2.0


def test_retry_after_as_a_date():
    later = datetime.now(timezone.utc) + timedelta(seconds=100)
    seconds = FAULTS.status(429, {"retry-after": format_datetime(later)}, b"").retry_after_s
    assert seconds is not None
    assert 50 < seconds <= 100
    past = format_datetime(later - timedelta(days=1))
    assert FAULTS.status(503, {"retry-after": past}, b"").retry_after_s == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "why"}}',
        b'[{"error": {"message": "why"}}]',
        b'{"error": "why"}',
        b'{"message": "why"}',
        b'{"detail": "why"}',
        b"why",
    ],
)
def test_a_servers_own_message_is_quoted_whatever_its_shape(body):
    assert str(FAULTS.status(400, {}, body)) == "p: 400 refused: why"


@given(st.binary(max_size=200) | st.text().map(str.encode), st.sampled_from([400, 404, 429, 500]))
def test_any_body_gives_one_short_printable_line(body, status):
    text = str(FAULTS.status(status, {}, body))
    assert text.isprintable()
    assert len(text) < DETAIL_MAX + 100


def test_a_key_and_control_characters_are_not_quoted():
    text = str(FAULTS.status(400, {}, b'{"error": "key sk-secret\\n\\u001b[2J bad"}'))
    assert text == "p: 400 refused: key [key] [2J bad"
    assert "sk-secret" not in repr(FAULTS)


def test_a_key_that_begins_as_another_is_taken_out_whole():
    assert Faults("p", ("", "sk-1", "sk-1-more")).line("no", "sk-1-more, sk-1") == (
        "p: no: [key], [key]"
    )


@pytest.mark.parametrize(
    "name",
    [
        "ANTHROPIC_API_KEY",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_SECRET_ACCESS_KEY",
        "AZURE_CLIENT_SECRET",
        "GIGACHAT_CREDENTIALS",
        "HF_TOKEN",
        "WATSONX_APIKEY",
        "WATSONX_PASSWORD",
        "litellm_api_key",
    ],
)
def test_the_environments_keys_are_known_by_their_names(name):
    assert secrets_of({name: " sk-secret\n", "HOME": "/root/home"}) == ("sk-secret",)


@pytest.mark.parametrize(
    ("name", "value"), [("TOKENIZERS_PARALLELISM", "sk-secret"), ("MY_KEY", "1234567")]
)
def test_what_is_no_key_is_not_taken_for_one(name, value):
    assert secrets_of({name: value}) == ()
    assert str(FAULTS.status(502, {}, b"<html><h1>Bad</h1>")) == "p: 502 the server failed"


@pytest.mark.parametrize(
    ("report", "kind"),
    [
        ({"code": 429, "message": "x"}, RateLimited),
        ({"code": "502", "message": "x"}, Unavailable),
        ({"code": "insufficient_quota"}, RateLimited),
        ({"code": "context_length_exceeded"}, Rejected),
        ({"type": "invalid_request_error"}, Rejected),
        ({"status": "RESOURCE_EXHAUSTED"}, RateLimited),
        ({"message": 5, "code": []}, Unavailable),
        ("model 'x' not found", Rejected),
        ("the runner has stopped", Unavailable),
        (["odd"], Unavailable),
        (None, Unavailable),
    ],
)
def test_an_error_object_is_told_by_its_code_or_its_words(report, kind):
    error = FAULTS.report(report)
    assert type(error) is kind
    assert isinstance(error, ProviderError)


@given(
    st.text(st.sampled_from("a\u0085\u2028\u2029\u20ac\u00e9\U0001f5f3")),
    st.lists(st.integers(0, 60)),
)
def test_line_separators_are_escaped_wherever_the_network_cuts(text, cuts):
    data, out, held = text.encode(), b"", b""
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(edges):
        piece, held = _escaped(held + data[start:end])
        out += piece
    expected = text
    for separator in "\u0085\u2028\u2029":
        expected = expected.replace(separator, f"\\u{ord(separator):04x}")
    assert (out + held).decode() == expected
