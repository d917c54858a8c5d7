"""One node of PySyncObj as a process: it is asked by lines of JSON, and answers with one each.

The loops are of callbacks, each of which begins the next call: that is the quickest way the library
has, since a call that waits would wake up another thread each time.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, replicated

from . import gaps
from .system import GAP_S, GAP_WRITERS
from .work import Measured, Work, key, value

PAUSE_S = 0.01


class Store(SyncObj):  # type: ignore[misc]
    """Keys and values. ``ended`` is called with the outcome of a put: 0 is success."""

    def __init__(self, own: str, others: Sequence[str]) -> None:
        super().__init__(own, list(others), SyncObjConf(appendEntriesUseBatch=False))
        self.values: dict[str, bytes] = {}

    @replicated  # type: ignore[untyped-decorator]
    def put(self, name: str, data: bytes) -> None:
        self.values[name] = data


def puts(store: Store, work: Work) -> dict[str, Any]:
    """As `work.closed_loop` does it, with callbacks."""
    clock = time.perf_counter
    numbers = work.numbers()
    measured = Measured(work)
    failures: list[object] = []
    running = [work.outstanding]
    ended = threading.Event()
    lock = threading.Lock()

    def next_one() -> None:
        with lock:
            number = next(numbers, None) if clock() < measured.end else None
            if number is None:
                running[0] -= 1
                if not running[0]:
                    ended.set()
                return
        before = clock()

        def told(_result: object, failure: int) -> None:
            if failure:
                failures.append(failure)
            else:
                measured.add(before, clock())
            next_one()

        store.put(key(number), value(number), callback=told)

    for _ in range(work.outstanding):
        next_one()
    ended.wait()
    if failures:
        raise RuntimeError(f"{len(failures)} puts failed, the first with {failures[0]}")
    return asdict(measured.timings())


def writes(store: Store, kill_at: float) -> list[float]:
    """When each write of a loop was acknowledged, until they have settled after ``kill_at``."""
    completions: list[float] = []
    ended = threading.Event()

    def write(number: int) -> None:
        if not ended.is_set():
            store.put(key(number), value(number), callback=told(number))

    def told(number: int) -> Callable[[object, int], None]:
        def done(_result: object, failure: int) -> None:
            if failure:  # it is called again at once, so wait a little, elsewhere
                threading.Timer(PAUSE_S, write, (number,)).start()
            else:
                completions.append(time.monotonic())
                write(number)

        return done

    for number in range(GAP_WRITERS):
        write(number)
    while time.monotonic() < kill_at + GAP_S:
        time.sleep(PAUSE_S)
        if gaps.settled(list(completions), kill_at, time.monotonic()):
            ended.set()
            return completions
    ended.set()
    raise RuntimeError(f"writes did not come back within {GAP_S:g} s")


def state(store: Store) -> dict[str, Any]:
    """Who leads by this node's account, and how many other nodes it is linked with."""
    status = store.getStatus()
    linked = sum(
        1 for name, text in status.items() if "partner_node_status_server" in name and text == 2
    )
    leader = status["leader"]
    return {"leader": str(leader) if leader else None, "linked": linked}


def main(own: str, others: Sequence[str]) -> None:
    store = Store(own, others)
    answers: dict[str, Callable[[dict[str, Any]], Any]] = {
        "state": lambda request: state(store),
        "puts": lambda request: puts(store, Work(**request["work"])),
        "writes": lambda request: writes(store, request["kill_at"]),
        "values": lambda request: {
            name: store.values[name].hex() for name in request["keys"] if name in store.values
        },
    }
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": answers[request["do"]](request)}
        except RuntimeError as error:
            answer = {"error": str(error)}
        print(json.dumps({"number": request["number"], **answer}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
