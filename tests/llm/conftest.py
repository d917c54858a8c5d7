"""A server that speaks the providers' protocols, and an environment without anybody's keys."""

from __future__ import annotations

import ssl
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from consensusllm.llm.port import Provider
from consensusllm.llm.registry import make_provider
from tests.llm.dialects import DIALECTS, Dialect, Server


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    await server.close()


@pytest.fixture(params=sorted(DIALECTS))
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return DIALECTS[request.param]


@pytest.fixture
def dialects() -> dict[str, Dialect]:
    return DIALECTS


@pytest.fixture
async def provider_of() -> AsyncIterator[Callable[..., Provider]]:
    made: list[Provider] = []

    def make(settings: Any) -> Provider:
        made.append(make_provider(settings))
        return made[-1]

    yield make
    for provider in made:
        await provider.aclose()


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading them takes most of the time of a test, and nothing here speaks TLS."""
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *args, **more: None)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OLLAMA_HOST", "OLLAMA_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def llama(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in's class of models; answers are not held back."""
    for name in ("llama_cpp", "llama_cpp.llama_chat_format"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(Path(__file__).parent / "stand_ins")
    import llama_cpp

    monkeypatch.setattr(llama_cpp.Llama, "made", [])
    monkeypatch.setattr(llama_cpp.Llama, "asked_for", threading.Event())
    llama_cpp.Llama.go_on.set()
    yield llama_cpp.Llama
    for name in ("llama_cpp", "llama_cpp.llama_chat_format"):
        sys.modules.pop(name, None)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF")
    return file
