"""The schedule of faults: drawn from the seed before the run, as plain data, so it can be shrunk.

A round's faults are of a few kinds only, chosen anew for each round ("swarm testing": Groce et al.,
ISSTA 2012), because too many at once hide each other: where every message is lost, nothing happens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from random import Random
from typing import Any, get_args

from consensusllm.paxos.messages import Message

from .disk import OPERATIONS, ROTS

LEADER = -1
"""As a node: whichever leads at the moment."""

MESSAGES = tuple(kind.__name__ for kind in get_args(Message))
"""What `mute` may silence."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "network": (
        "lose",
        "duplicate",
        "straggle",
        "slow link",
        "cut",
        "isolate",
        "partition",
        "depose",
        "flap",
        "reset",
        "tear",
        "relapse",
        "replay",
        "echo",
        "mute",
        "lasting cut",
    ),
    "crash": ("crash", "crash all", "crash in disk", "lasting crash"),
    "pause": ("pause",),
    "disk": ("failed sync", "full disk", "slow disk", "hanging disk"),
    "loss": ("rot", "lost disk"),
    "clock": ("jump", "set clock", "drift", "linger"),
    "model": ("slow models", "failing models"),
    "load": ("flood",),
    "membership": ("add node", "remove node", "replace node", "mistaken removal", "transfer"),
    "newcomer": ("hanging newcomer",),
}
"""What can be asked for by name, and the kinds of fault that each family has."""

OPERATED = (*FAMILIES["membership"], *FAMILIES["newcomer"])
"""What operators want. Whom it meets may be gone by then."""

_KINDS = tuple(kind for kinds in FAMILIES.values() for kind in kinds)

_SELDOM = frozenset(
    {
        *("crash all", "lost disk", "rot", "mistaken removal"),
        *("lasting cut", "lasting crash", "hanging disk", "hanging newcomer"),
    }
)

_AT_ONCE = {"cut": 3, "crash": 2, "pause": 2}
"""How many of a kind may be under way at a time; of others, one. Where everything is broken all the
time, the cluster does nothing, and nothing is tested."""

_NODE_MAX = 1_000_000
"""The highest number that a node may have, in a schedule that is read. Operators add nodes."""

_NUMBERS_MAX = {"at_s": 1e6, "lasts_s": 1e6, "rate": 1.0}
"""The bounds of a fault's numbers, in a schedule that is read."""

_WIDE = (
    *("lose", "duplicate", "straggle", "slow link", "partition", "replay", "echo", "mute"),
    *("slow models", "failing models", "flood"),
)
"""Kinds of fault that meet no single node."""


DRIFT_MAX = 0.5
"""By how much of its rate a clock is off at most, under the fault of that name."""


class UnknownFault(ValueError):
    """A name that is neither a family nor a kind of fault. One line."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``kind`` happens ``at_s`` after the round began, for ``lasts_s`` where it can last.

    ``node`` and ``others`` are whom it meets (LEADER: the leader of the moment), ``rate`` is 0.0 to
    1.0 and means what the kind makes of it, ``detail`` is an operation or a thing that rots.
    """

    round: int
    at_s: float
    kind: str
    node: int = 0
    others: tuple[int, ...] = ()
    lasts_s: float = 0.0
    rate: float = 0.0
    detail: str = ""

    def __str__(self) -> str:
        whom = f" node {'leader' if self.node == LEADER else self.node}" if self.node else ""
        others = f" / {','.join(map(str, self.others))}" if self.others else ""
        lasts = f" for {self.lasts_s:.2f} s" if self.lasts_s else ""
        detail = f" ({self.detail})" if self.detail else ""
        return (
            f"round {self.round} +{self.at_s:.2f} s: {self.kind}{whom}{others}{detail}{lasts}"
            f"{f' at {self.rate:.2f}' if self.rate else ''}"
        )


def parse_kinds(text: str) -> tuple[str, ...]:
    """Kinds of fault from a list of kinds and families, or all, or none. Raises UnknownFault."""
    if text == "all":
        return _KINDS
    if text == "none":
        return ()
    wanted: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        kinds = FAMILIES.get(name) or ((name,) if name in _KINDS else ())
        if not kinds:
            raise UnknownFault(
                f"no fault is called '{name}': use all, none, or some of "
                f"{', '.join([*FAMILIES, *_KINDS])}"
            )
        wanted.extend(kinds)
    return tuple(kind for kind in _KINDS if kind in wanted)


def draw(
    rng: Random, round_number: int, storm_s: float, members: Sequence[int], kinds: Sequence[str]
) -> list[Fault]:
    """The faults of one round."""
    if not kinds:
        return []
    chosen = rng.sample(kinds, min(len(kinds), rng.randrange(1, 6)))
    chosen = [kind for kind in kinds if kind in chosen]
    interval_s = rng.choice((0.4, 1.0, 2.5, 6.0))
    faults: list[Fault] = []
    ends: dict[str, list[float]] = {kind: [] for kind in chosen}
    at_s = rng.expovariate(1 / interval_s)
    while at_s < storm_s:
        kind = rng.choice(chosen)
        fault = _one(rng, round_number, round(at_s, 4), kind, members)
        under_way = sum(end > at_s for end in ends[kind])
        if under_way < _AT_ONCE.get(kind, 1) and (kind not in _SELDOM or rng.random() < 0.4):
            faults.append(fault)
            ends[kind].append(fault.at_s + fault.lasts_s)
        at_s += rng.expovariate(1 / interval_s)
    return faults


def _one(rng: Random, number: int, at_s: float, kind: str, members: Sequence[int]) -> Fault:
    node = LEADER if rng.random() < 0.4 else rng.choice(members)
    lasts_s = round(min(20.0, 0.05 + rng.expovariate(1 / 3.0)), 3)
    others: tuple[int, ...] = ()
    detail = ""
    rate = round(rng.random(), 3)
    if kind == "crash in disk":
        detail = f"{rng.choice(('before', 'after'))} {rng.choice(OPERATIONS)}"
    elif kind == "failed sync":
        detail = f"{rng.choice(('before', 'after'))} {rng.choice(OPERATIONS[1:4])}"
    elif kind == "rot":
        detail = rng.choice(ROTS)
    elif kind in ("cut", "flap"):
        others = (rng.choice((0, *(each for each in members if each != node))),)
        detail = rng.choice(("to", "from", "both"))
    elif kind in ("lasting cut", "lasting crash", "hanging disk"):
        detail = rng.choice(("to", "from", "both")) if kind == "lasting cut" else ""
        lasts_s = 0.0  # until the clients have come through in spite of it
    elif kind in ("depose", "drift", "linger", "tear", "relapse", "replay", "echo", "mute"):
        lasts_s *= 3
    elif kind == "partition":
        others = tuple(sorted(rng.sample(members, rng.randrange(1, max(2, len(members))))))
    if kind == "mute":
        detail = rng.choice(MESSAGES)
    if kind in _WIDE:
        node = 0
    return Fault(number, at_s, kind, node, others, lasts_s, rate, detail)


def to_json(faults: Iterable[Fault]) -> str:
    """One fault a line."""
    return "".join(json.dumps(asdict(fault)) + "\n" for fault in faults)


def from_json(text: str) -> list[Fault]:
    """What `to_json` made of faults. A node need not be there yet: whom it meets is known when it
    comes. Raises ValueError, in one line, where ``text`` was not made so."""
    names = {each.name for each in fields(Fault)}
    faults = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            values = json.loads(line)
            if not isinstance(values, dict) or set(values) != names:
                raise ValueError(f"not a fault: it has the fields {', '.join(sorted(names))}")
            faults.append(_checked(values))
        except RecursionError:
            raise ValueError(f"line {number}: nested too deeply") from None
        except (ValueError, TypeError) as error:
            raise ValueError(f"line {number}: {error}") from None
    return faults


def _checked(values: dict[str, Any]) -> Fault:
    fault = Fault(**{**values, "others": tuple(values["others"])})
    for name in ("at_s", "lasts_s", "rate"):
        value = values[name]
        if type(value) not in (int, float) or not 0 <= value <= _NUMBERS_MAX[name]:
            raise ValueError(f"{name} is {value!r}: not a number from 0 to {_NUMBERS_MAX[name]:g}")
    if type(fault.round) is not int or fault.round < 1:
        raise ValueError(f"round is {fault.round!r}: not a whole number from 1 on")
    if fault.kind not in _KINDS:
        raise ValueError(f"no fault is called {fault.kind!r}: there are {', '.join(_KINDS)}")
    for whom in (fault.node, *fault.others):
        if type(whom) is not int or not LEADER <= whom <= _NODE_MAX:
            raise ValueError(f"there is no node {whom!r}: they have numbers from 1 to {_NODE_MAX}")
    if fault.detail not in _details(fault.kind) or (fault.node == 0 and fault.kind not in _WIDE):
        raise ValueError(f"{fault.kind}: what it meets is missing or wrong")
    return fault


def _details(kind: str) -> tuple[str, ...]:
    """What a fault of ``kind`` may have for its detail."""
    if kind == "rot":
        return ROTS
    if kind == "mute":
        return MESSAGES
    if kind in ("cut", "flap", "lasting cut"):
        return ("to", "from", "both")
    if kind in ("crash in disk", "failed sync"):
        return tuple(f"{when} {each}" for when in ("before", "after") for each in OPERATIONS)
    return ("",)
