"""A small HTTP server on a free port, and the three protocols that the providers speak over it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from consensusllm.llm.settings import Limits, ProviderSettings, Timeouts

SECRET = "sk-very-secret-0123456789"


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Reply:
    """``end``: "whole" ends the body as HTTP does, "cut" drops the connection in its middle, "hang"
    sends nothing more, "raw" sends ``pieces`` alone, without even a status."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Sequence[bytes] = ()
    end: str = "whole"


class Server:
    """Gives ``replies`` in turn, the last one again and again."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.seen: list[Seen] = []
        self.left = asyncio.Event()
        self.url = ""
        self.sent_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            while await self._serve(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.left.set()
            writer.close()
            self._tasks.discard(task)

    def reply_to(self, seen: Seen) -> Reply:
        return self.replies[0] if len(self.replies) == 1 else self.replies.pop(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        pairs = [line.split(": ", 1) for line in head[1:] if line]
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.seen.append(Seen(method, path, headers, json.loads(body) if body else None))
        reply = self.reply_to(self.seen[-1])
        if reply.end != "raw":
            lines = [f"HTTP/1.1 {reply.status} Word", "transfer-encoding: chunked"]
            lines += [f"{name}: {value}" for name, value in reply.headers.items()]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        for piece in reply.pieces:
            frame = b"%x\r\n%s\r\n" % (len(piece), piece)
            self.sent_bytes += len(piece)
            writer.write(piece if reply.end == "raw" else frame)
            await writer.drain()
            await asyncio.sleep(0)  # so that pieces tend to be read apart
        if reply.end == "whole":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            return True
        if reply.end == "hang":
            await reader.read()  # b"" once the client has gone
        return False


@dataclass(frozen=True)
class Dialect:
    """How one protocol says things."""

    provider: str
    answer_path: str
    models_path: str
    models_body: Any
    content_type: str
    chunks: Callable[[Sequence[str], str], list[bytes]]
    error: Callable[[int, str], bytes]

    def settings(self, server: Server, **changes: Any) -> ProviderSettings:
        values: dict[str, Any] = {
            "provider": self.provider,
            "model": "m1",
            "base_url": server.url + ("/v1" if self.provider == "openai" else ""),
            "api_key": SECRET,
            "timeouts": Timeouts(connect_s=5, first_token_s=20, idle_s=20, total_s=30),
            "limits": Limits(attempts=1, backoff_initial_s=0.01, backoff_max_s=0.01),
        }
        return ProviderSettings(**{**values, **changes})

    def stream(self, texts: Sequence[str], finish: str = "stop", end: str = "whole") -> Reply:
        return self.reply(self.chunks(texts, finish), end=end)

    def reply(self, pieces: Sequence[bytes], status: int = 200, end: str = "whole") -> Reply:
        return Reply(status, {"content-type": self.content_type}, pieces, end)

    def listing(self, body: Any = None) -> Reply:
        """The server's models, or another ``body``."""
        data = json.dumps(self.models_body if body is None else body).encode()
        return Reply(200, {"content-type": "application/json"}, [data])

    def failure(self, status: int, message: str, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["content-type"] = "application/json"
        return Reply(status, named, [self.error(status, message)])


def _sse(event: Any) -> bytes:
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\r\n\r\n"


def _gemini_chunks(texts: Sequence[str], finish: str) -> list[bytes]:
    words = {"stop": "STOP", "length": "MAX_TOKENS", "filtered": "SAFETY"}
    out = []
    for number, text in enumerate(texts):
        candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}}
        if finish and number == len(texts) - 1:
            candidate["finishReason"] = words.get(finish, finish)
        usage = {"promptTokenCount": 7, "candidatesTokenCount": number + 1}
        out.append(
            _sse({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m1-real"})
        )
    return out


def _openai_chunks(texts: Sequence[str], finish: str) -> list[bytes]:
    def event(delta: dict[str, str], reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _sse({"id": "x", "object": "c", "model": "m1-real", "choices": [choice]})

    out = [event({"role": "assistant", "content": ""}, None)]
    out += [event({"content": text}, None) for text in texts]
    if finish:
        out.append(event({}, "content_filter" if finish == "filtered" else finish))
        usage = {"prompt_tokens": 7, "completion_tokens": len(texts), "total_tokens": 0}
        out.append(_sse({"id": "x", "model": "m1-real", "choices": [], "usage": usage}))
        out.append(b"data: [DONE]\n\n")
    return out


def _ollama_chunks(texts: Sequence[str], finish: str) -> list[bytes]:
    def line(text: str, **more: Any) -> bytes:
        message = {"role": "assistant", "content": text}
        event = {"model": "m1-real", "message": message, "done": False, **more}
        return json.dumps(event, ensure_ascii=False).encode() + b"\n"

    out = [line(text) for text in texts]
    if finish:
        counts = {"prompt_eval_count": 7, "eval_count": len(texts)}
        out.append(line("", done=True, done_reason=finish, **counts))
    return out


def _gemini_error(status: int, message: str) -> bytes:
    return json.dumps({"error": {"code": status, "message": message, "status": "X"}}).encode()


def _openai_error(status: int, message: str) -> bytes:
    kind = {429: "rate_limit_exceeded", 500: "server_error"}.get(status, "invalid_request_error")
    error = {"message": message, "type": kind, "code": None, "param": None}
    return json.dumps({"error": error}).encode()


def _ollama_error(status: int, message: str) -> bytes:
    return json.dumps({"error": message}).encode()


DIALECTS = {
    "gemini": Dialect(
        "gemini",
        "/models/m1:streamGenerateContent?alt=sse",
        "/models",
        {
            "models": [
                {"name": "models/m1", "supportedGenerationMethods": ["generateContent"]},
                {"name": "models/e1", "supportedGenerationMethods": ["embedContent"]},
            ]
        },
        "text/event-stream",
        _gemini_chunks,
        _gemini_error,
    ),
    "openai": Dialect(
        "openai",
        "/v1/chat/completions",
        "/v1/models",
        {"object": "list", "data": [{"id": "m1", "object": "model", "created": 0, "owned_by": ""}]},
        "text/event-stream",
        _openai_chunks,
        _openai_error,
    ),
    "ollama": Dialect(
        "ollama",
        "/api/chat",
        "/api/tags",
        {"models": [{"model": "m1", "name": "m1"}]},
        "application/x-ndjson",
        _ollama_chunks,
        _ollama_error,
    ),
}
