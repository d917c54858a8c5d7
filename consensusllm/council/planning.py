"""Who is to answer a question: the plan of a turn, and who takes over what failed.

Pure: the registry, the live nodes and the work under way come in; candidates, each on one node, or
a reason why there can be none, come out.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from consensusllm.conversations.commands import PlannedCandidate
from consensusllm.conversations.records import Candidate, RegisteredModel, Turn

NODES_AS_NUMBERS_MAX = 1023
"""Up to such ids the candidates of a plain plan have their nodes' numbers. The numbers of a turn go
on where those before ended, and 64 times as many are all that it may have."""
NAMES_SHOWN = 12
NAME_CHARACTERS = 80
"""Of a name that is not known; a comparison with those that are takes the square of its length."""

COLD_CALLS = 4
"""A model that is not in memory is asked where those that are have so many calls more than it."""

FAILURES_MAX = 3
COOL_DOWN_MS = 60_000
"""A model that failed so often in a row is the last choice for so long."""

STRATEGIES = ("smart", "priority", "round-robin", "cheapest")


_NODE = re.compile(r"[0-9]{1,10}")


class Unplannable(ValueError):
    """Nobody can answer what is asked for. One line that says why, and what there is."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked for. ``models`` are names, ``name`` or ``name@node``; each gets ``samples``
    candidates (>= 1). ``one``: only the best of them, or of all. None of these: one candidate for
    each live node, answered by its default model.

    ``strategy`` says which is best, among those that do not fail: "smart" the one whose node has
    least to do, where one that is known not to be in memory counts for COLD_CALLS more, and of
    those the quickest; "priority" the model named first (or served first, in the order of the
    nodes), on whichever node has least to do; "round-robin" the one that was asked least;
    "cheapest" the one that costs least.
    """

    models: tuple[str, ...] = ()
    samples: int = 1
    one: bool = False
    strategy: str = "smart"

    @property
    def plain(self) -> bool:
        return not self.models and self.samples == 1 and not self.one


class Place(NamedTuple):
    """A model on a node."""

    node: int
    model: RegisteredModel

    @property
    def name(self) -> str:
        return self.model.served.name


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a plan is made from: the ``registry`` (a node's default model first), the nodes that are
    ``live``, how many candidates each works on (``load``), and the time."""

    registry: Mapping[int, Sequence[RegisteredModel]]
    live: Sequence[int]
    load: Mapping[int, int]
    now_ms: int = 0

    def places(self) -> list[Place]:
        """Every model of every live node."""
        return [
            Place(node, each) for node in sorted(self.live) for each in self.registry.get(node, ())
        ]

    def names(self) -> list[str]:
        """The names of all models, also of nodes that do not live."""
        found = (each.served.name for node in sorted(self.registry) for each in self.registry[node])
        return list(dict.fromkeys(found))


def load_of(open_turns: Iterable[tuple[str, Turn]]) -> Counter[int]:
    """How many open candidates each node has, those included that it is asked for as a hedge."""
    load: Counter[int] = Counter()
    for _, turn in open_turns:
        for each in turn.candidates:
            if not each.ended:
                load[each.node] += 1
                if (hedge := each.hedge_waits) is not None:
                    load[hedge.node] += 1
    return load


def plan(wishes: Wishes, cluster: Cluster, most: int) -> tuple[PlannedCandidate, ...]:
    """The candidates, numbered from 1, ``most`` of them at most; those of a plain plan have their
    node's number, as far as these are small. Raises Unplannable."""
    asked = max(1, len(wishes.models)) * wishes.samples
    if asked > most:
        raise Unplannable(f"{asked} answers are asked for: a turn has at most {most}, so ask fewer")
    if wishes.one and wishes.samples > 1:
        raise Unplannable("one answer and several samples are asked for: leave one of them out")
    if wishes.strategy not in STRATEGIES:
        raise Unplannable(unknown("strategy", wishes.strategy, STRATEGIES))
    if wishes.plain:
        nodes = sorted(cluster.live)
        as_numbers = not nodes or nodes[-1] <= NODES_AS_NUMBERS_MAX
        numbers = nodes if as_numbers else range(1, len(nodes) + 1)
        return tuple(
            _default(number, node, cluster) for number, node in zip(numbers, nodes, strict=True)
        )
    load = Counter(cluster.load)
    wanted = [_places(name, cluster) for name in wishes.models]
    if wishes.one or not wanted:
        among = [place for places in wanted for place in places] or cluster.places()
        if not among:
            raise Unplannable("no live node serves a model: see models")
        ranks: dict[Place, int] = {}  # by what was named first, or is served first
        for rank, places in enumerate(wanted or _by_name(among)):
            ranks.update((place, rank) for place in places if place not in ranks)
        best = _best(among, load, cluster.now_ms, wishes.strategy, ranks)
        wanted = [[best]] if wishes.one else [[each for each in among if each.name == best.name]]
    chosen: list[Place] = []
    for places in wanted:
        for _ in range(wishes.samples):
            place = _best(places, load, cluster.now_ms, wishes.strategy)
            load[place.node] += 1
            chosen.append(place)
    return tuple(
        PlannedCandidate(number, place.node, place.name, place.model.served.fallbacks)
        for number, place in enumerate(chosen, 1)
    )


def successor(candidate: Candidate, cluster: Cluster, *, failed: bool) -> Place | None:
    """Where ``candidate`` is to go on: where another model is asked for it already, as a hedge; its
    own model elsewhere, unless that ``failed``; the first of its fallbacks that a live node serves;
    or the model that it was planned for, where that was left and never failed. None where there is
    no such place."""
    hedge = candidate.hedge_waits
    for place in cluster.places():
        if hedge is not None and (place.node, place.name) == (hedge.node, hedge.model):
            return place
    name = candidate.model or _default_name(candidate.node, cluster)
    names = (*candidate.fallbacks_left, *_left_unfailed(candidate, cluster))
    for each in names if failed else (name, *names):
        places = [place for place in cluster.places() if place.name == each]
        if places:
            return _best(places, cluster.load, cluster.now_ms, "smart")
    return None


def _left_unfailed(candidate: Candidate, cluster: Cluster) -> tuple[str, ...]:
    """The model that ``candidate`` was planned for, where another has it, as a node was lost or a
    hedge was first, and no call of it is known to have failed."""
    planned = candidate.planned_model or _default_name(candidate.planned_node, cluster)
    holder = candidate.planned_model
    failed = {candidate.model}
    for each in candidate.takeovers:
        if each.reason:
            failed.add(holder)
        holder = each.model or holder
    return () if failed & {planned, candidate.planned_model} else (planned,)


def _default(number: int, node: int, cluster: Cluster) -> PlannedCandidate:
    served = [each.served for each in cluster.registry.get(node, ())]
    return PlannedCandidate(number, node, fallbacks=served[0].fallbacks if served else ())


def _default_name(node: int, cluster: Cluster) -> str:
    served = [each.served.name for each in cluster.registry.get(node, ())]
    return served[0] if served else ""


def _by_name(places: Iterable[Place]) -> list[list[Place]]:
    """The places of each model."""
    found: dict[str, list[Place]] = {}
    for place in places:
        found.setdefault(place.name, []).append(place)
    return list(found.values())


def _best(
    places: Sequence[Place],
    load: Mapping[int, int],
    now_ms: int,
    strategy: str,
    ranks: Mapping[Place, int] = MappingProxyType({}),
) -> Place:
    """The best place by ``strategy``; one whose model fails now, or did when it was last looked at,
    only where all do. ``ranks`` are those of "priority"."""

    def key(place: Place) -> tuple[int, ...]:
        model, busy = place.model, load.get(place.node, 0)
        cools_down = model.failures >= FAILURES_MAX and now_ms < model.failed_ms + COOL_DOWN_MS
        failing = cools_down or bool(model.probe_error)
        rank: tuple[int, ...] = ()
        if strategy == "smart":
            cold = model.loaded is False
            rank = (busy + COLD_CALLS * cold, cold)
        elif strategy == "priority":
            rank = (ranks.get(place, 0),)
        elif strategy == "round-robin":
            rank = (model.answers + model.errors + busy,)
        elif strategy == "cheapest":
            rank = (model.served.prompt_price + model.served.completion_price,)
        return (failing, *rank, busy, -model.speed, place.node)

    return min(places, key=key)


def _places(asked: str, cluster: Cluster) -> list[Place]:
    """Where the model ``asked`` for is served now. Raises Unplannable."""
    name, at, node = asked.partition("@")
    if at and not _NODE.fullmatch(node):
        raise Unplannable(f"{asked!r:.80}: write name@node, with the node's number")
    serving = [
        number
        for number, models in sorted(cluster.registry.items())
        if any(each.served.name == name for each in models)
    ]
    if not serving:
        raise Unplannable(unknown("model", name, cluster.names()))
    if at and int(node) not in serving:
        raise Unplannable(f"node {int(node)} does not serve {name}: ask {_nodes(serving)}")
    found = [
        place
        for place in cluster.places()
        if place.name == name and (not at or place.node == int(node))
    ]
    if not found:
        down = [int(node)] if at else serving
        raise Unplannable(f"{name} is served by {_nodes(down)} only, which does not answer now")
    return found


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """One line for a ``name`` that is not among the ``known`` ones, with the nearest of them."""
    name = name[:NAME_CHARACTERS]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif known:
        more = ", …" if len(known) > NAMES_SHOWN else ""
        hint = f"there are {', '.join(known[:NAMES_SHOWN])}{more}"
    else:
        hint = "there is none"
    return f"there is no {what} {name!r:.80}: {hint}"


def _nodes(nodes: Sequence[int]) -> str:
    return f"node {nodes[0]}" if len(nodes) == 1 else f"nodes {', '.join(map(str, nodes))}"
