"""The fault table: each command, what it does to a message, and how it is lifted."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.orchestrator.faults import BadFault, FaultTable

MEMBERS = (1, 2, 3, 4, 5)
PAIRS = list(itertools.permutations(MEMBERS, 2))


def table() -> FaultTable:
    return FaultTable(MEMBERS, random.Random(7))


def passing(faults: FaultTable) -> set[tuple[int, int]]:
    return {pair for pair in PAIRS if faults.route(*pair).copies}


def cut(faults: FaultTable) -> set[tuple[int, int]]:
    return set(PAIRS) - passing(faults)


def both(*pairs: tuple[int, int]) -> set[tuple[int, int]]:
    return {link for a, b in pairs for link in ((a, b), (b, a))}


def test_without_faults_every_message_is_delivered_once_and_at_once() -> None:
    faults = table()
    assert faults.clear
    assert faults.describe() == []
    for pair in PAIRS:
        decision = faults.route(*pair)
        assert (decision.delay_s, decision.copies, decision.fate) == (0, 1, "delivered")


def test_a_failed_link_passes_nothing_either_way_and_a_fixed_one_does_again() -> None:
    faults = table()
    faults.fail_link(2, 1)
    assert cut(faults) == both((1, 2))
    assert faults.route(1, 2).fate == "cut"
    assert faults.describe() == ["failLink 1 2"]
    assert faults.fix_link(1, 2) == "the link between 1 and 2 is fixed"
    assert faults.clear


def test_a_one_way_cut_leaves_the_other_direction() -> None:
    faults = table()
    faults.fail_link(3, 1, one_way=True)
    assert cut(faults) == {(3, 1)}
    assert faults.describe() == ["failLink 3 1 --one-way"]


def test_fixing_one_direction_of_a_failed_link_leaves_the_other_cut() -> None:
    faults = table()
    faults.fail_link(1, 2)
    faults.fix_link(1, 2, one_way=True)
    assert cut(faults) == {(2, 1)}
    assert faults.describe() == ["failLink 2 1 --one-way"]


def test_fixing_a_fine_link_is_said_so_and_no_error() -> None:
    faults = table()
    assert faults.fix_link(1, 2) == "the link between 1 and 2 has no fault"
    assert faults.clear


def test_fixing_a_link_lifts_what_delays_and_drops_there() -> None:
    faults = table()
    faults.delay(1, 2, 10)
    faults.drop(2, 1, 100)
    assert faults.fix_link(1, 2) == "the link between 1 and 2 is fixed"
    assert faults.clear


def test_a_partition_cuts_all_links_between_groups_and_none_within() -> None:
    faults = table()
    faults.partition([[1, 2], [3, 4, 5]])
    assert cut(faults) == both((1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5))
    assert faults.describe() == ["partition 1,2 3,4,5"]


def test_nodes_that_a_partition_does_not_name_form_a_group_together() -> None:
    faults = table()
    faults.partition([[1], [2]])
    assert faults.describe() == ["partition 1 2 3,4,5"]
    assert {(3, 4), (4, 5), (3, 5)} <= passing(faults)
    assert (1, 3) in cut(faults)


def test_a_partition_replaces_the_one_before_but_not_other_cuts() -> None:
    faults = table()
    faults.fail_link(1, 2)
    faults.partition([[1, 2], [3, 4, 5]])
    faults.partition([[1, 2, 3, 4], [5]])
    assert cut(faults) == both((1, 2), (1, 5), (2, 5), (3, 5), (4, 5))
    assert faults.describe() == ["failLink 1 2", "partition 1,2,3,4 5"]


def test_a_link_fixed_across_a_partition_passes_and_the_rest_is_shown_as_links() -> None:
    faults = FaultTable((1, 2, 3), random.Random(7))
    faults.partition([[1], [2, 3]])
    faults.fix_link(1, 3)
    assert faults.route(1, 3).copies == 1
    assert faults.describe() == ["failLink 1 2"]


def test_an_isolated_node_is_cut_off_from_every_other_both_ways() -> None:
    faults = table()
    faults.isolate(4)
    assert cut(faults) == both((4, 1), (4, 2), (4, 3), (4, 5))
    assert faults.describe() == ["isolate 4"]


def test_an_isolated_node_is_cut_off_from_who_joins_too() -> None:
    faults = FaultTable((1, 2), random.Random(7))
    faults.isolate(1)
    faults.admit(3)
    assert set(faults.cut) == both((1, 2), (1, 3))
    assert faults.describe() == ["isolate 1"]


def test_who_joins_is_of_the_group_of_those_that_a_partition_does_not_name() -> None:
    faults = FaultTable((1, 2, 3), random.Random(7))
    faults.partition([[1], [2]])
    faults.admit(4)
    assert set(faults.cut) == both((1, 2), (1, 3), (1, 4), (2, 3), (2, 4))
    assert faults.describe() == ["partition 1 2 3,4"]


def test_who_joins_is_a_group_of_its_own_where_a_partition_names_every_other() -> None:
    faults = FaultTable((1, 2), random.Random(7))
    faults.partition([[1], [2]])
    faults.admit(3)
    assert set(faults.cut) == both((1, 2), (1, 3), (2, 3))
    assert faults.describe() == ["partition 1 2 3"]


def test_a_partition_goes_on_without_a_node_that_is_gone_until_another_replaces_it() -> None:
    faults = table()
    faults.partition([[1, 2], [3], [4, 5]])
    for gone in (5, 3):
        faults.dismiss(gone)
    assert faults.describe() == ["partition 1,2 4"]
    faults.partition([[1, 4], [2]])
    assert set(faults.cut) == both((1, 2), (2, 4))
    assert faults.describe() == ["partition 1,4 2"]
    faults.dismiss(2)
    assert faults.clear
    assert faults.describe() == []


def test_an_isolation_goes_on_without_another_that_is_gone_and_ends_with_its_node() -> None:
    faults = FaultTable((1, 2), random.Random(7))
    faults.isolate(1)
    faults.dismiss(2)
    assert faults.describe() == ["isolate 1"]
    faults.dismiss(1)
    assert faults.describe() == []


def test_a_down_node_neither_sends_nor_receives_and_heal_does_not_raise_it() -> None:
    faults = table()
    faults.fail_node(2)
    faults.heal()
    assert cut(faults) == {pair for pair in PAIRS if 2 in pair}
    assert faults.route(1, 2).fate == "down"
    assert (faults.down, faults.describe()) == ((2,), ["failNode 2"])
    faults.fix_node(2)
    assert faults.clear


def test_a_delay_swings_by_its_jitter_and_never_below_zero() -> None:
    faults = table()
    faults.delay(1, 2, 5, 20)
    delays_ms = [faults.delay_s(2, 1) * 1000 for _ in range(500)]
    assert min(delays_ms) == 0
    assert 20 < max(delays_ms) <= 25
    assert faults.describe() == ["delay 1 2 5 20"]
    assert faults.delay_s(1, 3) == 0


def test_a_message_in_flight_over_a_link_that_fails_is_lost_at_delivery() -> None:
    faults = table()
    faults.delay(1, 2, 50)
    assert faults.route(1, 2).delay_s == pytest.approx(0.05)
    faults.fail_link(1, 2, one_way=True)
    assert faults.deliver(1, 2).fate == "cut"


def test_loss_and_duplication_are_diced_at_delivery_and_not_before_a_delay() -> None:
    faults = table()
    faults.delay(1, 2, 50)
    faults.drop(1, 2, 100)
    assert faults.route(1, 2).copies == 1
    assert faults.deliver(1, 2).fate == "dropped"
    faults.drop(1, 2, 0)
    faults.duplicate(1, 2, 100)
    decision = faults.deliver(1, 2)
    assert (decision.copies, decision.fate) == (2, "duplicated")


def test_drop_loses_about_its_percentage() -> None:
    faults = table()
    faults.drop(1, 2, 30)
    lost = sum(faults.route(1, 2).copies == 0 for _ in range(2000))
    assert 500 < lost < 700
    assert faults.describe() == ["drop 1 2 30"]


def test_reorder_holds_some_messages_back_and_not_others() -> None:
    faults = table()
    faults.reorder(1, 2, 50)
    held = [faults.route(1, 2).delay_s > 0 for _ in range(100)]
    assert any(held)
    assert not all(held)


def test_zero_lifts_delay_drop_duplicate_and_reorder() -> None:
    faults = table()
    for command in (faults.delay, faults.drop, faults.duplicate, faults.reorder):
        command(1, 2, 10)
    assert faults.describe() == [
        "delay 1 2 10",
        "drop 1 2 10",
        "duplicate 1 2 10",
        "reorder 1 2 10",
    ]
    for command in (faults.delay, faults.drop, faults.duplicate, faults.reorder):
        command(2, 1, 0)
    assert faults.clear


def test_a_message_to_a_stranger_goes_nowhere() -> None:
    assert table().route(1, 9).fate == "no such node"


BAD = [
    (lambda faults: faults.fail_link(1, 9), "no node 9: the nodes are 1, 2, 3, 4, 5"),
    (lambda faults: faults.fail_link(1, 1), "node 1 has no link to itself"),
    (lambda faults: faults.fix_link(2, 2), "node 2 has no link to itself"),
    (lambda faults: faults.fail_node(0), "no node 0"),
    (lambda faults: faults.fix_node(6), "no node 6"),
    (lambda faults: faults.isolate(6), "no node 6"),
    (lambda faults: faults.drop(1, 2, 101), "between 0 and 100, not 101"),
    (lambda faults: faults.duplicate(1, 2, -1), "between 0 and 100, not -1"),
    (lambda faults: faults.reorder(1, 2, math.nan), "between 0 and 100, not nan"),
    (lambda faults: faults.delay(1, 2, -5), "delay must be between 0"),
    (lambda faults: faults.delay(1, 2, 5, -5), "jitter must be between 0"),
    (lambda faults: faults.delay(1, 2, math.inf), "delay must be between 0"),
    (lambda faults: faults.partition([[1, 2], [2, 3]]), "node 2 is named twice"),
    (lambda faults: faults.partition([[1, 7], [2]]), "no node 7"),
    (lambda faults: faults.partition([[1], []]), "group of a partition is empty"),
    (lambda faults: faults.partition([[1, 2, 3, 4, 5]]), "two groups at least"),
]


@pytest.mark.parametrize(("command", "line"), BAD)
def test_a_bad_fault_is_refused_in_one_line_and_changes_nothing(command, line) -> None:
    faults = table()
    with pytest.raises(BadFault, match=line) as refusal:
        command(faults)
    assert "\n" not in str(refusal.value)
    assert faults.clear


node = st.sampled_from(MEMBERS)
link = st.sampled_from(PAIRS)
percent = st.floats(0, 100)
commands = st.one_of(
    st.tuples(st.just("fail_link"), link, st.booleans()),
    st.tuples(st.just("fix_link"), link, st.booleans()),
    st.tuples(st.just("isolate"), node),
    st.tuples(st.just("partition"), st.sets(node, min_size=1, max_size=4)),
    st.tuples(st.just("delay"), link, st.floats(0, 100)),
    st.tuples(st.sampled_from(["drop", "duplicate", "reorder"]), link, percent),
)


def run(faults: FaultTable, command: tuple) -> None:
    name, target, *rest = command
    if name == "partition":
        faults.partition([sorted(target)])
    elif name == "isolate":
        faults.isolate(target)
    else:
        getattr(faults, name)(*target, *rest)


@given(st.lists(commands, max_size=20))
def test_heal_restores_every_link(script: list[tuple]) -> None:
    faults = table()
    for command in script:
        run(faults, command)
    faults.heal()
    assert faults.clear
    assert faults.describe() == []
    assert all(faults.route(*pair).fate == "delivered" for pair in PAIRS)


@given(st.lists(commands, max_size=20), link)
def test_a_one_way_cut_changes_its_direction_and_no_other(script: list[tuple], pair) -> None:
    faults = table()
    for command in script:
        run(faults, command)
    before = {p for p in PAIRS if faults.lost(*p)}
    faults.fail_link(*pair, one_way=True)
    assert {p for p in PAIRS if faults.lost(*p)} == before | {pair}


@given(st.lists(commands, max_size=20), link)
def test_a_fixed_link_passes_both_ways_whatever_cut_it(script: list[tuple], pair) -> None:
    faults = table()
    for command in script:
        run(faults, command)
    before = {p for p in PAIRS if faults.lost(*p)}
    faults.fix_link(*pair)
    assert {p for p in PAIRS if faults.lost(*p)} == before - both(pair)
    assert faults.route(*pair).fate == "delivered"


@given(st.lists(commands, max_size=20))
def test_the_described_faults_say_exactly_which_links_are_cut(script: list[tuple]) -> None:
    faults, again = table(), table()
    for command in script:
        run(faults, command)
    for line in faults.describe():
        word, *arguments = line.split()
        if word == "failLink":
            again.fail_link(int(arguments[0]), int(arguments[1]), "--one-way" in arguments)
        elif word == "partition":
            again.partition([[int(n) for n in group.split(",")] for group in arguments])
        elif word == "isolate":
            again.isolate(int(arguments[0]))
    assert {p for p in PAIRS if again.lost(*p)} == {p for p in PAIRS if faults.lost(*p)}
