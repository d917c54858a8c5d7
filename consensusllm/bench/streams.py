"""Whether people who read answers as they are written slow down everybody else.

The readers are a process of their own (`readers`), as they are elsewhere; their streams take turns
for as long as is measured. The put is one client's, one at a time, idle and then beside them.
"""

from __future__ import annotations

import asyncio
import json
import sys

from async_timeout import timeout

from .figures import percentile
from .ours import Ours
from .processes import BenchError
from .system import Say
from .work import Timings, Work

SECONDS_LEAST = 5.0
"""What a p99 needs at some hundred puts a second."""
READY_S = 120.0
WORDS = 3_000


def prepare(system: Ours, streams: int, tokens_per_second: float) -> None:
    """Configure a system that is not started yet: models that speak that fast, and for long."""
    system.script = {"tokens_per_second": tokens_per_second, "texts": [" ".join(["word"] * WORDS)]}
    system.concurrency = 2 * streams


async def measure(system: Ours, streams: int, seconds: float, say: Say) -> dict[str, float]:
    work = Work("put", 1, warm_s=0.5, seconds=max(seconds, SECONDS_LEAST))
    idle = await system.closed_loop(work)
    elections = await system.elections()
    arguments = [sys.executable, "-m", f"{__package__}.readers", str(streams), *system.addresses]
    readers = await system.children.start("readers", arguments, talks=True)

    async def told(else_: str) -> bytes:
        """The readers' next line; ``else_`` is what to say where none comes."""
        assert readers.stdout is not None
        try:
            async with timeout(READY_S):
                line = await readers.stdout.readline()
        except asyncio.TimeoutError:
            raise BenchError(f"{else_} within {READY_S:g} s") from None
        if not line:
            raise BenchError(f"the readers ended: {system.children.last_words('readers')}")
        return line

    try:
        await told(f"not all {streams} streams began")
        say(f"{streams} streams flow")
        system.children.say("readers", b"count")
        busy = await system.closed_loop(work)
        system.children.say("readers", b"count")
        counted = json.loads(await told("the readers did not say what they had read"))
    finally:
        await system.children.kill("readers")
    return {
        **_figures("idle_", idle),
        **_figures("", busy),
        "words_per_second": counted["words_per_second"],
        "elections": await system.elections() - elections,
    }


def _figures(prefix: str, timings: Timings) -> dict[str, float]:
    if not timings.latencies_s:
        raise BenchError("no put ended while it was measured")
    return {
        f"{prefix}p50_us": percentile(timings.latencies_s, 50) * 1e6,
        f"{prefix}p99_us": percentile(timings.latencies_s, 99) * 1e6,
    }
