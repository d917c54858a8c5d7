"""How far long work is, in words and as a bar."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from consensusllm.client import Status
    from consensusllm.wire.generated import client_pb2

Tell = Callable[[int, int, str], None]
"""``tell(done, total, what)``"""
QUIET_S = 5.0
"""Without a terminal, work that takes long says this often how far it is."""
BEHIND_LEAST = 100
"""Fewer slots than this are on their way anyhow."""
TAKING = "taking a snapshot"
_MIB = 1 << 20


def working(status: Status | client_pb2.Status) -> list[str]:
    """What a node is busy with: no, one or several lines."""
    found = []
    progress = status.progress
    behind = progress.known_slot - status.applied_slot
    if progress.bytes:
        found.append(
            f"receiving a snapshot: {progress.bytes_received / _MIB:.1f} of "
            f"{progress.bytes / _MIB:.1f} MiB"
        )
    if behind >= BEHIND_LEAST:
        found.append(f"catching up: {behind:,} slots behind {progress.known_slot:,}")
    if progress.records:
        found.append(f"{TAKING}: {progress.records_encoded:,} of {progress.records:,} records")
    return found


@contextlib.contextmanager
def shown(stream: TextIO, *, terminal: bool, each: bool) -> Iterator[Tell]:
    """A bar on a terminal, and plain lines anywhere else: one for all that is done where ``each``
    is set, and one every `QUIET_S`."""
    if not terminal:
        last, told_at = 0, time.monotonic()

        def line(done: int, total: int, what: str) -> None:
            nonlocal last, told_at
            if (each and done != last) or time.monotonic() - told_at >= QUIET_S:
                last, told_at = done, time.monotonic()
                print(f"[{done}/{total}] {what}", file=stream, flush=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    console = Console(file=stream, force_terminal=True)
    with Progress(*columns, console=console, refresh_per_second=2, transient=True) as bars:
        task = bars.add_task("", total=None)

        def bar(done: int, total: int, what: str) -> None:
            bars.update(task, completed=done, total=total, description=what)

        yield bar
