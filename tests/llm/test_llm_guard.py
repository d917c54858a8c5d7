"""The guard: retries before the first text only, time, concurrency, unknown exceptions, closing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest

from consensusllm.llm.guard import OTHERS_WAIT_S, Guarded
from consensusllm.llm.port import (
    Chunk,
    GenerateRequest,
    Malformed,
    ProviderError,
    RateLimited,
    Rejected,
    TimedOut,
    Turn,
    Unavailable,
)
from consensusllm.llm.settings import Limits, Timeouts
from tests.client.asked import until

REQUEST = GenerateRequest((Turn("user", "?"),))
END = Chunk(finish_reason="stop")
HANG = object()
QUICK = Limits(attempts=3, backoff_initial_s=0.001, backoff_max_s=0.001)


class Play:
    """Each call plays the next of ``scenes``: chunks, exceptions to raise, HANG."""

    name = "play"
    model = "m"
    continues = False

    def __init__(self, *scenes: Sequence[object]) -> None:
        self.scenes = list(scenes)
        self.calls = 0
        self.running = 0
        self.begun = asyncio.Event()
        self.running_max = 0
        self.closed = 0

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        scene = self.scenes[min(self.calls, len(self.scenes) - 1)]
        self.calls += 1
        self.running += 1
        self.begun.set()
        self.running_max = max(self.running_max, self.running)
        try:
            for step in scene:
                await asyncio.sleep(0)
                if step is HANG:
                    await asyncio.get_running_loop().create_future()
                if isinstance(step, BaseException):
                    raise step
                assert isinstance(step, Chunk)
                yield step
        finally:
            self.running -= 1
            self.closed += 1

    async def models(self) -> tuple[str, ...]:
        await asyncio.get_running_loop().create_future()
        return ()

    async def aclose(self) -> None:
        """Nothing to close."""


async def text_of(
    provider: Guarded,
    seen: Callable[[str], None] = lambda text: None,
    request: GenerateRequest = REQUEST,
) -> str:
    text = ""
    async with aclosing(provider.generate(request)) as chunks:
        async for chunk in chunks:
            seen(chunk.text)
            text += chunk.text
    return text


@pytest.mark.parametrize("error", [Unavailable("x"), TimedOut("x"), RateLimited("x")])
async def test_a_retryable_error_before_the_first_text_is_tried_again(error):
    play = Play([error], [Chunk(), error], [Chunk("a"), END])
    assert await text_of(Guarded(play, Timeouts(), QUICK)) == "a"
    assert (play.calls, play.closed) == (3, 3)


async def test_who_was_heard_but_came_to_no_text_is_not_asked_again():
    times = Timeouts(first_token_s=0.2)
    thinking = Play([Chunk(), HANG])
    with pytest.raises(TimedOut, match="did not send text in time"):
        await text_of(Guarded(thinking, times, QUICK))
    assert thinking.calls == 1, "each time would be paid for"
    silent = Play([HANG])
    with pytest.raises(TimedOut):
        await text_of(Guarded(silent, times, QUICK))
    assert silent.calls == 3


async def test_silence_is_not_waited_for_again_where_somebody_else_can_be_asked() -> None:
    times = Timeouts(first_token_s=0.2)
    request = replace(REQUEST, others=True)
    silent = Play([HANG])
    with pytest.raises(TimedOut):
        await text_of(Guarded(silent, times, QUICK), request=request)
    assert silent.calls == 1
    busy = Play([Unavailable("x")], [Chunk("a"), END])
    assert await text_of(Guarded(busy, Timeouts(), QUICK), request=request) == "a"
    limited = Play([RateLimited("x", retry_after_s=OTHERS_WAIT_S + 1)], [Chunk("a"), END])
    with pytest.raises(RateLimited):
        await text_of(Guarded(limited, Timeouts(), QUICK), request=request)
    assert limited.calls == 1


async def test_thoughts_between_two_texts_are_no_silence():
    pieces = [Chunk("a"), Chunk(), Chunk(), Chunk("b"), END]
    seen: list[str] = []
    assert await text_of(Guarded(Play(pieces), Timeouts(), QUICK), seen.append) == "ab"
    assert "" not in seen[:-1], "and no piece to a reader"


@pytest.mark.parametrize("blanks", [["\n\n"], [" ", "\n", "\t "]])
async def test_blanks_alone_are_no_answer(blanks):
    play = Play([*map(Chunk, blanks), replace(END, completion_tokens=2)])
    with pytest.raises(Malformed, match="gave an empty answer") as caught:
        await text_of(Guarded(play, Timeouts(), QUICK))
    assert caught.value.ended is not None
    assert caught.value.ended.completion_tokens == 2


async def test_blanks_before_and_within_an_answer_are_part_of_it():
    play = Play([Chunk("\n"), Chunk("  a"), Chunk(" "), Chunk("b"), Chunk("\n"), END])
    assert await text_of(Guarded(play, Timeouts(), QUICK)) == "\n  a b\n"


async def test_blanks_without_end_are_over_the_bound():
    play = Play([Chunk(" ")] * 1000)
    with pytest.raises(Malformed, match="the answer is over 100 bytes"):
        await text_of(Guarded(play, Timeouts(), replace(QUICK, max_answer_bytes=100)))


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "7", 1 << 63])
async def test_a_count_that_is_none_is_not_known(wrong):
    end = Chunk(finish_reason="stop", prompt_tokens=wrong, completion_tokens=7)
    guarded = Guarded(Play([Chunk("a"), end]), Timeouts(), QUICK)
    async with aclosing(guarded.generate(REQUEST)) as chunks:
        counts = [(each.prompt_tokens, each.completion_tokens) async for each in chunks]
    assert counts[-1] == (None, 7)


async def test_half_a_surrogate_pair_reaches_nobody():
    play = Play(
        [Chunk("a\ud800b", model="m\udfff"), Chunk("\ud83d"), Chunk("\ude00", "stop")],
        [Rejected("no \ud800")],
    )
    guarded = Guarded(play, Timeouts(), QUICK)
    async with aclosing(guarded.generate(REQUEST)) as chunks:
        found = [chunk async for chunk in chunks]
    assert "".join(chunk.text for chunk in found).startswith("a?b")
    for said in (*(chunk.text for chunk in found), *(chunk.model for chunk in found)):
        said.encode()
    with pytest.raises(Rejected, match=r"no \?"):
        await text_of(guarded)


async def test_a_chunk_without_text_is_told_as_an_error():
    with pytest.raises(Malformed, match="failed unexpectedly"):
        await text_of(Guarded(Play([Chunk(None)]), Timeouts(), QUICK))


async def test_tries_are_bounded_and_the_last_error_comes_out():
    play = Play([Unavailable("one")], [Unavailable("two")], [RateLimited("three")])
    with pytest.raises(RateLimited, match="three"):
        await text_of(Guarded(play, Timeouts(), QUICK))
    assert play.calls == 3


@pytest.mark.parametrize("error", [Rejected("x"), Malformed("x"), ZeroDivisionError("secret")])
async def test_an_error_that_would_come_again_is_not_tried_again(error):
    play = Play([error], [Chunk("a"), END])
    expected = type(error) if isinstance(error, ProviderError) else Malformed
    with pytest.raises(expected) as caught:
        await text_of(Guarded(play, Timeouts(), QUICK))
    assert play.calls == 1
    assert "secret" not in str(caught.value)


async def test_after_the_first_text_nothing_is_tried_again():
    play = Play([Chunk("a"), Unavailable("cut")], [Chunk("a"), Chunk("b"), END])
    seen: list[str] = []
    with pytest.raises(Unavailable):
        await text_of(Guarded(play, Timeouts(), QUICK), seen.append)
    assert (play.calls, seen) == (1, ["a"])


async def test_a_stream_that_merely_stops_is_unavailable():
    with pytest.raises(Unavailable, match="cut off"):
        await text_of(Guarded(Play([Chunk("a")]), Timeouts(), QUICK))


@pytest.mark.parametrize(
    ("finish", "kind"), [("stop", Malformed), ("length", Rejected), ("filtered", Rejected)]
)
async def test_an_answer_without_a_word_is_an_error(finish, kind):
    with pytest.raises(kind):
        await text_of(Guarded(Play([Chunk(finish_reason=finish)]), Timeouts(), QUICK))


async def test_an_answer_that_was_whole_already_may_add_no_word():
    play = Play([Chunk(finish_reason="stop")])
    play.continues = True
    guarded = Guarded(play, Timeouts(), QUICK)
    assert guarded.continues
    request = replace(REQUEST, prefix="all of it")
    chunks = [chunk async for chunk in guarded.generate(request)]
    assert [(each.text, each.finish_reason) for each in chunks] == [("", "stop")]


async def test_retry_after_is_waited_for_and_not_beyond_the_cap(monkeypatch):
    waits: list[float] = []

    async def sleep(delay_s: float) -> None:
        waits.append(delay_s)

    async def hold(self: Guarded, most_s: float) -> None:
        """No time has passed here."""

    monkeypatch.setattr("stamina._core._smart_sleep", sleep)
    monkeypatch.setattr(Guarded, "_hold", hold)
    play = Play([RateLimited("x", retry_after_s=29.0)], [Chunk("a"), END])
    assert await text_of(Guarded(play, Timeouts(), QUICK)) == "a"
    assert len(waits) == 1
    assert 29.0 <= waits[0] <= 1.25 * 29.0, "not at once with all who were told the same"
    play = Play([RateLimited("x", retry_after_s=31.0)], [Chunk("a"), END])
    with pytest.raises(RateLimited):
        await text_of(Guarded(play, Timeouts(), QUICK))
    assert (play.calls, len(waits)) == (1, 1)
    play = Play([RateLimited("x", retry_after_s=29.0)], [Chunk("a"), END])
    with pytest.raises(RateLimited):
        await text_of(Guarded(play, Timeouts(total_s=10), QUICK))
    assert play.calls == 1


async def test_no_call_begins_before_the_time_that_any_was_told() -> None:
    early: list[bool] = []

    class Limited(Play):
        async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
            early.append(asyncio.get_running_loop().time() < guarded._ask_from)
            async for chunk in super().generate(request):
                yield chunk

    told = [[RateLimited("x", retry_after_s=wait_s)] for wait_s in (0.1, 0.2)]
    guarded = Guarded(Limited(*told, [Chunk("a"), END]), Timeouts(), QUICK)
    first = [asyncio.ensure_future(text_of(guarded)) for _ in range(2)]
    await until(lambda: guarded._ask_from > 0)
    later = [asyncio.ensure_future(text_of(guarded)) for _ in range(2)]
    assert await asyncio.gather(*first, *later) == ["a"] * 4
    assert early == [False] * 6


async def test_what_is_not_to_be_asked_for_long_is_refused_at_once_where_somebody_else_can_be() -> (
    None
):
    play = Play([Chunk("a"), END])
    guarded = Guarded(play, Timeouts(), QUICK)
    guarded._ask_from = asyncio.get_running_loop().time() + 20.0
    request = replace(REQUEST, others=True)
    with pytest.raises(RateLimited, match="play: it is not to be asked for"):
        await text_of(guarded, request=request)
    assert play.calls == 0


@pytest.mark.parametrize(
    ("scene", "timeouts"),
    [
        ([HANG], Timeouts(first_token_s=0.05)),
        ([Chunk(), HANG], Timeouts(first_token_s=0.05)),
        ([Chunk("a"), HANG], Timeouts(idle_s=0.05)),
        ([Chunk("a"), HANG], Timeouts(total_s=0.05)),
    ],
)
async def test_silence_is_timed_out_and_the_call_is_ended(scene, timeouts):
    play = Play(scene)
    with pytest.raises(TimedOut):
        await text_of(Guarded(play, timeouts, Limits(attempts=1)))
    assert play.closed == 1


async def test_the_total_time_holds_over_all_tries():
    play = Play([HANG])
    limits = Limits(attempts=50, backoff_initial_s=0.001, backoff_max_s=0.001)
    with pytest.raises(TimedOut):
        await text_of(Guarded(play, Timeouts(first_token_s=0.05, total_s=0.2), limits))
    assert 1 < play.calls < 20


async def test_calls_beyond_the_bound_wait_for_a_place():
    play = Play([Chunk("a"), END])
    provider = Guarded(play, Timeouts(), Limits(concurrency=2))
    assert await asyncio.gather(*(text_of(provider) for _ in range(7))) == ["a"] * 7
    assert (play.calls, play.running_max) == (7, 2)


async def test_a_backend_that_answers_one_at_a_time_is_asked_so() -> None:
    class Single(Play):
        places = 1

    play = Single([Chunk("a"), END])
    provider = Guarded(play, Timeouts(), Limits(concurrency=12))
    assert await asyncio.gather(*(text_of(provider) for _ in range(12))) == ["a"] * 12
    assert (play.calls, play.running_max) == (12, 1)


async def test_cancelling_during_a_try_ends_the_call_and_is_not_swallowed():
    play = Play([HANG])
    provider = Guarded(play, Timeouts(), Limits(concurrency=1))
    task = asyncio.create_task(text_of(provider))
    await asyncio.wait_for(play.begun.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (play.calls, play.closed) == (1, 1)
    play.scenes = [[Chunk("a"), END]]
    assert await text_of(provider) == "a"  # its place was given back


async def test_a_provider_that_cannot_be_stopped_is_left_behind(monkeypatch):
    monkeypatch.setattr("consensusllm.llm.guard.CLOSE_TIMEOUT_S", 0.05)
    release = asyncio.Event()

    class Stubborn(Play):
        async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    self.calls += 1
            yield END

    stubborn = Stubborn()
    with pytest.raises(TimedOut):
        await text_of(Guarded(stubborn, Timeouts(first_token_s=0.05), Limits(attempts=1)))
    release.set()
    assert stubborn.calls == 1


async def test_closing_ends_calls_and_refuses_new_ones():
    play = Play([HANG])
    provider = Guarded(play, Timeouts(), QUICK)
    tasks = [asyncio.create_task(text_of(provider)), asyncio.create_task(provider.models())]
    await asyncio.wait_for(play.begun.wait(), 10)
    await provider.aclose()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, Unavailable)
    assert play.running == 0
    with pytest.raises(Unavailable, match="closed"):
        await text_of(provider)
    assert play.calls == 1
    assert len(asyncio.all_tasks()) == 1


async def test_listing_models_has_a_time_too():
    with pytest.raises(TimedOut):
        await Guarded(Play(), Timeouts(first_token_s=0.05), QUICK).models()
