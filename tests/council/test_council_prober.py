"""One node looks at a model server, and all know what it found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from council_fakes import Cluster, until
from structlog.testing import capture_logs

from consensusllm.conversations import RecordProbe, RegisteredModel, ServedModel, ServeModels
from consensusllm.conversations.probe_rules import PROBE_LEASE_MS
from consensusllm.council.prober import Prober
from consensusllm.llm.port import Malformed, Probe, ProviderError, Rejected, TimedOut, Unavailable

GPU = "ollama http://gpu:11434"
OWN = "ollama http://127.0.0.1:11434 of node 3"
SMALL = ServedModel("small", "ollama", "llama3.2", server=GPU)
LARGE = ServedModel("large", "ollama", "llama4", server=GPU)
LOCAL = ServedModel("local", "ollama", "llama3.2", server=OWN)


class Looked:
    """A model server; ``found`` is what a look finds, ``looks`` how often each node took one."""

    def __init__(self) -> None:
        self.found: dict[str, Probe] = {}
        self.failure: Exception | None = None
        self.looks: dict[int, int] = {}

    def by(self, node: int) -> Any:
        looked = self

        class From:
            server = "somewhere"

            async def probe(self, models: Sequence[str]) -> Sequence[Probe]:
                looked.looks[node] = looked.looks.get(node, 0) + 1
                await asyncio.sleep(0)
                if looked.failure is not None:
                    raise looked.failure
                return [looked.found.get(model, Probe()) for model in models]

        return From()

    @property
    def total(self) -> int:
        return sum(self.looks.values())


@pytest.fixture
async def begin() -> AsyncIterator[Any]:
    tasks: dict[int, asyncio.Task[None]] = {}

    async def begin(cluster: Cluster, node: int, **servers: Looked) -> asyncio.Task[None]:
        names = {"gpu": GPU, "own": OWN}
        looked = {names[name]: each.by(node) for name, each in servers.items()}
        prober = Prober(cluster.ports[node], looked, 0.01)
        tasks[node] = asyncio.create_task(prober.run())
        return tasks[node]

    yield begin
    for task in tasks.values():
        task.cancel()
    ended = await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended


@pytest.fixture
def shared() -> Cluster:
    """Nodes 1 and 2 call one server, node 3 one of its own."""
    cluster = Cluster()
    cluster.propose(ServeModels(1, (SMALL,)))
    cluster.propose(ServeModels(2, (SMALL, LARGE)))
    cluster.propose(ServeModels(3, (LOCAL,)))
    return cluster


def registered(cluster: Cluster, node: int, place: int = 0) -> RegisteredModel:
    return cluster.ports[1].machine.registry[node][place]


async def more_looks(gpu: Looked, count: int = 5) -> None:
    """Wait for so many more rounds of looking."""
    wanted = gpu.total + count
    await until(lambda: gpu.total >= wanted)


async def test_one_of_the_nodes_that_share_a_server_looks_for_all(
    begin: Any, shared: Cluster
) -> None:
    gpu = Looked()
    gpu.found = {"llama3.2": Probe(True), "llama4": Probe(False)}
    for node in (1, 2):
        await begin(shared, node, gpu=gpu)
    await until(lambda: registered(shared, 2, 1).probed_ms)
    await more_looks(gpu)
    assert len(gpu.looks) == 1, "only one node ever looked"
    assert registered(shared, 1).loaded is registered(shared, 2).loaded is True
    assert registered(shared, 2, 1).loaded is False


async def test_nothing_is_written_while_nothing_changes(begin: Any, shared: Cluster) -> None:
    gpu, own = Looked(), Looked()
    for node in (1, 2):
        await begin(shared, node, gpu=gpu)
    await begin(shared, 3, own=own)
    await until(lambda: registered(shared, 1).probed_ms and registered(shared, 3).probed_ms)
    await more_looks(gpu, 1)
    before = len(shared.operations(RecordProbe))
    await more_looks(gpu)
    await more_looks(own)
    assert len(shared.operations(RecordProbe)) == before
    # The lease of the shared server is renewed halfway, once; nobody waits for the other one.
    shared.time_ms += 3 * PROBE_LEASE_MS // 4
    await more_looks(gpu)
    await more_looks(own)
    written = shared.operations(RecordProbe)[before:]
    assert [each.server for each in written] == [GPU]


async def test_a_bug_in_a_look_is_told_and_ends_no_looking(begin: Any, shared: Cluster) -> None:
    gpu = Looked()
    gpu.failure = ZeroDivisionError("a bug")
    with capture_logs() as logs:
        await begin(shared, 1, gpu=gpu)
        await more_looks(gpu, 2)
    assert (logs[0]["event"], logs[0]["server"]) == ("a bug: a look at a model server failed", GPU)
    gpu.failure = None
    await until(lambda: registered(shared, 1).probed_ms)


async def test_another_node_looks_when_the_one_that_did_is_gone(
    begin: Any, shared: Cluster
) -> None:
    gpu = Looked()
    dying = await begin(shared, 1, gpu=gpu)
    await until(lambda: registered(shared, 1).probed_ms)
    await begin(shared, 2, gpu=gpu)
    dying.cancel()
    await asyncio.wait([dying])
    before = gpu.total
    await until(lambda: shared.ports[2].machine.probe_leases[GPU].node == 1)
    assert gpu.total == before, "the lease has not ended"
    gpu.found = {"llama3.2": Probe(True)}
    shared.time_ms += PROBE_LEASE_MS + 1
    await until(lambda: registered(shared, 1).loaded)
    assert shared.ports[1].machine.probe_leases[GPU].node == 2


async def test_a_holder_that_comes_back_late_is_told_and_stops(begin: Any, shared: Cluster) -> None:
    gpu = Looked()
    await begin(shared, 1, gpu=gpu)
    await until(lambda: registered(shared, 1).probed_ms)
    shared.ports[1].connected = False
    shared.time_ms += PROBE_LEASE_MS + 1
    await begin(shared, 2, gpu=gpu)
    await until(lambda: shared.ports[2].machine.probe_leases[GPU].node == 2)
    shared.ports[1].connected = True
    shared.ports[1].catch_up()
    before = dict(gpu.looks)
    await until(lambda: gpu.looks[2] >= before.get(2, 0) + 5)
    assert gpu.looks[1] <= before[1] + 1, "a look that was under way may end"


@pytest.mark.parametrize(
    "failure",
    [
        Unavailable("ollama: no connection"),
        TimedOut("ollama: late"),
        Malformed("ollama: " + "é" * 999),
    ],
    ids=["unavailable", "late", "nonsense"],
)
async def test_a_failing_server_is_known_to_fail_until_it_does_not(
    begin: Any, shared: Cluster, failure: ProviderError
) -> None:
    gpu = Looked()
    gpu.failure = failure
    await begin(shared, 1, gpu=gpu)
    await until(lambda: registered(shared, 2, 1).probe_error)
    assert str(failure).startswith(registered(shared, 1).probe_error)
    gpu.failure = None
    await until(lambda: not registered(shared, 2, 1).probe_error)


async def test_a_server_that_does_not_let_itself_be_looked_at_is_not_failing(
    begin: Any, shared: Cluster
) -> None:
    gpu = Looked()
    gpu.failure = Rejected("openai: 404 refused")
    await begin(shared, 1, gpu=gpu)
    await until(lambda: registered(shared, 1).probed_ms)
    assert (registered(shared, 1).loaded, registered(shared, 1).probe_error) == (None, "")


async def test_a_node_looks_once_its_models_are_registered(begin: Any) -> None:
    cluster, own = Cluster(), Looked()
    await begin(cluster, 3, own=own)
    await asyncio.sleep(0)
    assert not own.looks
    cluster.propose(ServeModels(3, (LOCAL,)))
    await until(lambda: registered(cluster, 3).probed_ms)


async def test_a_node_without_a_quorum_goes_on_when_it_has_one(begin: Any, shared: Cluster) -> None:
    own = Looked()
    shared.ports[3].connected = False
    await begin(shared, 3, own=own)
    await asyncio.wait_for(shared.ports[3].attempted.wait(), 10)
    shared.ports[3].connected = True
    shared.ports[3].catch_up()
    await until(lambda: registered(shared, 3).probed_ms)
