"""Reading histories: what they say, and the line that a malformed one is refused with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensusllm.linearizability import (
    Format,
    History,
    MalformedHistory,
    Operation,
    read_history,
    to_line,
)

GOOD: dict[str, Any] = {
    "process": 1,
    "op": "put",
    "key": "k",
    "value": 5,
    "start": 0.1,
    "end": 0.2,
    "ok": True,
    "output": None,
}


def line(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth > 1 else []


def test_values_may_be_nested_and_times_in_nanoseconds() -> None:
    now = 1_796_000_000_000_000_001
    [operation] = read_history(line(value=nested(100), start=now, end=now + 1)).operations
    assert (operation.value, operation.start, operation.end) == (nested(100), now, now + 1)


def test_a_line_is_an_operation() -> None:
    history = read_history(line())
    assert history == History((Operation(1, "put", "k", 5, 0.1, 0.2, True, None),), None)


def test_value_and_output_may_be_missing_and_other_fields_are_skipped() -> None:
    [operation] = read_history(
        b'{"process":1,"op":"get","key":"k","start":0,"end":null,"ok":null,"node":3}\n\n'
    ).operations
    assert operation.unknown
    assert (operation.value, operation.output) == (None, None)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"put k 5", "not JSON (Expecting value at column 1)"),
        (b"[1]", "not a JSON object"),
        (b'{"process": NaN}', "NaN is not JSON"),
        (line()[:-1] + b',"value":6}', '"value" is there twice'),
        (line(value={})[:-1].replace(b"{}", b'{"a":1,"a":2}') + b"}", '"a" is there twice'),
        (b"[" * 100_000, "not JSON (nested too deeply)"),
        (line(value=nested(101)), "not JSON (nested too deeply)"),
        (line(output={"a": nested(100)}), "not JSON (nested too deeply)"),
        (b'{"process": ' + b"1" * 10_000 + b"}", "not JSON (a number is too long)"),
        (b'"\xff"', "not UTF-8 text (byte 2)"),
        (without("end"), '"end" is missing'),
        (
            b'{"process":1,"op":"get","key":"k","start":0,"end":1,"ok":true}',
            '"output" is missing: what the get has read, or null',
        ),
        (line(process="one"), '"process" must be a whole number'),
        (line(process=True), '"process" must be a whole number'),
        (line(op="delete"), 'unknown "op" "delete": one of get, put, cas, append, choose'),
        (line(op=["put"]), 'unknown "op" ["put"]: one of get, put, cas, append, choose'),
        (line(key=7), '"key" must be a string'),
        (line(ok="yes"), '"ok" must be true, false or null'),
        (line(ok=1), '"ok" must be true, false or null'),
        (line(start=None), '"start" must be a number'),
        (line(start="now"), '"start" must be a number'),
        (line(end="later"), '"end" must be a number or null'),
        (line(start=-1), '"start" must be from 0 to 1e+19'),
        (line(end=1e300), '"end" must be from 0 to 1e+19'),
        (line(start=0.3), '"end" 0.2 is before "start" 0.3'),
        (line(op="cas", value=5), 'the "value" of a cas must be [old, new]'),
        (line(op="cas", value=[1, 2, 3]), 'the "value" of a cas must be [old, new]'),
        (
            line(op="cas", value=[1, 2], output="no"),
            'the "output" of a cas must be true, false or null',
        ),
        (
            line(op="cas", value=[1, 2], output=True, ok=False),
            'a cas with "ok" false cannot have the "output" true',
        ),
        (line(op="append"), 'the "value" of an append must be a string'),
        (line(op="choose", value=None), 'the "value" of a choose must name the candidate'),
    ],
)
def test_a_malformed_line_is_refused_with_its_number(bad: bytes, reason: str) -> None:
    with pytest.raises(MalformedHistory) as refused:
        read_history(line() + b"\n\n" + bad + b"\n", Format.JSON_LINES)
    assert str(refused.value) == f"line 3: {reason}"
    assert refused.value.line == 3


def test_a_process_that_does_two_things_at_once_is_refused() -> None:
    with pytest.raises(MalformedHistory) as refused:
        read_history(line(start=5, end=7) + b"\n" + line(start=6, end=9))
    assert str(refused.value) == (
        "line 2: process 1 has two operations at once (the other is on line 1)"
    )


@pytest.mark.parametrize("unknown", [{"end": None}, {"ok": None}, {"end": None, "ok": None}])
def test_a_process_may_go_on_after_an_unknown_outcome(unknown: dict[str, None]) -> None:
    lines = (line(start=1, **{"end": 9, **unknown}), line(start=2, end=3), line(start=3, end=4))
    history = read_history(b"\n".join(lines))
    assert [each.unknown for each in history.operations] == [True, False, False]


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_an_empty_history_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedHistory, match="line 1: the history is empty"):
        read_history(data)


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(MalformedHistory, match="line 2: neither JSON lines, nor a Jepsen log"):
        read_history(b"\nhello\n")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(JSON_VALUES, st.text(), st.integers(0, 10**18), st.booleans() | st.none())
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read_back(value: Any, key: str, start: int, ok: bool | None) -> None:
    operation = Operation(3, "put", key, value, start, None if ok is None else start, ok)
    assert read_history(to_line(operation).encode()).operations == (operation,)


@given(st.binary(max_size=200), st.sampled_from(list(Format)))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes, format_: Format) -> None:
    reason = ""
    try:
        read_history(data, format_)
    except MalformedHistory as refused:
        reason = str(refused)
    assert "\n" not in reason


JEPSEN = b"""\
INFO  jepsen.util - 0\t:invoke\t:read\tnil
INFO  jepsen.util - 1\t:invoke\t:write\t4
INFO  jepsen.util - 0\t:ok\t:read\tnil
INFO  jepsen.util - 1\t:info\t:write\t:timed-out
INFO  jepsen.util - 2\t:invoke\t:cas\t[4 3]
INFO  jepsen.util - 2\t:fail\t:cas\t[4 3]
INFO  jepsen.util - 2\t:invoke\t:cas\t[4 2]
INFO  jepsen.util - 2\t:ok\t:cas\t[4 2]
INFO  jepsen.util - 0\t:invoke\t:read\tnil
INFO  jepsen.util - 0\t:fail\t:read\t:timed-out
INFO  jepsen.util - 3\t:invoke\t:write\t1
"""


def test_a_jepsen_log_is_one_register() -> None:
    history = read_history(JEPSEN)
    assert history.initial is None
    assert history.operations == (
        Operation(0, "get", "register", None, 1, 3, True, None),
        Operation(1, "put", "register", 4, 2, None, None),
        Operation(2, "cas", "register", [4, 3], 5, 6, False, False),
        Operation(2, "cas", "register", [4, 2], 7, 8, True),
        Operation(0, "get", "register", None, 9, 10, False),
        Operation(3, "put", "register", 1, 11, None, None),
    )


KV = rb"""{:process 0, :type :invoke, :f :append, :key "0", :value "x \"0\" y"}
{:process 1, :type :invoke, :f :get, :key "0", :value nil}
{:process 0, :type :ok, :f :append, :key "0", :value "x \"0\" y"}
{:process 1, :type :ok, :f :get, :key "0", :value "x \"0\" y"}
"""


def test_a_kv_log_has_empty_strings_at_first() -> None:
    history = read_history(KV)
    assert history.initial == ""
    assert history.operations == (
        Operation(0, "append", "0", 'x "0" y', 1, 3, True),
        Operation(1, "get", "0", None, 2, 4, True, 'x "0" y'),
    )


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (["0 :invoke :read nil", "0 :invoke :read nil"], "process 0 has two operations at once"),
        (["1 :invoke :read nil", "0 :ok :read 1"], "process 0 has no operation under way"),
        (["0 :invoke :read nil", "0 :ok :write 1"], "process 0 ends another operation than it"),
        (["0 :invoke :read nil", "0 :ok :scan 1"], "not a line of a Jepsen register log"),
        (["0 :invoke :read nil", "1 :invoke :cas 1"], "the argument 1 does not suit a cas"),
    ],
)
def test_a_malformed_log_is_refused_with_its_line(events: list[str], reason: str) -> None:
    data = "\n".join(f"INFO  jepsen.util - {event}" for event in events).encode()
    with pytest.raises(MalformedHistory, match=f"line 2: {reason}"):
        read_history(data)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{:process 0, :type :ok, :f :get, :key "0"}', "not a line of a kv log"),
        (
            rb'{:process 0, :type :invoke, :f :get, :key "\q", :value nil}',
            "a string has an unknown",
        ),
        (
            b'{:process 0, :type :invoke, :f :put, :key "0", :value nil}',
            "the value does not suit a",
        ),
    ],
)
def test_a_malformed_kv_log_is_refused_with_its_line(bad: bytes, reason: str) -> None:
    with pytest.raises(MalformedHistory, match=f"line 5: {reason}"):
        read_history(KV + bad)
