"""What a planted bug is, and how the simulator is to find it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

import pytest

from consensusllm.simulation import Scenario, parse_kinds


class Patch(pytest.MonkeyPatch):
    """Plants a function only where it takes what the one in its place takes: the product goes on,
    and a bug that only the full run looks for would be found out of date no sooner than there."""

    def setattr(  # type: ignore[override]
        self, target: Any, name: str, value: Any, raising: bool = True
    ) -> None:
        original = getattr(target, name, None)
        if inspect.isfunction(original) and inspect.isfunction(value):
            for arguments, named in _calls(original):
                inspect.signature(value).bind(*arguments, **named)
        super().setattr(target, name, value, raising)


def _calls(function: Callable[..., Any]) -> list[tuple[list[Any], dict[str, Any]]]:
    """Arguments of a call of ``function`` with all that it takes, and of one with the least."""
    takes = inspect.signature(function).parameters.values()
    least = [each for each in takes if each.default is Parameter.empty]
    return [
        (
            [each for each in some if each.kind < each.VAR_POSITIONAL],
            {each.name: each for each in some if each.kind is each.KEYWORD_ONLY},
        )
        for some in (takes, least)
    ]


_SECONDS = 40.0
"""Simulated, of each seed."""


@dataclass(frozen=True)
class Bug:
    """``caught_by`` are the beginnings of the reasons that may end its simulation: an invariant, or
    the words of an assertion that guards the same rule. ``faults`` and ``nodes`` are what it runs
    with, ``within`` how many seeds may be needed. ``full``: it is for the full run."""

    name: str
    plant: Callable[[Patch], None]
    caught_by: tuple[str, ...]
    faults: str
    nodes: int
    within: int
    full: bool

    def __str__(self) -> str:
        return self.name

    def scenario(self, seed: int) -> Scenario:
        return Scenario(seed, self.nodes, _SECONDS, parse_kinds(self.faults))


BUGS: list[Bug] = []


def bug(
    *caught_by: str, faults: str, nodes: int = 3, within: int = 6, full: bool = False
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Plant by the function that is decorated, which gives the bug its name.

    ``within`` is at least three times the seed that finds it, so that a change of the product,
    which draws other runs from the same seeds, does not lose it. A search stops at the first find:
    room costs nothing while the bug is found. ``full`` is for bugs that need more than 2 seeds.
    """

    def register(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        name = plant.__name__.replace("_", " ")
        BUGS.append(Bug(name, plant, caught_by, faults, nodes, within, full))
        return plant

    return register


DURABLE = "durable before revealed:"
MAJORITY = "chosen is durable on a majority:"
CHOSEN = "one chosen value a slot:"
AGREE = "applied prefixes agree:"
REUSED = "a ballot is never reused:"
REGRESSED = "a vote never regresses:"
STATES = "state hashes are equal:"
LINEARIZABLE = "linearizable:"
ONCE = "each command is applied once:"
WINNER = "one winner a turn:"
PRODUCED = "a candidate is what its attempt produced:"
BEGUN = "an attempt is begun once:"
LOST_DISK = "no vote after a lost disk:"
PROGRESS = "progress after the faults:"
BOUNDED = "everything is bounded:"
ONE_CHANGE = "one change at a time:"
USED_ID = "an id is never used again:"
NO_MEMBER = "no vote before it is a member:"
STAYS = "what is acknowledged stays:"
BUDGET = "budgets hold:"
COUNCIL = "a council goes on to its end:"
ASSERTED = "AssertionError: "
