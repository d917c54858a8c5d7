"""Every provider of ours keeps what is asked of those of others, and who does not is found out."""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from consensusllm import provider_names as names
from consensusllm.config import Config
from consensusllm.config_file import ConfigError
from consensusllm.llm import conformance
from consensusllm.llm.guard import Guarded
from consensusllm.llm.port import Chunk, GenerateRequest, Provider, Rejected, Unavailable
from consensusllm.llm.registry import PROVIDERS, make_provider
from consensusllm.llm.settings import Limits, ProviderSettings, Timeouts

SECRET = "sk-very-secret-0123456789"


def name_of(check: Callable[..., Any]) -> str:
    return check.__name__


@pytest.fixture(params=names.OURS)
def settings(request: pytest.FixtureRequest, server: Any, dialects: Any) -> Callable[[Any], Any]:
    """Settings of a provider of ours whose backend answers what a check needs."""
    name = request.param
    if name == "litellm" and importlib.util.find_spec("litellm") is None:
        pytest.skip("litellm is not installed")
    if name == "llamacpp":
        request.getfixturevalue("llama")
        gguf = request.getfixturevalue("gguf")
        return lambda check: ProviderSettings(name, options={"path": str(gguf)})
    if name == "scripted":
        return lambda check: ProviderSettings(name, options={"texts": ["a scripted answer"]})
    if name == "builtin":
        return lambda check: ProviderSettings(name)
    dialect = dialects.get(name, dialects["openai"])

    def told(check: Any) -> Any:
        server.replies = [dialect.stream(["A ", "quorum ", "is enough."])]
        if check is conformance.lists_its_models:
            server.replies = [dialect.listing()]
        if check is conformance.can_be_looked_at:
            server.replies = [dialect.listing()]
        if name == "litellm":
            return dialect.settings(server, provider=name, model="openai/m1")
        return dialect.settings(server)

    return told


@pytest.mark.filterwarnings("ignore")  # LiteLLM's own
@pytest.mark.parametrize("check", conformance.CHECKS, ids=name_of)
async def test_our_providers_keep(check: Any, settings: Any) -> None:
    wanted = settings(check)
    await check(lambda: PROVIDERS[wanted.provider](wanted))


@pytest.mark.parametrize("name", ["gemini", "ollama", "openai"])
async def test_our_providers_fail_in_words(name: str, server: Any, dialects: Any) -> None:
    dialect = dialects[name]
    server.replies = [dialect.failure(401, f"the key {SECRET} is wrong")]
    await conformance.fails_in_words(lambda: PROVIDERS[name](dialect.settings(server)), SECRET)


def test_every_name_has_a_provider() -> None:
    assert tuple(PROVIDERS) == names.OURS


# Providers that do not keep it ----------------------------------------------------------------


class Good:
    """The least that a provider is."""

    name = "good"
    model = "m"
    continues = True

    def __init__(self, settings: ProviderSettings | None = None) -> None:
        self.settings = settings

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        yield Chunk("an ")
        yield Chunk("answer")
        yield Chunk(finish_reason="stop", model="m")

    async def models(self) -> tuple[str, ...]:
        return ("m",)

    async def aclose(self) -> None:
        pass


class Nameless(Good):
    name = ""


class Endless(Good):
    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        yield Chunk("an answer", model="m")


class GoesOn(Good):
    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        yield Chunk("an answer", finish_reason="stop", model="m")
        yield Chunk("more", finish_reason="stop", model="m")


class Silent(Good):
    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        yield Chunk(finish_reason="stop", model="m")


class Anonymous(Good):
    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        yield Chunk("an answer", finish_reason="stop")


class Holding(Good):
    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        yield Chunk("an answer")
        hold_the_event_loop()
        yield Chunk(finish_reason="stop", model="m")


def hold_the_event_loop() -> None:
    """Until it was held for longer than is allowed, beside the longest pause that the machine made:
    such a pause is nobody's fault, and does not count."""
    nothing = threading.Event()
    begun = last = time.monotonic()
    longest_s = 0.0
    while last - begun - longest_s < 1.5 * conformance.HELD_S:
        nothing.wait(conformance.TICK_S)
        now = time.monotonic()
        longest_s, last = max(longest_s, now - last), now


class Repeating(Good):
    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        yield Chunk(f"{request.prefix}an answer", finish_reason="stop", model="m")


class Once(Good):
    used = False

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        if self.used:
            raise Unavailable("good: used up")
        self.used = True
        async for chunk in Good.generate(self, request):
            yield chunk


class Listing(Good):
    async def models(self) -> Any:
        return ["m"]


class ClosedOnce(Good):
    async def aclose(self) -> None:
        del self.settings


@pytest.mark.parametrize("check", conformance.CHECKS, ids=name_of)
async def test_the_least_that_a_provider_is_keeps_all(check: Any) -> None:
    await check(Good)


@pytest.mark.parametrize(
    ("kind", "check", "words"),
    [
        (Nameless, conformance.says_what_it_is, "name is empty"),
        (Endless, conformance.ends_an_answer_with_its_reason, "no finish reason"),
        (GoesOn, conformance.ends_an_answer_with_its_reason, "goes on behind its end"),
        (Silent, conformance.ends_an_answer_with_its_reason, "has no text"),
        (Anonymous, conformance.ends_an_answer_with_its_reason, "does not name the model"),
        (Holding, conformance.leaves_the_event_loop_free, "held the event loop"),
        (Repeating, conformance.goes_on_behind_a_prefix, "repeats what the answer begins"),
        (Listing, conformance.lists_its_models, "no tuple"),
        (Good, conformance.fails_in_words, "gave an answer"),
    ],
)
async def test_a_provider_that_does_not_keep_it_is_found_out(
    kind: Any, check: Any, words: str
) -> None:
    with pytest.raises(AssertionError, match=words):
        await check(kind)


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (Once, conformance.answers_several_at_once),
        (Once, conformance.ends_a_call_that_is_closed),
        (Once, conformance.ends_a_call_that_is_cancelled),
        (ClosedOnce, conformance.can_be_closed_at_any_time),
    ],
)
async def test_what_a_provider_raises_by_the_way_fails_the_check(kind: Any, check: Any) -> None:
    with pytest.raises((Unavailable, AttributeError)):
        await check(kind)


# Providers of other packages ------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with four providers, of which one works."""
    (tmp_path / "their_models.py").write_text(
        "from consensusllm.llm.port import Rejected\n"
        "class Theirs:\n"
        "    name, model, continues = 'theirs', 'm', False\n"
        "    def __init__(self, settings): self.settings = settings\n"
        "    async def aclose(self): pass\n"
        "def refuses(settings): raise Rejected('refuses: no key')\n"
        "def breaks(settings): raise KeyError('key')\n"
    )
    info = tmp_path / "their_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-models\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{names.GROUP}]\n"
        "theirs = their_models:Theirs\n"
        "refuses = their_models:refuses\n"
        "breaks = their_models:breaks\n"
        "gone = their_models.gone:Gone\n"
        "builtin = their_models:Theirs\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


async def test_a_provider_of_an_installed_package_is_made_and_guarded(package: Path) -> None:
    settings = ProviderSettings("theirs", options={"any": "thing"})
    provider: Provider = make_provider(settings)
    assert isinstance(provider, Guarded)
    assert provider.name == "theirs"
    assert names.known() == (*names.OURS, "breaks", "gone", "refuses", "theirs")
    await provider.aclose()


def test_a_package_cannot_take_the_name_of_one_of_ours(package: Path) -> None:
    assert make_provider(ProviderSettings("builtin")).model == "builtin"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("refuses", "^refuses: no key$"),
        ("breaks", r"^breaks: the package their-models cannot make it \(KeyError\)"),
        ("gone", r"^gone: the package their-models cannot make it \(ModuleNotFoundError\)"),
        ("nobody", 'there is no provider "nobody": name one of builtin, .*, theirs$'),
    ],
)
def test_a_provider_that_cannot_be_made_is_refused_in_words(
    package: Path, name: str, words: str
) -> None:
    with pytest.raises(Rejected, match=words):
        make_provider(ProviderSettings(name))


def config(tmp_path: Path, provider: str) -> Config:
    file = tmp_path / "cluster.json"
    node = {"id": 1, "address": "127.0.0.1:5101", "models": [{"provider": provider}]}
    file.write_text(json.dumps({"cluster_id": "c", "nodes": [node]}))
    return Config.load(str(file))


def test_the_configuration_knows_the_providers_that_are_installed(package: Path) -> None:
    assert config(package, "theirs").nodes[0].models[0].provider == "theirs"
    with pytest.raises(ConfigError, match=r"there is no provider 'nobody': name one of auto, "):
        config(package, "nobody")


def test_limits_and_timeouts_are_the_guards(package: Path) -> None:
    settings = ProviderSettings("theirs", timeouts=Timeouts(1, 2, 3, 4), limits=Limits(attempts=2))
    assert make_provider(settings).continues is False
