"""Owns the carrying out of a scenario's steps on a real cluster; a method for each action.

It keeps in mind what it did, so that the nodes that are named by what they do can be found, so that
what is broken in the end can be mended, and so that a node that died by itself is noticed.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import resource
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from async_timeout import timeout

from consensusllm.client import Client, ConsensusError, Status
from consensusllm.storage.wal import FRAME_HEADER_BYTES, HEADER_BYTES, scan_wal

from . import processes
from .cluster import DrillError, LocalCluster
from .grammar import Moment, NodeReference
from .history import Recorder
from .links import Links
from .talk import Talk

PATIENCE_S = 60.0
"""How long anything that must come about may take, on a busy machine."""
POLL_S = 0.05
DISK_LEFT_BYTES = 64 << 10
FLIPS_MAX = 20
"""How many bytes of a node's files are changed, one after the other, until one counts."""

Found = TypeVar("Found")


class Skipped(Exception):
    """The drill cannot be done on this machine. One line that says why."""


class Actions:
    """Each method returns one line that says what is so now, or raises DrillError, FaultRefused."""

    def __init__(
        self, cluster: LocalCluster, recorder: Recorder, talk: Talk, rng: random.Random
    ) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._talk = talk
        self._rng = rng
        self._meant: dict[str, int] = {}
        self._down: set[int] = set()
        self._paused: set[int] = set()
        self._links = Links(cluster, recorder.problem)

    # Nodes ------------------------------------------------------------------------------------

    async def fail_node(self, node: NodeReference) -> str:
        number = await self._find(node)
        await self._kill(number)
        return f"node {number} was killed"

    async def fix_node(self, node: NodeReference) -> str:
        number = await self._recall(node)
        self._note_death(number)
        await self._start(number)
        return f"node {number} was started"

    async def replace_node(self, node: NodeReference) -> str:
        """Add a node of the next number, then remove ``node``; end its process once it knows."""
        self.note_deaths()
        number = await self._find(node)
        new = await self._cluster.replace(number, PATIENCE_S)
        await self._eventually(
            lambda: self._knows_that_it_left(number), f"node {number} knows that it was removed"
        )
        self._note_death(number)
        await self._cluster.retire(number)
        self._down.discard(number)
        self._paused.discard(number)
        return f"node {new} took the place of node {number}"

    async def transfer_leader(self, node: NodeReference) -> str:
        number = await self._find(node)
        await self._cluster.transfer(number, PATIENCE_S)
        return f"node {number} leads"

    async def pause(self, node: NodeReference) -> str:
        number = await self._find(node)
        if not self._cluster.pause(number):
            raise DrillError(f"node {number} does not run, so it cannot be paused")
        self._paused.add(number)
        return f"node {number} is stopped in its tracks"

    async def resume(self, node: NodeReference) -> str:
        number = await self._recall(node)
        if not self._cluster.resume(number):
            raise DrillError(f"node {number} is not paused")
        self._paused.discard(number)
        return f"node {number} goes on"

    async def kill_all(self) -> str:
        self.note_deaths()
        await self._links.forget()
        await self._cluster.kill_all()
        self._paused.clear()
        return "launcher, orchestrator and all nodes were killed"

    async def start_all(self) -> str:
        await self._cluster.start()
        self._down.clear()
        return "everything was started again"

    # Links ------------------------------------------------------------------------------------

    async def fail_link(self, link: tuple[NodeReference, NodeReference], one_way: bool) -> str:
        a, b = await self._find_all(link)
        return await self._links.fail(a, b, one_way)

    async def fix_link(self, link: tuple[NodeReference, NodeReference], one_way: bool) -> str:
        a, b = [await self._recall(node) for node in link]
        return await self._links.fix(a, b, one_way)

    async def partition(self, groups: Sequence[Sequence[NodeReference]]) -> str:
        found = iter(await self._find_all([node for group in groups for node in group]))
        numbers = [[next(found) for _ in group] for group in groups]
        return await self._links.partition(numbers)

    async def isolate(self, node: NodeReference) -> str:
        return await self._links.isolate(await self._find(node))

    async def heal(self) -> str:
        """Lift every fault; that starts the nodes that are down, too, and those that stopped by
        themselves, which the orchestrator does not know of."""
        answer = await self._links.heal()
        for node in sorted(self._down):
            if self._cluster.node_pid(node) is None:
                await self._start(node)
                answer += f", node {node} is started"
        self._down.clear()
        return answer

    async def delay(self, link: Any, delay_ms: float, jitter_ms: float) -> str:
        return await self._shape("delay", link, delay_ms, *([jitter_ms] if jitter_ms else []))

    async def drop(self, link: Any, percent: float) -> str:
        return await self._shape("drop", link, percent)

    async def duplicate(self, link: Any, percent: float) -> str:
        return await self._shape("duplicate", link, percent)

    async def reorder(self, link: Any, percent: float) -> str:
        return await self._shape("reorder", link, percent)

    async def _shape(self, word: str, link: Any, *values: float) -> str:
        if link is not None:
            a, b = sorted(await self._find_all(link))
            return await self._links.shape(word, [(a, b)], *values)
        pairs = list(itertools.combinations(self._cluster.nodes, 2))
        if not pairs:
            raise DrillError("one node has no links: give the cluster more nodes")
        return f"every link: {await self._links.shape(word, pairs, *values)}"

    # Disks ------------------------------------------------------------------------------------

    async def lose_disk(self, node: NodeReference) -> str:
        """Kill the node, delete its data directory, and start it again."""
        number = await self._find(node)
        await self._kill(number)
        await asyncio.to_thread(shutil.rmtree, self._cluster.node_dir(number))
        await self._start(number)
        return f"node {number} was killed, lost all of its data, and was started"

    async def flip_byte(self, node: NodeReference, file: str | None) -> str:
        """Kill the node, change one byte of its files, and start it again; and so on until the
        damage was found, since much of a file is read by nobody.

        Not of the last transaction in its journal: damage there cannot be told from a write that a
        crash tore, which was never acknowledged (`consensusllm.storage.wal`).
        """
        number = await self._find(node)
        directory = self._cluster.node_dir(number)
        before = _set_aside(directory)
        for flips in range(1, FLIPS_MAX + 1):
            await self._kill(number)
            where = self._flip(number, file)
            await self._start(number)
            if _set_aside(directory) > before:
                tries = f", at flip {flips}" if flips > 1 else ""
                return f"{where} was changed: it was found and the file set aside{tries}"
        raise DrillError(
            f"{FLIPS_MAX} bytes of node {number}'s {file or 'files'} were changed, and no damage "
            "was found: let more be written before, or see the node's log"
        )

    def _flip(self, number: int, file: str | None) -> str:
        found = [path for path in self._cluster.files(number) if _flippable_bytes(path)]
        if file is not None:
            found = [path for path in found if path.name.endswith("-wal") == (file == "journal")]
        if not found:
            raise DrillError(f"node {number} has no {file or 'data'} to flip a byte of")
        path = self._rng.choice(found)
        offset = self._rng.randrange(_flippable_bytes(path))
        with path.open("r+b") as opened:
            opened.seek(offset)
            old = opened.read(1)[0]
            opened.seek(offset)
            opened.write(bytes([old ^ self._rng.randrange(1, 256)]))
        return f"byte {offset} of node {number}'s {path.name}"

    async def fill_disk(self, node: NodeReference) -> str:
        """Let the node write nothing beyond where its smaller file ends (or a little more), and
        wait until it has stopped because of that."""
        number = await self._find(node)
        pid = self._cluster.node_pid(number)
        if pid is None:
            raise DrillError(f"node {number} does not run, so its disk cannot fill up")
        end = min(path.stat().st_size for path in self._cluster.files(number))
        limit_file_size(pid, end + DISK_LEFT_BYTES)
        await self._eventually(
            lambda: _when(not processes.alive(pid)),
            f"node {number}, whose disk is full, has stopped",
        )
        self._down.add(number)
        return f"node {number} stopped when its disk was full"

    # Waiting ----------------------------------------------------------------------------------

    async def wait(self, condition: str | None, moment: Moment | None) -> str:
        if moment is not None:
            return await self.pass_moment(moment)
        if condition == "leader":
            await self._served()
            return f"node {await self.leader()} leads"
        if condition == "answering":
            return f"node {await self._answering()} is writing an answer"
        return await self._caught_up()

    async def pass_moment(self, moment: Moment) -> str:
        """Wait for so long, or for so many operations to succeed."""
        if moment.seconds is not None:
            await asyncio.sleep(moment.seconds)
            return f"{moment.seconds:g} s have passed"
        assert moment.operations is not None
        goal = self._recorder.succeeded + moment.operations
        try:
            async with timeout(PATIENCE_S):
                await self._recorder.until_succeeded(goal)
        except asyncio.TimeoutError:
            done = moment.operations - (goal - self._recorder.succeeded)
            raise DrillError(
                f"only {done} of {moment.operations} operations succeeded in {PATIENCE_S:g} s"
            ) from None
        return f"{moment.operations} operations succeeded"

    async def leader(self) -> int:
        """Wait until a node leads that is not down, paused or cut off, and until a majority (or
        all that can say) follow it."""
        return await self._eventually(self._leader_now, "there is a leader")

    async def _leader_now(self) -> int | None:
        statuses = await self._cluster.statuses()
        said = [status for status in statuses.values() if status is not None]
        for status in said:
            follows = [each for each in said if each.leader == status.node]
            if (
                status.role == "leading"
                and status.node not in self._unfit
                and 2 * len(follows) > len(self._cluster.nodes)
            ):
                return status.node
        return None

    async def _served(self) -> None:
        """Wait until a write that began just now has succeeded."""

        async def write() -> bool:
            try:
                await client.put("drill/probe", b"")
            except ConsensusError:
                return False
            return True

        client: Client = self._cluster.client(None, 0, 2.0)
        try:
            await self._eventually(write, "a write succeeds")
        finally:
            await client.close()

    async def _follower(self) -> int:
        leader = await self.leader()
        followers = [n for n in self._cluster.nodes if n != leader and n not in self._unfit]
        if not followers:
            raise DrillError("there is no follower that is up")
        return self._rng.choice(followers)

    async def _answering(self) -> int:
        async def now() -> int | None:
            writing = [node for node in self._talk.writing.values() if node not in self._unfit]
            return writing[-1] if writing else None

        return await self._eventually(now, "a node is writing an answer")

    async def _caught_up(self) -> str:
        """Wait until every node that can has applied what was chosen when all of them had said what
        that is."""
        wanted = [node for node in self._cluster.nodes if node not in self._unfit]
        if not wanted:
            raise DrillError(
                "no node is up and linked to a majority, so none can agree: heal first"
            )

        async def all_said() -> list[Status] | None:
            statuses = await self._cluster.statuses()
            silent = any(statuses[node] is None for node in wanted)
            return None if silent else [status for status in statuses.values() if status]

        async def there() -> bool:
            statuses = await self._cluster.statuses()
            return all(_in_order(statuses[node], goal) for node in wanted)

        names = ", ".join(map(str, wanted))
        said = await self._eventually(all_said, f"nodes {names} have said what is chosen")
        goal = max(status.chosen_through for status in said)
        await self._eventually(there, f"nodes {names} have applied slot {goal}")
        return f"nodes {names} have applied slot {goal}"

    async def _knows_that_it_left(self, node: int) -> bool:
        """Or it is in no state to know anything."""
        if node in self._unfit or self._cluster.node_pid(node) is None:
            return True
        status = await self._cluster.status(node)
        return status is not None and all(each.node != node for each in status.members)

    # The end ----------------------------------------------------------------------------------

    def note_deaths(self) -> None:
        """Report every node that should run and does not."""
        if not self._cluster.running:
            return
        for node in self._cluster.nodes:
            self._note_death(node)

    def _note_death(self, node: int) -> None:
        if node not in self._down and self._cluster.node_pid(node) is None:
            self._recorder.problem(f"node {node} died by itself: see its log")
            self._paused.discard(node)
            self._down.add(node)

    async def mend_all(self) -> None:
        """Mend everything that is still broken. Raises DrillError, FaultRefused."""
        self.note_deaths()
        if not self._cluster.running:
            await self.start_all()
        await self.heal()
        for node in sorted(self._paused):
            await self.resume(node)

    # Finding nodes ------------------------------------------------------------------------------

    @property
    def _unfit(self) -> set[int]:
        return self._down | self._paused | self._links.cut_off

    async def _find_all(self, references: Sequence[NodeReference]) -> list[int]:
        return [await self._find(reference) for reference in references]

    async def _find(self, reference: NodeReference) -> int:
        """The node that is meant now."""
        if isinstance(reference, int):
            return reference
        found = await {
            "leader": self.leader,
            "follower": self._follower,
            "answering": self._answering,
        }[reference]()
        self._meant[reference] = found
        return found

    async def _recall(self, reference: NodeReference) -> int:
        """The node that was meant last."""
        if isinstance(reference, int):
            return reference
        return self._meant.get(reference) or await self._find(reference)

    async def _kill(self, node: int) -> None:
        if self._cluster.node_pid(node) is None:
            raise DrillError(f"node {node} does not run, so it cannot be killed")
        await self._cluster.kill(node)
        self._paused.discard(node)
        self._down.add(node)

    async def _start(self, node: int) -> None:
        await self._cluster.faults.fix_node(node)
        self._down.discard(node)

    async def _eventually(
        self, condition: Callable[[], Awaitable[Found | None]], what: str
    ) -> Found:
        """Wait until ``condition`` returns something that is true, and return it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        while True:
            found = await condition()
            if found:
                return found
            if loop.time() > deadline:
                raise DrillError(f"not within {PATIENCE_S:g} s: {what}")
            await asyncio.sleep(POLL_S)


async def _when(truth: bool) -> bool:
    return truth


def _in_order(status: Status | None, goal: int) -> bool:
    return (
        status is not None
        and status.role in ("leading", "following")
        and status.applied_slot >= goal
    )


def limit_file_size(pid: int | None, size_bytes: int) -> None:
    """Let no file of the process grow beyond ``size_bytes``; None only asks whether that can be
    done. Raises Skipped. No privilege is needed for a process of one's own."""
    if not hasattr(resource, "prlimit"):
        raise Skipped(
            "a full disk needs a system that can limit the files of a running process (Linux)"
        )
    if pid is None:
        return
    try:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, hard))
    except PermissionError:
        raise Skipped("a full disk needs the right to limit a process of one's own") from None


def _flippable_bytes(path: Path) -> int:
    """From the beginning on; for a journal up to its last transaction."""
    if not path.name.endswith("-wal"):
        return path.stat().st_size
    scan = scan_wal(path)
    if len(scan.commits) < 2:
        return 0
    assert scan.frame_bytes > FRAME_HEADER_BYTES
    return HEADER_BYTES + scan.frame_bytes * (scan.commits[-2] + 1)


def _set_aside(directory: Path) -> int:
    return len(list(directory.glob("*.damaged-*")))
