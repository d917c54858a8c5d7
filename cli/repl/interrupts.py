"""Owns Ctrl-C outside the prompt: it cancels what is running, and nothing else."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Interrupted(Exception):
    """What was running has been cancelled by Ctrl-C."""


class Interrupts:
    """While entered, SIGINT cancels the coroutine that `guard` runs."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._interrupted = False

    def __enter__(self) -> Interrupts:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

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
