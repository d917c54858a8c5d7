"""Owns the reason: from a history that is not linearizable, a few operations that show it.

Whatever is left out is left out honestly: if the part that remains has no order, nor has the whole.
That allows to

- stop at the first return that makes it impossible; what was under way then may not yet have
  happened, and what began later does not count;
- begin after a get that overlapped nothing, with the value that it saw;
- leave out reads and failed comparisons;
- leave out writes of values that nothing in the remaining part observes, while it has neither
  appends nor failed comparisons (the proof is that of partition.py);
- take a swap for a mere write, as if it had not observed anything, or for a mere read where nothing
  observes what it wrote.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .checker import Report, by_key
from .history import History, Operation, OperationName, in_time
from .models import Action, Kind, State, action_of, freeze, step
from .search import Verdict, search
from .zones import Contradiction


@dataclass(frozen=True, slots=True)
class Step:
    """An operation, what it is taken for where that is less than what it was, and the state after
    it where it is in the order."""

    operation: Operation
    taken_for: OperationName | None = None
    state: State = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Operations on ``key``, which holds ``initial`` at first, that cannot be ordered.

    ``steps`` is an order of all that ended before ``stuck`` did; ``stuck`` (one, but for ties) fits
    nowhere in any such order. ``open`` were under way, or of unknown outcome, and do not help.
    ``total`` is how many operations there are on the key. ``unwritten``: none of them wrote what
    ``stuck`` saw.
    """

    key: str
    initial: State
    steps: tuple[Step, ...]
    stuck: tuple[Step, ...]
    open: tuple[Step, ...]
    total: int
    unwritten: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """Operations as they were recorded, and as they are searched: perhaps as less than that.

    ``since`` is the get before them all that told ``initial``, where there is one.
    """

    initial: State
    recorded: tuple[Operation, ...]
    searched: tuple[Operation, ...]
    since: Step | None = None

    def chosen(self, indices: Sequence[int]) -> _Part:
        return replace(
            self,
            recorded=tuple(self.recorded[at] for at in indices),
            searched=tuple(self.searched[at] for at in indices),
        )

    def step(self, at: int, state: State = None) -> Step:
        recorded, searched = self.recorded[at], self.searched[at]
        return Step(recorded, None if searched.op == recorded.op else searched.op, state)


def explain(
    history: History, report: Report, clock: Callable[[], float], time_limit_s: float = 10.0
) -> Explanation | None:
    """A short reason for ``report``, which must be NOT_LINEARIZABLE.

    When ``time_limit_s`` seconds of ``clock`` are over, the reason is as short as it was by then,
    or None where not even the operation was found that fits nowhere.
    """
    assert report.offending is not None, "only what is not linearizable has a reason"
    assert report.found is not None, "what is offending was found"
    everything = by_key(history)[report.offending]
    deadline = clock() + time_limit_s
    part = _Part(freeze(history.initial), tuple(everything), tuple(everything))
    if report.found.contradiction is not None:
        part = _reduced_to(report.found.contradiction, part)
    finder = _Finder(lambda: clock() >= deadline)
    try:
        part = finder.up_to_the_first_failure(part, report.found.passed)
        part = finder.shrunk(finder.after_a_quiet_get(part))
        part = finder.shrunk(finder.loosened(part))
    except _TimeOver:
        return None
    return _explanation(report.offending, part, everything)


class _TimeOver(Exception):
    """The search gave no answer in time."""


class _Finder:
    def __init__(self, expired: Callable[[], bool]) -> None:
        self._expired = expired

    def _fails(self, part: _Part) -> bool:
        found = search(part.searched, part.initial, self._expired)
        if found.verdict is Verdict.UNDECIDED:
            raise _TimeOver
        return found.verdict is Verdict.NOT_LINEARIZABLE

    def up_to_the_first_failure(self, part: _Part, passed: float) -> _Part:
        """The part until the first return that makes it fail. What ended before ``passed`` is known
        not to fail. Raises _TimeOver."""
        returns = _returns(part.searched)
        ends = [in_time(part.searched[index])[1] for index in returns]
        good, bad = (
            bisect_left(ends, passed),
            len(returns),
        )  # This many returns do not, or do, fail.
        stride = 1
        while good + stride < bad:
            if self._fails(_until(part, returns, good + stride)):
                bad = good + stride
            else:
                good += stride
                stride *= 2
        while bad - good > 1:
            middle = (good + bad) // 2
            if self._fails(_until(part, returns, middle)):
                bad = middle
            else:
                good = middle
        return _until(part, returns, bad)

    def after_a_quiet_get(self, part: _Part) -> _Part:
        """Begin after the latest get that overlaps nothing: all before it can be ordered, and
        whatever the order, it ends with what the get saw."""
        in_order = sorted(range(len(part.searched)), key=lambda at: in_time(part.searched[at]))
        before = -math.inf  # The latest end so far.
        quiet = -1
        for position, at in enumerate(in_order[:-1]):
            operation = part.searched[at]
            start, end = in_time(operation)
            end = math.inf if operation.unknown else end
            following = part.searched[in_order[position + 1]].start
            if operation.op == "get" and before < start and end < following:
                quiet = position
            before = max(before, end)
        if quiet < 0:
            return part
        initial = freeze(part.searched[in_order[quiet]].output)
        return replace(
            part.chosen(sorted(in_order[quiet + 1 :])),
            initial=initial,
            since=part.step(in_order[quiet], initial),
        )

    def shrunk(self, part: _Part) -> _Part:
        """Leave out ever smaller runs of operations while what remains fails (Zeller & Hildebrandt,
        "Simplifying and isolating failure-inducing input", TSE 2002)."""
        size = max(1, len(part.searched) // 2)
        while True:
            before = len(part.searched)
            at = 0
            while at < len(part.searched):
                smaller = _without(part, at, at + size)
                try:
                    if len(smaller.searched) < len(part.searched) and self._fails(smaller):
                        part = smaller
                    else:
                        at += size
                except _TimeOver:
                    return part
            if size == 1 and len(part.searched) == before:
                return part
            size = max(1, size // 2)

    def loosened(self, part: _Part) -> _Part:
        """Take swaps for writes where that allows leaving out what they observed."""
        swap = len(part.searched)
        while swap > 0:
            swap = min(swap, len(part.searched)) - 1
            action = action_of(part.searched[swap])
            if action is None or action.kind is not Kind.SWAP:
                continue
            searched = list(part.searched)
            searched[swap] = _as_write(searched[swap])
            looser = replace(part, searched=tuple(searched))
            smaller = _without(looser, 0, swap, reads=False)
            try:
                if len(smaller.searched) < len(part.searched) and self._fails(smaller):
                    part = smaller
            except _TimeOver:
                return part
        return part


def _reduced_to(contradiction: Contradiction, part: _Part) -> _Part:
    """The operations of the contradiction as writers and observers of its values only. All others
    may be left out: nothing that remains observes any value of theirs."""
    part = part.chosen(sorted(contradiction.indices))
    searched: list[Operation] = []
    for operation in part.searched:
        action = action_of(operation)
        assert action is not None, "what contradicts others has an effect"
        if action.kind is Kind.SWAP and action.expected not in contradiction.values:
            operation = _as_write(operation)
        elif action.kind is Kind.SWAP and action.value not in contradiction.values:
            old = operation.value[0] if isinstance(operation.value, list) else None
            operation = replace(operation, op="get", value=None, output=old)
        searched.append(operation)
    return replace(part, searched=tuple(searched))


def _as_write(swap: Operation) -> Operation:
    new = swap.value[1] if swap.op == "cas" and isinstance(swap.value, list) else swap.value
    return replace(swap, op="put", value=new, output=None)


def _returns(operations: Sequence[Operation]) -> list[int]:
    """Those whose outcome is known and of consequence, in the order of their ends; of those that
    end at one time, first what changes the state and then what only observes it."""
    ends: list[tuple[float, bool, float, int]] = []
    for at, operation in enumerate(operations):
        action = action_of(operation)
        if not operation.unknown and action is not None:
            start, end = in_time(operation)
            ends.append((end, action.kind in (Kind.READ, Kind.DIFFERS), start, at))
    return [at for *_, at in sorted(ends)]


def _until(part: _Part, returns: Sequence[int], count: int) -> _Part:
    """What had begun when the return number ``count`` came: the outcome of whatever returned later
    is not known yet."""
    returned = set(returns[:count])
    time = in_time(part.searched[returns[count - 1]])[1]
    kept: list[int] = []
    searched: list[Operation] = []
    for at, operation in enumerate(part.searched):
        action = action_of(operation)
        if action is None or operation.start > time:
            continue
        if at in returned:
            searched.append(operation)
        elif action.kind not in (Kind.READ, Kind.DIFFERS):
            searched.append(replace(operation, ok=None))
        else:
            continue
        kept.append(at)
    return replace(part.chosen(kept), searched=tuple(searched))


def _without(part: _Part, begin: int, end: int, reads: bool = True) -> _Part:
    """The part without those of the run, with its reads or not, that can be left out honestly."""
    actions = [action_of(operation) for operation in part.searched]
    gone = {
        at
        for at in range(begin, min(end, len(actions)))
        if reads and _kind(actions[at]) in (None, Kind.READ, Kind.DIFFERS)
    }
    remaining = [action for at, action in enumerate(actions) if at not in gone and action]
    if all(action.kind not in (Kind.APPEND, Kind.DIFFERS) for action in remaining):
        observed = Counter(
            action.expected for action in remaining if action.kind in (Kind.READ, Kind.SWAP)
        )
        for at in range(min(end, len(actions)) - 1, begin - 1, -1):
            action = actions[at]
            if (
                at not in gone
                and _kind(action) in (Kind.WRITE, Kind.SWAP)
                and action is not None
                and not observed[action.value]
            ):
                gone.add(at)
                if action.kind is Kind.SWAP:
                    observed[action.expected] -= 1
    return part.chosen([at for at in range(len(actions)) if at not in gone])


def _kind(action: Action | None) -> Kind | None:
    return None if action is None else action.kind


def _explanation(key: str, part: _Part, everything: Sequence[Operation]) -> Explanation:
    """What returned last fits nowhere: without it, the part can be ordered, since an order of what
    was left out is one of what remains, too. Of those that end at one time, it may be several."""
    others = list(range(len(part.searched)))
    stuck: list[int] = []
    for last in reversed(_returns(part.searched)):
        others.remove(last)
        stuck.append(last)
        found = search(part.chosen(others).searched, part.initial, lambda: False)
        if found.verdict is Verdict.LINEARIZABLE:
            break
    steps = [] if part.since is None else [part.since]
    state = part.initial
    order = [others[at] for at in found.order]
    for at in order:
        action = action_of(part.searched[at])
        assert action is not None, "only what has an effect is in the part"
        state = step(state, action)
        steps.append(part.step(at, state))
    left = sorted(set(others) - set(order), key=lambda at: in_time(part.recorded[at]))
    written = {
        action.value
        for action in map(action_of, everything)
        if action is not None and action.kind in (Kind.WRITE, Kind.SWAP, Kind.APPEND)
    }
    has_appends = any(operation.op == "append" for operation in everything)
    wanted = [action_of(part.searched[at]) for at in stuck]
    return Explanation(
        key,
        part.initial,
        tuple(steps),
        tuple(part.step(at) for at in stuck),
        tuple(part.step(at) for at in left),
        len(everything),
        unwritten=not has_appends
        and any(
            action is not None
            and action.kind is Kind.READ
            and action.expected not in written | {part.initial, None}
            for action in wanted
        ),
    )
