"""The launchers that hold the nodes' processes, and the orders to kill or start one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

from ..wire.generated import orchestrator_pb2

ORDER_TIMEOUT_S = 30.0
"""More than a launcher waits for a node that it started to serve."""


class ProcessRefused(Exception):
    """An order was not carried out. The message is one line that says why."""


class Launcher:
    """One launcher's stream: the orders for it, and who waits for their reports."""

    def __init__(self, nodes: frozenset[int]) -> None:
        self.nodes = set(nodes)
        self.orders: asyncio.Queue[orchestrator_pb2.ProcessOrder | None] = asyncio.Queue()
        self.waiting: dict[int, asyncio.Future[str]] = {}

    def report(self, report: orchestrator_pb2.ProcessReport) -> None:
        """The order of that number is done, or failed with ``report.error``."""
        waiter = self.waiting.get(report.number)
        if waiter is not None and not waiter.done():
            waiter.set_result(report.error)


class Launchers:
    """Finds the launcher of a node, gives it an order and waits for its report."""

    def __init__(self) -> None:
        self._launchers: list[Launcher] = []
        self._numbers = itertools.count(1)

    def attach(self, nodes: Iterable[int]) -> Launcher:
        """A launcher that runs ``nodes`` is there; for a node it goes before an earlier one."""
        launcher = Launcher(frozenset(nodes))
        self._launchers.insert(0, launcher)
        return launcher

    def detach(self, launcher: Launcher) -> None:
        """The launcher's stream is over; orders that wait for it fail."""
        self._launchers.remove(launcher)
        for waiter in launcher.waiting.values():
            if not waiter.done():
                waiter.set_result("the launcher went away before it answered: see its log")

    def close(self) -> None:
        """End the launchers' streams."""
        for launcher in self._launchers:
            launcher.orders.put_nowait(None)

    async def order(
        self,
        node: int,
        *,
        start: bool,
        join: str = "",
        retire: bool = False,
        reusable: bool = False,
    ) -> None:
        """Have ``node``'s process started or killed. With ``join``, an address, it is a new node's,
        and any launcher's; with ``retire`` it is never started again, unless it is ``reusable`` and
        installed anew. Raises ``ProcessRefused``."""
        mine = (one for one in self._launchers if join or node in one.nodes)
        launcher = next(mine, None)
        if launcher is None:
            raise ProcessRefused(
                "no launcher runs these nodes: start the cluster with `consensusllm up`, or kill "
                "and start the process by hand"
            )
        number = next(self._numbers)
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        launcher.waiting[number] = waiter
        launcher.orders.put_nowait(
            orchestrator_pb2.ProcessOrder(
                number=number,
                start=start,
                node=node,
                join=join,
                retire=retire,
                reusable=reusable,
            )
        )
        try:
            error = await waiter
        finally:
            del launcher.waiting[number]
        if error:
            raise ProcessRefused(error)
        if join:
            launcher.nodes.add(node)
        elif retire:
            launcher.nodes.discard(node)
