"""Owns the signals: Ctrl-C outside the prompt cancels what is running, and nothing else; SIGTERM,
or a terminal that hangs up, ends all, once what was begun is cleared up: a terminal, for one, gets
its cursor back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")
_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """What was running has been cancelled by Ctrl-C."""


class Interrupts:
    """While entered, SIGINT cancels the coroutine that `guard` runs, and SIGTERM and SIGHUP the
    task that entered; the process dies of it when that leaves. A SIGHUP that is ignored stays so
    (nohup)."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._interrupted = False
        self._terminated: signal.Signals | None = None
        self._heeded = [each for each in _ENDING if signal.getsignal(each) is not signal.SIG_IGN]

    def __enter__(self) -> Interrupts:
        loop = asyncio.get_running_loop()
        all_of_it = asyncio.current_task()
        assert all_of_it is not None, "a coroutine is run by a task"
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        for number in self._heeded:
            loop.add_signal_handler(number, self._terminate, number, all_of_it)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGINT)
        for number in self._heeded:
            loop.remove_signal_handler(number)
        if self._terminated is not None:
            os.kill(os.getpid(), self._terminated)

    async def guard(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """The coroutine's result. Raises Interrupted where SIGINT came, whatever it ended in: an
        error of its clearing up does not make the interruption one."""
        assert self._task is None, "one coroutine at a time is guarded"
        self._interrupted = False
        task = asyncio.ensure_future(coroutine)
        self._task = task
        try:
            return await task
        finally:
            self._task = None
            if self._interrupted:
                raise Interrupted from None

    def _interrupt(self) -> None:
        if self._task is not None:
            self._interrupted = True
            self._task.cancel()

    def _terminate(self, number: signal.Signals, all_of_it: asyncio.Task[Any]) -> None:
        self._terminated = self._terminated or number
        all_of_it.cancel()
