"""Owns one run of a drill, from an empty directory to the verdict.

Start a cluster, put it under load, carry out the steps; then end the load, mend everything, wait
until all nodes agree, read everything once more, and judge. However it ends, no process is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from consensusllm.client import Client, ConsensusError, Conversation, NotFound
from consensusllm.conversations import shortfalls
from consensusllm.linearizability import Operation, to_line
from consensusllm.orchestrator.client import FaultRefused

from .actions import PATIENCE_S, POLL_S, Actions, Skipped, limit_file_size
from .cluster import DrillError, LocalCluster
from .history import READER, Recorder, count, during_load, longest_gap_s
from .load import Keys, KeyWorker, Load, Worker
from .observer import Observer, agreed_slot
from .scenario import Scenario, Step
from .talk import Talk, Talker
from .verdict import Evidence, Judgement, figures, judge

STOP_GRACE_S = 3.0


class Progress(Protocol):
    """Who is told how a drill goes on."""

    def line(self, seconds: float, text: str) -> None:
        """Something was done, so many seconds after the load began."""
        ...

    def count(self, steps: int, total: int, operations: int) -> None:
        """So many of all steps are done, and so many operations have succeeded."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """``directory`` is what was kept of the run; None where it was removed."""

    judgement: Judgement
    history: tuple[Operation, ...]
    directory: Path | None


async def run_drill(
    scenario: Scenario,
    program: Sequence[str],
    seed: int,
    progress: Progress,
    *,
    keep: bool = False,
) -> Outcome:
    """Run ``scenario`` on a fresh cluster, with ports and a directory of its own.

    ``program`` is the command line of this program, to which ``up`` is added. ``seed`` decides what
    the clients do and what is broken where there is a choice. The directory is kept where the drill
    failed, and where ``keep`` says so.
    """
    directory = Path(tempfile.mkdtemp(prefix=f"consensusllm-drill-{scenario.name[:40]}-"))
    kept = keep
    try:
        progress.line(0.0, f"starting {scenario.nodes} nodes in {directory}")
        run = _Run(scenario, LocalCluster(scenario, directory, program), seed, progress)
        judgement = await run.judgement()
        kept = keep or bool(judgement.problems)
        history = tuple(run.recorder.operations)
        if kept:
            lines = "".join(f"{to_line(each)}\n" for each in history)
            (directory / "history.jsonl").write_text(lines, encoding="utf-8")
        return Outcome(judgement, history, directory if kept else None)
    except Exception:
        kept = True  # a bug, which somebody will want to look at
        raise
    finally:
        if not kept:
            shutil.rmtree(directory, ignore_errors=True)


class _Run:
    def __init__(
        self, scenario: Scenario, cluster: LocalCluster, seed: int, progress: Progress
    ) -> None:
        self._scenario = scenario
        self._cluster = cluster
        self._seed = seed
        self._progress = progress
        self._origin = time.monotonic()
        self.recorder = Recorder(lambda: time.monotonic() - self._origin)
        self._talk = Talk()
        self._keys = Keys(scenario.load.keys)
        self._actions = Actions(cluster, self.recorder, self._talk, random.Random(f"{seed} faults"))
        self._observer = Observer(cluster.statuses, self.recorder.problem)
        self._conversations: dict[str, Conversation | None] = {}
        self._steps_done = 0
        self._load_s = 0.0

    async def judgement(self) -> Judgement:
        skipped = ""
        whole = False
        try:
            async with self._running():
                await self._drill()
            whole = True
        except Skipped as reason:
            skipped = str(reason)
        except (DrillError, FaultRefused) as error:
            self.recorder.problems.insert(0, str(error))
        problems: tuple[str, ...] = ()
        if not skipped or self.recorder.operations:
            problems = await self._judge(whole)
        load = during_load(self.recorder.operations)
        turns = [turn for each in self._conversations.values() if each for turn in each.turns]
        return Judgement(
            self._scenario.name,
            self._seed,
            problems,
            figures(
                count(load, self.recorder.questions),
                gap_s=longest_gap_s(load, self._load_s),
                elections=self._observer.elections,
                turns=len(turns),
                councils=sum(turn.council is not None for turn in turns),
                degraded=sum(bool(shortfalls(turn)) for turn in turns),
                takeovers=self._talk.takeovers,
                seconds=self.recorder.clock(),
            ),
            skipped,
        )

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        """The cluster runs inside, and nothing of it afterwards."""
        try:
            if self._scenario.uses("fill_disk"):
                limit_file_size(None, 0)
            await self._cluster.start()
            yield
        finally:
            await self._cluster.stop()

    # The drill ------------------------------------------------------------------------------------

    async def _drill(self) -> None:
        self._origin = time.monotonic()
        await self._actions.leader()
        self._observer.see(await self._cluster.statuses())
        self._origin = time.monotonic()
        background = [asyncio.create_task(self._observer.run()), asyncio.create_task(self._count())]
        plan = self._scenario.load
        load = Load(
            self._workers(),
            random.Random(f"{self._seed} pauses"),
            plan.pause_s,
            lambda error: self.recorder.problem(f"a client broke: {error!r}"),
        )
        load.start()
        grace_s = 0.0
        try:
            try:
                for step in self._scenario.steps:
                    await self._step(step)
                    self._steps_done += 1
                grace_s = plan.timeout_s + STOP_GRACE_S
            finally:
                self._load_s = self.recorder.clock()
                await load.stop(grace_s)
            self._say("the load has ended; mending what is broken")
            await self._actions.mend_all()
            await self._read_all()
            slot = await self._agreement()
            self._say(f"all {self._scenario.nodes} nodes have applied slot {slot}")
        finally:
            early = [task for task in background if task.done()]
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            for task in early:
                why = "cancelled" if task.cancelled() else repr(task.exception())
                self.recorder.problem(f"the drill itself broke: {why}")

    def _workers(self) -> list[Worker]:
        plan, nodes = self._scenario.load, self._cluster.nodes
        homes: list[int | None] = [None] * plan.clients + list(nodes) * plan.pinned
        workers: list[Worker] = []

        def client(node: int | None) -> tuple[int, Client, random.Random]:
            process = len(workers) + 1
            made = self._cluster.client(node, process, plan.timeout_s)
            return process, made, random.Random(f"{self._seed} client {process}")

        for home in homes:
            process, made, rng = client(home)
            workers.append(KeyWorker(process, made, self.recorder, self._keys, rng))
        for number in range(plan.conversations):
            name = f"conversation-{number + 1}"
            self._conversations[name] = None
            for _ in range(2):
                process, made, rng = client(None)
                talker = Talker(process, made, self.recorder, name, self._talk, rng, plan.council)
                workers.append(talker)
        return workers

    async def _step(self, step: Step) -> None:
        if step.at_s is not None:
            await asyncio.sleep(max(0.0, step.at_s - self.recorder.clock()))
        try:
            if step.after is not None:
                await self._actions.pass_moment(step.after)
            method = getattr(self._actions, step.method)
            answer = await method(**step.arguments)
        except (DrillError, FaultRefused) as error:
            raise DrillError(f"{self._scenario.source}:{step.line}: {step.text}: {error}") from None
        self._say(f"{step.text}: {answer}")

    # The end of it --------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        """Read every key and every conversation, once all turns have closed, into the history."""
        async with self._cluster.client(None, 0, PATIENCE_S) as client:
            reader = KeyWorker(READER, client, self.recorder, self._keys, random.Random(0))
            for key in list(self._keys.seen):
                await reader.get(key)
                if self.recorder.operations[-1].ok is not True:
                    raise DrillError(f"{key} cannot be read in the end, within {PATIENCE_S:g} s")
            for name in self._conversations:
                await self._read_conversation(client, name)

    async def _read_conversation(self, client: Client, name: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            start = self.recorder.clock()
            try:
                found = await client.view(name)
            except NotFound:
                found = None
            except ConsensusError as error:
                raise DrillError(f"{name} cannot be read in the end: {error}") from None
            closed = found is None or all(turn.closed for turn in found.turns)
            if closed or time.monotonic() > deadline:
                break
            await asyncio.sleep(POLL_S)
        self._conversations[name] = found
        seen: dict[str, int | str | None] = {name: "created" if found else None}
        for turn in found.turns if found else ():
            seen[f"{name}/{turn.turn}"] = turn.choice or None
        end = self.recorder.clock()
        for number, (key, output) in enumerate(seen.items(), start=1):
            # One call read them all, and one process has one operation under way.
            self.recorder.operations.append(
                Operation(READER - number, "get", key, None, start, end, True, output)
            )

    async def _agreement(self) -> int:
        """Wait until every node has applied the same slot, and look at the states."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            statuses = await self._cluster.statuses()
            self._observer.see(statuses)
            if (slot := agreed_slot(statuses)) is not None:
                return slot
            if time.monotonic() > deadline:
                shown = ", ".join(
                    f"node {node}: " + (f"{one.role} at {one.applied_slot}" if one else "silent")
                    for node, one in statuses.items()
                )
                raise DrillError(f"the nodes do not agree after {PATIENCE_S:g} s ({shown})")
            await asyncio.sleep(POLL_S)

    async def _judge(self, whole: bool) -> tuple[str, ...]:
        """In a thread, since checking is long work; it ends early where this is cancelled."""
        self._say(f"checking the history of {len(self.recorder.operations)} operations")
        evidence = Evidence(
            tuple(self.recorder.operations),
            tuple(self.recorder.questions),
            self._conversations,
            self._talk.recorded,
            tuple(self.recorder.problems),
            whole,
        )
        cancelled = threading.Event()
        try:
            return await asyncio.to_thread(
                judge, evidence, lambda: math.inf if cancelled.is_set() else time.monotonic()
            )
        finally:
            cancelled.set()

    # Helpers --------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        self._progress.line(self.recorder.clock(), text)

    async def _count(self) -> None:
        while True:
            total = len(self._scenario.steps)
            self._progress.count(self._steps_done, total, self.recorder.succeeded)
            await asyncio.sleep(0.1)
