"""How the HTTP client under every SDK is made, so that all of them behave alike.

Owns the connect timeout, the bounds on what a server may send, and the reading of error statuses
(which the SDKs would retry, reword, or strip of Retry-After). Refuses redirects, which could carry
a key elsewhere, and compressed answers, whose size cannot be bounded by what was received.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import AsyncIterable, AsyncIterator
from contextvars import ContextVar
from typing import Any

import httpx

from .faults import Faults, error_in
from .port import Malformed
from .settings import Limits, Timeouts

ERROR_BODY_MAX = 1 << 20
"""Bytes of an error response, or of any that is not streamed, that are read."""

RESPONSES: ContextVar[list[httpx.Response] | None] = ContextVar("responses", default=None)
"""Where set, collects the responses of the requests made from there on, for their maker to close:
an SDK's stream may hold on to its connection after it was closed."""

_WHOLE = ("application/json", "text/html")
"""What a server calls an error object or a page, which is read whole."""
_LINE_FACTOR = 2
_RESPONSE_FACTOR = 64


def client_options(
    faults: Faults, timeouts: Timeouts, limits: Limits, *, escape_separators: bool = False
) -> dict[str, Any]:
    """Arguments of an ``httpx.AsyncClient`` whose responses raise the port's errors.

    ``escape_separators`` is for readers that split lines as ``str.splitlines`` does: Unicode line
    separators inside JSON strings then arrive as escapes. The time for an answer is the guard's.
    """
    connect_s = timeouts.connect_s
    timeout = httpx.Timeout(connect=connect_s, write=timeouts.idle_s, read=None, pool=None)

    async def before(request: httpx.Request) -> None:
        # SDKs put timeouts of their own on each request.
        request.extensions["timeout"] = timeout.as_dict()
        request.headers["accept-encoding"] = "identity"

    async def after(response: httpx.Response) -> None:
        responses = RESPONSES.get()
        if responses is not None:
            responses.append(response)
        if response.headers.get("content-encoding", "identity") != "identity":
            if response.status_code >= 300:
                raise faults.status(response.status_code, response.headers, b"")
            raise Malformed(faults.line("sent a compressed answer that was not asked for"))
        kind = response.headers.get("content-type", "").lower()
        streamed = (
            response.status_code < 300
            and response.request.method == "POST"  # a list of models is never streamed
            and not kind.startswith(_WHOLE)  # some servers name no type, or another one
        )
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        response.stream = _Bounded(
            stream,
            faults,
            line_max=_LINE_FACTOR * limits.max_answer_bytes,
            total_max=_RESPONSE_FACTOR * limits.max_answer_bytes if streamed else ERROR_BODY_MAX,
            escape=escape_separators,
        )
        if response.status_code >= 300:
            body = await response.aread()
            raise faults.status(response.status_code, response.headers, body)
        if not streamed:
            report = error_in(await response.aread())
            if report:
                raise faults.report(report)

    return {
        "timeout": timeout,
        # The guard bounds the calls. One that waited for a connection would pass for a silent one.
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=limits.concurrency),
        "follow_redirects": False,
        "event_hooks": {"request": [before], "response": [after]},
    }


class _Bounded(httpx.AsyncByteStream):
    """A response's bytes, up to ``total_max`` in all and ``line_max`` without a line feed."""

    def __init__(
        self,
        stream: httpx.AsyncByteStream,
        faults: Faults,
        *,
        line_max: int,
        total_max: int,
        escape: bool,
    ) -> None:
        self._stream = stream
        self._faults = faults
        self._line_max = line_max
        self._total_max = total_max
        self._escape = escape

    async def __aiter__(self) -> AsyncIterator[bytes]:
        total = line = 0
        held = b""
        async for data in _without_mark(self._stream):
            total += len(data)
            line += len(data)
            if total > self._total_max or line > self._line_max:
                limit = self._total_max if total > self._total_max else self._line_max
                raise Malformed(self._faults.line(f"sent over {limit} bytes where text was due"))
            last_feed = data.rfind(b"\n")
            if last_feed >= 0:
                line = len(data) - last_feed - 1
            if self._escape:
                data, held = _escaped(held + data)
            yield data
        if held:
            yield held

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _without_mark(stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """``stream`` without a byte order mark before it, which readers of events take for text."""
    start: bytes | None = b""
    async for data in stream:
        if start is None:
            yield data
            continue
        start += data
        if not BOM_UTF8.startswith(start[: len(BOM_UTF8)]):
            yield start
        elif len(start) >= len(BOM_UTF8):
            yield start[len(BOM_UTF8) :]
        else:
            continue
        start = None
    if start:
        yield start


_SEPARATORS = (
    (b"\xc2\x85", b"\\u0085"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)
"""What ``str.splitlines`` takes for line ends and JSON allows unescaped in a string."""


def _escaped(data: bytes) -> tuple[bytes, bytes]:
    """``data`` with the separators escaped, and what at its end may begin another."""
    for separator, escape in _SEPARATORS:
        data = data.replace(separator, escape)
    for beginning in (b"\xe2\x80", b"\xe2", b"\xc2"):
        if data.endswith(beginning):
            return data[: -len(beginning)], beginning
    return data, b""
