"""A GGUF file in the node's own process, by llama-cpp-python: no server, no network.

The model is loaded, and computes, in one thread of its own: a llama.cpp context does one thing at a
time, so calls wait for each other. The thread looks after every token whether its call is still
wanted. llama.cpp lets the interpreter go while it computes, so the event loop is not held.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .faults import Faults
from .port import (
    Chunk,
    GenerateRequest,
    Malformed,
    Probe,
    ProviderError,
    Rejected,
    Unavailable,
)
from .sdk import require
from .settings import ProviderSettings

if TYPE_CHECKING:
    from llama_cpp import Llama

CONTEXT_TOKENS = 4096
"""The context where the config names none: a model's own may take more memory than there is."""

_SEED_BITS = 31
_NUMBERS = {"threads": 0, "gpu_layers": 0}
_MARK = "\x02{}\x03"
"""Stands for a message's text while the chat template is filled in."""

_FEED = b"\n"

_LOADING = threading.Lock()
"""llama-cpp-python turns this process's standard output and error away while it loads a file, and
back when it has: two at once would leave them away."""


class LlamaCpp:
    """Options: ``path`` of the GGUF file; ``threads`` (0: llama.cpp's choice), ``gpu_layers`` (-1:
    all). ``model`` is the name in answers, by default the file's."""

    name = "llamacpp"
    continues = True
    places = 1

    def __init__(self, settings: ProviderSettings) -> None:
        require(self.name, "llama_cpp")
        options = dict(settings.options)
        path = options.pop("path", None)
        if not isinstance(path, str) or not path:
            raise Rejected(f'{self.name}: no file is named: set the option "path" to a GGUF file')
        self._faults = Faults(self.name)
        try:
            self._path = Path(path).expanduser()
            there = self._path.is_file()
        except (OSError, RuntimeError, ValueError) as error:  # such as ~ of nobody, or no right
            text = self._faults.line(f"the file {path!r:.200} cannot be looked for", str(error))
            raise Rejected(text) from None
        if not there:
            raise Rejected(f"{self.name}: there is no file {str(self._path)!r:.200}")
        self._numbers = dict(_NUMBERS)
        for option, value in options.items():
            if option not in self._numbers:
                raise Rejected(f'{self.name}: there is no option "{option}": remove it')
            if type(value) is not int or value < (-1 if option == "gpu_layers" else 0):
                raise Rejected(f'{self.name}: the option "{option}" must be a whole number')
            self._numbers[option] = value
        self.model = settings.model or self._path.stem
        self.server = f"{self.model} in this process"
        self._context_tokens = settings.context_tokens or CONTEXT_TOKENS
        self._thread = ThreadPoolExecutor(self.places, thread_name_prefix=self.name)
        self._calls: set[_Call] = set()
        self._closed = False
        self._llama: Llama | None = None

    def __repr__(self) -> str:
        return f"<LlamaCpp {self.model}>"

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        if self._closed:
            raise Unavailable(f"{self.name}: closed")
        call = _Call(request)
        self._calls.add(call)
        working = self._thread.submit(self._answer, call)
        try:
            while True:
                said = await call.said.get()
                if isinstance(said, ProviderError):
                    raise said
                yield said
                if said.finish_reason:
                    return
        finally:
            call.unwanted.set()
            self._calls.discard(call)
            if not self._closed:
                # Its place is free when the thread is: what is being read is read to its end.
                await asyncio.wait({asyncio.wrap_future(working)})

    async def models(self) -> tuple[str, ...]:
        return (self.model,)

    async def probe(self, models: Sequence[str]) -> Sequence[Probe]:
        return [Probe(loaded=self._llama is not None) for _ in models]

    async def aclose(self) -> None:
        """End every call, wait for the thread, and give the model's memory back."""
        self._closed = True
        for call in self._calls:
            call.unwanted.set()
            call.said.put_nowait(Unavailable(f"{self.name}: closed"))
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        llama, self._llama = self._llama, None
        if llama is not None:
            await asyncio.to_thread(llama.close)

    # In the thread ------------------------------------------------------------------------------

    def _answer(self, call: _Call) -> None:
        if call.unwanted.is_set():
            return
        try:
            for chunk in self._chunks(call):
                call.say(chunk)
        except ProviderError as error:
            call.say(error)
        except Exception as error:
            text = self._faults.line(f"the model failed ({type(error).__name__})", str(error))
            call.say(Malformed(text))

    def _opened(self) -> Llama:
        if self._llama is None:
            from llama_cpp import Llama

            try:
                with _LOADING:
                    self._llama = Llama(
                        str(self._path),
                        n_ctx=self._context_tokens,
                        n_threads=self._numbers["threads"] or None,
                        n_gpu_layers=self._numbers["gpu_layers"],
                        verbose=False,
                    )
            except Exception as error:
                text = f"the file {str(self._path)!r:.200} cannot be loaded as a model"
                raise Rejected(self._faults.line(text, str(error))) from None
        return self._llama

    def _chunks(self, call: _Call) -> Iterator[Chunk]:
        from llama_cpp import StoppingCriteriaList

        llama, request = self._opened(), call.request
        tokens, stops = _prompt(llama, request, self._faults)
        room = self._context_tokens - len(tokens)  # llama.cpp may have made its context larger
        if room < 1:
            raise Rejected(
                f"{self.name}: the conversation has {len(tokens)} tokens, and the context holds "
                f"{self._context_tokens}: raise context_tokens, or begin a new conversation"
            )
        limit = min(request.max_tokens or room, room)
        written = 0

        def enough(read: Sequence[int], _: object) -> bool:
            """``read``: the prompt, and what was written but for the newest token. The library
            does not look at its own limit within a character of several tokens."""
            nonlocal written
            written = len(read) - len(tokens) + 1
            return written > limit or call.unwanted.is_set()

        # Its own choice would be the same in every process.
        seed = secrets.randbits(_SEED_BITS) if request.seed is None else request.seed
        options = {} if request.temperature is None else {"temperature": request.temperature}
        events: Any = llama.create_completion(
            tokens,
            max_tokens=limit,
            stop=stops,
            stream=True,
            stopping_criteria=StoppingCriteriaList([enough]),
            seed=seed,
            **options,
            **_grammar(request),
        )
        for event in events:
            choice = event["choices"][0]
            finish: Literal["", "stop", "length"] = ""
            if choice["finish_reason"]:
                cut = written > limit or choice["finish_reason"] == "length"
                finish = "length" if cut else "stop"
            yield Chunk(
                text=choice["text"],
                finish_reason=finish,
                model=self.model,
                prompt_tokens=len(tokens) if finish else None,
                completion_tokens=min(written, limit) if finish else None,
            )
            if finish:
                return


class _Call:
    """One question, between the event loop and the thread."""

    def __init__(self, request: GenerateRequest) -> None:
        self.request = request
        self.unwanted = threading.Event()
        self.said: asyncio.Queue[Chunk | ProviderError] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def say(self, what: Chunk | ProviderError) -> None:
        """Hand it to the event loop, if that still runs."""
        if not self.unwanted.is_set():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.said.put_nowait, what)


def _grammar(request: GenerateRequest) -> dict[str, Any]:
    """What holds the answer to the request's schema; nothing where there is none, where the answer
    has begun already, and where llama.cpp cannot express it: the prompt says it in words too."""
    if request.schema is None or request.prefix:
        return {}
    from llama_cpp import LlamaGrammar

    try:
        return {"grammar": LlamaGrammar.from_json_schema(json.dumps(request.schema), verbose=False)}
    except Exception:
        return {}


def _prompt(llama: Llama, request: GenerateRequest, faults: Faults) -> tuple[list[int], list[str]]:
    """The tokens of the conversation as the model's chat template writes it, the answer's beginning
    last; and what ends an answer.

    What people and models wrote never becomes a control token: the template is filled in with marks
    and only what stands between them may hold such.
    """
    texts = [turn.text for turn in request.turns]
    roles: list[str] = [turn.role for turn in request.turns]
    if request.system is not None:
        texts.insert(0, request.system)
        roles.insert(0, "system")
    marks = [_MARK.format(index) for index in range(len(texts))]
    messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
    written, stops = _written(llama, messages, faults)
    tokens = llama.tokenize(b"", add_bos=True, special=False)
    if tokens and written.startswith(_text(llama, tokens[0])):
        tokens = []
    for mark, text in zip(marks, texts, strict=True):
        before, found, after = written.partition(mark)
        if found:
            tokens += _tokens(llama, before, special=True, joined=_ends_in_text(llama, tokens))
            tokens += _tokens(llama, text, special=False, joined=_ends_in_text(llama, tokens))
            written = after
    tokens += _tokens(llama, written, special=True, joined=_ends_in_text(llama, tokens))
    tokens += _tokens(llama, request.prefix, special=False, joined=True)
    return tokens, stops


def _written(llama: Llama, messages: list[dict[str, str]], faults: Faults) -> tuple[str, list[str]]:
    template = llama.metadata.get("tokenizer.chat_template")
    if not template:  # a model that was not trained to chat
        said = [f"{message['role'].capitalize()}: {message['content']}" for message in messages]
        return "\n\n".join([*said, "Assistant:"]), ["\n\nUser:"]
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    end = _text(llama, llama.token_eos())
    formatter = Jinja2ChatFormatter(template, end, _text(llama, llama.token_bos()))
    try:
        formatted = formatter(messages=messages)
    except Exception as error:
        text = faults.line("the model's chat template refuses the conversation", str(error))
        raise Rejected(text) from None
    stop = formatted.stop or []
    return formatted.prompt, [stop] if isinstance(stop, str) else list(stop)


def _text(llama: Llama, token: int) -> str:
    """A control token as a chat template writes it; "" where the model has none."""
    if token < 0:
        return ""
    text: bytes = llama.detokenize([token], special=True)
    return text.decode("utf-8", "ignore")


def _ends_in_text(llama: Llama, tokens: list[int]) -> bool:
    """Not in a control token, nor nowhere."""
    return bool(tokens) and llama.detokenize(tokens[-1:], special=False) != b""


def _tokens(llama: Llama, text: str, *, special: bool, joined: bool) -> list[int]:
    """``joined``: it goes on with what stands before it, so that a tokenizer which begins each text
    with a space (those of Llama 2's kind) is not to: that space stays before a line feed, which no
    piece of theirs crosses."""
    feed: list[int] = []
    if joined and text and _begins_with_space(llama):
        feed = llama.tokenize(_FEED, add_bos=False, special=False)
    found: list[int] = llama.tokenize(
        _FEED * bool(feed) + text.encode("utf-8", "replace"), add_bos=False, special=special
    )
    return found[len(feed) :]


def _begins_with_space(llama: Llama) -> bool:
    facts: dict[str, str] = llama.metadata
    asked = facts.get("tokenizer.ggml.add_space_prefix", "true") == "true"
    return asked and facts.get("tokenizer.ggml.model") == "llama"
