"""A call's chunks: in order, gathered while nobody reads, bounded, and ended when told so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from consensusllm.llm import stream as stream_module
from consensusllm.llm.port import Chunk, Unavailable
from consensusllm.llm.stream import Stream

PATIENCE_S = 30.0


class Source:
    """Gives what it is fed, one at a time, and knows how much was taken."""

    def __init__(self) -> None:
        self.steps: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue()
        self.given = 0
        self.closed = asyncio.Event()

    def feed(self, *steps: Chunk | Exception | None) -> None:
        for step in steps:
            self.steps.put_nowait(step)

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        try:
            while (step := await self.steps.get()) is not None:
                if isinstance(step, Exception):
                    raise step
                self.given += 1
                yield step
        finally:
            self.closed.set()


def words(*texts: str) -> list[Chunk]:
    return [Chunk(text, model="m") for text in texts]


async def settled() -> None:
    """Until everything that can go on has done so."""
    for _ in range(600):
        await asyncio.sleep(0)


async def test_what_has_gathered_is_read_as_one_chunk_and_what_comes_later_as_another() -> None:
    source = Source()
    stream = Stream(source.chunks())
    source.feed(*words("a ", "quorum "))
    await settled()
    assert await stream.read(PATIENCE_S) == Chunk("a quorum ", model="m")
    reading = asyncio.create_task(stream.read(PATIENCE_S))
    await settled()
    assert not reading.done()
    source.feed(*words("meets"))
    assert (await reading) == Chunk("meets", model="m")
    source.feed(Chunk("", "stop", "", 7, 3))
    assert await stream.read(PATIENCE_S) == Chunk("", "stop", "", 7, 3)
    await source.closed.wait()


async def test_the_end_that_is_read_with_text_before_it_keeps_its_model_and_usage() -> None:
    source = Source()
    stream = Stream(source.chunks())
    source.feed(*words("a ", "b"), Chunk("", "length", "", 7, 2))
    await settled()
    assert await stream.read(PATIENCE_S) == Chunk("a b", "length", "m", 7, 2)


async def test_an_error_comes_after_the_text_that_came_before_it() -> None:
    source = Source()
    stream = Stream(source.chunks())
    source.feed(*words("half"), Unavailable("cut"))
    await settled()
    assert (await stream.read(PATIENCE_S)) == Chunk("half", model="m")
    with pytest.raises(Unavailable, match="cut"):
        await stream.read(PATIENCE_S)


async def test_a_stream_that_stops_ends_in_none() -> None:
    source = Source()
    stream = Stream(source.chunks())
    source.feed(None)
    assert await stream.read(PATIENCE_S) is None


async def test_the_provider_waits_for_a_reader_that_is_far_behind() -> None:
    source = Source()
    stream = Stream(source.chunks())
    source.feed(*words(*["x"] * (3 * stream_module.AHEAD)))
    await settled()
    assert source.given == stream_module.AHEAD
    total = 0
    while total < 3 * stream_module.AHEAD:
        chunk = await stream.read(PATIENCE_S)
        assert chunk is not None
        assert len(chunk.text) <= stream_module.AHEAD
        total += len(chunk.text)
    stream.close()
    await source.closed.wait()


async def test_silence_is_a_timeout_and_the_stream_goes_on() -> None:
    source = Source()
    stream = Stream(source.chunks())
    with pytest.raises(asyncio.TimeoutError):
        await stream.read(0.0)
    source.feed(*words("late"))
    assert await stream.read(PATIENCE_S) == Chunk("late", model="m")
    stream.close()
    await asyncio.wait({stream.task})
    assert await stream.read(PATIENCE_S) is None
    assert source.closed.is_set()


async def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    source = Source()
    stream = Stream(source.chunks())
    reading = asyncio.create_task(stream.read(PATIENCE_S))
    await settled()
    reading.cancel()
    await asyncio.wait({reading})
    source.feed(*words("still here"))
    assert await stream.read(PATIENCE_S) == Chunk("still here", model="m")
    stream.close()
