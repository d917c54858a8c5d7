"""The acceptor's hard state and what a sequence of changes makes of it, the same for every Disk.

Pure. It holds what must never go back: a promise (Paxos Made Simple, 2.2), the end of the chosen
prefix, and the end of what was compacted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from consensusllm.paxos.ballot import BOTTOM, Ballot
from consensusllm.paxos.membership import Membership
from consensusllm.paxos.messages import Entry, Incarnations
from consensusllm.paxos.ready import Persist, Recovered

from .port import Damaged


@dataclass(frozen=True, slots=True)
class HardState:
    """Everything of `Recovered` but the entries and the snapshot."""

    incarnation: int
    voting: bool
    promised: Ballot = BOTTOM
    incarnations: Incarnations = ()
    chosen_through: int = 0
    compacted_through: int = 0
    membership: Membership | None = None
    membership_slot: int = 0


def merge(state: HardState, changes: Sequence[Persist]) -> tuple[HardState, dict[int, Entry]]:
    """``state`` after ``changes`` in order, and the entries that they leave to be written, sorted.

    ``chosen_through`` and ``compact_through`` below what is held are late news and change nothing;
    an entry that is compacted already is dropped. A lower promise is a bug of the caller.
    """
    promised = state.promised
    incarnations = state.incarnations
    chosen_through = state.chosen_through
    compacted_through = state.compacted_through
    incarnation = state.incarnation
    voting = state.voting
    membership, membership_slot = state.membership, state.membership_slot
    entries: dict[int, Entry] = {}
    for change in changes:
        if change.promised is not None:
            assert change.promised >= promised, "a promise never goes down"
            promised = change.promised.at(0)
        if change.incarnations:
            incarnations = change.incarnations
        if change.chosen_through is not None:
            chosen_through = max(chosen_through, change.chosen_through)
        if change.compact_through is not None:
            compacted_through = max(compacted_through, change.compact_through)
        if change.incarnation is not None:
            assert change.incarnation >= incarnation, "an incarnation never goes down"
            incarnation = change.incarnation
        if change.voting is not None:
            voting = change.voting
        if change.membership is not None and change.membership[0] >= membership_slot:
            membership_slot, membership = change.membership
        for entry in change.entries:
            assert entry.slot >= 1, "slots are numbered from 1"
            entries[entry.slot] = entry
    kept = {slot: entries[slot] for slot in sorted(entries) if slot > compacted_through}
    # What is compacted was chosen, whether or not the caller says so in the same breath.
    chosen_through = max(chosen_through, compacted_through)
    merged = HardState(
        incarnation,
        voting,
        promised,
        incarnations,
        chosen_through,
        compacted_through,
        membership,
        membership_slot,
    )
    return merged, kept


def newly_chosen(before: HardState, after: HardState) -> range:
    """The slots that ``after`` calls chosen and ``before`` did not, and that the log must hold."""
    first = max(before.chosen_through, after.compacted_through) + 1
    return range(first, after.chosen_through + 1)


def recover(
    state: HardState, entries: Iterable[Entry], snapshot_slot: int, where: str
) -> Recovered:
    """What a replica starts from. ``entries`` are in slot order; those compacted are left out.

    Raises Damaged, in the name of ``where``, for a hole in the chosen prefix and for a log that was
    compacted beyond the snapshot.
    """
    if snapshot_slot < state.compacted_through:
        raise Damaged(
            f"{where}: the log is compacted through slot {state.compacted_through}, but the "
            f"snapshot covers only slot {snapshot_slot}"
        )
    kept = tuple(entry for entry in entries if entry.slot > state.compacted_through)
    chosen = range(state.compacted_through + 1, state.chosen_through + 1)
    if len(kept) < len(chosen) or any(
        entry.slot != slot for slot, entry in zip(chosen, kept, strict=False)
    ):
        missing = min(set(chosen) - {entry.slot for entry in kept})
        raise Damaged(f"{where}: the entry of slot {missing} is missing, and it was chosen")
    return Recovered(
        incarnation=state.incarnation,
        voting=state.voting,
        promised=state.promised,
        incarnations=state.incarnations,
        entries=kept,
        chosen_through=state.chosen_through,
        compacted_through=state.compacted_through,
        snapshot_slot=snapshot_slot,
        membership=state.membership,
        membership_slot=state.membership_slot,
    )
