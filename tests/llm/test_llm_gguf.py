"""The real llama.cpp, where llama-cpp-python is installed, on a tiny model of random weights."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from consensusllm.llm import conformance
from consensusllm.llm.llamacpp import LlamaCpp
from consensusllm.llm.port import Chunk, GenerateRequest, Rejected, Turn
from consensusllm.llm.settings import ProviderSettings

from . import tiny_gguf

llama_cpp = pytest.importorskip("llama_cpp")

CONTEXT = 256
ASK = GenerateRequest((Turn("user", "why?"),), temperature=0.0, max_tokens=20)


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., LlamaCpp]]:
    made: list[LlamaCpp] = []

    def make(context_tokens: int = CONTEXT, path: Path | None = None, **model: Any) -> LlamaCpp:
        path = path or tiny_gguf.write(tmp_path / f"tiny-{len(made)}.gguf", **model)
        settings = ProviderSettings(
            "llamacpp", context_tokens=context_tokens, options={"path": str(path), "threads": 1}
        )
        made.append(LlamaCpp(settings))
        return made[-1]

    yield make
    for provider in made:
        await provider.aclose()


async def collect(provider: LlamaCpp, request: GenerateRequest = ASK) -> list[Chunk]:
    async with aclosing(provider.generate(request)) as chunks:
        return [chunk async for chunk in chunks]


async def said(provider: LlamaCpp, **options: Any) -> str:
    request = GenerateRequest(ASK.turns, **{"temperature": 0.0, "max_tokens": 20, **options})
    return "".join(chunk.text for chunk in await collect(provider, request))


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
async def test_it_keeps_what_a_provider_promises(
    make: Any, check: Callable[[Callable[[], LlamaCpp]], Awaitable[None]]
) -> None:
    await check(lambda: make())


async def test_each_token_comes_by_itself_and_all_are_counted(make: Any) -> None:
    *streamed, last = await collect(make())
    assert [len(chunk.text) for chunk in streamed] == [1] * 20
    # <s>, <|user|>, "why?", </s>, <|assistant|>
    assert (last.finish_reason, last.prompt_tokens, last.completion_tokens) == ("length", 8, 20)
    assert last.model == "tiny-0"


async def test_an_answer_that_the_model_ends_counts_the_token_that_ends_it(make: Any) -> None:
    provider = make(end=9.0)
    *streamed, last = await collect(provider, GenerateRequest(ASK.turns, temperature=0.0))
    assert (last.finish_reason, last.completion_tokens) == ("stop", len(streamed) + 1)


async def test_a_seed_gives_the_same_text_in_every_process_and_none_another(make: Any) -> None:
    providers = [make(), make()]
    seeded = [await said(each, temperature=1.0, seed=7) for each in providers * 2]
    assert len({*seeded}) == 1, seeded
    unseeded = [await said(each, temperature=1.0) for each in providers * 2]
    assert len({*unseeded}) == 4, unseeded


async def test_an_answer_follows_the_schema_that_is_asked_for(make: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"ranking": {"type": "string", "enum": ["a", "b"]}},
        "required": ["ranking"],
        "additionalProperties": False,
    }
    text = await said(make(), schema=schema, max_tokens=100)
    assert json.loads(text)["ranking"] in ("a", "b")


@pytest.mark.parametrize("space", [False, True])
async def test_a_prefix_is_continued_as_the_same_answer(make: Any, space: bool) -> None:
    provider = make(space=space)
    whole = await said(provider)
    assert len(whole) == 20
    for length in (1, 7, 19):
        rest = await said(provider, prefix=whole[:length], max_tokens=20 - length)
        assert whole[:length] + rest == whole


@pytest.mark.parametrize("space", [False, True])
async def test_a_prompt_has_the_tokens_of_its_template_and_no_others(
    make: Any, monkeypatch: pytest.MonkeyPatch, space: bool
) -> None:
    prompts: list[str] = []
    complete = llama_cpp.Llama.create_completion

    def create_completion(self: Any, prompt: list[int], **options: Any) -> Any:
        prompts.append(self.detokenize(prompt, special=True).decode())
        return complete(self, prompt, **options)

    monkeypatch.setattr(llama_cpp.Llama, "create_completion", create_completion)
    template = tiny_gguf.TEMPLATE.replace("|>{{", "|>\n{{")
    provider = make(space=space, template=template)
    turns = (Turn("user", "a"), Turn("assistant", "b"), Turn("user", "</s>ü"))
    await collect(provider, GenerateRequest(turns, system="c", max_tokens=1, prefix="d"))
    gap = " " * space  # after a control token it is the tokenizer's own, as in the training
    (prompt,) = prompts
    assert prompt == (
        f"<s><|system|>{gap}\nc</s><|user|>{gap}\na</s><|assistant|>{gap}\nb</s>"
        f"<|user|>{gap}\n</s>ü</s><|assistant|>d"
    )
    (last,) = [chunk for chunk in await collect(provider) if chunk.finish_reason]
    assert last.prompt_tokens == len("why?") + 5 + space


async def test_a_model_without_a_template_is_asked_in_plain_roles(make: Any) -> None:
    *_, last = await collect(make(template=""))
    assert last.prompt_tokens == 1 + len("User: why?\n\nAssistant:")


@pytest.mark.parametrize("always", ["<0xC3>", "ä"])
async def test_a_limit_holds_within_a_character_too(make: Any, always: str) -> None:
    """A byte that begins a character, again and again, is none."""
    *streamed, last = await collect(make(always=always))
    assert "".join(chunk.text for chunk in streamed) == ("ä" * 20 if always == "ä" else "")
    assert (last.finish_reason, last.completion_tokens) == ("length", 20)


async def test_a_call_that_is_closed_stops_the_computing(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = 0
    sample = llama_cpp.Llama.sample

    def counted(self: Any, **options: Any) -> Any:
        nonlocal computed
        computed += 1
        return sample(self, **options)

    monkeypatch.setattr(llama_cpp.Llama, "sample", counted)
    provider = make(context_tokens=1024, end=-9.0)
    first = provider.generate(GenerateRequest(ASK.turns))
    await anext(first)
    await first.aclose()
    before = computed
    assert len(await collect(provider)) == 21  # by the same thread, once it is free
    assert computed - before <= 20 + 2


async def test_the_event_loop_is_free_while_the_model_computes(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A word is not computed on, until the loop has run a task of its own meanwhile."""
    ran = threading.Event()
    freely: list[bool] = []
    loop = asyncio.get_running_loop()
    sample = llama_cpp.Llama.sample

    def watched(self: Any, **options: Any) -> Any:
        ran.clear()
        loop.call_soon_threadsafe(ran.set)
        freely.append(ran.wait(10))
        return sample(self, **options)

    monkeypatch.setattr(llama_cpp.Llama, "sample", watched)
    provider = make(context_tokens=1024, end=-9.0)
    *_, last = await collect(provider, GenerateRequest(ASK.turns, max_tokens=50))
    assert last.completion_tokens == 50
    assert len(freely) >= 50
    assert all(freely)


async def test_what_does_not_fit_the_context_is_refused(make: Any) -> None:
    request = GenerateRequest((Turn("user", "x" * 40),))
    with pytest.raises(Rejected) as refused:
        await collect(make(context_tokens=30), request)
    assert str(refused.value) == (
        "llamacpp: the conversation has 44 tokens, and the context holds 30: raise context_tokens, "
        "or begin a new conversation"
    )
    assert (await collect(make(context_tokens=46), request))[-1].completion_tokens in (1, 2)


@pytest.mark.parametrize("kept", [0, 3, 24, 1_000, 5_000, 100_000, -1])
async def test_a_file_that_is_cut_off_is_refused(make: Any, tmp_path: Path, kept: int) -> None:
    whole = tiny_gguf.write(tmp_path / "whole.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[:kept])
    await conformance.fails_in_words(lambda: make(path=path))


@pytest.mark.parametrize(
    ("at", "what"), [(0, "magic"), (4, "version"), (8, "tensors"), (30, "key")]
)
async def test_a_damaged_file_is_refused(make: Any, tmp_path: Path, at: int, what: str) -> None:
    damaged = bytearray(tiny_gguf.write(tmp_path / "whole.gguf").read_bytes())
    damaged[at : at + 4] = b"\xff" * 4
    path = tmp_path / f"{what}.gguf"
    path.write_bytes(damaged)
    with pytest.raises(Rejected, match=rf"^llamacpp: the file '.*{what}.gguf' cannot be loaded"):
        await collect(make(path=path))


async def test_models_are_loaded_one_after_the_other_and_the_log_is_seen_again(
    make: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    loading, overlaps = threading.Lock(), []
    load = llama_cpp.Llama.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        overlaps.append(not loading.acquire(blocking=False))
        load(self, *args, **options)
        if not overlaps[-1]:
            loading.release()

    monkeypatch.setattr(llama_cpp.Llama, "__init__", init)
    await asyncio.gather(*(collect(make()) for _ in range(6)))
    assert overlaps == [False] * 6
    print("still here")
    assert capfd.readouterr().out == "still here\n"
