"""What a council is: its seats, stages and seed, as they were resolved when it was convened.

A council answers a turn in stages. What each seat says in each stage is a candidate of the turn, so
that attempts, checkpoints, takeovers and cancelling are those of every candidate. Nothing of a
template is looked up later: all that decides what happens is in this record.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class StageKind(Enum):
    """What the seats of a stage do.

    OPINIONS: each answers the question. REBUTTAL: each answers again, having read the others'
    answers. REVIEW: each ranks the others' answers, which bear labels and no names. SYNTHESIS: the
    first seat sums up; where it fails the next one does. MAJORITY: nobody is asked; the answer that
    most opinions agree on stands (see tally.py).
    """

    OPINIONS = "opinions"
    REBUTTAL = "rebuttal"
    REVIEW = "review"
    SYNTHESIS = "synthesis"
    MAJORITY = "majority"


ANSWERING = frozenset({StageKind.OPINIONS, StageKind.REBUTTAL})
"""Stages whose outputs answer the question, and are read and ranked by others."""


@dataclass(frozen=True, slots=True)
class Member:
    """A seat of the council: ``node``'s ``model`` ("": its default) in ``role`` ("": none), for
    which it has ``instructions``. ``fallbacks`` are names of models that are asked in its place
    where it fails."""

    node: int
    model: str = ""
    role: str = ""
    instructions: str = ""
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """``seats`` are numbers of members, from 1; a synthesis asks them one after the other.

    ``close_after`` answers close it (0: all), or ``deadline_ms`` after it opened. A synthesis
    closes with its first answer, and each of its seats has that time. ``instructions`` are added to
    what every seat is told.
    """

    kind: StageKind
    seats: tuple[int, ...] = ()
    close_after: int = 0
    deadline_ms: int = 120_000
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class Council:
    """``revision`` names the template's content; ``seed`` (0 to 2**63 - 1) shuffles the labels."""

    template: str
    revision: str
    seed: int
    members: tuple[Member, ...]
    stages: tuple[Stage, ...]

    def stage(self, number: int) -> Stage:
        """Stage ``number``, from 1."""
        return self.stages[number - 1]

    def member(self, seat: int) -> Member:
        """The member of ``seat``, from 1."""
        return self.members[seat - 1]
