"""failNode and fixNode: orders that travel to the launcher and back, with a relay and without."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections.abc import AsyncIterator, Callable

import grpc
import pytest

from consensusllm.orchestrator import (
    FaultRefused,
    FaultsClient,
    FaultsServicer,
    FaultTable,
    Launchers,
    Order,
    ProcessFailed,
    serve_faults,
)
from consensusllm.wire.generated import orchestrator_pb2 as pb


class FakeLauncher:
    """Records orders, as ``(node, start)``; ``trouble`` is raised by each one."""

    def __init__(self, client: FaultsClient, nodes: tuple[int, ...]) -> None:
        self.orders: list[tuple[int, bool]] = []
        self.last: Order | None = None
        self.trouble: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.attached = asyncio.Event()
        self.task = asyncio.ensure_future(
            client.processes(nodes, self.handle, on_attached=self.attached.set)
        )

    async def handle(self, order: Order) -> None:
        self.orders.append((order.node, order.start))
        self.last = order
        await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def launch() -> AsyncIterator[Callable]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(client: FaultsClient, nodes: tuple[int, ...] = (1, 2, 3)) -> FakeLauncher:
            launcher = FakeLauncher(client, nodes)
            stack.push_async_callback(launcher.close)
            await asyncio.wait_for(launcher.attached.wait(), 10)
            return launcher

        yield make


async def test_fail_node_kills_the_process_and_holds_the_node_down_until_fix_node(
    cluster, launch
) -> None:
    launcher = await launch(cluster.client)
    assert "node 2 is dead" in await cluster.client.fail_node(2)
    assert launcher.orders == [(2, False)]
    listed = await cluster.client.faults()
    assert (listed.faults, listed.down) == (["failNode 2"], [2])
    assert await cluster.fates([(1, 2), (2, 3), (1, 3)]) == {
        (1, 2): "down",
        (2, 3): "down",
        (1, 3): "delivered",
    }
    assert await cluster.client.fix_node(2) == "node 2 is started"
    assert launcher.orders[1:] == [(2, True)]
    assert (await cluster.client.faults()).down == []
    assert (await cluster.fates([(1, 2)])) == {(1, 2): "delivered"}


async def test_heal_starts_the_nodes_that_are_down_too(cluster, launch) -> None:
    launcher = await launch(cluster.client)
    await cluster.client.fail_node(3)
    await cluster.client.fail_link(1, 2)
    assert await cluster.client.heal() == "every fault is lifted, node 3 is started"
    assert launcher.orders == [(3, False), (3, True)]
    listed = await cluster.client.faults()
    assert (listed.faults, listed.down) == ([], [])


async def test_heal_starts_all_that_can_be_and_names_those_that_cannot(cluster, launch) -> None:
    launchers = [await launch(cluster.client, (node,)) for node in (1, 2, 3)]
    for node in (1, 2, 3):
        await cluster.client.fail_node(node)
    for launcher, trouble in zip(launchers, ("no space", "", "no memory"), strict=True):
        launcher.trouble = ProcessFailed(trouble) if trouble else None
    said = (
        "^links are healed, node 2 is started, node 1 is not: no space; node 3 is not: no memory$"
    )
    with pytest.raises(FaultRefused, match=said):
        await cluster.client.heal()
    assert (await cluster.client.faults()).down == [1, 3]


async def test_heal_starts_all_at_once(cluster, launch, wait_until) -> None:
    """What has begun goes on where the caller's time is over, and the rest would stay down."""
    launchers = [await launch(cluster.client, (node,)) for node in (1, 2, 3)]
    for node, launcher in zip((1, 2, 3), launchers, strict=True):
        await cluster.client.fail_node(node)
        launcher.gate.clear()
    healing = asyncio.create_task(cluster.client.heal())
    await wait_until(lambda: all(each.orders[-1][1] for each in launchers), "the orders")
    for launcher in launchers:
        launcher.gate.set()
    assert await healing == (
        "every fault is lifted, node 1 is started, node 2 is started, node 3 is started"
    )


async def test_without_a_launcher_the_answer_says_so_and_nothing_is_down(cluster) -> None:
    for command in (cluster.client.fail_node, cluster.client.fix_node):
        with pytest.raises(FaultRefused, match=r"^no launcher runs these nodes: "):
            await command(1)
    assert (await cluster.client.faults()).down == []


async def test_a_launcher_that_fails_is_quoted_and_the_state_is_as_before(cluster, launch) -> None:
    launcher = await launch(cluster.client)
    launcher.trouble = ProcessFailed("node 1 does not run")
    with pytest.raises(FaultRefused, match=r"^node 1 does not run$"):
        await cluster.client.fail_node(1)
    assert (await cluster.client.faults()).down == []
    launcher.trouble = None
    await cluster.client.fail_node(1)
    launcher.trouble = OSError("no such file")
    with pytest.raises(FaultRefused, match="no such file"):
        await cluster.client.fix_node(1)
    assert (await cluster.client.faults()).down == [1]


async def test_a_launcher_that_dies_under_an_order_fails_it_at_once(
    cluster, launch, wait_until
) -> None:
    launcher = await launch(cluster.client)
    launcher.gate.clear()
    order = asyncio.ensure_future(cluster.client.fail_node(1))
    await wait_until(lambda: launcher.orders, "the order")
    await launcher.close()
    with pytest.raises(FaultRefused, match="the launcher went away"):
        await order


async def test_each_node_is_killed_by_the_launcher_that_runs_it(cluster, launch) -> None:
    first, second = await launch(cluster.client, (1, 2)), await launch(cluster.client, (3,))
    await cluster.client.fail_node(1)
    await cluster.client.fail_node(3)
    assert (first.orders, second.orders) == ([(1, False)], [(3, False)])


async def test_a_launcher_that_names_no_node_is_refused(cluster) -> None:
    async def never(order: object) -> None:
        raise AssertionError

    for nodes in ([], [1, 0]):
        with pytest.raises(FaultRefused, match="names the nodes that it runs"):
            await cluster.client.processes(nodes, never)


async def test_a_new_node_is_started_by_any_launcher_and_is_its_own_from_then_on(
    cluster, launch
) -> None:
    launcher = await launch(cluster.client, (1, 2, 3))
    said = await cluster.client.install_node(4, "127.0.0.1:5104")
    assert said == "node 4 is started at 127.0.0.1:5104"
    assert launcher.last == Order(4, True, join="127.0.0.1:5104")
    await cluster.client.fail_link(1, 4)
    await cluster.client.fail_node(4)
    assert launcher.last == Order(4, False)


async def test_a_node_that_is_retired_is_ended_and_known_no_more(cluster, launch) -> None:
    launcher = await launch(cluster.client, (1, 2, 3))
    await cluster.client.partition([[1, 2], [3]])
    await cluster.client.retire_node(3)
    assert launcher.last == Order(3, False, retire=True)
    for refused in (cluster.client.fix_node(3), cluster.client.fail_link(1, 3)):
        with pytest.raises(FaultRefused, match="no node 3: the nodes are 1, 2"):
            await refused
    assert (await cluster.client.faults()).faults == []


async def test_a_new_node_that_did_not_become_a_member_can_be_started_anew(cluster, launch) -> None:
    launcher = await launch(cluster.client, (1, 2, 3))
    await cluster.client.install_node(4, "127.0.0.1:5104")
    await cluster.client.retire_node(4, reusable=True)
    assert launcher.last == Order(4, False, retire=True, reusable=True)
    with pytest.raises(FaultRefused, match="no node 4: the nodes are 1, 2, 3"):
        await cluster.client.fail_node(4)
    await cluster.client.install_node(4, "127.0.0.1:5104")
    assert launcher.last == Order(4, True, join="127.0.0.1:5104")


async def test_a_new_node_needs_a_launcher_and_an_address(cluster, launch) -> None:
    with pytest.raises(FaultRefused, match="no launcher runs these nodes"):
        await cluster.client.install_node(4, "127.0.0.1:5104")
    await launch(cluster.client, (1, 2, 3))
    with pytest.raises(FaultRefused, match="needs an address to listen at"):
        await cluster.client.install_node(4, "")
    with pytest.raises(FaultRefused, match="no node 4"):
        await cluster.client.fail_node(4)


class Desk:
    """The service without a network: ``launcher``'s orders are answered by the test."""

    def __init__(self, order_timeout_s: float = 10.0) -> None:
        self.table = FaultTable((1, 2), random.Random(7))
        launchers = Launchers()
        self.launcher = launchers.attach((1, 2))
        self._servicer = FaultsServicer(self.table, launchers, None, None, order_timeout_s)

    async def abort(self, code: grpc.StatusCode, why: str) -> None:
        raise FaultRefused(why)

    def order(self, **fault: object) -> asyncio.Task[pb.FaultReply]:
        return asyncio.create_task(self._servicer.Inject(pb.FaultRequest(**fault), self))

    async def report(self, error: str = "") -> None:
        order = await asyncio.wait_for(self.launcher.orders.get(), 10)
        self.launcher.report(pb.ProcessReport(number=order.number, error=error))


async def test_what_is_done_to_a_node_waits_for_what_is_being_done_to_it() -> None:
    desk = Desk()
    killed = desk.order(fail_node=pb.FailNode(node=1))
    await desk.report()
    await killed
    begun = desk.order(fix_node=pb.FixNode(node=1)), desk.order(fail_node=pb.FailNode(node=1))
    await desk.report("node 1 ended again")
    await desk.report("node 1 is not running")
    for refused in begun:
        with pytest.raises(FaultRefused, match="node 1"):
            await refused
    assert desk.table.down == (1,)


async def test_an_order_goes_on_without_the_caller_that_hung_up(wait_until) -> None:
    desk = Desk()
    killed = desk.order(fail_node=pb.FailNode(node=1))
    await desk.report()
    await killed
    begun = desk.order(fix_node=pb.FixNode(node=1))
    await wait_until(lambda: not desk.launcher.orders.empty(), "the order")
    begun.cancel()
    await asyncio.wait([begun])
    await desk.report("node 1 ended again")
    await wait_until(lambda: desk.table.down == (1,), "the mark")


@pytest.mark.parametrize(("error", "down"), [("", (1,)), ("node 1 is not running", ())])
async def test_an_order_times_out_and_is_settled_by_the_report_that_comes_late(
    wait_until, error: str, down: tuple[int, ...]
) -> None:
    desk = Desk(order_timeout_s=0.01)
    logged: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: logged.append(said))
    with pytest.raises(FaultRefused, match=r"^the launcher did not answer within 0.01 s: "):
        await desk.order(fail_node=pb.FailNode(node=1))
    await desk.report(error)
    await wait_until(lambda: not desk.launcher.waiting, "the end of the order")
    assert desk.table.down == down
    gc.collect()
    assert not logged, "a late refusal is no bug"


async def test_a_caller_that_waited_too_long_for_its_turn_has_begun_nothing(wait_until) -> None:
    desk = Desk(order_timeout_s=0.01)
    for _ in range(2):
        with pytest.raises(FaultRefused, match="did not answer within"):
            await desk.order(fail_node=pb.FailNode(node=1))
    await desk.report()
    await wait_until(lambda: not desk.launcher.waiting, "the end of the order")
    assert desk.launcher.orders.empty()


async def test_without_a_relay_nodes_fail_and_link_faults_are_refused(launch) -> None:
    server = await serve_faults("127.0.0.1:0", (1, 2, 3), "t")
    async with FaultsClient(server.address, "t") as client:
        launcher = await launch(client)
        await client.fail_node(2)
        assert (await client.faults()).faults == ["failNode 2"]
        for command in (
            client.fail_link(1, 2),
            client.partition([[1], [2, 3]]),
            client.delay(1, 2, 5),
            client.isolate(1),
            anext(client.trace()),
        ):
            with pytest.raises(FaultRefused, match="start the cluster without --direct"):
                await command
        await client.heal()
        assert launcher.orders == [(2, False), (2, True)]
        await launcher.close()
    await server.stop()
