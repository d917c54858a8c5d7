"""Any server with OpenAI's chat completions, by the openai package: vLLM, LM Studio, llama.cpp,
OpenRouter and OpenAI itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .choices import chunk_of
from .port import Chunk, GenerateRequest, Probe, ProviderError, Rejected
from .sdk import SdkProvider, server_of
from .settings import ProviderSettings

if TYPE_CHECKING:
    import openai

_ALL_LOADED = ("llamacpp", "vllm")
"""Who owns a listed model where the server lists what it has in memory, and nothing else."""

_UNKNOWN_FORMAT = (400, 422)
"""How servers refuse a request that has what they do not know."""

_CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}


class OpenAI(SdkProvider["openai.AsyncOpenAI"]):
    """``base_url`` ends with the API's version, as in ``http://127.0.0.1:8000/v1``.

    The option ``continues`` says that the server goes on with a last message of the assistant, as
    vLLM does with ``continue_final_message``; OpenAI itself does not.
    """

    name = "openai"
    options = ("continues",)
    modules = ("openai",)
    default_base_url = "https://api.openai.com/v1"
    guards_looks = (401, 403, 404, 405)  # some servers have no list

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings)
        continues = settings.options.get("continues", False)
        if not isinstance(continues, bool):
            raise Rejected(f'{self.name}: the option "continues" must be true or false')
        self.continues = continues
        self.server = server_of(self.base_url)
        self._takes_schemas = True
        self.is_own = self.base_url.rstrip("/") == self.default_base_url
        """Whether this is OpenAI's own service."""

    async def probe(self, models: Sequence[str]) -> Sequence[Probe]:
        """``/models``. Some servers answer to names that they do not list, so that is no error."""
        try:
            client = await self._client()
            listed = {each.id: _loaded(each) async for each in client.models.list()}
        except Exception as error:
            raise self._unseen(error) from None
        return [Probe(listed.get(name)) for name in models]

    def _open(self, http_options: dict[str, Any]) -> openai.AsyncOpenAI:
        import httpx
        import openai

        # A key is always given: without one the SDK would send OPENAI_API_KEY to any base_url.
        http: Any = httpx.AsyncClient(**http_options)
        return openai.AsyncOpenAI(
            api_key=self._settings.api_key or "none",
            base_url=self.base_url,
            max_retries=0,
            http_client=http,
        )

    async def _answer(
        self, client: openai.AsyncOpenAI, request: GenerateRequest
    ) -> AsyncGenerator[Chunk, None]:
        messages: list[Any] = [{"role": turn.role, "content": turn.text} for turn in request.turns]
        if request.system is not None:
            messages.insert(0, {"role": "system", "content": request.system})
        if request.prefix:
            messages.append({"role": "assistant", "content": request.prefix})
        options: dict[str, Any] = {"temperature": request.temperature, "seed": request.seed}
        # OpenAI's newer models refuse the name that every compatible server knows.
        options["max_completion_tokens" if self.is_own else "max_tokens"] = request.max_tokens
        asked = {name: value for name, value in options.items() if value is not None}

        async def begun(**more: Any) -> openai.AsyncStream[Any]:
            stream: openai.AsyncStream[Any] = await client.chat.completions.create(
                model=request.model,
                messages=messages,
                stream=True,
                stream_options={"include_usage": True},
                extra_body=_CONTINUE if request.prefix else None,
                **asked,
                **more,
            )
            return stream

        if self._takes_schemas and request.schema is not None and not request.prefix:
            stream = await self._held(begun, request.schema)
        else:
            stream = await begun()
        try:
            async for event in stream:
                yield chunk_of(event, self._faults)
        finally:
            await stream.close()

    async def _held(
        self,
        begun: Callable[..., Awaitable[openai.AsyncStream[Any]]],
        schema: Mapping[str, object],
    ) -> openai.AsyncStream[Any]:
        """The stream of an answer that follows ``schema``. A server that refuses the request for it
        is asked without, and from then on always: the prompt says it in words too."""
        held = {"name": "answer", "schema": schema, "strict": True}
        try:
            return await begun(response_format={"type": "json_schema", "json_schema": held})
        except Exception as error:
            if self._translated(error).status not in _UNKNOWN_FORMAT:
                raise
        stream = await begun()
        self._takes_schemas = False
        return stream

    async def _models(self, client: openai.AsyncOpenAI) -> tuple[str, ...]:
        return tuple([model.id async for model in client.models.list()])

    async def _close(self, client: openai.AsyncOpenAI) -> None:
        await client.close()

    def _reported(self, error: Exception) -> ProviderError | None:
        import openai

        if isinstance(error, openai.APIConnectionError) and error.__cause__ is not None:
            return self._translated(error.__cause__)
        if isinstance(error, openai.APIError) and error.body is not None:
            return self._faults.report(error.body)
        return None


def _loaded(model: Any) -> bool | None:
    """llama.cpp's server says it of each model where it has several."""
    status = (model.model_extra or {}).get("status")
    if isinstance(status, dict) and isinstance(status.get("value"), str):
        return bool(status["value"] == "loaded")
    return True if model.owned_by in _ALL_LOADED else None
