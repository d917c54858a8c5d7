"""Quorums: what a majority is, and who is in it.

Any two majorities of one membership share a member; all of Paxos rests on that (Paxos Made Simple,
2.2). A vote is cast by a member in one of its lives: `Fence` refuses the votes of lives that ended
with the loss of a disk.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .messages import Incarnations


def majority(member_count: int) -> int:
    """The smallest number of members that any other such number of them must meet."""
    return member_count // 2 + 1


def is_quorum(voters: Collection[int], members: Collection[int]) -> bool:
    """Whether ``voters``, as distinct members, are a majority of ``members``."""
    return len(set(voters).intersection(members)) >= majority(len(members))


class Fence:
    """For each member, the lowest incarnation whose votes count. It only ever rises."""

    def __init__(self, incarnations: Incarnations = ()) -> None:
        self._lowest = dict(incarnations)

    def admits(self, member: int, incarnation: int) -> bool:
        return incarnation >= self._lowest.get(member, 0)

    def lowest(self, member: int) -> int:
        return self._lowest.get(member, 0)

    def raise_to(self, incarnations: Incarnations) -> bool:
        """Raise the fence where ``incarnations`` is higher; whether anything changed."""
        changed = False
        for member, incarnation in incarnations:
            if incarnation > self._lowest.get(member, 0):
                self._lowest[member] = incarnation
                changed = True
        return changed

    def pairs(self) -> Incarnations:
        return tuple(sorted(self._lowest.items()))
