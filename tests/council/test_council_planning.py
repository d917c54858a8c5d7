"""Who is planned to answer: by names, samples and load, and why nobody can."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace

import pytest
from council_fakes import Cluster as Replicas

from consensusllm.conversations import Candidate, PlannedCandidate, RegisteredModel, ServedModel
from consensusllm.conversations.records import TakenOver
from consensusllm.council.domains import BUILT_IN, role
from consensusllm.council.planning import (
    COLD_CALLS,
    COOL_DOWN_MS,
    FAILURES_MAX,
    NAME_CHARACTERS,
    STRATEGIES,
    Cluster,
    Unplannable,
    Wishes,
    load_of,
    plan,
    successor,
)

MOST = 64
"""Candidates of a turn."""


def cluster(
    serving: Mapping[int, str], live: tuple[int, ...] = (), load: Mapping[int, int] | None = None
) -> Cluster:
    """``serving`` has the names of each node's models, with blanks between them."""
    registry = {
        node: [RegisteredModel(ServedModel(name, "p")) for name in names.split()]
        for node, names in serving.items()
    }
    return Cluster(registry, live or tuple(serving), load or {})


THREE = cluster({1: "a b", 2: "b", 3: "c a"})


def planned(wishes: Wishes, known: Cluster = THREE) -> list[tuple[int, str]]:
    found = plan(wishes, known, MOST)
    assert [each.number for each in found] == list(range(1, len(found) + 1))
    return [(each.node, each.model) for each in found]


def test_a_plain_plan_is_one_candidate_for_each_live_node() -> None:
    known = cluster({1: "a", 2: "b"}, live=(3, 1))
    assert plan(Wishes(), known, MOST) == (PlannedCandidate(1, 1), PlannedCandidate(3, 3))


def test_a_plain_plan_of_nodes_with_large_ids_is_numbered_from_one() -> None:
    """A turn's numbers are bounded, and those of nodes are not."""
    known = cluster({1: "a"}, live=(1, 2, 70_000))
    nodes = [(each.number, each.node) for each in plan(Wishes(), known, MOST)]
    assert nodes == [(1, 1), (2, 2), (3, 70_000)]
    assert plan(Wishes(), cluster({}, live=()), MOST) == ()


def test_named_models_are_answered_where_there_is_least_to_do() -> None:
    assert planned(Wishes(("c", "a", "b"))) == [(3, "c"), (1, "a"), (2, "b")]
    busy = cluster({1: "a b", 2: "b", 3: "c a"}, load={1: 5})
    assert planned(Wishes(("a", "b")), busy) == [(3, "a"), (2, "b")]


def test_the_same_model_of_two_nodes_is_two_candidates() -> None:
    assert planned(Wishes(("a@1", "a@3"))) == [(1, "a"), (3, "a")]
    assert planned(Wishes(("a", "a"))) == [(1, "a"), (3, "a")]


def test_samples_are_spread_over_the_nodes_that_serve_the_model() -> None:
    assert planned(Wishes(("b",), samples=3)) == [(1, "b"), (2, "b"), (1, "b")]
    assert planned(Wishes(("c", "b"), samples=2)) == [(3, "c"), (3, "c"), (1, "b"), (2, "b")]


def test_samples_without_a_name_are_all_of_one_model() -> None:
    assert planned(Wishes(samples=2)) == [(1, "a"), (3, "a")]
    busy = cluster({1: "a b", 2: "b", 3: "c a"}, load={1: 1, 3: 1})
    assert planned(Wishes(samples=2), busy) == [(2, "b"), (1, "b")]


def test_one_is_the_best_of_all_or_of_those_named() -> None:
    assert planned(Wishes(one=True)) == [(1, "a")]
    assert planned(Wishes(("c", "b"), one=True)) == [(1, "b")]
    busy = cluster({1: "a b", 2: "b", 3: "c a"}, load={1: 2, 2: 1})
    assert planned(Wishes(one=True), busy) == [(3, "c")]


def with_model(node: int, name: str, **fields: object) -> Cluster:
    """THREE, where the model ``name`` of ``node`` has ``fields``."""
    registry = {
        number: [
            replace(each, **fields) if (number, each.served.name) == (node, name) else each  # type: ignore[arg-type]
            for each in models
        ]
        for number, models in THREE.registry.items()
    }
    return Cluster(registry, THREE.live, {}, now_ms=100_000)


def test_what_failed_again_and_again_is_the_last_choice_for_a_while() -> None:
    failing = {"failures": FAILURES_MAX, "failed_ms": 99_000}
    assert planned(Wishes(("a",)), with_model(1, "a", **failing)) == [(3, "a")]
    assert planned(Wishes(("a@1",)), with_model(1, "a", **failing)) == [(1, "a")]
    twice = {**failing, "failures": FAILURES_MAX - 1}
    assert planned(Wishes(("a",)), with_model(1, "a", **twice)) == [(1, "a")]
    cooled_down = {**failing, "failed_ms": 100_000 - COOL_DOWN_MS}
    assert planned(Wishes(("a",)), with_model(1, "a", **cooled_down)) == [(1, "a")]


def test_what_a_look_found_failing_is_the_last_choice_of_every_strategy() -> None:
    failing = with_model(1, "a", probe_error="no connection")
    for strategy in STRATEGIES:
        assert planned(Wishes(("a",), strategy=strategy), failing) == [(3, "a")]
    assert planned(Wishes(("a@1",)), failing) == [(1, "a")]
    assert planned(Wishes(("a",)), replace(failing, live=(1, 2))) == [(1, "a")]


def test_what_is_not_in_memory_is_asked_where_the_others_have_much_more_to_do() -> None:
    absent = with_model(1, "a", loaded=False, speed=9000)
    busy = replace(absent, load={3: COLD_CALLS})
    assert planned(Wishes(("a",)), absent) == planned(Wishes(("a",)), busy) == [(3, "a")]
    busier = replace(absent, load={3: COLD_CALLS + 1})
    assert planned(Wishes(("a",)), busier) == [(1, "a")]
    assert planned(Wishes(("a",)), replace(busier, load={1: 1, 3: COLD_CALLS + 1})) == [(3, "a")]
    assert planned(Wishes(("a",), strategy="cheapest"), busy) == [(1, "a")]
    present = with_model(1, "a", loaded=True)
    assert planned(Wishes(("a",)), replace(present, load={1: 1})) == [(3, "a")]
    failing = replace(absent, registry=with_model(3, "a", probe_error="down").registry)
    assert planned(Wishes(("a",)), failing) == [(1, "a")]


def test_the_quicker_of_two_is_asked_where_both_have_as_much_to_do() -> None:
    quick = with_model(3, "a", speed=9000)
    assert planned(Wishes(("a",)), quick) == [(3, "a")]
    assert planned(Wishes(("a",)), replace(quick, load={3: 1})) == [(1, "a")]


def test_strategies_differ_in_what_is_best() -> None:
    asked = with_model(1, "a", answers=5)
    assert planned(Wishes(("a",), strategy="smart"), asked) == [(1, "a")]
    assert planned(Wishes(("a",), strategy="round-robin"), asked) == [(3, "a")]
    assert planned(Wishes(("c", "b"), one=True, strategy="priority")) == [(3, "c")]
    busy = replace(THREE, load={3: 9})
    assert planned(Wishes(("c", "b"), one=True, strategy="priority"), busy) == [(3, "c")]
    only_a = replace(busy, load={1: 2, 3: 1})
    assert planned(Wishes(("a", "b"), one=True, strategy="priority"), only_a) == [(3, "a")]
    assert planned(Wishes(("a@1", "a@3"), one=True, strategy="priority"), only_a) == [(1, "a")]
    assert planned(Wishes(one=True, strategy="priority"), only_a) == [(3, "a")]
    dear = [RegisteredModel(ServedModel("a", "p", completion_price=2))]
    cheap = [RegisteredModel(ServedModel("b", "p", prompt_price=1))]
    prices = Cluster({1: dear, 2: cheap}, (1, 2), {2: 5})
    assert planned(Wishes(one=True, strategy="cheapest"), prices) == [(2, "b")]
    assert planned(Wishes(one=True), prices) == [(1, "a")]
    with pytest.raises(Unplannable, match="there is no strategy 'cheap': did you mean cheapest"):
        plan(Wishes(one=True, strategy="cheap"), prices, MOST)


def test_round_robin_over_calls_that_end_asks_all_alike() -> None:
    counts = {1: 0, 3: 0}
    for _ in range(10):
        registry = {
            node: [RegisteredModel(ServedModel("a", "p"), answers=count)]
            for node, count in counts.items()
        }
        [(node, _)] = planned(Wishes(("a",), strategy="round-robin"), Cluster(registry, (1, 3), {}))
        counts[node] += 1
    assert counts == {1: 5, 3: 5}


def test_a_successor_serves_the_same_model_or_else_a_fallback() -> None:
    open_candidate = Candidate(1, 2, "b", fallbacks=("zz", "b", "c"), planned_model="b")
    place = successor(open_candidate, replace(THREE, live=(1, 3)), failed=False)
    assert place is not None
    assert (place.node, place.name) == (1, "b")
    place = successor(open_candidate, replace(THREE, live=(3,)), failed=False)
    assert place is not None
    assert (place.node, place.name) == (3, "c")
    place = successor(open_candidate, THREE, failed=True)
    assert place is not None
    assert (place.node, place.name) == (3, "c")
    assert successor(replace(open_candidate, fallbacks=()), THREE, failed=True) is None
    assert successor(open_candidate, replace(THREE, live=()), failed=False) is None
    default = Candidate(1, 1)
    place = successor(default, replace(THREE, live=(2, 3)), failed=False)
    assert place is not None
    assert (place.node, place.name) == (3, "a")


def test_what_was_left_without_having_failed_is_asked_again_when_nothing_else_is_left() -> None:
    def back(planned: str, *left: tuple[str, str]) -> str | None:
        """Where a candidate goes when it fails that was moved to each model for this reason."""
        takeovers = tuple(
            TakenOver(attempt, 3, 0, attempt, model, reason)
            for attempt, (model, reason) in enumerate(left, 2)
        )
        node, model = (3, left[-1][0]) if left else (1, planned)
        candidate = Candidate(
            *(1, node, model, len(left) + 1),
            planned_node=1,
            planned_model=planned,
            fallbacks=("b", "c"),
            takeovers=takeovers,
        )
        place = successor(candidate, THREE, failed=True)
        return place and place.name

    assert back("a") == "b"
    assert back("a", ("b", "")) == "c"
    assert back("a", ("b", ""), ("c", "b: down")) == "a"
    assert back("a", ("b", "a: down"), ("c", "b: down")) is None
    assert back("a", ("b", ""), ("c", "b: down"), ("a", "c: down")) is None
    assert back("", ("b", ""), ("c", "b: down")) == "a"
    assert back("", ("b", "a: down"), ("c", "b: down")) is None


@pytest.mark.parametrize(
    ("wishes", "why"),
    [
        (Wishes(("A",)), "there is no model 'A': there are a, b, c"),
        (Wishes(("a1",)), "there is no model 'a1': did you mean a?"),
        (Wishes(("a", "zz")), "there is no model 'zz': there are a, b, c"),
        (Wishes(("b@3",)), "node 3 does not serve b: ask nodes 1, 2"),
        (Wishes(("c@x",)), "'c@x': write name@node, with the node's number"),
        (Wishes(("c@",)), "'c@': write name@node, with the node's number"),
        (Wishes(("c@" + "1" * 5000,)), "'c@1111"),
        (Wishes(samples=2, one=True), "one answer and several samples are asked for"),
        (Wishes(samples=4_000_000_000), "4000000000 answers are asked for: a turn has at most 64"),
        (Wishes(("a",) * 65), "65 answers are asked for: a turn has at most 64, so ask fewer"),
        (Wishes(("a", "b"), samples=33), "66 answers are asked for"),
    ],
)
def test_what_cannot_be_planned_is_one_line(wishes: Wishes, why: str) -> None:
    with pytest.raises(Unplannable) as caught:
        plan(wishes, THREE, MOST)
    assert str(caught.value).startswith(why)
    assert "\n" not in str(caught.value)


def test_a_model_whose_nodes_are_down_says_so() -> None:
    known = cluster({1: "a", 2: "b", 3: "b"}, live=(1,))
    with pytest.raises(Unplannable, match=r"b is served by nodes 2, 3 only, which"):
        plan(Wishes(("b",)), known, MOST)
    with pytest.raises(Unplannable, match=r"b is served by node 3 only, which"):
        plan(Wishes(("b@3",)), known, MOST)


def test_without_any_model_there_is_no_best_one() -> None:
    with pytest.raises(Unplannable, match="no live node serves a model"):
        plan(Wishes(one=True), cluster({}, live=(1, 2)), MOST)


def test_a_hostile_name_stays_on_one_short_line() -> None:
    with pytest.raises(Unplannable) as caught:
        plan(Wishes(("\x1b[2J\n" * 1000,)), THREE, MOST)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_of_a_long_name_no_more_is_compared_than_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def nearest(name: str, *_: object, **__: object) -> list[str]:
        compared.append(name)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", nearest)
    with pytest.raises(Unplannable):
        plan(Wishes(("x" * 1_000_000,)), THREE, MOST)
    assert compared == ["x" * NAME_CHARACTERS]


def test_load_counts_open_candidates() -> None:
    replicas = Replicas()
    replicas.ask((1, 2))
    replicas.ask((2,))
    assert load_of(replicas.ports[1].machine.open_turns()) == {1: 1, 2: 2}


def test_a_role_is_the_domain_and_then_the_persona() -> None:
    assert role("", "", {}) is None
    assert role("law", "", {}) == BUILT_IN["law"]
    assert role("law", "a judge", {"law": "Ours."}) == "Ours.\n\nYou are a judge."
    assert role("tax", "", {"tax": "About taxes."}) == "About taxes."
    with pytest.raises(Unplannable, match="there is no domain 'lew': did you mean law"):
        role("lew", "", {})
