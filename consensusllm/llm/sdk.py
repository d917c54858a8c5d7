"""What the providers that speak through a vendor's SDK have in common.

Owns the SDK's life (imported and opened in a thread on first use, since that takes most of a second
and consensus shares the event loop), the rule that an answer ends with a finish reason, and the
translation of every exception. The SDKs' own retries are off: see `guard`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar
from urllib.parse import urlsplit

from async_timeout import timeout

from .ending import Ending
from .faults import Faults, secrets_of
from .port import (
    Chunk,
    GenerateRequest,
    Malformed,
    ProviderError,
    Rejected,
    TimedOut,
    Unavailable,
    token_count,
)
from .settings import ProviderSettings

if TYPE_CHECKING:
    import httpx

ClientT = TypeVar("ClientT")

MODELS_MAX = 1000
"""Names of models that are read from a server."""


def require(provider: str, *modules: str) -> None:
    """Raise Rejected, naming the extra to install, where one of ``modules`` is not there."""
    for module in modules:
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise Rejected(
                f"{provider}: the Python package {module} is missing: "
                f"pip install 'consensusllm[{provider}]'"
            )


class SdkProvider(ABC, Generic[ClientT]):
    """One configured SDK. Subclasses say how to open it, ask it, list its models and close it."""

    name: str
    continues = False
    options: ClassVar[tuple[str, ...]] = ()
    modules: ClassVar[tuple[str, ...]]
    default_base_url: ClassVar[str]
    default_model: ClassVar[str] = ""
    escape_separators: ClassVar[bool] = False
    guards_looks: ClassVar[tuple[int, ...]] = (401, 403)
    """Statuses by which a server that answers questions may refuse to list its models."""

    def __init__(self, settings: ProviderSettings) -> None:
        require(self.name, "httpx", *self.modules)
        for option in settings.options:
            if option not in self.options:
                raise Rejected(
                    f'{self.name}: there is no option "{option}": remove it from the config'
                )
        self.model = settings.model or self.default_model
        self.base_url = settings.base_url or self.default_base_url
        self._settings = settings
        self._faults = Faults(self.name, (settings.api_key, *secrets_of(os.environ)))
        self._opening = asyncio.Lock()
        self._opened: ClientT | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.model or '(no model)'}>"

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        model = request.model or self.model
        if not model:
            raise Rejected(f'{self.name}: no model is named: set "model" in the config')
        request = replace(request, model=model)
        end = Chunk(model=model)
        ending = Ending(self._settings.timeouts.idle_s)
        joiner = _SurrogateJoiner()
        responses: list[httpx.Response] = []
        try:
            client = await self._client()
            _collect(responses)
            async with aclosing(self._answer(client, request)) as pieces:
                while piece := await _following(pieces, ending.within_s()):
                    end = _merged(end, piece)
                    ending.take(piece)
                    yield Chunk(text=joiner.feed(piece.text), model=end.model)
        except Exception as error:
            # An answer that had ended is whole, whatever comes after it.
            if not ending.is_whole:
                raise self._translated(error) from None
        finally:
            for response in responses:
                await response.aclose()
        if not end.finish_reason:
            if ending.wrote:
                raise Unavailable(self._faults.line("the answer was cut off"))
            raise Malformed(self._faults.line("gave an empty answer without a reason"))
        yield replace(end, text=joiner.rest())

    async def models(self) -> tuple[str, ...]:
        try:
            return (await self._models(await self._client()))[:MODELS_MAX]
        except Exception as error:
            raise self._translated(error) from None

    async def aclose(self) -> None:
        async with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            await self._close(opened)

    @abstractmethod
    def _open(self, http_options: dict[str, Any]) -> ClientT:
        """The SDK's client, without retries, on an httpx client with ``http_options``. Runs in a
        thread."""

    @abstractmethod
    def _answer(self, client: ClientT, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        """The pieces of an answer, with finish reason and usage on any of them."""

    @abstractmethod
    async def _models(self, client: ClientT) -> tuple[str, ...]: ...

    @abstractmethod
    async def _close(self, client: ClientT) -> None: ...

    def _reported(self, error: Exception) -> ProviderError | None:
        """The error that an exception of the SDK itself stands for, None for any other."""
        return None

    async def _client(self) -> ClientT:
        async with self._opening:
            if self._opened is None:
                self._opened = await asyncio.to_thread(self._open_in_thread)
            return self._opened

    def _open_in_thread(self) -> ClientT:
        from .http import client_options

        timeouts, limits = self._settings.timeouts, self._settings.limits
        return self._open(
            client_options(self._faults, timeouts, limits, escape_separators=self.escape_separators)
        )

    def _unseen(self, error: Exception) -> ProviderError:
        """Why a look failed; a refusal only where the server may answer questions all the same."""
        failure = self._translated(error)
        if isinstance(failure, Rejected) and failure.status not in self.guards_looks:
            return Malformed(str(failure))
        return failure

    def _translated(self, error: BaseException) -> ProviderError:
        import httpx

        if isinstance(error, ProviderError):
            return error
        if isinstance(error, Exception):
            reported = self._reported(error)
            if reported is not None:
                return reported
        line = self._faults.line
        where = _host(self.base_url)
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            return TimedOut(line(f"{where} did not answer in time"))
        if isinstance(
            error,
            httpx.UnsupportedProtocol
            | httpx.InvalidURL
            | httpx.LocalProtocolError
            | UnicodeEncodeError,  # a header is ASCII
        ):
            return Rejected(line(f"the request cannot be sent to {where}: check base_url and key"))
        if (
            isinstance(error, httpx.RemoteProtocolError)
            and "disconnect" not in (text := str(error).lower())
            and "closed connection" not in text
        ):
            return Malformed(line(f"{where} does not speak HTTP"))
        refused = _tls_refusal(error)
        if isinstance(refused, ssl.SSLCertVerificationError):
            why = f"the certificate of {where} is not trusted: name its CA in SSL_CERT_FILE"
            return Rejected(line(why, refused.verify_message))
        if refused is not None:
            return Rejected(line(f"{where} does not speak TLS: check base_url"))
        if isinstance(error, httpx.ConnectError | ConnectionError):
            return Unavailable(line(f"no connection to {where}: is the server running?"))
        if isinstance(error, httpx.TransportError | OSError):
            return Unavailable(line(f"the connection to {where} was cut"))
        return Malformed(line(f"the answer cannot be read ({type(error).__name__})"))


def server_of(base_url: str) -> str:
    """The URL without credentials and query: what may be told of where a backend is."""
    try:
        path = urlsplit(base_url).path.rstrip("/")
    except ValueError:
        path = ""
    return f"{_host(base_url)}{path}"


async def _following(pieces: AsyncGenerator[Chunk, None], within_s: float | None) -> Chunk | None:
    """The next piece. None: they have ended, or none came ``within_s``."""
    try:
        async with timeout(within_s):
            return await anext(pieces, None)
    except asyncio.TimeoutError:
        if within_s is None:
            raise
        return None


def _collect(responses: list[httpx.Response]) -> None:
    from .http import RESPONSES

    RESPONSES.set(responses)


def _tls_refusal(error: BaseException) -> ssl.SSLError | None:
    """What TLS itself said against a connection that did not merely end."""
    seen: BaseException | None = error
    while seen is not None:
        ended = isinstance(seen, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        if isinstance(seen, ssl.SSLError) and not ended:
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


class _SurrogateJoiner:
    """Joins a UTF-16 surrogate pair that a server has split over two JSON strings."""

    def __init__(self) -> None:
        self._high = ""

    def feed(self, text: str) -> str:
        text = self._high + text
        self._high = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._high = text[:-1], text[-1]
        if text.isascii():
            return text
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def rest(self) -> str:
        return "\ufffd" if self._high else ""


def _merged(end: Chunk, piece: Chunk) -> Chunk:
    # Some SDKs build their objects without checking types.
    for value in (piece.text, piece.model, piece.finish_reason):
        if not isinstance(value, str):
            raise TypeError("text is not a string")
    return Chunk(
        finish_reason=piece.finish_reason or end.finish_reason,
        model=piece.model or end.model,
        prompt_tokens=_count(piece.prompt_tokens, end.prompt_tokens),
        completion_tokens=_count(piece.completion_tokens, end.completion_tokens),
    )


def _count(value: Any, before: int | None) -> int | None:
    count = token_count(value)
    return before if count is None else count


def _host(base_url: str) -> str:
    """Scheme and host of a URL: what an error may show, without credentials and query."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "?", parts.port
    except ValueError:
        return "the server"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}:{port}" if port else f"{parts.scheme}://{host}"
