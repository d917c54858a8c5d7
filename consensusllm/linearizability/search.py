"""Owns the search for one order of the operations on one key that explains all that was seen.

It is the search of Wing & Gong ("Testing and verifying concurrent objects", JPDC 1993): take any
operation that no other one that is still to be taken ended before, apply it, go on, and go back
where nothing fits. Lowe ("Testing for linearizability", CCPE 2017) adds the memory of
configurations, that is of which operations were taken and what the state is then: none is entered
twice. A history is linearizable if the search takes all operations whose outcome is known (Herlihy
& Wing, "Linearizability", TOPLAS 1990); those of unknown outcome are taken where they help.

The problem is NP-complete, so the rest is about not entering configurations. A *completion* is a
valid order of what is still to be taken. Each rule keeps at least one completion if there is any:

1. An operation that leaves the state alone and fits is taken at once: moved to the front of a
   completion, it is seen by nobody.
2. A state that a known operation still has to observe is not left when nothing can restore it.
3. An operation of unknown outcome is taken only where the next operation could tell the difference.
   Take a completion with the fewest of them: if the next one fits without it, and leads to the same
   state, there is one with fewer.
4. Operations of one action are taken in the order of their ends (known) or starts (unknown): a
   completion that has them the other way round stays valid when the two change places.
5. A configuration with more unknown operations used up than in one seen before has no completion
   that the other had not. Those whose value nobody has to tell from others any more only count.
6. A *chain* is a write, all that has to observe its value, a swap of that value for the next, and
   so on, to a state that nobody has to observe any more. Suppose that the search went through a
   whole chain from a state that nobody has to observe, and that each observed value in it has no
   other writer. Wherever a completion has the chain's operations, they stand next to each other,
   and what follows overwrites their effect; so the completion stays valid when they are moved to
   its front, and the choices before the chain need not be tried again. (Failed comparisons can
   tell: none may come to see what then stands in the chain's old place.)
7. While nothing but appends is left before a get, the state must be a prefix of what that get saw.
8. Where there are appends, an operation of unknown outcome must lead to a prefix of what some other
   observes, or away from a prefix of what a comparison must not find, or away from what is no
   string, which allows no append: if none of these comes before its effect is overwritten, there
   is a completion without it.

Rules 2 and 6 hold where there are no appends: an append can produce any string. With them, a
history whose values are unique, as those of a good test are, is searched almost without going back.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from .appends import Foresight, may_become
from .history import Operation
from .models import IMPOSSIBLE, Action, Kind, State, step
from .partition import UNSEEN, Partition
from .pending import Pending
from .zones import Contradiction

MEMORY_BYTES_MAX = 1 << 30
"""What is remembered of one key, at most and about. The answer is "undecided" past it."""

_CONFIGURATION_BYTES = 500

_STEPS_A_LOOK = 256


class Verdict(Enum):
    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Found:
    """Indices are into the operations that were searched.

    LINEARIZABLE: ``order`` is a linearization. NOT_LINEARIZABLE: ``contradiction`` shows it; or it
    is None, and the operations that ended before the time ``passed`` can be ordered, with some that
    were under way then.
    """

    verdict: Verdict
    order: tuple[int, ...] = ()
    contradiction: Contradiction | None = None
    passed: float = -math.inf


def search(operations: Sequence[Operation], initial: State, expired: Callable[[], bool]) -> Found:
    """Search the operations of one key. ``expired`` is asked often; True ends it as UNDECIDED."""
    partition = Partition(operations, initial, expired)
    if partition.contradiction is not None:
        return Found(Verdict.NOT_LINEARIZABLE, contradiction=partition.contradiction)
    return _Search(partition).run(expired)


@dataclass(slots=True)
class _Frame:
    """A configuration, and the choices that are still to be tried from it."""

    state: State
    frontier: int = 0
    """One more than the latest known operation taken, in the order of starts."""
    used: int = 0
    """A bit for each unknown operation taken."""
    used_of_note: int = 0
    """Those of ``used`` whose value somebody may still have to tell from others (rule 5)."""
    used_writes: int = 0
    """How many other writes are in ``used``."""
    taken: list[int] = field(default_factory=list)
    """What was taken on the way in: a known operation by its index, an unknown one by ~index."""
    chain: int = -1
    """The depth of the frame that this one's chain began at; -1 where rule 6 does not hold."""
    settled: bool = False
    """Nobody has to observe the state any more."""
    choices: list[tuple[int, State]] = field(default_factory=list)
    """In reverse: the last one is tried first."""


class _Search:
    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._actions = partition.actions
        self._starts, self._ends = partition.starts, partition.ends
        self._ties = max((*partition.after, *partition.unknown_after), default=-1) >= 0
        self._unknown_actions = partition.unknown_actions
        self._unknown_starts = partition.unknown_starts
        self._pending = Pending(partition)
        self._foresight = Foresight(partition, self._pending) if partition.has_appends else None
        self._index_unknown()
        self._seen: dict[tuple[int, tuple[int, ...], State], list[tuple[int, int]]] = {}
        self._memory_bytes = 0
        self._passed = -math.inf

    def _index_unknown(self) -> None:
        """Unknown operations by action (rule 4), and the actions by the value they produce."""
        by_action: defaultdict[Action, list[int]] = defaultdict(list)
        for index, action in enumerate(self._unknown_actions):
            by_action[action].append(index)
        self._groups = dict(by_action)
        self._producers: defaultdict[State, list[Action]] = defaultdict(list)
        self._swaps_of: defaultdict[State, list[Action]] = defaultdict(list)
        for action in self._groups:
            self._producers[action.value].append(action)
            if action.kind is Kind.SWAP:
                self._swaps_of[action.expected].append(action)
        self._threats = [
            index
            for index, action in enumerate(self._unknown_actions)
            if self._pending.differing[action.value]
        ]

    def run(self, expired: Callable[[], bool]) -> Found:
        frames: list[_Frame] = []
        self._enter(frames, _Frame(self._partition.initial))
        steps = 0
        while frames:
            if self._pending.is_empty():
                return Found(Verdict.LINEARIZABLE, order=tuple(self._order(frames)))
            steps += 1
            if steps % _STEPS_A_LOOK == 1 and (expired() or self._memory_bytes > MEMORY_BYTES_MAX):
                return Found(Verdict.UNDECIDED)
            if frames[-1].choices:
                self._try(frames, *frames[-1].choices.pop())
            else:
                self._pending.put_back(frames.pop().taken)
        return Found(Verdict.NOT_LINEARIZABLE, passed=self._passed)

    def _order(self, frames: list[_Frame]) -> list[int]:
        known, unknown = self._partition.known, self._partition.unknown
        return self._partition.with_set_aside(
            [known[at] if at >= 0 else unknown[~at] for frame in frames for at in frame.taken]
        )

    def _try(self, frames: list[_Frame], choice: int, state: State) -> None:
        """Take ``choice`` from the last frame's configuration to ``state``, and enter what results
        if it can lead anywhere."""
        parent = frames[-1]
        left = parent.state
        self._pending.take(choice)
        if (
            self._foresight is None
            and state != left
            and self._pending.observers[left]
            and not self._pending.writers[left]
        ):
            self._pending.put_back([choice])  # rule 2
            return
        bit = 1 << ~choice if choice < 0 else 0
        frame = _Frame(
            state,
            frontier=max(parent.frontier, choice + 1),
            used=parent.used | bit,
            used_of_note=parent.used_of_note | bit,
            used_writes=parent.used_writes,
            taken=[choice],
            chain=self._chain(frames, choice, state),
        )
        self._enter(frames, frame)

    def _chain(self, frames: list[_Frame], choice: int, state: State) -> int:
        """The frame where the chain began that ``choice`` begins or goes on with; -1 for none."""
        if self._foresight is not None:
            return -1
        parent = frames[-1]
        observed = self._pending.observers[state] > 0
        if (observed and self._pending.writers[state]) or (choice < 0 and not observed):
            return -1  # There is another writer, or a completion may do without this one.
        if parent.settled:
            return len(frames) - 1
        action = self._actions[choice] if choice >= 0 else self._unknown_actions[~choice]
        return parent.chain if action.kind is Kind.SWAP else -1

    def _enter(self, frames: list[_Frame], frame: _Frame) -> None:
        """Settle the frame and push it, or put its operations back where it leads nowhere."""
        pending, first_end = self._take_reads(frame)
        state = frame.state
        if self._foresight is None:
            frame.settled = not self._pending.observers[state] and not any(
                self._is_of_note(action) for action in self._swaps_of.get(state, ())
            )
            if frame.settled and frame.chain >= 0 and self._nobody_can_tell(frames, frame):
                for earlier in frames[frame.chain :]:
                    earlier.choices.clear()  # rule 6
            if frame.settled and not self._pending.differing[state]:
                state = UNSEEN
            self._forget_used(frame)
        below = tuple(at for at in pending if at < frame.frontier)
        before = self._seen.setdefault((frame.frontier, below, state), [])
        note, writes = frame.used_of_note, frame.used_writes
        if any(used & note == used and count <= writes for used, count in before):
            self._pending.put_back(frame.taken)  # rule 5
            return
        before.append((note, writes))
        self._memory_bytes += _CONFIGURATION_BYTES + note.bit_length() // 8
        self._memory_bytes += len(state) if isinstance(state, str) else 0
        self._passed = max(self._passed, first_end)
        if pending:
            frame.choices = self._choices(frame, pending, first_end)
        frames.append(frame)

    def _is_of_note(self, action: Action) -> bool:
        """Whether a known operation may still have to tell an unknown one's value from others, or
        needs it to take away the one that stands there."""
        value = action.value
        return (
            self._pending.observers[value] > 0
            or self._pending.differing[value] > 0
            or value in self._swaps_of
            or (action.kind is Kind.SWAP and self._pending.differing[action.expected] > 0)
        )

    def _forget_used(self, frame: _Frame) -> None:
        """Rule 5: once of no note, a used operation stays so; a write of no note only counts, since
        any other such write can stand in for it, and a swap of no note is of no use to anybody."""
        rest = frame.used_of_note
        while rest:
            bit = rest & -rest
            rest ^= bit
            action = self._unknown_actions[bit.bit_length() - 1]
            if not self._is_of_note(action):
                frame.used_of_note ^= bit
                frame.used_writes += action.kind is Kind.WRITE

    def _nobody_can_tell(self, frames: list[_Frame], frame: _Frame) -> bool:
        """Rule 6: whether no failed comparison can come to see the value that it must not see, from
        a write that stood before the chain: that is one that begins before the chain's first ends.
        """
        if not self._pending.differing_total:
            return True
        path = frames[frame.chain + 1].taken if frame.chain + 1 < len(frames) else frame.taken
        if path[0] < 0:
            return False
        end = self._ends[path[0]]
        for at in self._pending.until(end):
            action = self._actions[at]
            if action.kind in (Kind.WRITE, Kind.SWAP) and self._pending.differing[action.value]:
                return False
        return not any(
            self._pending.differing[self._unknown_actions[at].value]
            for at in self._threats
            if self._unknown_starts[at] <= end and not frame.used >> at & 1
        )

    def _take_reads(self, frame: _Frame) -> tuple[list[int], float]:
        """Take all that fits and changes nothing (rule 1). Returns what is pending then (that is,
        begun before any that is still to be taken has ended), and the first of their ends."""
        starts, ends, actions = self._starts, self._ends, self._actions
        head, following = self._pending.head, self._pending.following
        state = frame.state
        while True:
            pending: list[int] = []
            reads: list[int] = []
            first_end = math.inf
            at = following[head]
            while at != head and starts[at] <= first_end:
                first_end = min(first_end, ends[at])
                action = actions[at]
                kind = action.kind
                if (
                    (kind is Kind.READ and action.expected == state)
                    or (kind is Kind.DIFFERS and action.expected != state)
                ) and self._pending.is_next(at):
                    reads.append(at)
                else:
                    pending.append(at)
                at = following[at]
            if not reads:
                return pending, first_end
            for at in reads:
                self._pending.take(at)
            frame.taken += reads
            frame.frontier = max(frame.frontier, reads[-1] + 1)

    def _choices(
        self, frame: _Frame, pending: list[int], first_end: float
    ) -> list[tuple[int, State]]:
        """What may be taken next, with the state that it leads to; the best choice is the last."""
        state = frame.state
        due: State = IMPOSSIBLE
        if self._foresight is not None:
            due = self._foresight.due(pending, frame.frontier)

        ready = [at for at in pending if self._pending.is_next(at)]
        changes: list[tuple[int, State]] = []
        twins: dict[Action, int] = {}
        for at in sorted(ready, key=self._ends.__getitem__):
            action = self._actions[at]
            if action.kind in (Kind.READ, Kind.DIFFERS):
                continue
            # Rule 4. Where both end at one time, what begins right then may be between them.
            first = twins.setdefault(action, at)
            if first != at and (self._ends[first] < self._ends[at] or not self._ties):
                continue
            self._append_if_possible(changes, at, step(state, action), due)
        if self._foresight is None:
            # A value that nobody has to see is best written first: rule 6 then settles it.
            changes.sort(key=lambda change: self._pending.observers[change[1]] > 0)
        for at in self._useful_unknown(frame, ready, first_end):
            after = step(state, self._unknown_actions[at])
            if after != state:
                self._append_if_possible(changes, ~at, after, due)
        changes.reverse()
        return changes

    @staticmethod
    def _append_if_possible(
        changes: list[tuple[int, State]], choice: int, after: State, due: State
    ) -> None:
        if after is not IMPOSSIBLE and (due is IMPOSSIBLE or may_become(after, due)):
            changes.append((choice, after))

    def _useful_unknown(self, frame: _Frame, ready: list[int], first_end: float) -> Iterator[int]:
        """Unknown operations that the next operation could tell from nothing (rule 3): they lead,
        perhaps over other unknown swaps, to a value that is waited for. An append that may be next
        can tell anything; so can a comparison that has to fail, and cannot yet."""

        def unused(action: Action) -> Iterator[int]:
            for index in self._groups[action]:
                if frame.used >> index & 1:
                    continue
                if self._unknown_starts[index] > first_end:
                    return
                if self._pending.is_next(~index):
                    yield index
                    return

        if self._foresight is not None:
            for action in self._groups:
                if self._foresight.may_help(action, frame.state):
                    yield from unused(action)
            return
        stand_in = False
        if any(self._actions[at].kind is Kind.DIFFERS for at in ready):
            for action in self._groups:
                if self._is_of_note(action):
                    yield from unused(action)
                elif action.kind is Kind.WRITE and not stand_in:
                    for index in unused(action):
                        stand_in = True
                        yield index
            return
        values = list(
            dict.fromkeys(
                self._actions[at].expected
                for at in ready
                if self._actions[at].kind in (Kind.READ, Kind.SWAP)
            )
        )
        for value in values:  # It grows on the way.
            for action in self._producers.get(value, ()):
                for index in unused(action):
                    yield index
                    if action.kind is Kind.SWAP and action.expected not in values:
                        values.append(action.expected)
