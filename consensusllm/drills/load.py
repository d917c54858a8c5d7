"""Owns the load of a drill: concurrent clients that write and read keys, each value once.

Some clients roam and follow the leader; some are pinned to one node each, so that what a node says
while it is cut off, paused or late is in the history too. A key is left for a fresh one after a few
operations, which keeps each key's history short enough to be checked in no time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Protocol

from consensusllm.client import Conflict

from .history import Answer, Recorder

OPERATIONS_A_KEY = 100
LISTS_EVERY = 3
"""One of so many keys holds a text that is appended to; the others are registers."""


class KeyClient(Protocol):
    """The calls of `consensusllm.client.Client` that are made here."""

    async def put(self, key: str, value: bytes) -> None: ...

    async def get(self, key: str) -> bytes | None: ...

    async def compare_and_swap(
        self, key: str, expected: bytes | None, new: bytes | None
    ) -> None: ...

    async def close(self) -> None: ...


class Keys:
    """The keys in use, ``count`` at a time, and what was last seen in each."""

    def __init__(self, count: int) -> None:
        self._uses = [0] * count
        self.seen: dict[str, str | None] = {}

    def take(self, rng: random.Random) -> tuple[str, bool]:
        """A key for one operation, and whether it is one to append to."""
        slot = rng.randrange(len(self._uses))
        generation, used = divmod(self._uses[slot], OPERATIONS_A_KEY)
        self._uses[slot] += 1
        is_list = slot % LISTS_EVERY == LISTS_EVERY - 1
        key = f"{'list' if is_list else 'register'}-{slot + 1}/{generation + 1:03}"
        if used == 0:
            self.seen[key] = None
        return key, is_list


class KeyWorker:
    """One client, which waits for each answer before it goes on."""

    def __init__(
        self,
        process: int,
        client: KeyClient,
        recorder: Recorder,
        keys: Keys,
        rng: random.Random,
    ) -> None:
        self._process = process
        self._client = client
        self._recorder = recorder
        self._keys = keys
        self._rng = rng
        self._number = 0

    async def one(self) -> None:
        """One operation of a random kind."""
        key, is_list = self._keys.take(self._rng)
        dice = self._rng.random()
        if dice < 0.4:
            await self.get(key)
        elif is_list:
            await self.append(key)
        elif dice < 0.7:
            await self.put(key)
        else:
            await self.compare_and_swap(key)

    async def get(self, key: str) -> None:
        async def call() -> Answer:
            value = await self._client.get(key)
            return Answer(output=None if value is None else value.decode())

        answer = await self._recorder.operation(self._process, "get", key, None, call())
        if answer is not None:
            assert answer.output is None or isinstance(answer.output, str)
            self._keys.seen[key] = answer.output

    async def put(self, key: str) -> None:
        value = self._fresh_value()

        async def call() -> Answer:
            await self._client.put(key, value.encode())
            return Answer()

        if await self._recorder.operation(self._process, "put", key, value, call()):
            self._keys.seen[key] = value

    async def compare_and_swap(self, key: str) -> None:
        """Against what was last seen, which another client may have replaced since."""
        old, new = self._keys.seen[key], self._fresh_value()

        async def call() -> Answer:
            try:
                await self._client.compare_and_swap(key, _encoded(old), new.encode())
            except Conflict:
                return Answer(done=False, output=False)
            return Answer()

        answer = await self._recorder.operation(self._process, "cas", key, [old, new], call())
        if answer is not None and answer.done:
            self._keys.seen[key] = new

    async def append(self, key: str) -> None:
        """By reading and swapping, until no other client was faster."""
        value = self._fresh_value() + " "

        async def call() -> Answer:
            while True:
                old = await self._client.get(key)
                try:
                    await self._client.compare_and_swap(key, old, (old or b"") + value.encode())
                except Conflict:
                    continue
                return Answer()

        await self._recorder.operation(self._process, "append", key, value, call())

    async def close(self) -> None:
        await self._client.close()

    def _fresh_value(self) -> str:
        self._number += 1
        return f"{self._process}.{self._number}"


class Worker(Protocol):
    """What the load runs: one client's work."""

    async def one(self) -> None:
        """Do one operation, and return however it ends."""
        ...

    async def close(self) -> None: ...


class Load:
    """Runs ``workers`` side by side from `start` to `stop`."""

    def __init__(
        self,
        workers: Sequence[Worker],
        rng: random.Random,
        pause_s: float,
        failed: Callable[[BaseException], None],
    ) -> None:
        """``failed`` is told of an exception that no worker should let out."""
        self._workers = workers
        self._rng = rng
        self._pause_s = pause_s
        self._failed = failed
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(worker)) for worker in self._workers]

    async def stop(self, grace_s: float) -> None:
        """Let each worker end what it is doing, for ``grace_s`` at most, and close its client."""
        self._stopping = True
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=grace_s)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for worker in self._workers:
                await worker.close()

    async def _run(self, worker: Worker) -> None:
        try:
            while not self._stopping:
                await worker.one()
                await asyncio.sleep(self._pause_s * self._rng.uniform(0.5, 1.5))
        except Exception as error:
            self._failed(error)


def _encoded(value: str | None) -> bytes | None:
    return None if value is None else value.encode()
