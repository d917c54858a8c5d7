"""A provider that does what its script says: texts, speed, latency and failures, from a seed.

For drills, benchmarks and tests. Two providers with the same script give the same answers and fail
on the same calls, in the order in which calls begin.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from consensusllm.provider_names import DEFAULT_MODELS

from .port import (
    Chunk,
    GenerateRequest,
    Malformed,
    ProviderError,
    RateLimited,
    Rejected,
    TimedOut,
    Unavailable,
)
from .rankings import labels_of, ranking
from .settings import ProviderSettings

_RAISED: dict[str, type[ProviderError]] = {
    "unavailable": Unavailable,
    "timed_out": TimedOut,
    "rejected": Rejected,
    "malformed": Malformed,
    "rate_limited": RateLimited,
}
FAILURES = (*_RAISED, "cut", "hang")
"""Kinds of failure: an error before the first token, a stream cut in its middle, a call that never
says anything."""

_PIECE = re.compile(r"\s*\S+|\s+")


@dataclass(frozen=True, slots=True)
class Script:
    """``texts`` are given in turn; in them ``{question}``, ``{node}``, ``{model}`` and ``{call}``
    (from 1) are replaced.

    ``tokens_per_second`` 0 is as fast as it goes; a token is a word. ``failures`` are rates, 0.0 to
    1.0 and 1.0 in all, by a name of `FAILURES`. With ``continues`` a call goes on with its own text
    behind as many characters as the answer has already. With ``ranks`` a review that is asked for
    by a schema is a ranking, and no text.
    """

    texts: tuple[str, ...] = ("Answer {call} of node {node} to: {question}",)
    tokens_per_second: float = 0.0
    first_token_s: float = 0.0
    failures: tuple[tuple[str, float], ...] = ()
    retry_after_s: float | None = None
    seed: int = 0
    continues: bool = True
    ranks: bool = True

    @classmethod
    def parse(cls, options: Mapping[str, object]) -> Script:
        """From the options of a config; raises Rejected, naming the option that is wrong."""
        known = {each.name for each in fields(cls)}
        for name in options:
            if name not in known:
                raise _wrong(name, f"is not one of {', '.join(sorted(known))}")
        values: dict[str, Any] = dict(options)
        if "texts" in values:
            texts = values["texts"]
            strings = isinstance(texts, list | tuple) and all(isinstance(t, str) for t in texts)
            if not strings or not texts:
                raise _wrong("texts", "must be a list of at least one string")
            values["texts"] = tuple(texts)
        for name in ("tokens_per_second", "first_token_s", "retry_after_s"):
            value = values.get(name, 0)
            optional = name == "retry_after_s" and value is None
            if not optional and not (_is_number(value) and value >= 0):
                raise _wrong(name, "must be a number from 0 on")
        if not isinstance(values.get("seed", 0), int):
            raise _wrong("seed", "must be an integer")
        for name in ("continues", "ranks"):
            if not isinstance(values.get(name, True), bool):
                raise _wrong(name, "must be true or false")
        if "failures" in values:
            values["failures"] = _failures(values["failures"])
        return cls(**values)


def _failures(rates: object) -> tuple[tuple[str, float], ...]:
    if not isinstance(rates, Mapping):
        raise _wrong("failures", "must map kinds of failure to rates")
    for kind, rate in rates.items():
        if kind not in FAILURES:
            raise _wrong("failures", f'knows no "{kind}", only {", ".join(FAILURES)}')
        if not (_is_number(rate) and 0 <= rate <= 1):
            raise _wrong("failures", f'must give "{kind}" a rate from 0.0 to 1.0')
    if sum(rates.values()) > 1:
        raise _wrong("failures", "must add up to at most 1.0")
    return tuple(rates.items())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(option: str, what: str) -> Rejected:
    return Rejected(f'scripted: the option "{option}" {what}')


class Scripted:
    """Plays ``settings.options`` as a `Script`."""

    name = "scripted"

    def __init__(self, settings: ProviderSettings) -> None:
        self.model = settings.model or DEFAULT_MODELS[self.name]
        self.calls = 0
        self._node = settings.node
        self._script = Script.parse(settings.options)
        self.continues = self._script.continues

    def __repr__(self) -> str:
        return f"<Scripted node {self._node}>"

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        script = self._script
        self.calls += 1
        call = self.calls
        failure = self._failure(call)
        if failure == "hang":
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(script.first_token_s)
        if failure in _RAISED:
            retry_after_s = script.retry_after_s if failure == "rate_limited" else None
            raise _RAISED[failure](f"scripted: {failure}, as told", retry_after_s=retry_after_s)
        model = request.model or self.model
        pieces = _PIECE.findall(self._text(request, call, model)[len(request.prefix) :])
        kept = pieces[: request.max_tokens]
        for number, piece in enumerate(kept):
            if failure == "cut" and number >= len(kept) // 2:
                raise Unavailable("scripted: cut, as told")
            if number and script.tokens_per_second:
                await asyncio.sleep(1 / script.tokens_per_second)
            yield Chunk(text=piece, model=model)
        yield Chunk(
            finish_reason="stop" if kept == pieces else "length",
            model=model,
            prompt_tokens=sum(len(turn.text.split()) for turn in request.turns),
            completion_tokens=len(kept),
        )

    async def models(self) -> tuple[str, ...]:
        return (self.model,)

    async def aclose(self) -> None:
        """There is nothing to close."""

    def _failure(self, call: int) -> str:
        # From the call's number, so that calls under way at once do not mix up the dice.
        dice = random.Random(f"{self._script.seed}/{call}").random()
        for kind, rate in self._script.failures:
            if dice < rate:
                return kind
            dice -= rate
        return ""

    def _text(self, request: GenerateRequest, call: int, model: str) -> str:
        labels = list(labels_of(request))
        if labels and self._script.ranks:
            random.Random(f"{self._script.seed}/{labels}").shuffle(labels)  # goes on as it began
            return ranking("as told", labels)
        template = self._script.texts[(call - 1) % len(self._script.texts)]
        values = {
            "question": request.turns[-1].text if request.turns else "",
            "node": str(self._node),
            "model": model,
            "call": str(call),
        }
        return re.sub(r"\{(question|node|model|call)\}", lambda name: values[name[1]], template)
