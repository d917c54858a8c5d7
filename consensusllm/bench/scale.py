"""Whether choose and view stay as quick with many long conversations as with few.

The turns are made as users make them: a query, which scripted models answer. They are left without
a choice, so that each choice that is measured is the first of its turn. The few conversations are
made again until there are as many measurements of them as of the many; making them is not measured.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator

from consensusllm.client import Client

from .figures import percentile
from .ours import Ours
from .system import Say

BUILDERS = 128
OUTSTANDING = 16
SAMPLES = 2_000
BUILD_S = 600.0
SAY_S = 1.0


def prepare(system: Ours) -> None:
    """Configure a system that is not started yet: answers that come at once, many at a time."""
    system.script = {"texts": ["An answer of node {node} to: {question}"]}
    system.concurrency = BUILDERS


async def measure(system: Ours, many: int, few: int, turns: int, say: Say) -> dict[str, float]:
    """The p50 and p99 of each call, in microseconds; those of the few begin with ``few_``."""
    dice = random.Random(1)
    [client] = await system.connect(1)
    try:
        figures: dict[str, float] = {}
        samples = min(SAMPLES, many * turns)
        chosen: list[float] = []
        viewed: list[float] = []
        for number in range(-(-samples // (few * turns))):
            names = [f"few-{number}-{each}" for each in range(few)]
            await _build(client, names, turns, lambda what: None)
            await _measure(client, _pick(dice, names, turns, samples), chosen, viewed)
            await asyncio.gather(*(client.delete(name) for name in names))
            say(f"{len(chosen):,} choices among {few}")
        figures |= _figures("few_choose", chosen) | _figures("few_view", viewed)
        names = [f"many-{each}" for each in range(many)]
        before = time.perf_counter()
        await _build(client, names, turns, say)
        figures["turns_per_second"] = many * turns / (time.perf_counter() - before)
        chosen, viewed = [], []
        await _measure(client, _pick(dice, names, turns, samples), chosen, viewed)
        return figures | _figures("choose", chosen) | _figures("view", viewed)
    finally:
        await client.close()


async def _build(client: Client, names: list[str], turns: int, say: Say) -> None:
    """Make the conversations, many at once."""
    waiting = iter(names)
    built = 0
    told = time.monotonic()

    async def build() -> None:
        nonlocal built, told
        for name in waiting:
            await client.create(name, timeout_s=BUILD_S)
            for turn in range(turns):
                await client.query(name, f"Question {turn} of {name}?", timeout_s=BUILD_S)
            built += 1
            if time.monotonic() - told >= SAY_S:
                told = time.monotonic()
                say(f"{built:,} of {len(names):,} conversations made")

    await asyncio.gather(*(build() for _ in range(min(BUILDERS, len(names)))))


def _pick(
    dice: random.Random, names: list[str], turns: int, samples: int
) -> Iterator[tuple[str, int]]:
    """Turns of the conversations, each at most once, at random."""
    every = len(names) * turns
    for place in dice.sample(range(every), min(samples, every)):
        yield names[place // turns], place % turns + 1


async def _measure(
    client: Client, picked: Iterator[tuple[str, int]], chosen: list[float], viewed: list[float]
) -> None:
    """Choose and view in a closed loop; the times go to the lists, in seconds."""

    async def run() -> None:
        for name, turn in picked:
            begin = time.perf_counter()
            await client.choose(name, 1, turn=turn)
            middle = time.perf_counter()
            await client.view(name)
            chosen.append(middle - begin)
            viewed.append(time.perf_counter() - middle)

    await asyncio.gather(*(run() for _ in range(OUTSTANDING)))


def _figures(name: str, times_s: list[float]) -> dict[str, float]:
    return {f"{name}_p{each}_us": percentile(times_s, each) * 1e6 for each in (50, 99)}
