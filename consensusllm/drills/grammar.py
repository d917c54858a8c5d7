"""Owns the actions of a scenario and what each takes: the fault commands' words, as in the REPL.

``ACTIONS`` is the one table of them, by name in lower case, since names may be in any case.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from consensusllm.document import duration_s, shown

OPERATIONS_MAX = 100_000
DURATION_MAX_S = 600.0
DELAY_MAX_MS = 60_000.0

NodeReference: TypeAlias = "int | str"
WORDS = ("leader", "follower", "answering")
"""The nodes that are named by what they do; answering is one that is writing an answer."""
ALL_LINKS = "all"
CONDITIONS = ("leader", "agreement", "answering")


@dataclass(frozen=True, slots=True)
class Moment:
    """Exactly one is set: seconds from now on, or so many more operations that succeed."""

    seconds: float | None = None
    operations: int | None = None


class Misused(Exception):
    """What is wrong with the arguments of an action, in a few words."""


_Read: TypeAlias = "Callable[[list[str], int], dict[str, Any]]"


@dataclass(frozen=True, slots=True)
class Action:
    """``method`` of `actions.Actions` is called with what ``read`` makes of the words and of how
    many nodes there are. ``read`` raises Misused."""

    name: str
    method: str
    usage: str
    read: _Read


def _count(words: list[str], lowest: int, highest: int) -> None:
    if len(words) < lowest:
        raise Misused("an argument is missing")
    if len(words) > highest:
        raise Misused(f"{shown(words[highest])} is one argument too many")


def _reference(word: str, nodes: int) -> NodeReference:
    if word in WORDS:
        return word
    if re.fullmatch(r"[0-9]{1,9}", word) and 1 <= int(word) <= nodes:
        return int(word)
    ids = ", ".join(map(str, range(1, nodes + 1)))
    raise Misused(f"{shown(word)} is not a node: give one of {ids}, {', '.join(WORDS)}")


def _node(words: list[str], nodes: int) -> dict[str, Any]:
    _count(words, 1, 1)
    return {"node": _reference(words[0], nodes)}


def _nothing(words: list[str], nodes: int) -> dict[str, Any]:
    _count(words, 0, 0)
    return {}


def _node_and_file(words: list[str], nodes: int) -> dict[str, Any]:
    _count(words, 1, 2)
    file = words[1] if len(words) == 2 else None
    if file not in (None, "database", "journal"):
        raise Misused(f"{shown(words[1])} is not a file of a node: give database or journal")
    return {"node": _reference(words[0], nodes), "file": file}


def _distinct(words: list[str], nodes: int) -> list[NodeReference]:
    """The nodes of a step that names several, which cannot turn out to be one and the same."""
    found = [_reference(word, nodes) for word in words]
    for reference in found:
        if found.count(reference) > 1:
            raise Misused(f"{reference} is named twice")
        if reference == "answering":
            raise Misused("answering may be the other one too: give a number, leader or follower")
        if type(reference) is not type(found[0]):
            raise Misused(f"{found[0]} and {reference} may be one node: give both as numbers")
    return found


def _pair(words: list[str], nodes: int) -> tuple[NodeReference, NodeReference]:
    a, b = _distinct(words, nodes)
    return a, b


def _link(words: list[str], nodes: int) -> dict[str, Any]:
    flags = [word for word in words if word.startswith("-")]
    plain = [word for word in words if not word.startswith("-")]
    for flag in flags:
        if flag != "--one-way":
            raise Misused(f"unknown flag {shown(flag)}: there is --one-way")
    _count(plain, 2, 2)
    return {"link": _pair(plain, nodes), "one_way": bool(flags)}


def _groups(words: list[str], nodes: int) -> dict[str, Any]:
    _count(words, 1, nodes)
    groups = tuple(tuple(_distinct(word.split(","), nodes)) for word in words)
    members = _distinct([part for word in words for part in word.split(",")], nodes)
    if len(groups) == 1 and len(members) == nodes:
        raise Misused("a partition has two groups at least")
    return {"groups": groups}


def _number(word: str, what: str, highest: float) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", word) or float(word) > highest:
        raise Misused(f"{shown(word)} is not {what}: give a number from 0 to {highest:g}")
    return float(word)


def _links_first(words: list[str], nodes: int) -> tuple[Any, list[str]]:
    """``all`` (None) or a pair, and the words after it."""
    if words and words[0] == ALL_LINKS:
        return None, words[1:]
    _count(words, 2, len(words))
    return _pair(words[:2], nodes), words[2:]


def _delay(words: list[str], nodes: int) -> dict[str, Any]:
    link, rest = _links_first(words, nodes)
    _count(rest, 1, 2)
    times = [_number(word.removesuffix("ms"), "a time in ms", DELAY_MAX_MS) for word in rest]
    return {"link": link, "delay_ms": times[0], "jitter_ms": times[1] if len(times) > 1 else 0.0}


def _percent(words: list[str], nodes: int) -> dict[str, Any]:
    link, rest = _links_first(words, nodes)
    _count(rest, 1, 1)
    return {"link": link, "percent": _number(rest[0].removesuffix("%"), "a percentage", 100.0)}


def moment(text: str) -> Moment | None:
    """What ``300 operations`` or ``2.5s`` stands for; None for anything else."""
    match = re.fullmatch(r"([0-9]{1,6}) operations?", text)
    if match and 1 <= int(match[1]) <= OPERATIONS_MAX:
        return Moment(operations=int(match[1]))
    seconds = duration_s(text)
    return None if seconds is None or seconds > DURATION_MAX_S else Moment(seconds=seconds)


def _wait(words: list[str], nodes: int) -> dict[str, Any]:
    _count(words, 1, 2)
    if words[0] in CONDITIONS:
        _count(words, 1, 1)
        return {"condition": words[0], "moment": None}
    found = moment(" ".join(words))
    if found is None:
        raise Misused(
            f"cannot wait for {shown(' '.join(words))}: give one of {', '.join(CONDITIONS)}, "
            "or such as 300 operations, or 2.5s"
        )
    return {"condition": None, "moment": found}


_LINKS = "A B | all"
ACTIONS: dict[str, Action] = {
    action.name.lower(): action
    for action in (
        Action("failNode", "fail_node", "NODE", _node),
        Action("fixNode", "fix_node", "NODE", _node),
        Action("failLink", "fail_link", "A B [--one-way]", _link),
        Action("fixLink", "fix_link", "A B [--one-way]", _link),
        Action("partition", "partition", "NODE,NODE… …", _groups),
        Action("isolate", "isolate", "NODE", _node),
        Action("heal", "heal", "", _nothing),
        Action("delay", "delay", f"{_LINKS} MS [JITTER]", _delay),
        Action("drop", "drop", f"{_LINKS} PERCENT", _percent),
        Action("duplicate", "duplicate", f"{_LINKS} PERCENT", _percent),
        Action("reorder", "reorder", f"{_LINKS} PERCENT", _percent),
        Action("replaceNode", "replace_node", "NODE", _node),
        Action("transferLeader", "transfer_leader", "NODE", _node),
        Action("pause", "pause", "NODE", _node),
        Action("resume", "resume", "NODE", _node),
        Action("killAll", "kill_all", "", _nothing),
        Action("startAll", "start_all", "", _nothing),
        Action("loseDisk", "lose_disk", "NODE", _node),
        Action("flipByte", "flip_byte", "NODE [database|journal]", _node_and_file),
        Action("fillDisk", "fill_disk", "NODE", _node),
        Action("wait", "wait", f"{' | '.join(CONDITIONS)} | N operations | TIME", _wait),
    )
}
