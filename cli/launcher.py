"""The launcher's children: starting, killing, watching and ending the processes of one cluster.

Every child is a session of its own, so the terminal's Ctrl-C reaches the launcher alone, and holds
the reading end of a pipe that only the launcher can keep open: see `lifeline`. A child's output
goes straight to its log file; the launcher can neither slow it down nor lose any of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from async_timeout import timeout

GRACE_S = 5.0
LOG_BYTES_MAX = 16 << 20

Arguments: TypeAlias = Callable[[str, int], Sequence[str]]
"""``(name, lifeline descriptor)`` to the arguments that start that child."""

ORCHESTRATOR = "orchestrator"


class LauncherError(Exception):
    """One line that says what could not be started or killed, and what to do."""


def node_name(node_id: int) -> str:
    """The name of a node's child and, with ``.log``, of its log file."""
    return f"node-{node_id}"


def in_words(name: str) -> str:
    """The child of that name, as people are told of it."""
    return name.replace("node-", "node ")


class Launcher:
    """Owns the children. ``report(name, how)`` is called for each that ends without being told."""

    def __init__(
        self, arguments: Arguments, log_dir: Path, report: Callable[[str, str], None]
    ) -> None:
        self._arguments = arguments
        self._log_dir = log_dir
        self._report = report
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._stopping: list[asyncio.subprocess.Process] = []
        self._watchers: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._lifeline, self._held_open = os.pipe()

    def running(self, name: str) -> bool:
        """Whether that child was started and has not ended."""
        return name in self._children

    async def changed(self) -> None:
        """Wait until the next child ends."""
        await self._changed.wait()

    async def start(self, name: str) -> None:
        """Start a child; it is not waited for. Raises LauncherError."""
        if name in self._children:
            raise LauncherError(f"{in_words(name)} is running already")
        path = self.log_path(name)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > LOG_BYTES_MAX:
                path.replace(f"{path}.1")
        try:
            with path.open("ab") as log:
                child = await asyncio.create_subprocess_exec(
                    *self._arguments(name, self._lifeline),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(self._lifeline,),
                    start_new_session=True,
                )
        except OSError as error:
            why = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            raise LauncherError(f"{in_words(name)} cannot be started: {why}") from None
        self._children[name] = child
        watcher = asyncio.create_task(self._watch(name, child))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def kill(self, name: str) -> None:
        """Kill a child as by ``kill -9`` and wait until it is gone. Raises LauncherError."""
        child = self._children.pop(name, None)
        if child is None:
            raise LauncherError(f"{in_words(name)} is not running")
        _signal(child, signal.SIGKILL)
        await child.wait()

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """End every child: SIGTERM, and after ``grace_s`` SIGKILL. None is left when it returns."""
        self._stopping = list(self._children.values())
        self._children.clear()
        for child in self._stopping:
            _signal(child, signal.SIGTERM)
        ends = asyncio.gather(*(child.wait() for child in self._stopping), *self._watchers)
        with contextlib.suppress(asyncio.TimeoutError):
            async with timeout(grace_s):
                await asyncio.shield(ends)
        self.kill_all()
        await ends
        os.close(self._held_open)
        os.close(self._lifeline)

    def kill_all(self) -> None:
        """Send SIGKILL to every child, those that are being ended included."""
        for child in (*self._children.values(), *self._stopping):
            _signal(child, signal.SIGKILL)

    async def run_in_foreground(self, arguments: Callable[[int], Sequence[str]]) -> int:
        """Run one more child on this terminal until it ends by itself; returns its exit status.
        It is ended where this is cancelled."""
        child = await asyncio.create_subprocess_exec(
            *arguments(self._lifeline), pass_fds=(self._lifeline,)
        )
        self._children["foreground"] = child
        try:
            status = await child.wait()
        except asyncio.CancelledError:
            await _end(child)
            raise
        finally:
            self._children.pop("foreground", None)
        return status if status >= 0 else 128 - status

    def log_path(self, name: str) -> Path:
        """The file that a child's output goes to."""
        return self._log_dir / f"{name}.log"

    async def _watch(self, name: str, child: asyncio.subprocess.Process) -> None:
        status = await child.wait()
        if self._children.get(name) is child:
            del self._children[name]
            self._report(name, f"{_ending(status)}: {self._last_words(name)}")
        self._changed.set()
        self._changed.clear()

    def _last_words(self, name: str) -> str:
        path = self.log_path(name)
        with contextlib.suppress(OSError), path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 4096))
            lines = log.read().decode(errors="replace").split("\n")
            words = next((line.strip() for line in reversed(lines) if line.strip()), "")
            if words:
                return f"{printable(words)} (log: {path})"
        return f"its log is empty ({path})"


def printable(text: str, length: int = 300) -> str:
    """``text`` without control characters, and cut: fit for a line on a terminal."""
    return "".join(character for character in text[:length] if character.isprintable())


def _signal(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        if child.returncode is None:
            child.send_signal(number)


async def _end(child: asyncio.subprocess.Process) -> None:
    _signal(child, signal.SIGTERM)
    with contextlib.suppress(asyncio.TimeoutError):
        async with timeout(GRACE_S):
            await child.wait()
    _signal(child, signal.SIGKILL)
    await child.wait()


def _ending(status: int) -> str:
    if status < 0:
        names = {int(each): each.name for each in signal.Signals}  # most real-time ones have none
        return f"was killed by {names.get(-status, f'signal {-status}')}"
    return f"ended with status {status}"
