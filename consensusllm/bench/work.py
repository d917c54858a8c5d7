"""Owns what the loops do, so that every system is given exactly the same: keys, values, and the
closed loop itself.

A closed loop of N outstanding is N workers, each of which begins its next call when its last one
has ended.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

KEYS = 1_000
VALUE_BYTES = 256
_FILLING = bytes(range(32, 127)) * 3


def key(number: int) -> str:
    """The key of the ``number``-th put or read."""
    return f"bench/{number % KEYS:04d}"


def value(number: int) -> bytes:
    """The value of the ``number``-th put."""
    return (b"%08d" % number + _FILLING)[:VALUE_BYTES]


@dataclass(frozen=True, slots=True)
class Work:
    """``kind`` is put, get or turn. It ends after ``count`` calls; where that is 0, after
    ``seconds``, before which ``warm_s`` are not measured. ``connections`` 0: all calls share one.
    """

    kind: str
    outstanding: int
    connections: int = 0
    warm_s: float = 0.0
    seconds: float = 0.0
    count: int = 0

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def numbers(self) -> Iterator[int]:
        """The numbers of its calls, shared by all workers."""
        return iter(range(self.count)) if self.count else itertools.count()


class Measured:
    """The calls of a loop that begins now: what ended after the warming up, and when."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._begin = time.perf_counter() + work.warm_s
        self.end = math.inf if work.count else self._begin + work.seconds
        self._operations = 0
        self._ended: list[tuple[float, float]] = []

    def add(self, before: float, now: float) -> None:
        """A call that lasted from ``before`` to ``now``, by `time.perf_counter`."""
        self._operations += 1
        if now > self._begin:
            self._ended.append((now, now - before))

    def timings(self) -> Timings:
        """What ended in time; where nothing did, as calls take that long, what ended at last."""
        end = self.end
        if not self._ended or end < self._ended[0][0] or self._work.count:
            end = max((now for now, _ in self._ended), default=self._begin)
        latencies_s = [latency_s for now, latency_s in self._ended if now <= end]
        return Timings(latencies_s, end - self._begin, self._operations)


@dataclass(frozen=True, slots=True)
class Timings:
    """``latencies_s`` of the calls that ended within the ``elapsed_s`` that were measured;
    ``operations`` counts all that were done, the warming up included."""

    latencies_s: list[float]
    elapsed_s: float
    operations: int


async def closed_loop(operation: Callable[[int, int], Awaitable[None]], work: Work) -> Timings:
    """Run ``operation(worker, number)`` as ``work`` says. What it raises ends the loop."""
    clock = time.perf_counter
    numbers = work.numbers()
    measured = Measured(work)

    async def run(worker: int) -> None:
        now = clock()
        for number in numbers:
            before = now
            await operation(worker, number)
            now = clock()
            measured.add(before, now)
            if now >= measured.end:
                return

    tasks = [asyncio.ensure_future(run(worker)) for worker in range(work.outstanding)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return measured.timings()
