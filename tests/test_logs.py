"""What a process logs, and in which form."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from consensusllm.logs import configure
from consensusllm.secret import Secret


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    yield io.StringIO()
    root.handlers[:], level, logging.raiseExceptions = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_lines_have_level_time_and_values(stream: io.StringIO) -> None:
    configure("info", "json", stream=stream)
    structlog.get_logger("a").warning("slow disk", sync_ms=7, key=Secret("s3cret"))
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["sync_ms"]) == ("slow disk", "warning", 7)
    assert "timestamp" in line
    assert "s3cret" not in stream.getvalue()


def test_what_libraries_log_has_the_same_form(stream: io.StringIO) -> None:
    configure("info", "json", stream=stream)
    logging.getLogger("grpc").info("noise")
    logging.getLogger("grpc").warning("too many pings")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["logger"]) == ("too many pings", "warning", "grpc")


def test_lines_for_people_have_no_colour_where_there_is_no_terminal(stream: io.StringIO) -> None:
    configure(stream=stream)
    structlog.get_logger().info("hello", node=1)
    assert "[info     ] hello" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(("verbose", "lines"), [(False, 1), (True, 3)])
def test_the_level_is_a_threshold_that_verbose_lowers(
    stream: io.StringIO, verbose: bool, lines: int
) -> None:
    configure("warning", stream=stream, verbose=verbose)
    log = structlog.get_logger()
    log.debug("one")
    log.info("two")
    log.error("three")
    assert stream.getvalue().count("\n") == lines


@pytest.mark.parametrize("form", ["console", "json"])
def test_an_exception_is_logged_with_its_traceback_and_without_locals(
    stream: io.StringIO, form: str
) -> None:
    configure("info", form, stream=stream)
    key = "".join(("s3", "cret"))
    try:
        raise ZeroDivisionError("a bug")
    except ZeroDivisionError:
        structlog.get_logger().exception("failed")
        logging.getLogger("library").exception("failed")
    assert stream.getvalue().count("ZeroDivisionError: a bug") == 2
    assert key not in stream.getvalue()


def test_a_caller_that_hangs_up_leaves_no_traceback_of_grpc(stream: io.StringIO) -> None:
    configure("info", stream=stream)
    grpc = logging.getLogger("grpc._cython.cygrpc")
    grpc.error("ExecuteBatchError raised in core by servicer method [%s]", "/a/B")
    grpc.error("Unexpected [%s] raised by servicer method [%s]", "KeyError", "/a/B")
    assert stream.getvalue().count("\n") == 1
    assert "KeyError" in stream.getvalue()
