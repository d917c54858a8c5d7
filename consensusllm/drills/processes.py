"""Owns the finding of processes by their parent, as kill -9 and SIGSTOP need their numbers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")


class Process(NamedTuple):
    pid: int
    parent: int
    state: str
    arguments: tuple[str, ...]


def children(parent: int) -> list[Process]:
    """The living children of process ``parent``."""
    return [one for one in _processes() if one.parent == parent and one.state not in "ZX"]


def find(pid: int) -> Process | None:
    """The process, which runs or is stopped; one that nobody has waited for yet is not there."""
    found = (one for one in _processes(pid) if one.pid == pid and one.state not in "ZX")
    return next(found, None)


def alive(pid: int) -> bool:
    """Whether there is such a process, as `find` sees it."""
    return find(pid) is not None


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that has gone is none to send it to."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _processes(only: int | None = None) -> Iterator[Process]:
    if _PROC.joinpath("self", "stat").exists():
        for path in [_PROC / str(only)] if only else _PROC.iterdir():
            if path.name.isdecimal():
                with contextlib.suppress(OSError):  # it may end meanwhile
                    yield _of_proc(path)
        return
    which = ["-p", str(only)] if only else ["-A"]
    listing = subprocess.run(
        ["ps", *which, "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True
    )
    for line in listing.stdout.splitlines():
        pid, parent, state, *arguments = line.split()
        yield Process(int(pid), int(parent), state[0], tuple(arguments))


def _of_proc(path: Path) -> Process:
    # The name, in parentheses, may hold anything; the fields after it do not.
    state, parent = (path / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
    arguments = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
    return Process(int(path.name), int(parent), state, tuple(arguments[:-1]))
