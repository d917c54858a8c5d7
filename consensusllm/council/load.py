"""How many candidates each node works on, as far as one node knows.

The state does not have yet what the owner has just given to nodes. That counts here until it is
applied, or will not be: what is planned at once, or handed on at once as where a server fails, is
not all for one node. A node's planner and its answerer own one each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from consensusllm.conversations.machine import Machine

from .planning import load_of


class Load:
    """``machine`` gives the applied state, which is another object after a snapshot came in."""

    def __init__(self, machine: Callable[[], Machine]) -> None:
        self._machine = machine
        self._slot = -1
        self._applied: Counter[int] = Counter()
        self._given: Counter[int] = Counter()

    def by_node(self) -> Counter[int]:
        """Nodes that have nothing to do may be left out."""
        machine = self._machine()
        if self._slot != machine.applied_slot:  # what is open changes with what is applied only
            self._slot = machine.applied_slot
            self._applied = load_of(machine.open_turns())
        return self._applied + self._given

    def give(self, nodes: Iterable[int]) -> Callable[[], None]:
        """A candidate each is on its way to ``nodes``, until the result is called."""
        given = Counter(nodes)
        self._given += given

        def ends() -> None:
            self._given -= given

        return ends

    @contextmanager
    def giving(self, node: int) -> Iterator[None]:
        """`give` for as long as something is done."""
        ends = self.give([node])
        try:
            yield
        finally:
            ends()
