"""The signals by which a command that runs for long is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def heeded(take: Callable[[int], object]) -> Iterator[None]:
    """Call ``take`` with the number of each that comes, again and again. Those that are ignored
    stay so: whoever started this wants it to outlive them (nohup)."""
    loop = asyncio.get_running_loop()
    taken = [one for one in _ENDING if signal.getsignal(one) is not signal.SIG_IGN]
    for number in taken:
        loop.add_signal_handler(number, take, number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
