"""Many seeds on all cores. A seed's run is a function of its scenario, wherever it runs."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext

from .run import Result, Scenario, run

_ENDING_S = 10.0
"""A process whose connection has ended ends by itself, within a moment."""


def run_all(scenarios: Sequence[Scenario], processes: int) -> Generator[Result, None, None]:
    """Results as they come, in any order. A scenario whose process dies has failed; another process
    goes on with the rest."""
    if processes <= 1 or len(scenarios) <= 1:
        yield from map(run, scenarios)
        return
    context = multiprocessing.get_context("spawn")
    waiting = deque(scenarios)
    idle: list[_Worker] = []
    busy: dict[Connection, _Worker] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < processes:
                worker = idle.pop() if idle else _Worker(context)
                busy[worker.connection] = worker
                worker.begin(waiting.popleft())
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection), "only those are waited for"
                worker = busy.pop(connection)
                if (result := worker.result()) is not None:
                    idle.append(worker)
                    yield result
                else:
                    yield worker.failure()
    finally:
        for worker in (*idle, *busy.values()):
            worker.end()


class _Worker:
    """A process that runs one scenario after the other."""

    def __init__(self, context: SpawnContext) -> None:
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # so that the process has the only one, which ends with it

    def begin(self, scenario: Scenario) -> None:
        self._scenario = scenario
        with contextlib.suppress(OSError):  # it is dead: see result
            self.connection.send(scenario)

    def result(self) -> Result | None:
        """Waits for it; None where the process has died."""
        try:
            result: Result = self.connection.recv()
        except (EOFError, OSError):
            return None
        return result

    def failure(self) -> Result:
        """The result of a scenario whose process has died."""
        self._process.join(_ENDING_S)
        self.end()
        reason = (
            f"its process died with exit code {self._process.exitcode}: "
            "run it alone, or use fewer --jobs where memory is short"
        )
        return Result(self._scenario, broken="no process dies", reason=reason)

    def end(self) -> None:
        self._process.terminate()
        self._process.join()
        self.connection.close()


def _work(connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(run(connection.recv()))
