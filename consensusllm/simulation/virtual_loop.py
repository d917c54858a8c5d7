"""An asyncio event loop whose time is simulated: it jumps to the next timer in place of waiting.

It has no sockets, threads or signals, so what runs on it is a function of what was put on it. Two
callbacks of one moment run in the order in which they were scheduled. A loop with nothing left to
run, and one that does not get past a moment, are errors and not waits.

The queue is asyncio's no more than it must be: a simulated hour is millions of timers, and keeping
them was a fifth of the simulator's time.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from contextvars import Context
from heapq import heappop, heappush
from typing import Any, NoReturn

CALLBACKS_A_MOMENT_MAX = 100_000


class Stuck(Exception):
    """Nothing will ever happen again, or time stands still."""


class _Call(asyncio.TimerHandle):
    """A callback to come. A cancelled one stays in the queue, and does nothing."""

    __slots__ = ()

    def __init__(
        self, when: float, callback: Callable[..., object] | None, args: Any, context: Any
    ) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._context = context

    def cancel(self) -> None:
        self._callback, self._args = None, ()

    def cancelled(self) -> bool:
        return self._callback is None


class VirtualLoop(asyncio.BaseEventLoop):
    """``time`` is in simulated seconds from 0."""

    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._soon: deque[_Call] = deque()
        self._later: list[tuple[float, int, _Call]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Call:
        call = _Call(self._now, callback, args, context)
        self._soon.append(call)
        return call

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> _Call:
        call = _Call(when, callback, args, context)
        heappush(self._later, (when, next(self._numbers), call))
        return call

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> _Call:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _run_once(self) -> None:
        """Run until somebody stops the loop."""
        soon, later = self._soon, self._later
        calls = 0
        while not self._stopping:
            if soon:
                call = soon.popleft()
                calls += 1
                if calls > CALLBACKS_A_MOMENT_MAX:
                    raise Stuck(f"time stands still at {self._now:.6f} s")
            elif later:
                if later[0][0] > self._now:
                    self._now = later[0][0]
                    calls = 0
                while later and later[0][0] <= self._now:
                    soon.append(heappop(later)[2])
                continue
            else:
                raise Stuck("nothing is scheduled: whoever waits would wait for ever")
            callback = call._callback
            if callback is None:
                continue
            try:
                if call._context is None:
                    callback(*call._args)
                else:
                    call._context.run(callback, *call._args)
            except Exception as error:
                self.call_exception_handler({"message": str(error), "exception": error})

    def run_in_executor(self, *_: Any) -> NoReturn:  # type: ignore[override]
        raise AssertionError("no threads: their order is not a function of the seed")

    def _process_events(self, event_list: tuple[()]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
