"""Which faults are injected into the network, and what they do to a message. No I/O, no clock.

Every directed link between two members is fine, or cut, or shaped (delayed, lossy, duplicating,
reordering), or several of these. Faults bind at delivery: ``route`` decides when a message is
handed in, ``deliver`` once its delay is over, and only ``deliver`` rolls the dice of loss and
duplication, so a message in flight meets the faults of the moment at which it arrives.

Cuts are directed (``failLink --one-way``); shapes are of a pair of nodes, both ways.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

MAX_DELAY_MS = 3_600_000.0
REORDER_HOLD_S = (0.005, 0.050)
"""How long a message is held back that is to be overtaken."""

Directed = tuple[int, int]


class BadFault(Exception):
    """A fault that cannot be: nothing was changed. The message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a message: ``copies`` of it, after ``delay_s``; ``fate`` says it in a word.

    With a delay the fate is open until ``FaultTable.deliver`` is asked. No copies: it is lost.
    """

    delay_s: float = 0.0
    copies: int = 1
    fate: str = "delivered"


DELIVERED = Decision()
DUPLICATED = Decision(copies=2, fate="duplicated")
DROPPED = Decision(copies=0, fate="dropped")
CUT = Decision(copies=0, fate="cut")
DOWN = Decision(copies=0, fate="down")
NO_SUCH_NODE = Decision(copies=0, fate="no such node")


@dataclass(slots=True)
class _Shape:
    """What happens to messages between two nodes that are not cut off from each other."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    percent: dict[str, float] = field(default_factory=dict)  # "drop", "duplicate", "reorder"

    def plain(self) -> bool:
        return self.delay_ms == 0 and self.jitter_ms == 0 and not self.percent


@dataclass(frozen=True, slots=True)
class _Cut:
    """A command that cuts the links between ``groups``. Where its ``word`` is not ``failLink`` the
    members that none of them names, at any time, are one more group."""

    word: str
    groups: tuple[tuple[int, ...], ...]
    one_way: bool = False

    def parts(self, members: Iterable[int]) -> list[tuple[int, ...]]:
        """The groups that are cut off from each other; the last of an isolation may be empty."""
        rest = tuple(member for member in members if not any(member in g for g in self.groups))
        if self.word == "failLink" or (self.word == "partition" and not rest):
            return [*self.groups]
        return [*self.groups, rest]

    def links(self, members: Iterable[int]) -> frozenset[Directed]:
        pairs = itertools.combinations(self.parts(members), 2)
        links = {link for mine, other in pairs for link in itertools.product(mine, other)}
        return frozenset(links if self.one_way else links | {(b, a) for a, b in links})

    def describe(self, members: Iterable[int]) -> str:
        parts = self.groups if self.word == "isolate" else self.parts(members)
        return f"{self.word} {_shown(parts)}" + (" --one-way" if self.one_way else "")

    def without(self, node: int) -> _Cut:
        left = (tuple(member for member in group if member != node) for group in self.groups)
        return replace(self, groups=tuple(group for group in left if group))


NODES_MAX = 64
"""Nodes that are known at a time, those that were removed but not dismissed included."""


class FaultTable:
    """The faults between ``members``, node ids without repetition. Dice are rolled with ``rng``.

    Commands return one line that says what is so now, or raise ``BadFault``.
    """

    def __init__(self, members: Iterable[int], rng: random.Random) -> None:
        self.members = tuple(sorted(members))
        assert len(set(self.members)) == len(self.members), "a member is named twice"
        self._rng = rng
        self._down: set[int] = set()
        self._cuts: list[_Cut] = []  # a link is cut while any of them holds it
        self._cut: frozenset[Directed] = frozenset()
        self._shapes: dict[Directed, _Shape] = {}  # by the pair, lower id first

    def admit(self, node: int) -> None:
        """A node is there that was not among the first: what there is to be done to it can be."""
        if node not in self.members:
            if len(self.members) >= NODES_MAX:
                raise BadFault(f"{NODES_MAX} nodes are known already: start the orchestrator again")
            self.members = tuple(sorted((*self.members, node)))
            self._recompute()

    def dismiss(self, node: int) -> None:
        """``node`` is gone for ever, and its faults with it. A partition or isolation goes on
        without it, for as long as it has two groups."""
        self.members = tuple(member for member in self.members if member != node)
        cuts = (cut.without(node) for cut in self._cuts)
        self._cuts = [cut for cut in cuts if len(cut.parts(self.members)) > 1]
        self._shapes = {pair: shape for pair, shape in self._shapes.items() if node not in pair}
        self._down.discard(node)
        self._recompute()

    # Commands -------------------------------------------------------------------------------

    def fail_node(self, node: int) -> str:
        """Mark ``node`` down: nothing passes from or to it until ``fix_node``."""
        self._check(node)
        self._down.add(node)
        return f"node {node} is down"

    def fix_node(self, node: int) -> str:
        """Lift ``fail_node``."""
        self._check(node)
        self._down.discard(node)
        return f"node {node} is up"

    def fail_link(self, a: int, b: int, one_way: bool = False) -> str:
        """Cut the link between ``a`` and ``b``; with ``one_way`` only from ``a`` to ``b``."""
        links = self._links(a, b, one_way)
        self._cuts += [cut for cut in _named_apart(links) if cut not in self._cuts]
        self._recompute()
        if one_way:
            return f"nothing passes from {a} to {b}"
        return f"nothing passes between {a} and {b}"

    def fix_link(self, a: int, b: int, one_way: bool = False) -> str:
        """Mend the link, whatever cut it, and lift its delay, drop, duplicate and reorder.

        With ``one_way`` only the cut from ``a`` to ``b`` is mended. A link without a fault is no
        error: the answer says so.
        """
        links = self._links(a, b, one_way)
        where = f"from {a} to {b}" if one_way else f"between {a} and {b}"
        shaped = not one_way and self._shapes.pop(_pair(a, b), None) is not None
        if not shaped and not links & self._cut:
            return f"the link {where} has no fault"
        cuts: list[_Cut] = []
        for cut in self._cuts:
            # A partition or isolation that loses a link goes on as the links that it still cuts.
            held = cut.links(self.members)
            cuts += _named_apart(held - links) if held & links else [cut]
        self._cuts = list(dict.fromkeys(cuts))
        self._recompute()
        return f"the link {where} is fixed"

    def partition(self, groups: Sequence[Sequence[int]]) -> str:
        """Cut all links between ``groups``, which are disjoint and not empty.

        Members that no group names form one more group together, and who joins is one of them. A
        partition replaces the one before it; other faults stay.
        """
        named: set[int] = set()
        for group in groups:
            if not group:
                raise BadFault("a group of a partition is empty: name its nodes, as in 1,2 3")
            for node in group:
                self._check(node)
                if node in named:
                    raise BadFault(f"node {node} is named twice: a node is in one group")
                named.add(node)
        partition = _Cut("partition", tuple(tuple(sorted(group)) for group in groups))
        parts = partition.parts(self.members)
        if len(parts) < 2:
            raise BadFault("a partition has two groups at least, as in 1,2 3")
        self._cuts = [cut for cut in self._cuts if cut.word != "partition"] + [partition]
        self._recompute()
        return f"nothing passes between the groups {_shown(parts)}"

    def isolate(self, node: int) -> str:
        """Cut ``node``, which lives on, off from every other, also from who joins."""
        self._check(node)
        isolation = _Cut("isolate", ((node,),))
        if isolation not in self._cuts:
            self._cuts.append(isolation)
        self._recompute()
        return f"node {node} is cut off from every other"

    def heal(self) -> str:
        """Lift every fault of the links. Nodes that are down stay so: their processes are dead."""
        self._cuts.clear()
        self._shapes.clear()
        self._recompute()
        return "every link is fine"

    def delay(self, a: int, b: int, delay_ms: float, jitter_ms: float = 0.0) -> str:
        """Delay what passes between ``a`` and ``b`` by ``delay_ms`` plus or minus up to
        ``jitter_ms`` (uniformly; never below 0). 0 lifts it."""
        self._links(a, b, False)
        for name, value in (("delay", delay_ms), ("jitter", jitter_ms)):
            if not 0 <= value <= MAX_DELAY_MS:
                raise BadFault(f"{name} must be between 0 and {MAX_DELAY_MS:.0f} ms, not {value:g}")
        shape = self._shapes.setdefault(_pair(a, b), _Shape())
        shape.delay_ms, shape.jitter_ms = delay_ms, jitter_ms
        self._forget_plain_shape(a, b)
        if delay_ms == 0 and jitter_ms == 0:
            return f"messages between {a} and {b} are not delayed"
        give_or_take = f" give or take {jitter_ms:g} ms" if jitter_ms else ""
        return f"messages between {a} and {b} take {delay_ms:g} ms{give_or_take}"

    def drop(self, a: int, b: int, percent: float) -> str:
        """Lose ``percent`` (0 to 100) of what passes between ``a`` and ``b``. 0 lifts it."""
        return self._set_percent("drop", "lost", a, b, percent)

    def duplicate(self, a: int, b: int, percent: float) -> str:
        """Deliver ``percent`` of what passes between ``a`` and ``b`` twice. 0 lifts it."""
        return self._set_percent("duplicate", "delivered twice", a, b, percent)

    def reorder(self, a: int, b: int, percent: float) -> str:
        """Hold back ``percent`` of what passes between ``a`` and ``b``, by 5 to 50 ms, so that
        later messages overtake it. 0 lifts it."""
        return self._set_percent("reorder", "overtaken by later ones", a, b, percent)

    # What is so ----------------------------------------------------------------------------

    @property
    def down(self) -> tuple[int, ...]:
        """The nodes that are held down, in order."""
        return tuple(sorted(self._down))

    @property
    def cut(self) -> list[Directed]:
        """The links over which nothing passes, in order; those of nodes that are down are not."""
        return sorted(self._cut)

    @property
    def clear(self) -> bool:
        """No fault at all: every message between members is delivered once and at once."""
        return not (self._down or self._cut or self._shapes)

    def describe(self) -> list[str]:
        """One line a fault, in the words of the command that would make it."""
        lines = [f"failNode {node}" for node in sorted(self._down)]
        lines += [cut.describe(self.members) for cut in self._cuts]
        for (a, b), shape in sorted(self._shapes.items()):
            if shape.delay_ms or shape.jitter_ms:
                jitter = f" {shape.jitter_ms:g}" if shape.jitter_ms else ""
                lines.append(f"delay {a} {b} {shape.delay_ms:g}{jitter}")
            lines += [f"{word} {a} {b} {value:g}" for word, value in sorted(shape.percent.items())]
        return lines

    # What becomes of a message ---------------------------------------------------------------

    def route(self, src: int, dst: int, *, ended: bool = False) -> Decision:
        """What becomes of a message handed in now: it is lost, delayed, or delivered at once.
        ``ended``: it is no node's, but says that the connection of ``src`` has ended."""
        if lost := self.lost(src, dst, ended=ended):
            return lost
        delay_s = self.delay_s(src, dst)
        return Decision(delay_s=delay_s) if delay_s > 0 else self.deliver(src, dst, ended=ended)

    def deliver(self, src: int, dst: int, *, ended: bool = False) -> Decision:
        """What becomes of a message whose delay is over; never a further delay."""
        if lost := self.lost(src, dst, ended=ended):
            return lost
        shape = self._shapes.get(_pair(src, dst))
        if shape is None or not shape.percent:
            return DELIVERED
        if self._roll(shape, "drop"):
            return DROPPED
        return DUPLICATED if self._roll(shape, "duplicate") else DELIVERED

    def lost(self, src: int, dst: int, *, ended: bool = False) -> Decision | None:
        """Why no message can pass from ``src`` to ``dst`` now; None when it can. That a connection
        has ended is also heard of a node that is down."""
        if src not in self.members or dst not in self.members:
            return NO_SUCH_NODE
        if (src in self._down and not ended) or dst in self._down:
            return DOWN
        return CUT if (src, dst) in self._cut else None

    def delay_s(self, src: int, dst: int) -> float:
        """How long a message takes from its sending to its delivery; drawn anew at each call."""
        shape = self._shapes.get(_pair(src, dst))
        if shape is None:
            return 0.0
        delay_s = 0.0
        if shape.delay_ms or shape.jitter_ms:
            swing = self._rng.uniform(-shape.jitter_ms, shape.jitter_ms)
            delay_s = max(0.0, shape.delay_ms + swing) / 1000
        if self._roll(shape, "reorder"):
            delay_s += self._rng.uniform(*REORDER_HOLD_S)
        return delay_s

    # Helpers -------------------------------------------------------------------------------

    def _check(self, node: int) -> None:
        if node not in self.members:
            raise BadFault(f"no node {node}: the nodes are {', '.join(map(str, self.members))}")

    def _links(self, a: int, b: int, one_way: bool) -> frozenset[Directed]:
        self._check(a)
        self._check(b)
        if a == b:
            raise BadFault(f"node {a} has no link to itself: name two different nodes")
        return frozenset({(a, b)} if one_way else {(a, b), (b, a)})

    def _set_percent(self, word: str, effect: str, a: int, b: int, percent: float) -> str:
        self._links(a, b, False)
        if not 0 <= percent <= 100:
            raise BadFault(f"percent must be between 0 and 100, not {percent:g}")
        shape = self._shapes.setdefault(_pair(a, b), _Shape())
        shape.percent[word] = percent
        if percent == 0:
            del shape.percent[word]
        self._forget_plain_shape(a, b)
        return f"{percent:g} % of the messages between {a} and {b} are {effect}"

    def _forget_plain_shape(self, a: int, b: int) -> None:
        if self._shapes[_pair(a, b)].plain():
            del self._shapes[_pair(a, b)]

    def _recompute(self) -> None:
        self._cut = frozenset().union(*(cut.links(self.members) for cut in self._cuts))

    def _roll(self, shape: _Shape, word: str) -> bool:
        percent = shape.percent.get(word, 0.0)
        return percent > 0 and self._rng.random() * 100 < percent


def _pair(a: int, b: int) -> Directed:
    return (a, b) if a <= b else (b, a)


def _shown(groups: Iterable[tuple[int, ...]]) -> str:
    return " ".join(",".join(map(str, group)) for group in groups)


def _named_apart(links: frozenset[Directed]) -> list[_Cut]:
    """``links`` as the ``failLink`` commands that cut exactly these."""
    return [
        _Cut("failLink", ((a,), (b,)), one_way=(b, a) not in links)
        for a, b in sorted(links)
        if a < b or (b, a) not in links
    ]
