"""What LiteLLM can call: some hundred vendors behind one function, by the litellm package.

Models are named as LiteLLM does, ``vendor/model``; its own retries and fallbacks are off.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator
from typing import Any

from .choices import chunk_of
from .port import Chunk, GenerateRequest, ProviderError, Unavailable
from .sdk import SdkProvider


class LiteLLM(SdkProvider[Any]):
    """Without ``api_key`` and ``base_url`` LiteLLM takes the vendor's key from the environment; a
    ``base_url`` gets the key that is configured with it, or none."""

    name = "litellm"
    modules = ("litellm",)
    default_base_url = ""

    def _open(self, http_options: dict[str, Any]) -> Any:
        # Else importing it fetches a list of prices over the network.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import litellm

        litellm.suppress_debug_info = True
        litellm.disable_aiohttp_transport = True  # whose sessions nobody closes
        return litellm

    async def _answer(self, client: Any, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        messages = [{"role": turn.role, "content": turn.text} for turn in request.turns]
        if request.system is not None:
            messages.insert(0, {"role": "system", "content": request.system})
        key = self._settings.api_key or ("none" if self.base_url else "")
        options: dict[str, Any] = {
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
            "seed": request.seed,
            "api_key": key or None,
            "api_base": self.base_url or None,
        }
        if request.schema is not None and client.supports_response_schema(model=request.model):
            held = {"name": "answer", "schema": request.schema, "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": held}
        stream = await client.acompletion(
            model=request.model,
            messages=messages,
            stream=True,
            stream_options={"include_usage": True},
            timeout=self._settings.timeouts.total_s,
            num_retries=0,
            max_retries=0,
            drop_params=True,
            **{name: value for name, value in options.items() if value is not None},
        )
        try:
            async for event in stream:
                yield chunk_of(event, self._faults)
        finally:
            await stream.aclose()

    async def _models(self, client: Any) -> tuple[str, ...]:
        return (self.model,) if self.model else ()

    async def _close(self, client: Any) -> None:
        """Its connections belong to the process."""

    def _reported(self, error: Exception) -> ProviderError | None:
        import litellm

        if isinstance(error, litellm.APIConnectionError):
            return Unavailable(self._faults.line("no connection, or it was cut", str(error)))
        status = getattr(error, "status_code", None)
        if not isinstance(status, int) or status < 300:
            return None
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        body = json.dumps({"message": getattr(error, "message", str(error))})
        return self._faults.status(status, headers, body.encode())
