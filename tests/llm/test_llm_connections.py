"""How a provider connects, and how a call ends: with its reader, its provider, or the server."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from consensusllm.llm.port import Malformed, Rejected, Unavailable
from consensusllm.llm.settings import Limits
from tests.llm.calls import REQUEST, collect, failure
from tests.llm.dialects import Server

SELF_SIGNED = Path(__file__).parent / "self_signed.pem"
"""A certificate for 127.0.0.1 and its key."""


async def test_no_call_waits_for_a_connection(server, dialect, provider_of):
    """It would pass for one of a model that is silent."""
    limits = Limits(attempts=1, concurrency=120)
    server.replies = [dialect.stream(["first "], finish="", end="hang")]
    provider = provider_of(dialect.settings(server, limits=limits))
    calls = [provider.generate(REQUEST) for _ in range(limits.concurrency)]
    firsts = await asyncio.gather(*map(anext, calls))
    assert [each.text for each in firsts] == ["first "] * limits.concurrency
    for each in calls:
        await each.aclose()


async def test_a_certificate_that_nobody_vouches_for_is_rejected(dialect, provider_of):
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(SELF_SIGNED)
    server = Server()
    await server.start(tls)
    error = await failure(provider_of(dialect.settings(server)))
    await server.close()
    assert type(error) is Rejected
    assert f"the certificate of {server.url} is not trusted: name its CA in" in str(error)


async def test_a_server_that_speaks_no_tls_is_rejected(dialect, provider_of):
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    plain = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}"
    async with plain:
        error = await failure(provider_of(dialect.settings(Server(), base_url=url)))
    assert type(error) is Rejected
    assert f"{url} does not speak TLS: check base_url" in str(error)


async def test_a_refused_connection_is_unavailable(server, dialect, provider_of):
    settings = dialect.settings(server)
    await server.close()
    error = await failure(provider_of(settings))
    assert type(error) is Unavailable
    assert server.url in str(error)


async def test_a_server_that_drops_the_connection_before_answering_is_unavailable(
    server, dialect, provider_of
):
    server.replies = [replace(dialect.reply([]), end="raw")]
    assert type(await failure(provider_of(dialect.settings(server)))) is Unavailable


async def test_bytes_that_are_not_http_are_malformed(server, dialect, provider_of):
    server.replies = [replace(dialect.reply([b"SSH-2.0-OpenSSH_9.6\r\n\r\n"]), end="raw")]
    assert type(await failure(provider_of(dialect.settings(server)))) is Malformed


async def test_closing_the_generator_ends_the_call_at_the_server(server, dialect, provider_of):
    server.replies = [dialect.stream(["first "], finish="", end="hang")]
    chunks = provider_of(dialect.settings(server)).generate(REQUEST)
    assert (await anext(chunks)).text == "first "
    assert not server.left.is_set()
    await chunks.aclose()
    await asyncio.wait_for(server.left.wait(), 10)


async def test_cancelling_the_reader_ends_the_call_at_the_server(server, dialect, provider_of):
    server.replies = [dialect.stream(["first "], finish="", end="hang")]
    provider = provider_of(dialect.settings(server))
    first = asyncio.Event()

    async def read() -> None:
        async for _ in provider.generate(REQUEST):
            first.set()

    reader = asyncio.create_task(read())
    await asyncio.wait_for(first.wait(), 10)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await asyncio.wait_for(server.left.wait(), 10)


async def test_closing_the_provider_ends_the_call_under_way(server, dialect, provider_of):
    server.replies = [dialect.stream(["first "], finish="", end="hang")]
    provider = provider_of(dialect.settings(server))
    chunks = provider.generate(REQUEST)
    await anext(chunks)
    rest = asyncio.create_task(anext(chunks))
    await asyncio.sleep(0)
    await provider.aclose()
    with pytest.raises(Unavailable, match="closed"):
        await rest
    await asyncio.wait_for(server.left.wait(), 10)


async def test_calls_run_side_by_side_over_one_provider(server, dialect, provider_of):
    server.replies = [dialect.stream(["x", "y"])]
    provider = provider_of(dialect.settings(server))
    answers = await asyncio.gather(*(collect(provider) for _ in range(10)))
    assert ["".join(chunk.text for chunk in answer) for answer in answers] == ["xy"] * 10
