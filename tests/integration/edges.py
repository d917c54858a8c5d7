"""What the tests of bad input share: what was said, and what was there before and after."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from real_cluster import RealCluster

from consensusllm.wire.generated import client_pb2
from consensusllm_cli.main import run


async def content(cluster: RealCluster) -> tuple[Any, ...]:
    """Everything that clients see. A refusal by the state machine changes its session and so the
    state's hash; of this it must change nothing."""
    client = cluster.client()
    conversations = await client.conversations()
    views = [await client.view(one.conversation) for one in conversations]
    return views, [(key, await client.get(key)) for key in await client.keys()]


async def state_hash(cluster: RealCluster) -> str:
    return (await cluster.agreement()).state_hash


def files(directory: Path) -> dict[str, str]:
    """Every file below ``directory`` with its digest."""
    return {
        str(path.relative_to(directory)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@dataclass
class Ended:
    status: int
    out: str
    err: list[str]

    def refused(self, status: int, *words: str) -> None:
        """One line on standard error, with all of ``words``, and nothing on standard output."""
        assert (self.status, self.out, len(self.err)) == (status, "", 1), self
        for word in words:
            assert word in self.err[0], self


async def command(*arguments: object, stdin: str | bytes = "", **environment: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "consensusllm_cli.main"),
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
    )
    data = stdin.encode() if isinstance(stdin, str) else stdin
    out, err = await asyncio.wait_for(process.communicate(data), 60)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode().splitlines())


def at_once(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ended:
    """A command line that is refused before any event loop would run: in this process."""
    capsys.readouterr()
    status = run([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return Ended(status, said.out, said.err.splitlines())


async def repl(cluster: RealCluster, *lines: str) -> Ended:
    """Give all lines to one REPL through its standard input."""
    stdin = "".join(f"{line}\n" for line in lines)
    return await command("repl", "--config", cluster.config_path, stdin=stdin)


OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0))


def channel(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=OPTIONS)


async def pipeline(cluster: RealCluster, *requests: client_pb2.Request) -> list[Any]:
    """Send each request in a message of its own, and collect all responses."""
    found: list[Any] = []
    async with channel(cluster.addresses[1]) as raw:
        call = raw.stream_stream(
            "/consensusllm.client.v1.Client/Pipeline",
            request_serializer=client_pb2.Requests.SerializeToString,
            response_deserializer=client_pb2.Responses.FromString,
        )(iter([client_pb2.Requests(requests=[each]) for each in requests]))
        async for message in call:
            found.extend(message.responses)
    return found


def no_log_holds_a_traceback(cluster: RealCluster) -> None:
    for path in (cluster.data_dir / "logs").glob("*.log"):
        assert "Traceback" not in path.read_text(), path
