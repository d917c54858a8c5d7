"""The drills' own cluster of processes, without the processes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from consensusllm.drills.cluster import LocalCluster
from consensusllm.drills.scenario import parse


class Observer:
    """Answers for its addresses when it is let."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self.closed = False

    async def statuses(self, timeout_s: float) -> dict[str, None]:
        self.asked.set()
        await self.may_answer.wait()
        assert not self.closed
        return dict.fromkeys(self.addresses)

    async def close(self) -> None:
        self.closed = True


class Cluster(LocalCluster):
    def __init__(self, directory: Path) -> None:
        super().__init__(parse(b"description: x\nsteps: [{wait: 1s}]", "x"), directory, ())
        self.made: list[Any] = []

    def client(self, node: int | None, start: int, timeout_s: float) -> Any:
        self.made.append(Observer([self.address(one) for one in self.nodes]))
        return self.made[-1]

    @property
    def faults(self) -> Any:
        class Faults:
            async def install_node(self, node: int, address: str) -> None: ...

            async def retire_node(self, node: int) -> None: ...

        return Faults()

    @contextlib.asynccontextmanager
    async def _changing(self, timeout_s: float) -> AsyncIterator[Any]:
        class Changing:
            async def replace_node(self, *change: Any, timeout_s: float) -> None: ...

        yield Changing()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    await made.stop()
    assert all(each.closed for each in made.made)


async def test_a_node_may_be_replaced_while_all_are_asked(cluster: Cluster) -> None:
    asking = asyncio.create_task(cluster.statuses())
    await asyncio.sleep(0)
    await cluster.made[0].asked.wait()
    assert await cluster.replace(2, 1.0) == 4
    cluster.made[0].may_answer.set()
    assert await asking == {1: None, 2: None, 3: None}
    again = asyncio.create_task(cluster.statuses())
    await asyncio.sleep(0)
    cluster.made[1].may_answer.set()
    assert await again == {1: None, 3: None, 4: None}
