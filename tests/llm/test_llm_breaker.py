"""A provider that fails again and again is left alone, and tried again later."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from consensusllm.llm.breaker import Breaking
from consensusllm.llm.port import (
    Chunk,
    GenerateRequest,
    ProviderError,
    RateLimited,
    Rejected,
    TimedOut,
    Turn,
    Unavailable,
)
from consensusllm.llm.scripted import Scripted
from consensusllm.llm.settings import ProviderSettings
from tests.client.asked import until

REQUEST = GenerateRequest((Turn("user", "why?"),))


class Switch(Scripted):
    """Raises ``error`` where it is set."""

    error: ProviderError | None = None
    before: Callable[[], Awaitable[object]] | None = None
    begun = 0

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self.begun += self.error is None
        if self.before is not None:
            await self.before()
        if self.error is not None:
            self.calls += 1
            raise self.error
        async for chunk in super().generate(request):
            yield chunk


class Question(str):
    """One that a weak reference can be to."""


async def call(provider: Breaking) -> str:
    return "".join([chunk.text async for chunk in provider.generate(REQUEST)])


@pytest.fixture
def switch() -> Switch:
    return Switch(ProviderSettings("scripted", "m", options={"texts": ["well"]}))


async def fail(provider: Breaking, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ProviderError):
            await call(provider)


class Clock:
    """What the library goes by, in seconds since the epoch."""

    def __init__(self) -> None:
        self.now = time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", lambda: clock.now)
    return clock


async def about_to_decide(switch: Switch, clock: Clock) -> Breaking:
    """A provider that failed, was left alone, and works again."""
    provider = Breaking(switch, threshold=1, cool_down_s=60.0)
    switch.error = Unavailable("down")
    await fail(provider, 1)
    switch.error = None
    clock.now += 60.1
    return provider


async def test_after_so_many_failures_calls_fail_at_once(switch: Switch) -> None:
    provider = Breaking(switch, threshold=3, cool_down_s=60.0)
    switch.error = Unavailable("down")
    await fail(provider, 2)
    switch.error = TimedOut("scripted: did not send text in time")
    await fail(provider, 1)
    switch.error = Rejected("scripted: no such option")
    assert switch.calls == 3
    with pytest.raises(Unavailable) as refused:
        await call(provider)
    assert str(refused.value) == (
        "scripted: left alone after 3 failures in a row, the last one: did not send text in time"
    )
    assert switch.calls == 3


async def test_what_is_refused_is_not_kept(switch: Switch) -> None:
    provider = Breaking(switch, threshold=1, cool_down_s=60.0)
    switch.error = Unavailable("down")
    await fail(provider, 1)
    questions = [Question("why?") for _ in range(3)]
    kept = [weakref.ref(each) for each in questions]
    while questions:
        request = GenerateRequest((Turn("user", questions.pop()),))
        with pytest.raises(Unavailable, match="left alone"):
            await anext(provider.generate(request))
        del request
    gc.collect()
    assert [each() for each in kept] == [None] * 3


async def test_after_the_cool_down_one_call_decides(switch: Switch, clock: Clock) -> None:
    provider = Breaking(switch, threshold=2, cool_down_s=60.0)
    switch.error = Unavailable("down")
    await fail(provider, 2)
    clock.now += 60.1
    await fail(provider, 1)
    assert switch.calls == 3
    with pytest.raises(Unavailable, match="left alone"):
        await call(provider)
    assert switch.calls == 3
    switch.error = None
    clock.now += 60.1
    assert await call(provider) == "well"
    assert await call(provider) == "well"


async def test_others_wait_for_the_first_word_of_the_call_that_decides(
    switch: Switch, clock: Clock
) -> None:
    provider = await about_to_decide(switch, clock)
    silent = asyncio.Event()
    switch.before = silent.wait
    decides = provider.generate(REQUEST)
    first = asyncio.ensure_future(anext(decides))
    await until(lambda: switch.begun == 1)
    with pytest.raises(Unavailable, match="left alone"):
        await call(provider)
    assert switch.begun == 1
    silent.set()
    assert (await first).text
    others = [provider.generate(REQUEST) for _ in range(3)]
    begun = await asyncio.gather(*(anext(each) for each in others))
    assert [each.text for each in begun] == ["well"] * 3
    assert await call(provider) == "well"
    for each in (decides, *others):
        await each.aclose()


async def test_where_what_was_let_through_breaks_off_the_next_one_decides_alone(
    switch: Switch, clock: Clock
) -> None:
    provider = await about_to_decide(switch, clock)
    silent = asyncio.Event()
    broken = provider.generate(REQUEST)
    assert (await anext(broken)).text
    with pytest.raises(Unavailable, match="cut"):
        await broken.athrow(Unavailable("scripted: cut"))
    with pytest.raises(Unavailable, match="left alone"):
        await call(provider)
    clock.now += 60.1
    switch.before = silent.wait
    begun = switch.begun
    decides = asyncio.ensure_future(call(provider))
    await until(lambda: switch.begun == begun + 1)
    with pytest.raises(Unavailable, match="left alone"):
        await call(provider)
    silent.set()
    assert await decides == "well"


async def test_one_that_writes_though_the_provider_failed_again_meanwhile_lets_nobody_through(
    switch: Switch, clock: Clock
) -> None:
    provider = Breaking(switch, threshold=1, cool_down_s=60.0)
    old = provider.generate(REQUEST)
    assert (await anext(old)).text
    switch.error = Unavailable("down")
    await fail(provider, 1)
    switch.error = None
    clock.now += 60.1
    silent = asyncio.Event()
    switch.before = silent.wait
    decides = provider.generate(REQUEST)
    first = asyncio.ensure_future(anext(decides))
    await until(lambda: switch.begun == 2)
    with pytest.raises(Unavailable, match="cut"):
        await old.athrow(Unavailable("scripted: cut"))
    silent.set()
    assert (await first).text
    await decides.aclose()
    clock.now += 60.1
    silent.clear()
    calls = [asyncio.ensure_future(call(provider)) for _ in range(5)]
    await until(lambda: sum(each.done() for each in calls) == 4)
    silent.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(each == "well" for each in outcomes) == 1


async def test_a_call_that_decides_and_is_stopped_leaves_that_to_the_next(
    switch: Switch, clock: Clock
) -> None:
    provider = await about_to_decide(switch, clock)
    switch.before = asyncio.Event().wait
    stopped = asyncio.ensure_future(call(provider))
    await until(lambda: switch.begun == 1)
    stopped.cancel()
    await asyncio.gather(stopped, return_exceptions=True)
    switch.before = None
    assert await call(provider) == "well"


async def test_a_clock_that_is_set_back_leaves_it_alone_no_longer(
    switch: Switch, clock: Clock
) -> None:
    provider = Breaking(switch, threshold=1, cool_down_s=60.0)
    switch.error = Unavailable("down")
    await fail(provider, 1)
    switch.error = None
    clock.now -= 3600.0
    with pytest.raises(Unavailable, match="left alone"):
        await call(provider)
    clock.now += 60.1
    assert await call(provider) == "well"


async def test_an_answer_in_between_begins_the_count_anew(switch: Switch) -> None:
    provider = Breaking(switch, threshold=2, cool_down_s=60.0)
    for _ in range(3):
        switch.error = Unavailable("down")
        await fail(provider, 1)
        switch.error = None
        assert await call(provider) == "well"


@pytest.mark.parametrize("error", [Rejected("no such option"), RateLimited("429")])
async def test_a_refused_request_says_nothing_of_the_provider(
    switch: Switch, error: ProviderError
) -> None:
    """Nor does one that comes too often: it is busy, and says itself when to come again."""
    provider = Breaking(switch, threshold=2, cool_down_s=60.0)
    switch.error = error
    await fail(provider, 5)
    switch.error = None
    assert await call(provider) == "well"


async def test_a_call_that_is_stopped_is_no_failure(switch: Switch) -> None:
    provider = Breaking(switch, threshold=1, cool_down_s=60.0)
    stream = provider.generate(REQUEST)
    await anext(stream)
    await stream.aclose()
    assert await call(provider) == "well"
    assert (provider.name, provider.model, provider.continues) == ("scripted", "m", True)
    assert await provider.models() == ("m",)
    await provider.aclose()


async def test_a_call_that_is_stopped_or_refused_does_not_hide_the_failures_around_it(
    switch: Switch, clock: Clock
) -> None:
    provider = Breaking(switch, threshold=2, cool_down_s=60.0)

    async def stop_and_be_refused() -> None:
        switch.error = None
        stream = provider.generate(REQUEST)
        await anext(stream)
        await stream.aclose()
        switch.error = Rejected("no such option")
        await fail(provider, 1)
        switch.error = Unavailable("down")

    await stop_and_be_refused()
    await fail(provider, 1)
    await stop_and_be_refused()
    await fail(provider, 1)
    with pytest.raises(Unavailable, match="left alone"):
        await call(provider)
    clock.now += 60.1
    await stop_and_be_refused()
    await fail(provider, 1)
    with pytest.raises(Unavailable, match="left alone"):
        await call(provider)
