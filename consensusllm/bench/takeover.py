"""Whether a reader gets the whole answer when the node that writes it is killed, and how soon.

Scripted models write the same text on every node. A reader at another node follows it; at a random
moment the writing node is killed with kill -9. What is read must go on where the checkpoint ends,
with nothing lost and nothing repeated, and be the whole text in the end. The pause is the longest
time without a character of that answer from the kill on.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import aclosing
from itertools import pairwise

from async_timeout import timeout

from consensusllm.client import CandidateDone, Client, Delta, Takeover, WatchEvent

from .figures import percentile
from .ours import Ours
from .processes import BenchError
from .system import NODES, Say

SEED = 1
WORDS = 120
WORDS_PER_SECOND = 50.0
TEXT = " ".join(f"word-{number}" for number in range(WORDS))
WITHIN_S = 120.0


def prepare(system: Ours) -> None:
    """Configure a system that is not started yet: models that all write `TEXT`."""
    system.script = {"tokens_per_second": WORDS_PER_SECOND, "texts": [TEXT]}


async def measure(system: Ours, kills: int, say: Say) -> dict[str, float]:
    """``whole`` of ``kills`` answers, and the pauses' median and maximum in ms. Raises BenchError
    where a character is lost or repeated."""
    dice = random.Random(SEED)
    pauses_s: list[float] = []
    whole = 0
    for number in range(kills):
        victim = NODES[number % len(NODES)]
        seconds = dice.uniform(0.0, 0.9) * WORDS / WORDS_PER_SECOND
        async with system.client(first=NODES[(number + 1) % len(NODES)]) as client:
            reading = Reading(f"takeover-{number}", victim)
            task = asyncio.create_task(reading.run(client))
            try:
                async with timeout(WITHIN_S):
                    await reading.begun.wait()
                await asyncio.sleep(seconds)
                killed_at = time.perf_counter()
                await system.kill(victim)
                async with timeout(WITHIN_S):
                    whole += await task == TEXT
            except asyncio.TimeoutError:
                raise BenchError(f"an answer was not whole within {WITHIN_S:g} s") from None
            finally:
                task.cancel()
                if f"node-{victim}" not in system.processes:
                    await system.restart(victim)
        pauses_s.append(reading.pause_s(killed_at))
        say(f"{whole} of {number + 1} answers whole, pause {pauses_s[-1] * 1e3:.0f} ms")
    return {
        "whole": whole,
        "not_whole": kills - whole,
        "pause_p50_ms": percentile(pauses_s, 50) * 1e3,
        "pause_max_ms": max(pauses_s) * 1e3,
    }


class Reading:
    """Reads the candidate that ``victim`` writes, and keeps what a person would have on screen."""

    def __init__(self, conversation: str, victim: int) -> None:
        self._conversation = conversation
        self._victim = victim
        self._candidate = 0
        self._text = ""
        self._times_s: list[float] = []
        self.begun = asyncio.Event()

    async def run(self, client: Client) -> str:
        """The whole text, when the turn has closed."""
        await client.create(self._conversation)
        events = client.stream(self._conversation, "Say much.", timeout_s=WITHIN_S)
        async with aclosing(events):
            async for event in events:
                self.take(event, time.perf_counter())
        return self._text

    def take(self, event: WatchEvent, now: float) -> None:
        """What has come, at ``now``. Raises BenchError where text is lost or repeated."""
        if isinstance(event, Delta):
            if not self._candidate and event.node == self._victim:
                self._candidate = event.candidate
                self.begun.set()
            if event.candidate == self._candidate:
                if event.offset != len(self._text):
                    end = len(self._text)
                    raise BenchError(f"text came at character {event.offset} that ends at {end}")
                self._text += event.text
                self._times_s.append(now)
        elif isinstance(event, Takeover) and event.candidate == self._candidate:
            self._text = self._text[: event.offset]
        elif (
            isinstance(event, CandidateDone)
            and event.candidate.number == self._candidate
            and event.candidate.text != self._text
        ):
            raise BenchError("what was read is not what was recorded")

    def pause_s(self, since: float) -> float:
        """The longest time without text that ended after ``since``."""
        moments = [since, *self._times_s]
        gaps = [late - max(early, since) for early, late in pairwise(moments) if late > since]
        return max(gaps, default=0.0)
