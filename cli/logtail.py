"""Warnings from the children's log files, as they are written, for the launcher's terminal."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from pathlib import Path

from .launcher import printable

POLL_S = 0.3
_READ_BYTES = 64 << 10
_SERIOUS = re.compile(r'\[(?:warning|error|critical)\s*\]|"level": ?"(?:warning|error|critical)"')


class LogTail:
    """Reports each line of warning level or above that is added to the files it follows."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._places: dict[Path, int] = {}
        self._rest: dict[Path, bytes] = {}

    def follow(self, path: Path) -> None:
        """Report what is added to ``path``, which may be missing yet, from now on."""
        self._places[path], self._rest[path] = _size(path), b""

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            self.poll()
            await asyncio.sleep(POLL_S)

    def poll(self) -> None:
        """Report what was added since the last call."""
        for path, place in self._places.items():
            if _size(path) < place:  # it was replaced by a new one
                place, self._rest[path] = 0, b""
            with contextlib.suppress(OSError), path.open("rb") as log:
                log.seek(place)
                added = log.read(_READ_BYTES)
                self._places[path] = place + len(added)
                *lines, self._rest[path] = (self._rest[path] + added).split(b"\n")
                for line in lines:
                    text = line.decode(errors="replace")
                    if _SERIOUS.search(text):
                        self._report(f"{path.stem}: {printable(text)}")
                if len(self._rest[path]) > _READ_BYTES:
                    self._rest[path] = b""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
