"""Stands in for llama-cpp-python, which takes long to compile: the part of its interface that the
provider uses (version 0.3.36), over a model that says what it is told to.

A token is a byte, but for the control tokens, which are read as such only where ``special`` is.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

CONTROL = ("<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = "roles between control tokens"


class StoppingCriteriaList(list[Callable[[Any, Any], bool]]):
    def __call__(self, input_ids: Any, logits: Any) -> bool:
        return any(criterion(input_ids, logits) for criterion in self)


class LlamaGrammar:
    @classmethod
    def from_json_schema(cls, json_schema: str, verbose: bool = True) -> Any:
        if json.loads(json_schema).get("type") != "object":
            raise ValueError("unrecognized schema")
        return ("grammar of", json_schema)


class Llama:
    """``says`` are the answer's pieces, a token each; ``go_on`` is waited for before each. Class
    attributes, so that a test can reach them before there is a model."""

    says: tuple[str, ...] = ("A ", "quorum ", "is “enough”.")
    go_on = threading.Event()
    asked_for = threading.Event()
    made: ClassVar[list[Llama]] = []
    template = TEMPLATE

    def __init__(self, model_path: str, **options: Any) -> None:
        if not Path(model_path).read_bytes().startswith(b"GGUF"):
            raise ValueError(f"Failed to load model from file: {model_path}")
        self.options = options
        self.metadata = {"tokenizer.chat_template": self.template} if self.template else {}
        self.prompts: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.threads = {threading.current_thread().name}
        self.closed = False
        self.made.append(self)

    def token_bos(self) -> int:
        return 256

    def token_eos(self) -> int:
        return 257

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        pieces = re.split(f"({'|'.join(map(re.escape, CONTROL))})", text.decode())
        tokens = [256] if add_bos else []
        for piece in pieces:
            if special and piece in CONTROL:
                tokens.append(256 + CONTROL.index(piece))
            else:
                tokens += piece.encode()
        return tokens

    def detokenize(
        self, tokens: list[int], prev_tokens: list[int] | None = None, special: bool = False
    ) -> bytes:
        return b"".join(
            bytes([token]) if token < 256 else CONTROL[token - 256].encode() * special
            for token in tokens
        )

    def create_completion(
        self,
        prompt: list[int],
        *,
        max_tokens: int,
        stop: list[str],
        stream: bool,
        stopping_criteria: StoppingCriteriaList,
        **options: Any,
    ) -> Iterator[dict[str, Any]]:
        assert stream
        assert len(prompt) + max_tokens <= self.options["n_ctx"]
        self.prompts.append("".join(chr(t) if t < 256 else f"⟨{CONTROL[t - 256]}⟩" for t in prompt))
        self.asked_for.set()
        self.asked.append({"max_tokens": max_tokens, "stop": stop, **options})
        return self._events([*prompt], max_tokens, stopping_criteria)

    def _events(
        self, read: list[int], max_tokens: int, stopping_criteria: StoppingCriteriaList
    ) -> Iterator[dict[str, Any]]:
        self.threads.add(threading.current_thread().name)
        for text in self.says[:max_tokens]:
            assert self.go_on.wait(60)
            if text == "!":
                raise RuntimeError("llama_decode returned -1")
            if stopping_criteria(read, []):
                break
            yield {"choices": [{"text": text, "finish_reason": None}]}
            read.append(len(text))
        reason = "length"
        if max_tokens >= len(self.says):  # it writes a token that ends its answer
            reason = "stop"
            stopping_criteria(read, [])
        stopping_criteria(read[: None if reason == "stop" else -1], [])  # as it ends, once more
        yield {"choices": [{"text": "", "finish_reason": reason}]}

    def close(self) -> None:
        self.closed = True
