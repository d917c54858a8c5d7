"""What every provider has to keep, as checks that the author of one runs (docs/PROVIDERS.md).

    @pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
    async def test_it_keeps(check):
        await check(lambda: MyProvider(settings))

``make`` gives a new provider whose backend works and answers any question with a word or more. A
check raises AssertionError with what was not kept, and closes what it made.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeAlias

from async_timeout import timeout

from .guard import Guarded
from .port import Chunk, GenerateRequest, Probe, Probing, Provider, ProviderError, Turn
from .settings import Limits, Timeouts

Make: TypeAlias = Callable[[], Provider]

PATIENCE_S = 60.0
"""How long anything may take, on a busy machine too."""
CLOSE_S = 5.0
"""How long ending a call may take; a node does not wait for longer."""
HELD_S = 1.0
"""How long the event loop may be held: then a leader is taken for dead."""

TICK_S = 0.001

QUESTION = GenerateRequest(
    turns=(Turn("user", "What is Paxos?"), Turn("assistant", "A protocol."), Turn("user", "Why?"))
)
_FINISH = ("stop", "length", "filtered")


async def says_what_it_is(make: Make) -> None:
    """It has a name of one word, a model or "", and says whether it continues."""
    async with aclosing(make()) as provider:
        assert isinstance(provider.name, str), "name is no string"
        assert provider.name, "name is empty"
        assert provider.name.split() == [provider.name], "name is not one word"
        assert isinstance(provider.model, str), "model is no string"
        assert isinstance(provider.continues, bool), "continues is neither True nor False"


async def ends_an_answer_with_its_reason(make: Make) -> None:
    """Text, then one last chunk with a finish reason; counts are not negative."""
    async with aclosing(make()) as provider:
        chunks = await _chunks(provider, QUESTION)
        assert "".join(chunk.text for chunk in chunks).strip(), "the answer has no text"
        _is_whole(chunks)
        assert chunks[-1].model, "the last chunk does not name the model that answered"


async def answers_several_at_once(make: Make) -> None:
    """Three calls at the same time each get a whole answer."""
    async with aclosing(make()) as provider:
        for chunks in await asyncio.gather(*(_chunks(provider, QUESTION) for _ in range(3))):
            _is_whole(chunks)


async def ends_a_call_that_is_closed(make: Make) -> None:
    """A generator that is closed after its first chunk ends at once; the next call is answered."""
    async with aclosing(make()) as provider:
        stream = provider.generate(QUESTION)
        async with timeout(PATIENCE_S):
            await anext(stream)
        await _in_time(stream.aclose(), "a closed call")
        _is_whole(await _chunks(provider, QUESTION))


async def ends_a_call_that_is_cancelled(make: Make) -> None:
    """A task that reads and is cancelled ends as cancelled; the next call is answered."""
    async with aclosing(make()) as provider:
        begun = asyncio.Event()

        async def read() -> None:
            async with aclosing(provider.generate(QUESTION)) as stream:
                async for _ in stream:
                    begun.set()
                    await asyncio.sleep(0)

        task = asyncio.create_task(read())
        await asyncio.wait({task, asyncio.create_task(begun.wait())}, timeout=PATIENCE_S)
        was_done = task.done()
        task.cancel()
        await asyncio.wait({task}, timeout=CLOSE_S)
        assert task.done(), f"a cancelled call does not end within {CLOSE_S:g} s"
        assert was_done or task.cancelled() or not task.exception(), "it hides its cancellation"
        _is_whole(await _chunks(provider, QUESTION))


async def leaves_the_event_loop_free(make: Make) -> None:
    """While it opens and answers, others run: consensus shares the event loop. A thread tells
    whether it was the machine that did not let them."""
    ended, begun = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    ticking = asyncio.create_task(_longest_pause_of_the_loop(ended))
    thread = asyncio.create_task(
        asyncio.to_thread(
            _longest_pause_of_a_thread, ended, lambda: loop.call_soon_threadsafe(begun.set)
        )
    )
    try:
        await begun.wait()
        async with aclosing(make()) as provider:
            await _chunks(provider, QUESTION)
    finally:
        ended.set()
        of_loop_s, of_thread_s = await asyncio.gather(ticking, thread)
    held_s = of_loop_s - of_thread_s
    assert held_s < HELD_S, f"it held the event loop for {held_s:.1f} s"


async def goes_on_behind_a_prefix(make: Make) -> None:
    """Where it continues, what it gives goes on behind the prefix, which it does not repeat."""
    async with aclosing(make()) as provider:
        if not provider.continues:
            return
        prefix = "Because a majority of the machines "
        request = GenerateRequest(turns=QUESTION.turns, prefix=prefix)
        chunks = await _chunks(provider, request)
        _is_whole(chunks)
        text = "".join(chunk.text for chunk in chunks)
        assert not text.startswith(prefix), "it repeats what the answer begins with"


async def lists_its_models(make: Make) -> None:
    """models() gives names."""
    async with aclosing(make()) as provider:
        async with timeout(PATIENCE_S):
            names = await provider.models()
        assert isinstance(names, tuple), "models() gives no tuple"
        assert all(isinstance(name, str) and name for name in names), "a model has no name"


async def can_be_looked_at(make: Make) -> None:
    """Where it is `Probing`, a look finds something of each model, known or not, in time."""
    async with aclosing(make()) as provider:
        if not isinstance(provider, Probing) or not provider.server:
            return
        assert provider.server.isprintable(), "server is not one line"
        names = (provider.model, "no-such-model")
        async with timeout(PATIENCE_S):
            found = await provider.probe(names)
        assert len(found) == len(names), "it does not say something of each model"
        assert all(isinstance(each, Probe) for each in found), "what it finds is no Probe"
        assert all(each.error.isprintable() for each in found), "an error is not one line"
        assert not found[0].error, "its own model cannot be asked"


async def can_be_closed_at_any_time(make: Make) -> None:
    """Before a call, twice, and during one, which ends with an error or whole; no task is left."""
    before = asyncio.all_tasks()
    unused = make()
    await _in_time(unused.aclose(), "closing what was not used")
    await _in_time(unused.aclose(), "closing it again")
    provider = Guarded(make(), Timeouts(), Limits(attempts=1))  # as nodes hold it
    stream = provider.generate(QUESTION)
    async with timeout(PATIENCE_S):
        chunks = [await anext(stream)]
    await _in_time(provider.aclose(), "closing it during a call")
    try:
        async with timeout(PATIENCE_S):
            chunks += await _rest(stream)
        _is_whole(chunks)
    except ProviderError:
        pass
    await stream.aclose()
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    if left:
        await asyncio.wait(left, timeout=CLOSE_S)
    assert all(task.done() for task in left), "it leaves a task behind"


CHECKS: tuple[Callable[[Make], Awaitable[None]], ...] = (
    says_what_it_is,
    ends_an_answer_with_its_reason,
    answers_several_at_once,
    ends_a_call_that_is_closed,
    ends_a_call_that_is_cancelled,
    leaves_the_event_loop_free,
    goes_on_behind_a_prefix,
    lists_its_models,
    can_be_looked_at,
    can_be_closed_at_any_time,
)


async def fails_in_words(make: Make, secret: str = "") -> None:
    """For a provider whose backend does not work: a ProviderError of one line that names the
    provider, and does not hold ``secret``. It needs another ``make``, so it is not in `CHECKS`."""
    async with aclosing(make()) as provider:
        try:
            await _chunks(provider, QUESTION)
        except ProviderError as error:
            text = str(error)
            assert text.startswith(provider.name), f"the error does not name it: {text}"
            assert text.isprintable(), "the error is not one line"
            assert not (secret and secret in text), "the error shows the key"
            assert not (secret and secret in repr(provider)), "its repr shows the key"
        else:
            raise AssertionError("a backend that does not work gave an answer")


async def _longest_pause_of_the_loop(ended: threading.Event) -> float:
    longest_s, last = 0.0, time.monotonic()
    while not ended.is_set():
        await asyncio.sleep(TICK_S)
        now = time.monotonic()
        longest_s, last = max(longest_s, now - last), now
    return longest_s


def _longest_pause_of_a_thread(ended: threading.Event, begin: Callable[[], object]) -> float:
    longest_s, last = 0.0, time.monotonic()
    begin()
    while not ended.wait(TICK_S):
        now = time.monotonic()
        longest_s, last = max(longest_s, now - last), now
    return longest_s


async def _chunks(provider: Provider, request: GenerateRequest) -> list[Chunk]:
    async with aclosing(provider.generate(request)) as stream, timeout(PATIENCE_S):
        return await _rest(stream)


async def _rest(stream: AsyncGenerator[Chunk, None]) -> list[Chunk]:
    return [chunk async for chunk in stream]


def _is_whole(chunks: list[Chunk]) -> None:
    assert chunks, "the answer has no chunk"
    assert chunks[-1].finish_reason in _FINISH, "the last chunk has no finish reason that is known"
    assert not any(chunk.finish_reason for chunk in chunks[:-1]), "it goes on behind its end"
    assert all(isinstance(chunk.text, str) for chunk in chunks), "a chunk's text is no string"
    counts = [count for chunk in chunks for count in (chunk.prompt_tokens, chunk.completion_tokens)]
    assert all(count is None or count >= 0 for count in counts), "a count is negative"


async def _in_time(work: Awaitable[None], what: str) -> None:
    try:
        async with timeout(CLOSE_S):
            await work
    except asyncio.TimeoutError:
        raise AssertionError(f"{what} takes longer than {CLOSE_S:g} s") from None
