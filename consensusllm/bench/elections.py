"""Whether a loaded machine makes the nodes think that their leader is dead.

Writes in a closed loop, and a process beside the cluster for each core that does nothing but
compute. No node fails meanwhile, so each election that a node begins is one too many.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from .ours import Ours
from .system import Say
from .work import Work

OUTSTANDING = 256
SAY_S = 10.0


async def measure(system: Ours, minutes: float, say: Say) -> dict[str, float]:
    before = await system.elections()
    for core in range(os.cpu_count() or 1):
        await system.children.start(f"busy-{core}", [sys.executable, "-c", "while True: pass"])
    seconds = minutes * 60
    begin = time.monotonic()
    loop = asyncio.ensure_future(system.closed_loop(Work("put", OUTSTANDING, seconds=seconds)))
    try:
        while not loop.done():
            await asyncio.wait([loop], timeout=SAY_S)
            said = time.monotonic() - begin
            say(f"{said / 60:.1f} of {minutes:g} minutes")
        timings = loop.result()
    finally:
        loop.cancel()
        for core in range(os.cpu_count() or 1):
            await system.children.kill(f"busy-{core}")
    return {
        "elections": await system.elections() - before,
        "minutes": minutes,
        "per_second": len(timings.latencies_s) / timings.elapsed_s,
    }
