"""What must hold of the registry of models: it has what members serve, and in the end all of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set

from consensusllm.conversations import Machine, ServeModels
from consensusllm.conversations.commands import Operation, ServedModel


class RegistryInvariants:
    """Told of each life that begins, and of each operation once, as it is applied first."""

    def __init__(self) -> None:
        self._served: defaultdict[int, list[ServedModel]] = defaultdict(list)  # life after life

    def serves(self, node: int, model: ServedModel) -> None:
        """A life of ``node`` begins, and serves ``model``."""
        self._served[node].append(model)

    def broken(self, operation: Operation, machine: Machine, members: Set[int]) -> str:
        """What is wrong with the registry after ``operation``; "" for nothing. ``members`` are all
        who ever were one: what a node said of itself may be chosen after its removal."""
        if not isinstance(operation, ServeModels):
            return ""
        for node, models in machine.registry.items():
            if node not in members:
                return f"node {node} is registered, and never was a member"
            if len(models) != 1 or models[0].served not in self._served[node]:
                return f"node {node} is registered with {models}, which it never served"
        return ""

    def unsettled(self, machine: Machine, members: Sequence[int]) -> str:
        """What the registry still lacks once nothing changes any more; "" for nothing."""
        if set(machine.registry) != set(members):
            return f"the registry has nodes {sorted(machine.registry)}, the members are {members}"
        for node, models in machine.registry.items():
            if models[0].served != self._served[node][-1]:
                return f"the registry has not what node {node} serves"
        return ""
