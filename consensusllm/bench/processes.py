"""Owns the child processes of a measurement, and what /proc says of them.

A child ends with `stop`, and where the program is there (setpriv of util-linux) also when this
process is killed outright. Its output goes to a file of its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LINE_BYTES_MAX = 256 << 20
PORTS = range(10_000, 32_000)
"""Below those that the kernel takes for outgoing connections."""
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A measurement could not be made. One line that says why."""


class Children:
    """The processes of one system in ``directory``, by their names."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._children: dict[str, asyncio.subprocess.Process] = {}

    @property
    def pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in self._children.items()}

    async def start(
        self, name: str, arguments: Sequence[str], *, talks: bool = False
    ) -> asyncio.subprocess.Process:
        """Start a child; ``talks``: over its standard input and output. Raises BenchError."""
        assert name not in self._children
        pipe = asyncio.subprocess.PIPE
        with self.log_path(name).open("ab") as log:
            try:
                child = await asyncio.create_subprocess_exec(
                    *_tied_to_this_process(),
                    *arguments,
                    stdin=pipe if talks else asyncio.subprocess.DEVNULL,
                    stdout=pipe if talks else log,
                    stderr=log,
                    env=_environment(),
                    limit=LINE_BYTES_MAX,
                    start_new_session=True,
                )
            except OSError as error:
                raise BenchError(f"{arguments[0]} cannot be started: {error.strerror}") from None
        self._children[name] = child
        return child

    def say(self, name: str, line: bytes) -> None:
        """Write ``line`` to a child that talks. Raises BenchError, with its last words, where it
        has ended."""
        child = self._children[name]
        assert child.stdin is not None
        try:
            if child.returncode is None:
                child.stdin.write(line + b"\n")
                return
        except (RuntimeError, OSError):  # its pipe is closed, and its end not known yet
            pass
        raise BenchError(f"{name} ended by itself: {self.last_words(name)}")

    def check(self) -> None:
        """Raise BenchError, with its last words, where a child has ended."""
        for name, child in self._children.items():
            if child.returncode is not None:
                raise BenchError(f"{name} ended by itself: {self.last_words(name)}")

    async def kill(self, name: str) -> None:
        """kill -9, and wait until it is gone."""
        child = self._children.pop(name)
        _kill(child)
        await child.wait()

    async def stop(self) -> None:
        """Kill all children, as their data goes too. None is left when it returns."""
        children = list(self._children.values())
        self._children.clear()
        for child in children:
            _kill(child)
        await asyncio.gather(*(child.wait() for child in children))

    def log_path(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def last_words(self, name: str) -> str:
        """The last line of a child's log."""
        return last_line(self.log_path(name))


def last_line(path: Path) -> str:
    """The last line of a log that has something in it."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _kill(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        if child.returncode is None:
            child.kill()


def _tied_to_this_process() -> list[str]:
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", "KILL", "--"] if program else []


def _environment() -> dict[str, str]:
    """Ours, without settings that would change what is measured: etcd's, and the one that has
    Python compile all of a program at each start."""
    return {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("ETCD_") and name != "PYTHONDONTWRITEBYTECODE"
    }


def free_ports(count: int, *, in_a_row: int = 1) -> list[int]:
    """``count`` different ports that are free on loopback, each with the ``in_a_row`` - 1 that
    follow it. Raises BenchError."""
    chooser = random.SystemRandom()
    found: list[int] = []
    for _ in range(1000):
        if len(found) == count:
            return found
        port = chooser.choice(PORTS)
        if port not in found and all(map(_is_free, range(port, port + in_a_row))):
            found.append(port)
    raise BenchError("there are no free ports: end what uses them")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used since it was started; ``written_bytes`` went to the disk."""

    cpu_s: float
    written_bytes: int
    rss_bytes: int


def usage(pid: int) -> Usage:
    """What /proc says of a process. Raises BenchError where it says nothing."""
    directory = Path("/proc") / str(pid)
    try:
        # The name, in parentheses, may hold anything; the fields after it do not.
        fields = (directory / "stat").read_text(errors="replace").rpartition(")")[2].split()
        status = _numbers((directory / "status").read_text())
        io = _numbers((directory / "io").read_text())
    except OSError as error:
        raise BenchError(f"{error.filename}: {error.strerror}: /proc of Linux is needed") from None
    if "VmRSS" not in status:
        raise BenchError(f"process {pid} has ended")
    ticks = int(fields[11]) + int(fields[12])
    return Usage(ticks * _TICK_S, io["write_bytes"], status["VmRSS"] * 1024)


def usages(pids: Mapping[str, int]) -> dict[str, Usage]:
    """`usage` of each."""
    return {name: usage(pid) for name, pid in pids.items()}


def _numbers(text: str) -> dict[str, int]:
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdecimal():
            found[name] = int(words[0])
    return found


def disk_bytes(directory: Path) -> int:
    """What the files below ``directory`` take on the disk."""
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):  # it may go meanwhile
            total += path.lstat().st_blocks * 512
    return total
