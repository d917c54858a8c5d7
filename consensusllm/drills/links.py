"""Owns a drill's faults of links: that each is there once it was ordered, by the orchestrator's own
list, and that messages met it before it was lifted. A drill whose faults do nothing shows nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from consensusllm.orchestrator.client import FaultList
from consensusllm.orchestrator.faults import Directed

from .cluster import DrillError, LocalCluster

_FATES = {"delay": "held", "reorder": "held", "drop": "dropped", "duplicate": "duplicated"}
"""What messages meet at each shape of a link; at all else they are cut."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """``words`` are those of its command. ``met``: so many messages had its fate by then, there or
    elsewhere."""

    words: str
    links: frozenset[Directed]
    met: int

    @property
    def fate(self) -> str:
        return _fate(self.words)


class Links:
    """Each command returns the orchestrator's answer, one line, or raises DrillError, FaultRefused.
    ``problem`` is told of a fault that no message met."""

    def __init__(self, cluster: LocalCluster, problem: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._problem = problem
        self._ordered: list[_Fault] = []
        self.cut_off: frozenset[int] = frozenset()
        """The nodes that are linked, both ways, to less than a majority."""

    async def fail(self, a: int, b: int, one_way: bool) -> str:
        words = f"failLink {a} {b}" + (" --one-way" if one_way else "")
        order = self._cluster.faults.fail_link(a, b, one_way=one_way)
        return await self._cut(words, _between(a, b, one_way), order)

    async def fix(self, a: int, b: int, one_way: bool) -> str:
        links = _between(a, b, one_way)
        await self._end(
            lambda fault: bool(links & fault.links) and (fault.fate == "cut" or not one_way)
        )
        answer = await self._cluster.faults.fix_link(a, b, one_way=one_way)
        listed = await self._look()
        _check(not links & {*listed.cut}, answer, listed)
        return answer

    async def partition(self, groups: Sequence[Sequence[int]]) -> str:
        await self._end(lambda fault: fault.words.startswith("partition"))
        named = {node for group in groups for node in group}
        parts = [*groups, [node for node in self._cluster.nodes if node not in named]]
        links = frozenset(
            link
            for one, other in itertools.permutations(parts, 2)
            for link in itertools.product(one, other)
        )
        words = " ".join(["partition", *(",".join(map(str, group)) for group in groups)])
        return await self._cut(words, links, self._cluster.faults.partition(groups))

    async def isolate(self, node: int) -> str:
        others = (other for other in self._cluster.nodes if other != node)
        links = frozenset(link for other in others for link in ((node, other), (other, node)))
        return await self._cut(f"isolate {node}", links, self._cluster.faults.isolate(node))

    async def shape(self, word: str, pairs: Sequence[Directed], *values: float) -> str:
        """Delay, drop, duplicate or reorder what passes between each of ``pairs``, the lower number
        first. 0 lifts it."""
        links = frozenset(pairs)
        await self._end(
            lambda fault: fault.words.startswith(f"{word} ") and bool(links & fault.links)
        )
        order: Callable[..., Awaitable[str]] = getattr(self._cluster.faults, word)
        answer = ""
        for a, b in pairs:
            answer = await order(a, b, *values)
        listed = await self._look()
        of_these = tuple(f"{word} {a} {b} " for a, b in pairs)
        shown = " ".join(f"{value:g}" for value in values)
        wanted = [f"{each}{shown}" for each in of_these] if any(values) else []
        found = [line for line in listed.faults if line.startswith(of_these)]
        _check(sorted(found) == sorted(wanted), answer, listed)
        if wanted:
            where = f"{pairs[0][0]} {pairs[0][1]}" if len(pairs) == 1 else "all"
            self._note(f"{word} {where} {shown}", links, listed)
        return answer

    async def heal(self) -> str:
        await self.forget()
        answer = await self._cluster.faults.heal()
        listed = await self._look()
        _check(not (listed.faults or listed.cut), answer, listed)
        return answer

    async def forget(self) -> None:
        """All that there is is about to be lifted."""
        await self._end(lambda fault: True)
        self.cut_off = frozenset()

    async def _cut(self, words: str, links: frozenset[Directed], order: Awaitable[str]) -> str:
        answer = await order
        listed = await self._look()
        _check(links <= {*listed.cut}, answer, listed)
        self._note(words, links, listed)
        return answer

    def _note(self, words: str, links: frozenset[Directed], listed: FaultList) -> None:
        self._ordered.append(_Fault(words, links, listed.fates.get(_fate(words), 0)))

    async def _end(self, which: Callable[[_Fault], bool]) -> None:
        ending = [fault for fault in self._ordered if which(fault)]
        if not ending:
            return
        fates = (await self._look()).fates
        for fault in ending:
            self._ordered.remove(fault)
            if fates.get(fault.fate, 0) <= fault.met:
                self._problem(
                    f"{fault.words}: no message was {fault.fate} before it was lifted: let it last "
                    "longer, or name nodes that have something to say to each other"
                )

    async def _look(self) -> FaultList:
        listed = await self._cluster.faults.faults()
        nodes, cut = self._cluster.nodes, {*listed.cut}

        def linked(node: int) -> int:
            return sum((node, other) not in cut and (other, node) not in cut for other in nodes)

        self.cut_off = frozenset(node for node in nodes if 2 * linked(node) <= len(nodes))
        return listed


def _fate(words: str) -> str:
    return _FATES.get(words.split()[0], "cut")


def _between(a: int, b: int, one_way: bool) -> frozenset[Directed]:
    return frozenset({(a, b)} if one_way else {(a, b), (b, a)})


def _check(there: bool, answer: str, listed: FaultList) -> None:
    if not there:
        faults = ", ".join(listed.faults) or "no fault"
        raise DrillError(
            f'the orchestrator answered "{answer}" and lists {faults}: see its log, as it did not '
            "do what it was told"
        )
