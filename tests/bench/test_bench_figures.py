"""The arithmetic of the bench: percentiles, medians, ratios, gaps, CPU shares, and the goals."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.bench.figures import Cell, Results, percentile
from consensusllm.bench.gaps import STEADY_S, longest_gap, settled
from consensusllm.bench.goals import GOALS, Verdict, judged, shown
from consensusllm.bench.plan import ALL, LONG, ONCE, OWN_CLUSTER, QUICK, WORKLOADS, Plan
from consensusllm.bench.processes import BenchError, Usage
from consensusllm.bench.run import loop_figures, usage_figures
from consensusllm.bench.takeover import Reading
from consensusllm.bench.work import (
    KEYS,
    VALUE_BYTES,
    Measured,
    Timings,
    Work,
    closed_loop,
    key,
    value,
)
from consensusllm.client import CandidateDone, Delta, Takeover
from consensusllm.conversations.records import Candidate

OURS = Cell("puts", 64, "direct")
ETCD = Cell("puts", 64, "etcd")


def test_a_percentile_is_one_of_the_values_by_its_rank() -> None:
    hundred = list(range(1, 101))
    random.Random(1).shuffle(hundred)
    assert [percentile(hundred, each) for each in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 99) == 7.0
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0


@given(st.lists(st.integers(), min_size=1), st.integers(1, 100))
def test_at_least_the_percentage_is_not_above_a_percentile(values: list[int], percent: int) -> None:
    found = percentile(values, percent)
    assert found in values
    assert 100 * sum(one <= found for one in values) >= percent * len(values)
    assert 100 * sum(one < found for one in values) < percent * len(values)


def test_a_ratio_is_the_median_of_the_ratios_of_each_run() -> None:
    results = Results()
    # A machine that becomes four times slower, and a system that is twice as fast throughout.
    for run, speed in ((1, 4000.0), (2, 2000.0), (3, 1000.0)):
        results.add(OURS, run, {"per_second": 2 * speed})
        results.add(ETCD, run, {"per_second": speed})
    results.add(OURS, 4, {"per_second": 1.0})  # a run without the other system
    assert results.ratio(OURS, ETCD, "per_second") == 2.0
    assert results.median(ETCD, "per_second") == 2000.0


def test_what_was_not_measured_has_no_median_and_no_ratio() -> None:
    results = Results()
    results.add(OURS, 1, {"per_second": 1.0})
    results.add(ETCD, 2, {"per_second": 1.0})
    assert results.median(OURS, "gap_ms") is None
    assert results.ratio(OURS, ETCD, "per_second") is None, "no run has both"
    results.add(ETCD, 1, {"per_second": 0.0})
    assert results.ratio(OURS, ETCD, "per_second") is None, "nothing is divided by 0"


def test_several_samples_of_a_run_count_as_their_median() -> None:
    results = Results()
    ours, theirs = Cell("failover", 0, "direct"), Cell("failover", 0, "etcd")
    for gap_ms in (100.0, 300.0, 200.0):
        results.add(ours, 1, {"gap_ms": gap_ms})
        results.add(theirs, 1, {"gap_ms": 2 * gap_ms})
    assert results.ratio(ours, theirs, "gap_ms") == 0.5


def test_cells_are_in_the_order_in_which_they_are_shown() -> None:
    results = Results()
    for system in ("etcd", "direct"):
        for outstanding in (256, 1):
            results.add(Cell("puts", outstanding, system), 1, {})
    results.failures[Cell("puts", 1, "PySyncObj")] = "it fell over"
    shown = [(cell.outstanding, cell.system) for cell in results.cells("puts")]
    assert shown == [(1, "direct"), (1, "etcd"), (1, "PySyncObj"), (256, "direct"), (256, "etcd")]


def test_the_longest_gap_is_the_one_that_the_kill_made() -> None:
    completions = [0.0, 5.0, 5.1, 5.2, 6.0, 6.1]  # 5 s without a write, but before the kill
    assert longest_gap(completions, since=5.15) == (pytest.approx(0.8), 6.0)
    assert longest_gap(completions, since=7.0) == (0.0, 7.0)


def test_a_gap_that_began_before_the_kill_counts_when_it_ends_after_it() -> None:
    assert longest_gap([1.0, 3.0], since=1.5) == (2.0, 3.0)


def test_writes_have_settled_once_they_flow_for_long_enough() -> None:
    def flowing(start: float, end: float) -> list[float]:
        return [start + 0.01 * step for step in range(round((end - start) * 100) + 1)]

    before, killed, back = flowing(0.0, 1.0), 1.0, 2.5
    assert not settled([], killed, 1.0)
    assert not settled(before, killed, 2.0), "nothing has come back"
    after = before + flowing(back, back + STEADY_S - 0.1)
    assert not settled(after, killed, after[-1]), "a second gap may still come"
    after = before + flowing(back, back + STEADY_S + 0.1)
    assert settled(after, killed, after[-1])
    assert not settled(after, killed, after[-1] + 1.0), "they stopped again"


def test_cpu_is_shared_out_by_what_a_process_is() -> None:
    before = {f"node-{node}": Usage(1.0, 0, 1 << 20) for node in (1, 2, 3)}
    before["client"] = Usage(5.0, 0, 1 << 20)
    after = {
        "node-1": Usage(1.2, 100, 3 << 20),
        "node-2": Usage(1.8, 300, 2 << 20),
        "node-3": Usage(1.4, 200, 1 << 20),
        "client": Usage(5.1, 9999, 1 << 30),
    }
    figures = usage_figures(2, before, after, operations=100)
    assert figures["cpu_s_leader"] == pytest.approx(0.8)
    assert figures["cpu_s_follower"] == pytest.approx(0.3), "the mean of the two"
    assert figures["cpu_us_client"] == pytest.approx(1000)
    assert figures["written_bytes"] == pytest.approx(2), "the mean of the nodes, an operation"
    assert figures["rss_mib"] == 3


def test_a_loop_in_which_nothing_ended_is_no_measurement() -> None:
    with pytest.raises(BenchError):
        loop_figures(Timings([], 1.0, 0))
    assert loop_figures(Timings([0.001, 0.003], 0.5, 4)) == {
        "per_second": 4.0,
        "p50_us": pytest.approx(1000),
        "p99_us": pytest.approx(3000),
    }


def test_a_goal_of_at_most_is_missed_from_above_and_one_of_at_least_from_below() -> None:
    most = next(goal for goal in GOALS if goal.at_most is not None)
    least = next(goal for goal in GOALS if goal.at_least is not None)
    assert most.at_most is not None
    assert least.at_least is not None
    assert [most.reached(most.at_most + each) for each in (-0.1, 0, 0.1)] == [True, True, False]
    assert [least.reached(least.at_least + each) for each in (-0.1, 0, 0.1)] == [False, True, True]


def test_every_goal_is_of_cells_that_a_whole_run_measures() -> None:
    for goal in GOALS:
        for cell in filter(None, (goal.cell, goal.against)):
            machine = cell in ALL.machine_cells()
            assert machine or cell in ALL.cells(cell.system, WORKLOADS)
        results = Results()
        results.add(goal.cell, 1, {goal.figure: 3.0})
        if goal.against is None:
            assert list(judged(results)) == [Verdict(goal, 3.0, None, 3.0)]
            continue
        assert goal not in [verdict.goal for verdict in judged(results)], "one side alone"
        results.add(goal.against, 1, {goal.against_figure or goal.figure: 2.0})
        [verdict] = [verdict for verdict in judged(results) if verdict.goal == goal]
        assert verdict == Verdict(goal, 3.0, 2.0, 1.5)


def test_figures_are_shown_with_their_units() -> None:
    figures = {"per_second": 12345.6, "p99_us": 1234.0, "gap_ms": 98.7, "rss_mib": 55.55}
    assert [shown(name, value) for name, value in figures.items()] == [
        "12,346/s",
        "1.23 ms",
        "99 ms",
        "55.5 MiB",
    ]
    assert shown("elections", 0) == "0"


def test_what_takes_long_is_asked_for_and_done_once() -> None:
    assert not set(LONG) & set(Plan().workloads)
    assert set(ALL.workloads) == set(WORKLOADS)
    first, second = (ALL.cells("direct", WORKLOADS, run) for run in (1, 2))
    assert {cell.workload for cell in first} - {cell.workload for cell in second} == set(ONCE)


def test_a_workload_that_needs_a_cluster_of_its_own_shares_it_with_none() -> None:
    sittings = ALL.sittings("direct", WORKLOADS)
    assert [cell for cells in sittings for cell in cells] != []
    for cells in sittings:
        assert len(cells) == 1 or not {cell.workload for cell in cells} & set(OWN_CLUSTER)
    assert ALL.sittings("direct", ()) == []


def test_a_system_is_given_only_what_it_can_do() -> None:
    able = {"puts", "failover"}
    cells = QUICK.cells("etcd", able)
    assert {cell.workload for cell in cells} == able
    assert len([cell for cell in cells if cell.workload == "failover"]) == QUICK.kills


# The loop -------------------------------------------------------------------------------------


async def test_a_loop_of_a_count_does_each_number_once_with_no_more_at_once_than_told() -> None:
    numbers: list[int] = []
    running: set[int] = set()
    most = 0

    async def operation(worker: int, number: int) -> None:
        nonlocal most
        assert worker not in running, "a worker has one call at a time"
        running.add(worker)
        most = max(most, len(running))
        numbers.append(number)
        await asyncio_turn()
        running.remove(worker)

    timings = await closed_loop(operation, Work("put", 8, count=100))
    assert sorted(numbers) == list(range(100))
    assert most == 8
    assert timings.operations == len(timings.latencies_s) == 100


def test_what_ends_while_warming_up_or_too_late_is_done_but_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.perf_counter", lambda: 100.0)
    measured = Measured(Work("put", 1, warm_s=1.0, seconds=2.0))
    for before, now in ((100.0, 100.5), (100.5, 101.5), (101.5, 103.0), (103.0, 103.5)):
        measured.add(before, now)
    assert measured.timings() == Timings([1.0, 1.5], 2.0, 4)


async def test_calls_that_take_longer_than_the_loop_are_measured_all_the_same() -> None:
    async def operation(worker: int, number: int) -> None:
        await asyncio.sleep(0.05)

    timings = await closed_loop(operation, Work("put", 3, seconds=0.001))
    assert 1 <= len(timings.latencies_s) <= 3
    assert timings.elapsed_s >= 0.04, "the time that it took, not that which was planned"


async def test_a_call_that_fails_ends_the_loop_with_its_error() -> None:
    async def operation(worker: int, number: int) -> None:
        await asyncio_turn()
        if number == 5:
            raise BenchError("the cluster has gone")

    with pytest.raises(BenchError, match="gone"):
        await closed_loop(operation, Work("put", 4, seconds=60.0))


def test_values_have_their_size_and_differ_and_keys_come_round() -> None:
    assert {len(value(number)) for number in (0, 1, 99_999_999)} == {VALUE_BYTES}
    assert len({value(number) for number in range(KEYS)}) == KEYS
    assert len({key(number) for number in range(3 * KEYS)}) == KEYS


async def asyncio_turn() -> None:
    """Let the others run."""
    await asyncio.sleep(0)


def reading() -> Reading:
    made = Reading("c", victim=2)
    made.take(Delta(1, 1, 0, "another's", 1, "m"), 0.0)
    made.take(Delta(2, 1, 0, "one two", 2, "m"), 1.0)
    return made


def test_the_pause_of_a_taken_over_answer_is_the_longest_from_the_kill_on() -> None:
    read = reading()
    assert read.begun.is_set()
    read.take(Takeover(2, 2, 3, 3), 1.5)
    read.take(Delta(2, 2, 3, " 2", 3, "m"), 2.0)
    read.take(Delta(1, 1, 9, " text", 1, "m"), 2.1)
    read.take(Delta(2, 2, 5, " three", 3, "m"), 2.1)
    assert read.pause_s(1.25) == pytest.approx(0.75)
    assert read.pause_s(3.0) == 0.0
    read.take(CandidateDone(Candidate(2, 3, ended=True, text="one 2 three")), 2.2)


@pytest.mark.parametrize("offset", [2, 4, 7])
def test_text_that_does_not_go_on_where_it_was_taken_over_fails_the_measurement(
    offset: int,
) -> None:
    read = reading()
    read.take(Takeover(2, 2, 3, 3), 1.5)
    with pytest.raises(BenchError, match="that ends at 3"):
        read.take(Delta(2, 2, offset, " 2", 3, "m"), 2.0)


def test_an_answer_that_was_read_otherwise_than_recorded_fails_the_measurement() -> None:
    with pytest.raises(BenchError, match="not what was recorded"):
        reading().take(CandidateDone(Candidate(2, 3, ended=True, text="one twp")), 2.2)
