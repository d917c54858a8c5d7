"""Who the members are: the replicated list, and the part of it that is in force at one node.

A change of members is a slot's value of its own kind: the whole new list. It is in force for every
slot above its own, and a ballot proposes nothing beyond it, so that a ballot counts its votes in
one list only (Lamport, Malkhi and Zhou, *Reconfiguring a State Machine*, 2010: the stop sign).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from .quorum import is_quorum

MEMBERS_MAX = 9
ADDRESS_MAX = 256
"""Characters of a member's address."""


class ChangeRefused(Exception):
    """A change of members or leader that cannot be. One line that says why, and what to do."""


class MalformedMembership(ValueError):
    """The bytes are not an encoded membership."""


@dataclass(frozen=True, slots=True)
class Member:
    """``address`` is ``host:port``, or "" where each node's own configuration says it. One that is
    not ``voting`` yet learns. ``incarnation`` is the life that joined; 0: one of the first."""

    node: int
    address: str = ""
    voting: bool = True
    incarnation: int = 0


@dataclass(frozen=True, slots=True)
class Membership:
    """``members`` sorted by node, 1 to 9 of them; ``removed`` are ids that nobody may have again.
    ``version`` is how many changes have led to it, 0 for the first.

    Made for a change from the one in force, so whatever it does not say stays.
    """

    members: tuple[Member, ...]
    removed: tuple[int, ...] = ()
    version: int = 0

    @property
    def voters(self) -> tuple[int, ...]:
        return tuple(each.node for each in self.members if each.voting)

    @property
    def learner(self) -> int | None:
        """Who is joining: one at a time."""
        return next((each.node for each in self.members if not each.voting), None)

    def member(self, node: int) -> Member | None:
        return next((each for each in self.members if each.node == node), None)

    def followed_by(self, change: Membership) -> Membership:
        """What is in force after ``change`` was chosen. One that was not made from this one changes
        nothing: it is of a ballot that others overtook, and does not know what they did."""
        return change if change.version == self.version + 1 else self

    def adding(self, node: int, address: str) -> Membership:
        """With ``node`` as a learner. Raises ChangeRefused."""
        if node in self.removed:
            raise ChangeRefused(
                f"node {node} was removed, and its id is never used again: take another"
            )
        self._no_other_is_joining(node)
        if len(self.members) >= MEMBERS_MAX:
            raise ChangeRefused(
                f"a cluster has at most {MEMBERS_MAX} nodes: remove one first, with removeNode"
            )
        taken = next((one.node for one in self.members if address and one.address == address), None)
        if taken is not None:
            raise ChangeRefused(f"node {taken} has the address {address}: give another")
        return self._with(Member(node, address, voting=False))

    def promoting(self, node: int, incarnation: int) -> Membership:
        """With the learner ``node``, living its ``incarnation``, as one that votes."""
        learner = self.member(node)
        assert learner is not None
        assert not learner.voting
        return self._with(replace(learner, voting=True, incarnation=incarnation))

    def without(self, node: int) -> Membership:
        """Raises ChangeRefused."""
        if self.member(node) is None:
            raise ChangeRefused(f"{self.named(node)}: there is nothing to remove")
        self._no_other_is_joining(node)
        if self.voters == (node,):
            raise ChangeRefused(f"node {node} is the last one: add another before it is removed")
        members = tuple(each for each in self.members if each.node != node)
        return Membership(members, tuple(sorted({*self.removed, node})), self.version + 1)

    def named(self, node: int) -> str:
        """That ``node`` is no member, in words that say who is."""
        return f"node {node} is no member; they are {', '.join(str(m.node) for m in self.members)}"

    def _with(self, member: Member) -> Membership:
        others = [each for each in self.members if each.node != member.node]
        members = sorted([*others, member], key=lambda each: each.node)
        return Membership(tuple(members), self.removed, self.version + 1)

    def _no_other_is_joining(self, node: int) -> None:
        if self.learner not in (None, node):
            raise ChangeRefused(
                f"node {self.learner} is joining, and one change is made at a time: wait until it "
                f"votes, or give it up with removeNode {self.learner}"
            )

    def encode(self) -> bytes:
        """JSON; equal memberships give equal bytes."""
        rows = [[each.node, each.address, each.voting, each.incarnation] for each in self.members]
        return json.dumps([rows, list(self.removed), self.version], separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Membership:
        """Raises MalformedMembership."""
        try:
            rows, removed, version = json.loads(data)
            members = tuple(_member(*row) for row in rows)
            ids = [each.node for each in members]
            _expect(1 <= len(ids) <= MEMBERS_MAX and ids == sorted(set(ids)))
            _expect(any(each.voting for each in members))
            _expect(removed == sorted(set(map(_id, removed)) - set(ids)))
            _expect(type(version) is int and 0 <= version < 1 << 62)
        except (ValueError, TypeError, RecursionError):
            raise MalformedMembership("not an encoded membership") from None
        return cls(members, tuple(removed), version)


def _member(node: Any, address: Any, voting: Any, incarnation: Any) -> Member:
    _expect(type(address) is str and len(address) <= ADDRESS_MAX)
    _expect(type(voting) is bool and type(incarnation) is int and 0 <= incarnation < 1 << 62)
    return Member(_id(node), address, voting, incarnation)


def _id(node: Any) -> int:
    _expect(type(node) is int and 1 <= node < 1 << 31)
    return int(node)


def _expect(holds: bool) -> None:
    if not holds:
        raise ValueError


def first_members(nodes: tuple[int, ...]) -> Membership:
    """The membership with which a cluster begins."""
    return Membership(tuple(Member(node) for node in sorted(nodes)))


class Configuration:
    """The membership in force at ``node``, above slot ``since``, which chose the last change (0:
    there was none).

    ``voters`` and ``peers`` (everybody else who is told of things, learners too) are sorted.
    """

    def __init__(self, node: int, membership: Membership, since: int) -> None:
        self.node = node
        self.adopt(membership, since)

    def adopt(self, membership: Membership, since: int) -> None:
        self.membership = membership
        self.since = since
        self.voters = membership.voters
        self.peers = tuple(each.node for each in membership.members if each.node != self.node)

    @property
    def votes_here(self) -> bool:
        return self.node in self.voters

    def is_quorum(self, nodes: set[int] | list[int] | tuple[int, ...]) -> bool:
        return is_quorum(nodes, self.voters)
