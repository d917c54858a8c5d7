"""The readers of `streams`, as a program: ``readers COUNT ADDRESS...``.

Each asks one model a question and reads the answer as it is written, again and again. It prints a
line once text has come to all of them. Two lines on its standard input begin and end a count of the
words that come, which it prints as JSON. It runs until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence

from consensusllm.client import Client, Delta, Plan

ONE = Plan(one=True)


class Readers:
    def __init__(self, count: int, addresses: Sequence[str]) -> None:
        self._count = count
        self._addresses = addresses
        self._begun: set[int] = set()
        self._all_began = asyncio.Event()
        self._words = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        lines = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        async with Client(self._addresses, timeout_s=60.0) as client:
            tasks = [asyncio.ensure_future(self._read(client, n)) for n in range(self._count)]
            tasks.append(asyncio.ensure_future(self._tell(lines)))
            await asyncio.gather(*tasks)

    async def _read(self, client: Client, number: int) -> None:
        name = f"stream-{number}"
        await client.create(name)
        while True:
            async for event in client.stream(name, "Say much.", plan=ONE, timeout_s=600.0):
                if isinstance(event, Delta):
                    self._words += event.text.count("w")
                    self._begun.add(number)
                    if len(self._begun) == self._count:
                        self._all_began.set()

    async def _tell(self, lines: asyncio.StreamReader) -> None:
        await self._all_began.wait()
        print("streaming", flush=True)
        await lines.readline()
        words, begin = self._words, time.perf_counter()
        await lines.readline()
        rate = (self._words - words) / (time.perf_counter() - begin)
        print(json.dumps({"words_per_second": rate}), flush=True)


def main() -> None:
    asyncio.run(Readers(int(sys.argv[1]), sys.argv[2:]).run())


if __name__ == "__main__":
    main()
