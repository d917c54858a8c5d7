"""What a node knows of the cluster when it decides who is to go on with a candidate.

The state does not have yet what the node has just given to others. That counts here until it is
applied, or will not be: the candidates of a server that fails are handed on at once, and not all of
them are for one node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from .planning import Cluster, load_of
from .port import ReplicaPort


class Outlook:
    """One for each node."""

    def __init__(self, port: ReplicaPort) -> None:
        self._port = port
        self._given: Counter[int] = Counter()

    def cluster(self) -> Cluster:
        machine = self._port.machine
        live = sorted(self._port.live() or self._port.members())
        load = load_of(machine.open_turns()) + self._given
        return Cluster(machine.registry, live, load, self._port.now_ms())

    @contextmanager
    def giving(self, node: int) -> Iterator[None]:
        """While a candidate is on its way to ``node``."""
        self._given[node] += 1
        try:
            yield
        finally:
            self._given[node] -= 1
