"""Ballots and their total order.

A ballot is ``<seq_num, pid, op_num>``. The order is that of ``(seq_num, pid)``: two proposers never
share a ballot, because each signs its own with its pid, and a proposer raises ``seq_num`` above
every ballot that it has seen (Paxos Made Simple, section 2.2: disjoint sets of numbers). ``op_num``
is not part of the order; it is the first slot that the message carrying the ballot speaks of.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Ballot:
    """``seq_num`` >= 0 and ``pid`` >= 0 make the order; ``op_num`` >= 0 is a slot and does not.

    ``Ballot(0, 0)`` is below every ballot that a proposer can use (pids start at 1).
    """

    seq_num: int
    pid: int
    op_num: int = field(default=0, compare=False)

    def at(self, op_num: int) -> Ballot:
        """The same ballot, speaking of ``op_num`` onwards."""
        return Ballot(self.seq_num, self.pid, op_num)

    def above(self, pid: int) -> Ballot:
        """The lowest ballot of ``pid`` that is above this one whoever owns this one."""
        return Ballot(self.seq_num + 1, pid)

    def __str__(self) -> str:
        return f"<{self.seq_num},{self.pid},{self.op_num}>"


BOTTOM = Ballot(0, 0)
"""No ballot: below every real one. What an acceptor that never promised has promised."""
