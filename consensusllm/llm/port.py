"""The port that every provider implements, and the small tree of errors that it may raise.

A provider turns a request into a stream of text. It knows nothing of consensus, retries or
recording: those belong to the answerer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

FinishReason: TypeAlias = Literal["", "stop", "length", "filtered"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the prompt."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What to ask. ``turns`` ends with the user's question; ``model`` "" is the provider's own.

    ``temperature`` 0.0 to 2.0, ``max_tokens`` >= 1; None leaves it to the model. ``prefix`` is what
    the answer begins with already, for a provider that `Provider.continues`: what it gives goes on
    behind it, and ``max_tokens`` counts from there. ``schema`` is the JSON schema that the answer
    follows where the provider can be held to one; the prompt says it in words too. ``others``:
    somebody else can be asked where this one fails, so that it is not waited for long; it is no
    part of what is asked.
    """

    turns: tuple[Turn, ...]
    model: str = ""
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    prefix: str = ""
    schema: Mapping[str, object] | None = None
    others: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the answer. The last chunk has a ``finish_reason`` and the usage, where known.

    ``text`` may be empty. ``model`` is the model that really answered, as the provider names it.
    """

    text: str = ""
    finish_reason: FinishReason = ""
    model: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


TOKENS_MAX = 1 << 40
"""No call has used more, whatever a server says: sums of such counts would fit in no message."""


def token_count(value: object) -> int | None:
    """``value`` where it can be a count of tokens."""
    return value if type(value) is int and 0 <= value <= TOKENS_MAX else None


class ProviderError(Exception):
    """A call failed. The message is one line, names the provider, and holds no key."""

    retryable = False
    status = 0
    """The HTTP status that it stands for, where it was one."""
    ended: Chunk | None = None
    """The end of an answer without a word, whose tokens were used all the same."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(ProviderError):
    """No connection, a 5xx, or a stream that was cut: another try may succeed."""

    retryable = True


class RateLimited(ProviderError):
    """429: another try may succeed after ``retry_after_s``, where the provider said it."""

    retryable = True


class TimedOut(ProviderError):
    """Nothing came within the time allowed."""

    retryable = True


class Rejected(ProviderError):
    """A 4xx, a missing model or key, a refused prompt: the same request will fail again."""


class Malformed(ProviderError):
    """The provider's answer does not follow its own protocol, or is over a bound."""


class Provider(Protocol):
    """One backend, configured. Safe for concurrent calls; closing it ends calls under way.

    ``model`` answers where a request names none; "" where the provider has no default.
    ``continues``: it can go on with an answer that another call began.
    """

    name: str
    model: str
    continues: bool

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        """Stream the answer. Ends with a chunk that has a finish reason, or raises ProviderError;
        a stream that merely stops is an error, never a short answer. Closing the generator ends
        the call at the provider."""
        ...

    async def models(self) -> tuple[str, ...]:
        """Names of the models that can be asked for, by a free request. Raises ProviderError."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Probe:
    """What a free look at a backend found of one of its models: whether it is in memory (None: the
    backend does not say), and one line where it cannot be asked."""

    loaded: bool | None = None
    error: str = ""


@runtime_checkable
class Bounded(Protocol):
    """What a provider has beside `Provider` that answers ``places`` (>= 1) calls at a time: others
    are kept back until there is room, and their time does not run meanwhile."""

    places: int


@runtime_checkable
class Probing(Protocol):
    """What a provider has beside `Provider` whose backend can be looked at for free.

    ``server`` is the URL of the backend without keys, or any other name of one that is only reached
    from within this process; all models of a server have the same one.
    """

    server: str

    async def probe(self, models: Sequence[str]) -> Sequence[Probe]:
        """What is found of each of ``models``, names of any provider of this kind at the same
        server, in their order. Costs nothing and loads nothing. Raises ProviderError where the
        server as a whole does not answer, or not as it should."""
        ...
