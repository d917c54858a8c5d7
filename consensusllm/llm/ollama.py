"""A local (or hosted) Ollama, by its own Python package: /api/chat in lines of JSON."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from .port import Chunk, GenerateRequest, Probe, ProviderError
from .sdk import SdkProvider, server_of
from .settings import ProviderSettings

if TYPE_CHECKING:
    import ollama


class Ollama(SdkProvider["ollama.AsyncClient"]):
    """``base_url`` "" is OLLAMA_HOST, or the port 11434 of this machine. A chat that ends with the
    assistant's words is continued there."""

    name = "ollama"
    continues = True
    modules = ("ollama",)
    default_base_url = "http://127.0.0.1:11434"
    # The SDK splits lines as str.splitlines does.
    escape_separators = True

    def __init__(self, settings: ProviderSettings) -> None:
        # The SDK would read these itself, and errors would not know what to hide or to name.
        settings = replace(
            settings,
            api_key=settings.api_key or os.environ.get("OLLAMA_API_KEY", ""),
            base_url=settings.base_url or os.environ.get("OLLAMA_HOST", ""),
        )
        super().__init__(settings)
        if "://" not in self.base_url:
            port = "" if ":" in self.base_url.rpartition("]")[2] else ":11434"
            self.base_url = f"http://{self.base_url}{port}"
        self.server = server_of(self.base_url)

    async def probe(self, models: Sequence[str]) -> Sequence[Probe]:
        """``/api/tags`` has what is there, ``/api/ps`` what is in memory."""
        try:
            client = await self._client()
            there = {_tagged(each.model or "") for each in (await client.list()).models}
            loaded = {_tagged(each.model or "") for each in (await client.ps()).models}
        except Exception as error:
            raise self._unseen(error) from None
        absent = self._faults.line("the server does not have the model: ollama pull it")
        return [
            Probe(_tagged(name) in loaded) if _tagged(name) in there else Probe(False, absent)
            for name in models
        ]

    def _open(self, http_options: dict[str, Any]) -> ollama.AsyncClient:
        import ollama

        key = self._settings.api_key
        return ollama.AsyncClient(
            self.base_url,
            headers={"Authorization": f"Bearer {key}"} if key else None,
            **http_options,
        )

    async def _answer(
        self, client: ollama.AsyncClient, request: GenerateRequest
    ) -> AsyncGenerator[Chunk, None]:
        messages = [{"role": turn.role, "content": turn.text} for turn in request.turns]
        if request.system is not None:
            messages.insert(0, {"role": "system", "content": request.system})
        if request.prefix:
            messages.append({"role": "assistant", "content": request.prefix})
        options: dict[str, Any] = {
            "temperature": request.temperature,
            "num_predict": request.max_tokens,
            "seed": request.seed,
            # Without it the server cuts a long prompt to a context of its own, and says nothing.
            "num_ctx": self._settings.context_tokens or None,
        }
        stream = await client.chat(
            model=request.model,
            messages=messages,
            stream=True,
            # A schema would have an answer that goes on begin anew.
            format=dict(request.schema) if request.schema and not request.prefix else None,
            options={name: value for name, value in options.items() if value is not None},
        )
        async with aclosing(cast("AsyncGenerator[ollama.ChatResponse, None]", stream)) as parts:
            async for part in parts:
                ended = bool(part.done)
                yield Chunk(
                    text=part.message.content or "",
                    finish_reason=_finish(part.done_reason) if ended else "",
                    model=part.model or "",
                    prompt_tokens=part.prompt_eval_count,
                    completion_tokens=part.eval_count,
                )
                if ended:
                    return

    async def _models(self, client: ollama.AsyncClient) -> tuple[str, ...]:
        return tuple(model.model for model in (await client.list()).models if model.model)

    async def _close(self, client: ollama.AsyncClient) -> None:
        await cast(Any, client).close()

    def _reported(self, error: Exception) -> ProviderError | None:
        import ollama

        return self._faults.report(error.error) if isinstance(error, ollama.ResponseError) else None


def _tagged(name: str) -> str:
    """A model's full name: a name without a tag is that of the latest."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _finish(reason: str | None) -> Any:
    return "length" if reason == "length" else "stop"
