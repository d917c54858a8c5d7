"""A chat template filled in, without Jinja."""

from __future__ import annotations

from typing import Any, NamedTuple


class ChatFormatterResponse(NamedTuple):
    prompt: str
    stop: str | list[str] | None = None


class Jinja2ChatFormatter:
    def __init__(self, template: str, eos_token: str, bos_token: str) -> None:
        self._template, self._end, self._begin = template, eos_token, bos_token

    def __call__(self, *, messages: list[dict[str, str]], **_: Any) -> ChatFormatterResponse:
        if "system" in self._template and messages[0]["role"] == "system":
            raise ValueError("System role not supported")
        said = "".join(
            f"<|{message['role']}|>{message['content']}{self._end}" for message in messages
        )
        return ChatFormatterResponse(f"{self._begin}{said}<|assistant|>", [self._end])
