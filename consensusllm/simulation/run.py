"""One run of one seed: storms of faults under load, each followed by a calm, until the time is up.

In a calm the faults stop. Then, each within a time of its own, somebody must lead, the clients must
be served again, they must have all their answers, and the cluster must become whole and quiet: all
nodes vote and have applied the same, and no turn is open.
Then the round's history is checked, and what it left behind is removed.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, NoReturn

import structlog

from consensusllm.linearizability import Verdict, check

from .cluster import Cluster
from .faults import Fault, draw
from .invariants import Violation
from .trace import Trace
from .virtual_loop import VirtualLoop
from .workload import Workload

LED_WITHIN = 60
"""So many of the shortest election timeouts after the faults somebody must lead at the latest. Who
stood again and again in vain stands again after 32 of them, where nodes are near each other."""
SERVED_S = 75.0
"""Simulated seconds after that within which all clients must have got on."""
ANSWERED_S = 30.0
"""Within which clients that do nothing more must have their answers."""
SETTLED_S = 50.0
"""Within which the cluster must then be whole and quiet."""

LOOK_EVERY_S = 0.5
CHECK_LOOKS = 200_000
"""How often the checker may look at its clock before it gives up."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """``seed`` decides everything. ``faults`` in place of the drawn ones replays a schedule;
    ``stop_s`` ends the run at that second, whatever is under way. Clients think for ``think_s`` on
    average (None: drawn for each round), and the leader's heartbeats are ``heartbeat_s`` apart."""

    seed: int
    nodes: int = 3
    seconds: float = 120.0
    kinds: tuple[str, ...] = ()
    clients: int = 6
    think_s: float | None = None
    heartbeat_s: float = 0.05
    faults: tuple[Fault, ...] | None = None
    stop_s: float | None = None


@dataclass(slots=True)
class Result:
    """``broken`` is the invariant's name where one is broken, and ``reason`` says how. ``trace``
    is then the end of the trace, or all of it where that was asked for."""

    scenario: Scenario
    simulated_s: float = 0.0
    rounds: int = 0
    broken: str = ""
    reason: str = ""
    figures: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)


def run(scenario: Scenario, *, whole_trace: bool = False) -> Result:
    """Simulate ``scenario``. Never raises for what goes wrong in the cluster."""
    loop = VirtualLoop()
    trace = Trace(loop.time, whole=whole_trace)
    result = Result(scenario)
    failures: list[BaseException] = []

    def failed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failures.append(context.get("exception") or RuntimeError(context["message"]))
        loop.stop()

    loop.set_exception_handler(failed)
    with repeatable(failures, loop):
        cluster = Cluster(
            loop, str(scenario.seed), scenario.nodes, trace, heartbeat_s=scenario.heartbeat_s
        )
        main = loop.create_task(_rounds(cluster, scenario, result))
        main.add_done_callback(lambda _: loop.stop())
        if scenario.stop_s is not None:
            loop.call_at(scenario.stop_s, loop.stop)
        try:
            loop.run_forever()
            if main.done() and not failures:
                main.result()
        except Exception as error:
            failures.append(error)
        result.simulated_s = loop.time()
        result.figures = cluster.figures
        if failures:
            _blame(result, failures[0])
        if failures or whole_trace:
            result.trace = list(trace.lines())
        discard(loop)
    return result


async def _rounds(cluster: Cluster, scenario: Scenario, result: Result) -> None:
    loop = cluster.loop
    rng = Random(f"{scenario.seed}/rounds")
    cluster.start()
    while loop.time() < scenario.seconds:
        result.rounds += 1
        storm_s = rng.uniform(15.0, 45.0)
        drawn = draw(rng, result.rounds, storm_s, cluster.members, scenario.kinds)
        if scenario.faults is not None:
            drawn = [fault for fault in scenario.faults if fault.round == result.rounds]
        result.faults += drawn
        workload = Workload(
            cluster, Random(rng.random()), result.rounds, scenario.clients, scenario.think_s
        )
        for task in workload.tasks:
            task.add_done_callback(_reraise)
        await _storm(cluster, drawn, storm_s)
        await _calm(cluster, workload)


async def _storm(cluster: Cluster, faults: Sequence[Fault], storm_s: float) -> None:
    loop = cluster.loop
    cluster.trace.add(0, "storm", f"{storm_s:.1f} s, {len(faults)} faults")
    begin = loop.time()
    for fault in faults:
        loop.call_at(begin + fault.at_s, cluster.inflict, fault)
    while loop.time() < begin + storm_s:
        await asyncio.sleep(LOOK_EVERY_S)
        cluster.look()


async def _calm(cluster: Cluster, workload: Workload) -> None:
    """Liveness, and the checks that look at a round as a whole. A node that is still cut off must
    not keep the clients waiting; then it comes back too."""
    cluster.heal()
    starved = workload.served()
    await _until_none(cluster, LED_WITHIN * cluster.patience_s, cluster.unled)
    await _until_none(cluster, SERVED_S, starved)
    workload.stopping = True
    restoring = cluster.loop.create_task(cluster.operator.restore())
    restoring.add_done_callback(_reraise)
    await _until_none(cluster, ANSWERED_S, workload.waiting)
    cluster.reconnect()
    await _until_none(cluster, SETTLED_S, cluster.unsettled)
    machines = {
        number: node.life.replica.machine for number, node in cluster.nodes.items() if node.life
    }
    for number, machine in machines.items():
        cluster.invariants.hashed(number, machine)
    machine = machines[cluster.members[0]]
    _check_history(workload)
    _check_effects(workload, machine)
    cluster.invariants.settled(cluster.invariants.frontier)
    await workload.sweep(workload.names_left(machine))
    gc.collect()


async def _until_none(cluster: Cluster, within_s: float, outstanding: Callable[[], str]) -> None:
    """Wait until nothing is outstanding. Raises Violation when it is not so ``within_s``."""
    deadline = cluster.loop.time() + within_s
    while left := outstanding():
        if cluster.loop.time() > deadline:
            raise Violation("progress after the faults", f"after {within_s:.0f} s {left}")
        await asyncio.sleep(LOOK_EVERY_S)
        cluster.look()


def _check_history(workload: Workload) -> None:
    history = workload.take_history()
    looks = itertools.count()
    report = check(history, lambda: float(next(looks)), CHECK_LOOKS)
    workload.cluster.figures["histories"] += 1
    workload.cluster.figures["operations checked"] += report.operations
    if report.verdict is Verdict.UNDECIDED:
        workload.cluster.figures["keys undecided"] += len(report.undecided)
    if report.verdict is Verdict.NOT_LINEARIZABLE:
        calls = sorted(
            (each for each in history.operations if each.key == report.offending),
            key=lambda each: each.start,
        )
        lines = "".join(
            f"\n    {each.start:.4f}-{'?' if each.end is None else f'{each.end:.4f}'} "
            f"client {each.process} {each.op} {each.value} ok={each.ok} output={each.output}"
            for each in calls
            if each.end is None or each.end >= report.passed - 1.0
        )
        raise Violation(
            "linearizable", f"key {report.offending} after {report.passed:.4f} s{lines}"
        )


def _check_effects(workload: Workload, machine: Any) -> None:
    """Nothing happened twice, nothing that was acknowledged is missing, and no answer changed."""
    known, unknown = workload.counted
    value = int(machine.get(workload.counter) or b"0")
    if not known <= value <= known + unknown:
        raise Violation(
            "each command is applied once",
            f"the counter is {value} after {known} increments and {unknown} of unknown outcome",
        )
    for head in machine.summaries("", 10_000):
        name = head.conversation
        questions = [turn.question for turn in machine.conversation(name).turns]
        if len(set(questions)) < len(questions):
            raise Violation("each command is applied once", f"{name} has a question twice")
        if answered := workload.refused.intersection(questions):
            raise Violation("budgets hold", f"{name} has what was refused: {sorted(answered)}")
    for scope, budget in machine.budgets.items():
        if budget.reserved:
            raise Violation("budgets hold", f"{scope} has {budget}, and nobody is asked any more")
    if lost := workload.told.lost(machine):
        raise Violation("what is acknowledged stays", lost)
    for name in workload.conversations:
        found = machine.conversation(name)  # None: each client's session ended as it was created
        for turn in found.turns if found is not None else ():
            for candidate in turn.candidates:
                workload.cluster.invariants.check_answer((name, turn.turn), candidate)


@contextmanager
def repeatable(failures: list[BaseException], loop: VirtualLoop) -> Iterator[None]:
    """Keep the log, and the collector's own timing, out of the run. A bug that the code only logs
    counts as a failure."""

    def notice(_: Any, __: str, event: MutableMapping[str, Any]) -> NoReturn:
        error = event.get("exc_info")
        if error:
            failures.append(error if isinstance(error, BaseException) else _being_handled())
            loop.stop()
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[notice],
        wrapper_class=structlog.make_filtering_bound_logger(40),
        cache_logger_on_first_use=False,
    )
    collecting = gc.isenabled()
    gc.disable()
    gc.collect()
    gc.freeze()  # what is there already need not be looked at after each round
    try:
        yield
    finally:
        gc.unfreeze()
        structlog.configure(**before)
        if collecting:
            gc.enable()


def _being_handled() -> BaseException:
    error = sys.exc_info()[1]
    assert error is not None, "it is logged where it is handled"
    return error


def _reraise(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        task.get_loop().call_exception_handler({"message": "", "exception": task.exception()})


def _blame(result: Result, error: BaseException) -> None:
    if isinstance(error, Violation):
        result.broken, result.reason = error.invariant, str(error)
    else:
        result.broken = "no bug stops a node"
        result.reason = f"{type(error).__name__}: {error}"
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        if where is not None:
            code = where.tb_frame.f_code
            result.reason += f" ({code.co_filename.rpartition('/')[2]}:{where.tb_lineno})"


def discard(loop: VirtualLoop) -> None:
    """End what still runs, without a word."""
    loop.set_exception_handler(lambda _, __: None)
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()
    loop.close()
