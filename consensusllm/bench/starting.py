"""How long a person waits for the program: its help, and a whole cluster that has a leader."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from async_timeout import timeout

from .processes import BenchError, free_ports, last_line

NODES = 3
READY_S = 60.0
STOP_S = 20.0


async def measure(program: Sequence[str], directory: Path, count: int) -> dict[str, float]:
    """The medians of ``count`` starts of each, in milliseconds."""
    helps = [await _help_ms(program) for _ in range(count)]
    readies = [await _ready_ms(program, directory / f"up-{number}") for number in range(count)]
    return {"help_ms": statistics.median(helps), "ready_ms": statistics.median(readies)}


async def _help_ms(program: Sequence[str]) -> float:
    before = time.perf_counter()
    child = await asyncio.create_subprocess_exec(
        *program, "--help", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    if await child.wait() != 0:
        raise BenchError("`consensusllm --help` failed: run it by hand to see why")
    return (time.perf_counter() - before) * 1e3


async def _ready_ms(program: Sequence[str], directory: Path) -> float:
    """A new cluster each time; its launcher is told to end, and ends its children."""
    os.makedirs(directory)
    log_path = directory / "up.log"
    command = ["up", "--nodes", str(NODES), "--data-dir", str(directory / "data")]
    [base_port] = free_ports(1, in_a_row=NODES + 1)
    with log_path.open("wb") as log:
        before = time.perf_counter()
        child = await asyncio.create_subprocess_exec(
            *program,
            *command,
            *("--base-port", str(base_port)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    assert child.stdout is not None
    try:
        async with timeout(READY_S):
            line = await child.stdout.readline()
        took_ms = (time.perf_counter() - before) * 1e3
    except asyncio.TimeoutError:
        raise BenchError(f"`consensusllm up`: no leader within {READY_S:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        try:
            async with timeout(STOP_S):
                await child.wait()
        except asyncio.TimeoutError:
            child.kill()
            await child.wait()
    if not line.startswith(b"ready:"):
        raise BenchError(f"`consensusllm up` did not start: {last_line(log_path)}")
    return took_ms
