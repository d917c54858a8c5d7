"""Gemini, by the vendor's SDK google-genai and its Developer API (streamGenerateContent)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from consensusllm.provider_names import DEFAULT_MODELS

from .port import Chunk, FinishReason, GenerateRequest, Malformed, ProviderError, Rejected
from .sdk import MODELS_MAX, SdkProvider
from .settings import ProviderSettings

if TYPE_CHECKING:
    from google import genai

_FINISH: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "filtered",
    "RECITATION": "filtered",
    "LANGUAGE": "filtered",
    "BLOCKLIST": "filtered",
    "PROHIBITED_CONTENT": "filtered",
    "SPII": "filtered",
}


class Gemini(SdkProvider["genai.Client"]):
    """Needs a key. Thoughts that a model shows are left out of its answer."""

    name = "gemini"
    modules = ("google.genai",)
    default_base_url = "https://generativelanguage.googleapis.com/"
    default_model = DEFAULT_MODELS["gemini"]

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings)
        if not settings.api_key:
            raise Rejected(
                "gemini: there is no API key: set GEMINI_API_KEY in the environment, and "
                '"api_key": "${GEMINI_API_KEY}" in the config'
            )

    def _open(self, http_options: dict[str, Any]) -> genai.Client:
        import httpx
        from google import genai
        from google.genai import types

        # Without an httpx client of ours the SDK would take aiohttp where that is installed, and
        # without vertexai=False another service where the environment names it.
        self._http = httpx.AsyncClient(**http_options)
        return genai.Client(
            vertexai=False,
            api_key=self._settings.api_key,
            http_options=types.HttpOptions(base_url=self.base_url, httpx_async_client=self._http),
        )

    async def _answer(
        self, client: genai.Client, request: GenerateRequest
    ) -> AsyncGenerator[Chunk, None]:
        from google.genai import types

        contents: list[Any] = [
            types.Content(
                role="model" if turn.role == "assistant" else "user",
                parts=[types.Part(text=turn.text)],
            )
            for turn in request.turns
        ]
        stream = await client.aio.models.generate_content_stream(
            model=request.model,
            contents=contents,
            config=types.GenerateContentConfig(
                system_instruction=request.system,
                temperature=request.temperature,
                max_output_tokens=request.max_tokens,
                seed=request.seed,
                response_mime_type="application/json" if request.schema is not None else None,
                response_json_schema=request.schema,
                automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            ),
        )
        async with aclosing(
            cast("AsyncGenerator[types.GenerateContentResponse, None]", stream)
        ) as responses:
            async for response in responses:
                yield self._chunk(response)

    def _chunk(self, response: Any) -> Chunk:
        blocked = response.prompt_feedback and response.prompt_feedback.block_reason
        if blocked:
            raise Rejected(self._faults.line("refused the prompt", str(blocked.value)))
        text = ""
        finish: FinishReason = ""
        for candidate in (response.candidates or ())[:1]:
            parts = (candidate.content and candidate.content.parts) or ()
            text = "".join(part.text for part in parts if part.text and not part.thought)
            if candidate.finish_reason:
                reason = str(candidate.finish_reason.value)
                if reason not in _FINISH:
                    raise Malformed(self._faults.line("broke the answer off", reason))
                finish = _FINISH[reason]
        usage = response.usage_metadata
        return Chunk(
            text=text,
            finish_reason=finish,
            model=response.model_version or "",
            prompt_tokens=usage.prompt_token_count if usage else None,
            completion_tokens=_output_tokens(usage) if usage else None,
        )

    async def _models(self, client: genai.Client) -> tuple[str, ...]:
        names: list[str] = []
        async for model in await client.aio.models.list():
            if "generateContent" in (model.supported_actions or ()) and model.name:
                names.append(model.name.removeprefix("models/"))
            if len(names) == MODELS_MAX:
                break
        return tuple(names)

    async def _close(self, client: genai.Client) -> None:
        await client.aio.aclose()
        client.close()
        await self._http.aclose()

    def _reported(self, error: Exception) -> ProviderError | None:
        from google.genai import errors

        if not isinstance(error, errors.APIError):
            return None
        details = error.details
        return self._faults.report(details.get("error") if isinstance(details, dict) else details)


def _output_tokens(usage: Any) -> int | None:
    """Thoughts are counted beside the answer, and are output all the same."""
    counts = (usage.candidates_token_count, usage.thoughts_token_count)
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
