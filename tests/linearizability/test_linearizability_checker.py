"""The checker against a reference that tries every order, and against simulated stores."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensusllm.linearizability import History, Operation, Verdict, check
from consensusllm.linearizability import partition as partition_module
from consensusllm.linearizability import search as search_module
from consensusllm.linearizability.history import Json, OperationName
from consensusllm.linearizability.models import IMPOSSIBLE, Action, Kind, State, step
from consensusllm.linearizability.partition import Partition
from consensusllm.linearizability.search import Found, search

# A reference that tries everything -------------------------------------------------------------


def matters(operation: Operation) -> bool:
    """Whether anything follows from the operation."""
    if operation.unknown:
        return operation.op != "get"
    if operation.op == "cas" and operation.output is False:
        return True
    if operation.op == "choose" and operation.output is not None:
        return True
    return operation.ok is True


def apply(state: Json, operation: Operation) -> list[Json]:
    """The states that may come of the operation: one, or none where it cannot have been so."""
    op, value, output = operation.op, operation.value, operation.output
    if op == "get":
        return [state] if state == output else []
    if op == "put":
        return [value]
    if op == "append":
        if not (state is None or isinstance(state, str)):
            return []
        return [(state or "") + str(value)]
    if op == "cas":
        assert isinstance(value, list)
        old, new = value
        if output is False:
            return [state] if state != old else []
        return [new] if state == old else []
    if operation.ok is False:
        return [state] if state == output else []
    return [value] if state is None else []


def as_if_known(operation: Operation) -> Operation:
    return replace(operation, ok=True, output=None) if operation.unknown else operation


def precedes(one: Operation, other: Operation, *, noted_first: bool) -> bool:
    """Whether ``one`` is over before ``other`` begins; both by one process, it may touch. Of two by
    one process that took no time at the very same time, the one that was noted first is over."""
    if one.unknown or one is other:
        return False
    assert one.end is not None
    if one.end < other.start:
        return True
    if one.process != other.process or one.end != other.start:
        return False
    end = math.inf if other.end is None else other.end
    if other.unknown and other.end is None:
        return one.start < other.start
    if (one.start, one.end) == (other.start, end):
        return noted_first
    return (one.start, one.end) < (other.start, end)


def linearizable(operations: Sequence[Operation], initial: Json = None) -> bool:
    left = [operation for operation in operations if matters(operation)]

    def possible(left: list[Operation], state: Json) -> bool:
        if all(operation.unknown for operation in left):
            return True
        for at, operation in enumerate(left):
            if any(precedes(each, operation, noted_first=n < at) for n, each in enumerate(left)):
                continue
            rest = left[:at] + left[at + 1 :]
            if any(possible(rest, after) for after in apply(state, as_if_known(operation))):
                return True
        return False

    return possible(left, initial)


def assert_is_linearization(operations: Sequence[Operation], order: Sequence[int]) -> None:
    taken = [operations[at] for at in order]
    for at, (index, operation) in enumerate(zip(order, taken, strict=True)):
        for later in order[at + 1 :]:
            assert not precedes(operations[later], operation, noted_first=later < index)
    known = [each for each in operations if matters(each) and not each.unknown]
    assert all(any(each is other for other in taken) for each in known)
    state: Json = None
    for operation in taken:
        [state] = apply(state, as_if_known(operation))


# Small histories of everything -----------------------------------------------------------------

KINDS: dict[str, tuple[OperationName, ...]] = {
    "register": ("get", "put"),
    "cas": ("get", "put", "cas"),
    "append": ("get", "append", "put"),
    "append and cas": ("append", "cas", "put"),
    "choice": ("choose", "get"),
    "all": ("get", "put", "cas", "append", "choose"),
}


@st.composite
def small_histories(draw: st.DrawFn, names: tuple[OperationName, ...]) -> list[Operation]:
    texts = "append" in names
    values: list[Json] = ["a", "b", "ab", "ba", 1] if texts else [1, 2, 3]
    some_value = st.sampled_from(values)
    maybe_value = st.sampled_from([None, *values])
    free_at = [0, 0, 0]
    operations: list[Operation] = []
    for _ in range(draw(st.integers(1, 6))):
        process = draw(st.integers(0, 2))
        start = free_at[process] + draw(st.integers(0, 2))
        end = start + draw(st.integers(0, 6))
        name = draw(st.sampled_from(names))
        value: Json = None
        output: Json = None
        ok: bool | None = True
        if name == "get":
            output = draw(maybe_value)
        elif name == "put":
            value = draw(maybe_value)
        elif name == "append":
            value = draw(st.sampled_from(["a", "b"]))
        elif name == "cas":
            value = [draw(maybe_value), draw(some_value)]
            output = draw(st.sampled_from([True, None, False]))
            ok = draw(st.booleans()) if output is False else True
        else:
            value = draw(some_value)
            ok = draw(st.booleans())
            output = None if ok else draw(maybe_value)
        outcome = draw(st.sampled_from(["known", "known", "known", "unknown", "endless"]))
        if outcome == "known":
            free_at[process] = end
        else:
            free_at[process], ok, output = start, None, None
        known_end = None if outcome == "endless" else end
        operations.append(Operation(process, name, "k", value, start, known_end, ok, output))
    return operations


def verdict_of(operations: Sequence[Operation]) -> Found:
    return search(operations, None, lambda: False)


@pytest.mark.parametrize("zones", [True, False], ids=["whole", "search alone"])
@pytest.mark.parametrize("kind", KINDS)
def test_small_histories_get_the_verdict_of_trying_every_order(
    kind: str, zones: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not zones:
        monkeypatch.setattr(search_module, "Partition", PartitionWithoutZones)

    @given(small_histories(KINDS[kind]))
    @settings(max_examples=150, deadline=None)
    def agree(operations: list[Operation]) -> None:
        found = verdict_of(operations)
        expected = Verdict.LINEARIZABLE if linearizable(operations) else Verdict.NOT_LINEARIZABLE
        assert found.verdict is expected
        if expected is Verdict.LINEARIZABLE:
            assert_is_linearization(operations, found.order)

    agree()


def test_two_of_one_process_at_one_instant_keep_the_order_of_their_lines() -> None:
    put = Operation(0, "put", "k", "a", 0.0, 0.0, True, None)
    get = Operation(0, "get", "k", None, 0.0, 0.0, True, None)
    assert verdict_of([get, put]).verdict is Verdict.LINEARIZABLE
    assert verdict_of([put, get]).verdict is Verdict.NOT_LINEARIZABLE
    of_two_processes = [put, replace(get, process=1)]
    assert verdict_of(of_two_processes).verdict is Verdict.LINEARIZABLE


def test_of_two_alike_that_end_at_one_instant_either_may_be_first() -> None:
    swap = Operation(0, "cas", "k", [None, 1], 0.0, 0.0, True, None)
    other = replace(swap, process=1)
    given_up = Operation(1, "put", "k", None, 0.0, 1.0, None, None)
    found = verdict_of([swap, other, given_up])
    assert found.verdict is Verdict.LINEARIZABLE
    assert found.order == (1, 2, 0), "the second one, what its process gave up, and the first one"


class PartitionWithoutZones(Partition):
    """Leaves every verdict to the search itself."""

    def __init__(
        self, operations: Sequence[Operation], initial: State, expired: Callable[[], bool]
    ) -> None:
        super().__init__(operations, initial, expired)
        self.contradiction = None


# Simulated systems -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Workload:
    names: tuple[OperationName, ...]
    keys: int = 1
    processes: int = 5
    unknown: float = 0.0
    unique: bool = True


def simulate(workload: Workload, count: int, random_: random.Random) -> list[Operation]:
    """What clients of a correct store see: each call takes effect at a random moment of its own."""
    calls: list[tuple[float, float, float, int]] = []
    clocks = [(0.0, process) for process in range(workload.processes)]
    while len(calls) < count:
        start, process = clocks[0]
        end = start + random_.expovariate(1.0) + 0.001
        calls.append((random_.uniform(start, end), start, end, process))
        heapq.heapreplace(clocks, (end + random_.expovariate(3.0), process))
    stored: dict[str, Json] = {}
    operations: list[Operation] = []
    for number, (_, start, end, process) in enumerate(sorted(calls)):
        key = f"key {random_.randrange(workload.keys)}"
        fresh = str(number) if workload.unique else str(random_.randrange(4))
        name = random_.choice(workload.names)
        unknown = random_.random() < workload.unknown
        before = stored.get(key)
        value: Json = None
        output: Json = None
        ok, after = True, before
        if name == "get":
            output = before
        elif name == "put":
            value = after = fresh
        elif name == "append":
            value, after = f"{fresh} ", f"{before or ''}{fresh} "
        elif name == "cas":
            old = before if random_.random() < 0.7 else str(random_.randrange(4))
            value = [old, fresh]
            output, after = (True, fresh) if old == before else (False, before)
        else:
            value = fresh
            ok, output, after = (True, None, fresh) if before is None else (False, before, before)
        if not (unknown and random_.random() < 0.5):
            stored[key] = after
        operation = Operation(process, name, key, value, start, end, ok, output)
        operations.append(replace(operation, ok=None, output=None) if unknown else operation)
    return operations


WORKLOADS = {
    "registers": Workload(("get", "put"), unknown=0.1),
    "registers of few values": Workload(("get", "put"), unknown=0.05, unique=False),
    "cas": Workload(("get", "put", "cas"), processes=16, unknown=0.05),
    "cas of few values": Workload(("get", "put", "cas"), processes=4, unknown=0.03, unique=False),
    "append": Workload(("get", "append"), processes=16, unknown=0.05),
    "append and put": Workload(("get", "append", "put"), keys=3, unknown=0.03),
    "choices": Workload(("choose", "get"), keys=60, unknown=0.1),
    "all": Workload(("get", "put", "cas", "append"), keys=5, unknown=0.02),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_what_a_correct_store_answers_is_linearizable(name: str, seed: int) -> None:
    for run in range(5):
        operations = simulate(WORKLOADS[name], 300, random.Random(f"{seed} {run}"))
        assert verdict(operations) is Verdict.LINEARIZABLE


@pytest.mark.parametrize("name", WORKLOADS)
def test_an_answer_that_was_never_written_is_not_linearizable(name: str, seed: int) -> None:
    random_ = random.Random(seed)
    operations = simulate(WORKLOADS[name], 300, random_)
    gets = [at for at, each in enumerate(operations) if each.op == "get" and each.ok]
    at = random_.choice(gets)
    operations[at] = replace(operations[at], output="never written")
    assert verdict(operations) is Verdict.NOT_LINEARIZABLE


@pytest.mark.parametrize("name", ["registers", "cas", "append"])
def test_a_stale_answer_is_not_linearizable(name: str, seed: int) -> None:
    operations = simulate(replace(WORKLOADS[name], unknown=0.0), 300, random.Random(seed))
    gets = [each for each in operations if each.op == "get"]
    latest = max(gets, key=lambda each: each.start)
    old = next(each.output for each in gets if each.end is not None and each.end < latest.start / 2)
    stale = replace(latest, output=old)
    operations = [stale if each is latest else each for each in operations]
    assert verdict(operations) is Verdict.NOT_LINEARIZABLE


@pytest.mark.parametrize("stale", [False, True], ids=["correct", "stale"])
def test_many_operations_of_many_processes_are_decided(stale: bool, seed: int) -> None:
    """With a search that went through orders one by one, this would not end in a lifetime."""
    workload = Workload(("get", "put", "cas"), keys=10, processes=64, unknown=0.02)
    operations = simulate(workload, 20_000, random.Random(seed))
    if stale:
        last = max(operations, key=lambda each: each.start)
        first = next(each for each in operations if each.op == "put" and each.ok)
        end = last.start + 10
        operations += [
            Operation(1000, "put", first.key, "last", end, end + 1, True),
            Operation(1000, "get", first.key, None, end + 2, end + 3, True, first.value),
        ]
    expected = Verdict.NOT_LINEARIZABLE if stale else Verdict.LINEARIZABLE
    assert verdict(operations) is expected


def verdict(operations: Sequence[Operation], clock: Callable[[], float] = lambda: 0.0) -> Verdict:
    return check(History(tuple(operations)), clock, time_limit_s=1.0).verdict


# Cases that a person can follow ----------------------------------------------------------------


def put(value: Json, start: float, end: float | None, process: int = 0) -> Operation:
    return Operation(process, "put", "k", value, start, end, None if end is None else True)


def get(output: Json, start: float, end: float, process: int = 1) -> Operation:
    return Operation(process, "get", "k", None, start, end, True, output)


def append(value: str, start: float, end: float, process: int = 0) -> Operation:
    return Operation(process, "append", "k", value, start, end, True)


def cas(old: Json, new: Json, start: float, end: float, swapped: bool, process: int) -> Operation:
    return Operation(process, "cas", "k", [old, new], start, end, swapped, swapped)


def choose(value: int, start: float, end: float, ok: bool, winner: int | None = None) -> Operation:
    return Operation(value, "choose", "c1/1", value, start, end, ok, winner)


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([get(None, 0, 1)], True),
        ([put(1, 0, 1), get(None, 2, 3)], False),
        ([put(1, 0, 5), get(None, 2, 3), get(1, 3, 4)], True),
        ([put(1, 0, 5), get(1, 2, 3), get(None, 3, 4)], False),
        ([put(1, 0, None), get(None, 2, 3), get(1, 40, 41)], True),
        ([put(1, 0, None), get(1, 2, 3), get(None, 40, 41)], False),
        ([put(1, 2, None), get(1, 0, 1)], False),
        ([replace(put(1, 0, 1), ok=False), get(1, 2, 3)], False),
        ([replace(put(1, 0, 1), ok=None), get(None, 2, 3), get(1, 4, 5)], True),
        ([cas(None, 1, 0, 1, True, 0), cas(None, 2, 0, 1, True, 1)], False),
        ([cas(None, 1, 0, 1, True, 0), cas(None, 2, 0, 1, False, 1)], True),
        ([cas(None, 1, 0, 1, False, 0)], False),
        ([choose(1, 0, 1, True), choose(2, 0, 1, False, winner=1)], True),
        ([choose(1, 0, 1, True), choose(2, 0, 1, True)], False),
        ([choose(1, 0, 1, True), choose(2, 0, 1, False, winner=2)], False),
        ([choose(1, 5, 6, True), choose(2, 0, 1, False, winner=1)], False),
        ([choose(1, 0, 1, False), choose(2, 2, 3, True)], True),
        ([put(1, 0, 1), get(True, 2, 3)], False),
        ([put([1, {"a": 2}], 0, 1), get([1, {"a": 2}], 2, 3)], True),
        ([put(1, 0, 1), append("a", 3, 4)], False),
        ([put(1, 0, 1), put("x", 2, None, process=2), append("a", 3, 4)], True),
        ([put("x", 0, 1), put(1, 2, None, process=2), append("a", 3, 4), get("xa", 5, 6)], True),
    ],
)
def test_a_few_operations(operations: list[Operation], expected: bool) -> None:
    assert (verdict(operations) is Verdict.LINEARIZABLE) is expected


def test_a_value_with_several_writers_may_be_written_before_it_has_to_be() -> None:
    operations = [
        put("a", 0, 1, process=0),
        cas("a", "b", 1, 2, True, process=2),
        put("a", 2, 3, process=1),
        put("a", 3, 4, process=2),
        cas("a", "b", 4, 4, False, process=1),
    ]
    assert linearizable(operations)
    assert verdict(operations) is Verdict.LINEARIZABLE


@pytest.mark.parametrize(
    ("action", "state", "after"),
    [
        (Action(Kind.READ, "a"), "a", "a"),
        (Action(Kind.READ, "a"), "b", IMPOSSIBLE),
        (Action(Kind.DIFFERS, "a"), "a", IMPOSSIBLE),
        (Action(Kind.DIFFERS, "a"), None, None),
        (Action(Kind.WRITE, value="a"), "b", "a"),
        (Action(Kind.SWAP, "a", "b"), "a", "b"),
        (Action(Kind.SWAP, "a", "b"), "b", IMPOSSIBLE),
        (Action(Kind.APPEND, value="b"), "a", "ab"),
        (Action(Kind.APPEND, value="b"), None, "b"),
        (Action(Kind.APPEND, value="b"), ("1",), IMPOSSIBLE),
    ],
)
def test_an_action_demands_a_state_and_leads_to_one(
    action: Action, state: State, after: State
) -> None:
    assert step(state, action) == after


def test_a_process_is_in_order_even_where_its_operations_meet_at_one_moment() -> None:
    assert verdict([put(1, 0, 5), get(None, 5, 6, process=0)]) is Verdict.NOT_LINEARIZABLE
    assert verdict([put(1, 0, 5), get(None, 5, 6, process=1)]) is Verdict.LINEARIZABLE


def test_keys_are_independent() -> None:
    operations = [put(1, 0, 1), replace(get(None, 2, 3), key="other")]
    assert verdict(operations) is Verdict.LINEARIZABLE
    report = check(History((*operations, get(2, 4, 5))), lambda: 0.0)
    assert (report.verdict, report.offending) == (Verdict.NOT_LINEARIZABLE, "k")
    assert (report.operations, report.keys, report.unknown) == (3, 2, 0)


def test_the_keys_of_a_history_hold_what_it_says_at_first() -> None:
    assert check(History((get("", 0, 1),), initial=""), lambda: 0.0).offending is None
    assert check(History((get("", 0, 1),)), lambda: 0.0).offending == "k"


def test_without_time_the_answer_is_undecided_and_never_linearizable() -> None:
    ticks = iter(range(100))
    report = check(History((put(1, 0, 1),)), lambda: next(ticks), time_limit_s=0.5)
    assert (report.verdict, report.undecided) == (Verdict.UNDECIDED, ("k",))


def test_a_key_that_is_not_linearizable_decides_even_if_others_are_undecided() -> None:
    hard = [replace(each, key="hard") for each in hopeless(16)]
    ticks = iter(range(10**9))
    report = check(History((*hard, *hopeless(1))), lambda: next(ticks), time_limit_s=30)
    assert (report.verdict, report.offending) == (Verdict.NOT_LINEARIZABLE, "k")
    report = check(History(tuple(hard)), lambda: next(ticks), time_limit_s=30)
    assert (report.verdict, report.undecided) == (Verdict.UNDECIDED, ("hard",))


def test_the_preparation_ends_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks for what shows that a failed comparison is easy, which takes long among many."""
    monkeypatch.setattr(partition_module, "_shows_another", lambda *_: pytest.fail("it went on"))
    operations = [cas("a", "b", 0, 10, False, process=1), put("x", 2, 3)]
    assert search(operations, None, lambda: True).verdict is Verdict.UNDECIDED


def hopeless(count: int) -> list[Operation]:
    """Appends that may come in any order, and none of them gives what is read in the end, which
    a write in between keeps from being foreseen."""
    operations = [
        Operation(process, "append", "k", f"{process} ", 0, 10, True) for process in range(count)
    ]
    return [*operations, put("x", 0, 100, process=99), get("y", 11, 12, process=100)]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "MEMORY_BYTES_MAX", 100_000)
    assert verdict_of(hopeless(16)).verdict is Verdict.UNDECIDED
