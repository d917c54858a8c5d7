"""The drills' own cluster of processes, without the processes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from consensusllm.drills import processes
from consensusllm.drills.actions import FLIPS_MAX, Actions
from consensusllm.drills.cluster import DrillError, LocalCluster
from consensusllm.drills.history import Recorder
from consensusllm.drills.observer import agreed_slot
from consensusllm.drills.scenario import parse
from consensusllm.drills.talk import Talk
from consensusllm.orchestrator.client import FaultList


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
        self.pids: dict[int, int] = {}
        self.fixed: list[int] = []
        self.retired: list[int] = []
        self.said: list[Callable[[], Any]] = []
        """What a node that is asked alone says, one after the other."""
        self.finds_damage_at = 0
        """The start, from 1 on, at which a node sets its database aside."""

    @property
    def running(self) -> bool:
        return True

    def node_pid(self, node: int) -> int | None:
        return self.pids.get(node)

    def client(self, node: int | None, start: int, timeout_s: float) -> Any:
        self.made.append(Observer([self.address(one) for one in self.nodes]))
        return self.made[-1]

    async def status(self, node: int, timeout_s: float = 1.0) -> Any:
        assert node not in self.retired
        return self.said.pop(0)()

    @property
    def faults(self) -> Any:
        class Faults:
            async def install_node(self, node: int, address: str) -> None: ...

            async def retire_node(_, node: int) -> None:
                self.retired.append(node)

            async def heal(self) -> str:
                return "every fault is lifted"

            async def faults(self) -> FaultList:
                return FaultList([], [], [], [])

            async def fail_node(_, node: int) -> None:
                del self.pids[node]

            async def fix_node(_, node: int) -> None:
                self.fixed.append(node)
                self.pids[node] = node
                if len(self.fixed) == self.finds_damage_at:
                    database = self.node_dir(node) / "node.db"
                    database.rename(database.with_name("node.db.damaged-1"))

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


@contextlib.contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of that command line, which waits."""
    wait = "import signal; print(flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", wait, *words], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            yield child
        finally:
            child.kill()


def node_words(cluster: Cluster, node: int) -> tuple[str, ...]:
    config = str(cluster.node_dir(node).parent / "running-config.json")
    return ("--lifeline", "0", "node", str(node), "--config", config)


async def test_a_paused_node_goes_on_or_is_killed_with_all(cluster: Cluster) -> None:
    with process(*node_words(cluster, 2)) as node:
        cluster.pids[2] = node.pid
        assert cluster.pause(2)
        assert not cluster.pause(2), "it is paused already"
        assert cluster.resume(2)
        assert cluster.pause(2)
        assert cluster.kill_now() == [node.pid]
        node.wait()
    assert not cluster.resume(2)


async def test_a_paused_node_that_was_replaced_is_not_paused_any_more(cluster: Cluster) -> None:
    with process(*node_words(cluster, 2)) as node:
        cluster.pids[2] = node.pid
        assert cluster.pause(2)
        await cluster.replace(2, 1.0)
        await cluster.retire(2)
        assert not cluster.resume(2)
        assert cluster.kill_now() == []


async def test_who_has_the_number_of_a_paused_node_that_died_gets_no_signal(
    cluster: Cluster,
) -> None:
    with process("--lifeline", "0", "node", "2", "--config", "/elsewhere.json") as other:
        for _ in range(2):
            cluster.pids[2] = other.pid
            assert cluster.pause(2)
            assert not cluster.resume(2)
        assert cluster.pause(2)
        assert cluster.kill_now() == []
        assert processes.alive(other.pid)


async def test_a_node_that_died_while_it_was_paused_is_started_and_not_resumed(
    cluster: Cluster,
) -> None:
    recorder = Recorder(lambda: 0.0)
    actions = Actions(cluster, recorder, Talk(), random.Random(0))
    cluster.pids = {1: 1, 3: 3}
    with process(*node_words(cluster, 2)) as node:
        cluster.pids[2] = node.pid
        await actions.pause(2)
    del cluster.pids[2]
    await actions.mend_all()
    assert recorder.problems == ["node 2 died by itself: see its log"]
    assert cluster.fixed == [2]


async def test_to_heal_starts_nodes_that_stopped_by_themselves_and_no_others(
    cluster: Cluster,
) -> None:
    actions = Actions(cluster, Recorder(lambda: 0.0), Talk(), random.Random(0))
    cluster.pids = {2: 2, 3: 3}
    actions.note_deaths()
    assert await actions.heal() == "every fault is lifted, node 1 is started"
    assert cluster.fixed == [1]


async def test_a_node_that_was_replaced_is_retired_once_it_knows(cluster: Cluster) -> None:
    recorder = Recorder(lambda: 0.0)
    cluster.pids = {1: 1, 2: 2, 3: 3}
    cluster.said = [lambda: None, lambda: members(1, 2, 3, 4), lambda: members(1, 3, 4)]
    actions = Actions(cluster, recorder, Talk(), random.Random(0))
    assert await actions.replace_node(2) == "node 4 took the place of node 2"
    assert (cluster.said, cluster.retired, recorder.problems) == ([], [2], [])


async def test_a_node_that_dies_as_it_learns_that_it_was_replaced_is_noticed(
    cluster: Cluster,
) -> None:
    recorder = Recorder(lambda: 0.0)
    cluster.pids = {1: 1, 2: 2, 3: 3}
    cluster.said = [lambda: cluster.pids.clear()]
    await Actions(cluster, recorder, Talk(), random.Random(0)).replace_node(2)
    assert recorder.problems == ["node 2 died by itself: see its log"]
    assert cluster.retired == [2]


async def test_a_node_that_died_before_it_is_fixed_is_noticed(cluster: Cluster) -> None:
    recorder = Recorder(lambda: 0.0)
    actions = Actions(cluster, recorder, Talk(), random.Random(0))
    cluster.pids = {1: 1, 2: 2, 3: 3}
    await actions.fail_node(3)
    del cluster.pids[2]
    for node in (2, 3):
        await actions.fix_node(node)
    assert recorder.problems == ["node 2 died by itself: see its log"]
    assert cluster.fixed == [2, 3]


def test_states_are_equal_only_where_every_node_has_said_its_own() -> None:
    def said(slot: int = 7, state_hash: str = "ab", role: str = "following") -> Any:
        return SimpleNamespace(applied_slot=slot, state_hash=state_hash, role=role)

    level = {1: said(role="leading"), 2: said(), 3: said()}
    assert agreed_slot(level) == 7
    for other in (None, said(slot=6), said(state_hash=""), said(role="preparing")):
        assert agreed_slot({**level, 3: other}) is None


async def test_a_node_that_died_before_it_is_replaced_is_noticed(cluster: Cluster) -> None:
    recorder = Recorder(lambda: 0.0)
    cluster.pids = {1: 1, 3: 3}
    await Actions(cluster, recorder, Talk(), random.Random(0)).replace_node(2)
    assert recorder.problems == ["node 2 died by itself: see its log"]


def members(*nodes: int) -> Any:
    return SimpleNamespace(members=[SimpleNamespace(node=node) for node in nodes])


@pytest.mark.parametrize(("at", "told"), [(1, ""), (3, ", at flip 3")])
async def test_bytes_are_flipped_until_one_is_found(cluster: Cluster, at: int, told: str) -> None:
    actions = Actions(cluster, Recorder(lambda: 0.0), Talk(), random.Random(0))
    database = written(cluster, 2)
    cluster.finds_damage_at = at
    answer = await actions.flip_byte(2, "database")
    assert answer.endswith("was changed: it was found and the file set aside" + told)
    assert cluster.fixed == [2] * at
    assert database.with_name("node.db.damaged-1").read_bytes() != bytes(1000)


async def test_a_drill_whose_flipped_bytes_are_never_found_does_not_go_on(cluster: Cluster) -> None:
    actions = Actions(cluster, Recorder(lambda: 0.0), Talk(), random.Random(0))
    written(cluster, 2)
    with pytest.raises(DrillError, match="bytes of node 2's database were changed, and no damage"):
        await actions.flip_byte(2, "database")
    assert cluster.fixed == [2] * FLIPS_MAX


def written(cluster: Cluster, node: int) -> Path:
    """The database of a node, which runs."""
    cluster.pids[node] = node
    path = cluster.node_dir(node) / "node.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(1000))
    return path


NOBODY: dict[int, Any] = dict.fromkeys((1, 2, 3))
CAUGHT_UP = {1: (900, 900), 2: (900, 900), 3: (900, 900)}


@pytest.mark.parametrize("first", [{}, {3: (4, 4)}, {1: (900, 900), 2: (900, 900)}])
async def test_nodes_agree_once_each_has_said_what_is_chosen_and_applied_it(
    first: dict[int, tuple[int, int]],
) -> None:
    looks = [first, CAUGHT_UP | {3: (4, 900)}, CAUGHT_UP | {3: (4, 900)}, CAUGHT_UP]

    async def statuses() -> dict[int, Any]:
        return NOBODY | {node: standing(*slots) for node, slots in looks.pop(0).items()}

    cluster: Any = SimpleNamespace(nodes=(1, 2, 3), statuses=statuses)
    actions = Actions(cluster, Recorder(lambda: 0.0), Talk(), random.Random(0))
    assert await actions.wait("agreement", None) == "nodes 1, 2, 3 have applied slot 900"
    assert looks == []


async def test_nodes_that_are_all_down_do_not_agree(cluster: Cluster) -> None:
    actions = Actions(cluster, Recorder(lambda: 0.0), Talk(), random.Random(0))
    actions.note_deaths()
    with pytest.raises(DrillError, match="none can agree: heal first"):
        await actions.wait("agreement", None)


def standing(applied: int, chosen: int) -> Any:
    return SimpleNamespace(role="following", applied_slot=applied, chosen_through=chosen)
