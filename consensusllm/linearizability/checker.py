"""Owns the verdict on a whole history.

Operations on different keys are checked apart: a history is linearizable exactly if its part on
each key is (locality: Herlihy & Wing, "Linearizability", TOPLAS 1990, section 3.2; as a way of
making the search fast: Horn & Kroening, "Faster linearizability checking via P-compositionality",
FORTE 2015). What ran out of time is UNDECIDED and never LINEARIZABLE.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from .history import History, Operation
from .models import freeze
from .search import Found, Verdict, search


@dataclass(frozen=True, slots=True)
class Report:
    """``keys`` is how many there are, ``unknown`` how many operations have no known outcome.

    NOT_LINEARIZABLE: ``offending`` is the key that shows it (others may, too). ``found`` is what
    the search of that key says. UNDECIDED: ``undecided`` are the keys without a verdict.
    """

    verdict: Verdict
    operations: int
    keys: int
    unknown: int
    offending: str | None = None
    found: Found | None = None
    undecided: tuple[str, ...] = ()

    @property
    def passed(self) -> float:
        """NOT_LINEARIZABLE: a time about which it shows. explain() finds what shows it."""
        assert self.found is not None, "nothing is offending"
        contradiction = self.found.contradiction
        return self.found.passed if contradiction is None else contradiction.seen


def check(
    history: History, clock: Callable[[], float], time_limit_s: float | None = None
) -> Report:
    """Check every key, those with few operations first, until one is not linearizable.

    ``clock`` tells the time in seconds, from any origin; ``time_limit_s`` (None: no limit) is for
    the whole history.
    """
    deadline = None if time_limit_s is None else clock() + time_limit_s

    def expired() -> bool:
        return deadline is not None and clock() >= deadline

    partitions = by_key(history)
    unknown = sum(operation.unknown for operation in history.operations)
    report = Report(Verdict.LINEARIZABLE, len(history.operations), len(partitions), unknown)
    undecided: list[str] = []
    for key in sorted(partitions, key=lambda key: (len(partitions[key]), key)):
        found = search(partitions[key], freeze(history.initial), expired)
        if found.verdict is Verdict.NOT_LINEARIZABLE:
            return replace(report, verdict=found.verdict, offending=key, found=found)
        if found.verdict is Verdict.UNDECIDED:
            undecided.append(key)
    if undecided:
        return replace(report, verdict=Verdict.UNDECIDED, undecided=tuple(undecided))
    return report


def by_key(history: History) -> dict[str, list[Operation]]:
    """The operations on each key, in the order of the history."""
    partitions: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        partitions[operation.key].append(operation)
    return dict(partitions)
