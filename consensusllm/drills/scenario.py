"""Owns what a scenario is: a cluster, a load, and steps that break and mend things over time.

    description: The leader dies as by kill -9, and comes back.
    cluster: {nodes: 3}
    load: {clients: 6, conversations: 1}
    steps:
      - after: 300 operations
        failNode: leader
      - wait: leader
      - after: 2s
        fixNode: leader

A step is one action with its arguments as the REPL takes them, and perhaps when: ``at`` a time
since the load began, or ``after`` a time or a number of operations since the step before it. A
node is a number, ``leader``, ``follower``, or ``answering`` (one that is writing an answer). These
words are looked up when something is done to the node, and remembered: in fixNode, resume and
fixLink they mean the node that they stood for last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from consensusllm.config import NODES_MAX, Config, demo_document
from consensusllm.config_file import ConfigError
from consensusllm.council.template_files import load
from consensusllm.council.templates import UnknownTemplate
from consensusllm.document import Document, DocumentError, Node, nearest, shown

from .grammar import ACTIONS, DURATION_MAX_S, Misused, Moment, moment

BYTES_MAX = 1 << 20

LIBRARY = "consensusllm_drills"
"""The installed folder of the drills that ship; it is ``drills`` in the source tree."""

CLUSTER_ID = "drill"

CLIENTS_MAX = 64
KEYS_MAX = 64
CONVERSATIONS_MAX = 8
STEPS_MAX = 200


@dataclass(frozen=True, slots=True)
class Step:
    """``method`` of `actions.Actions` is called with ``arguments``. ``text`` is for people."""

    line: int
    text: str
    method: str
    arguments: Mapping[str, Any]
    at_s: float | None = None
    after: Moment | None = None


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """``clients`` that roam, and ``pinned`` for each node that speak to it alone, on ``keys`` at a
    time; two more talk in each of ``conversations``. Each has one operation under way, which gets
    ``timeout_s``, and rests ``pause_s`` (half as long to half as long again) before its next.
    Where ``council`` names a template, councils answer what is asked."""

    clients: int = 6
    pinned: int = 1
    keys: int = 6
    conversations: int = 1
    pause_s: float = 0.005
    timeout_s: float = 2.0
    council: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """``settings`` are sections of the configuration that differ from the demo's."""

    name: str
    source: str
    description: str
    nodes: int
    steps: tuple[Step, ...]
    load: LoadPlan = LoadPlan()
    settings: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[Mapping[str, Any], ...] = ({"provider": "scripted"},)

    def document(self, base_port: int, data_dir: Path) -> dict[str, Any]:
        """The cluster's configuration."""
        document = demo_document(self.nodes, base_port, data_dir)
        document["cluster_id"] = CLUSTER_ID
        for node in document["nodes"]:
            node["models"] = list(self.models)
        return {**document, **self.settings}

    def uses(self, method: str) -> bool:
        return any(step.method == method for step in self.steps)


# The drills that ship -------------------------------------------------------------------------


def shipped() -> dict[str, str]:
    """The names and descriptions of the drills that ship."""
    folder = resources.files(LIBRARY)
    files = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return {name[:-5]: find(name[:-5]).description for name in files}


def find(name_or_path: str) -> Scenario:
    """The drill of that name, or the scenario in that file. Raises DocumentError."""
    if "\0" in name_or_path:
        raise DocumentError(f"{name_or_path!r} is not a file's name")
    if re.fullmatch(r"[a-z0-9-]+", name_or_path):
        entry = resources.files(LIBRARY) / f"{name_or_path}.yaml"
        if entry.is_file():
            return parse(entry.read_bytes(), f"{name_or_path}.yaml")
    path = Path(name_or_path)
    try:
        if not path.exists():
            near = nearest(name_or_path, list(shipped()))
            raise DocumentError(f"no drill and no file {name_or_path!r}: {near}")
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise DocumentError(f"{name_or_path}: cannot be read: {error.strerror}") from None
    return parse(data, name_or_path)


# Parsing --------------------------------------------------------------------------------------


def parse(data: bytes, source: str) -> Scenario:
    """``data`` is a whole file; ``source`` names it. Raises DocumentError."""
    document = Document(data, source, BYTES_MAX)
    root = document.mapping(
        document.root, "a scenario", ("description", "cluster", "load", "steps")
    )
    for name in ("description", "steps"):
        if name not in root:
            document.refuse(document.root, f"{name} is missing")
    description = document.text(root["description"][1], "description")
    nodes, models = 3, None
    settings: dict[str, Any] = {}
    if "cluster" in root:
        nodes, settings, models = _cluster(document, root["cluster"][1])
    load = _load(document, root["load"][1]) if "load" in root else LoadPlan()
    entries = document.sequence(root["steps"][1], "steps")
    if not 1 <= len(entries) <= STEPS_MAX:
        document.refuse(root["steps"][1], f"a scenario has 1 to {STEPS_MAX} steps")
    steps = tuple(_step(document, entry, nodes) for entry in entries)
    _check_order(document, entries, steps, load)
    scenario = Scenario(Path(source).stem, source, description, nodes, steps, load, settings)
    if models is not None:
        scenario = Scenario(
            scenario.name, source, description, nodes, steps, load, settings, models
        )
    try:
        Config.from_document(scenario.document(5100, Path("unused")), source=source)
    except ConfigError as error:
        where = root["cluster"][1] if "cluster" in root else document.root
        document.refuse(where, f"cluster: {str(error).removeprefix(f'{source}: ')}")
    return scenario


_SETTINGS = ("paxos", "answering", "limits")


def _cluster(
    document: Document, node: Node
) -> tuple[int, dict[str, Any], tuple[Mapping[str, Any], ...] | None]:
    found = document.mapping(node, "cluster", ("nodes", "models", *_SETTINGS))
    nodes = 3
    if "nodes" in found:
        nodes = document.whole(found["nodes"][1], "nodes", 1, NODES_MAX)
    models = None
    if "models" in found:
        entries = document.sequence(found["models"][1], "models")
        models = tuple(document.plain(entry, "models") for entry in entries)
    settings = {name: document.plain(found[name][1], name) for name in _SETTINGS if name in found}
    return nodes, settings, models


def _load(document: Document, node: Node) -> LoadPlan:
    names = ("clients", "pinned", "keys", "conversations", "pause", "timeout", "council")
    found = {name: value for name, (_, value) in document.mapping(node, "load", names).items()}
    default = LoadPlan()

    def whole(name: str, lowest: int, highest: int) -> int:
        if name not in found:
            return int(getattr(default, name))
        return document.whole(found[name], name, lowest, highest)

    def time_s(name: str, usual: float, lowest_s: float) -> float:
        if name not in found:
            return usual
        seconds = document.duration_s(found[name], name)
        if not lowest_s <= seconds <= 60:
            document.refuse(found[name], f"{name} must be from {lowest_s:g}s to 60s")
        return seconds

    return LoadPlan(
        clients=whole("clients", 1, CLIENTS_MAX),
        pinned=whole("pinned", 0, 4),
        keys=whole("keys", 1, KEYS_MAX),
        conversations=whole("conversations", 0, CONVERSATIONS_MAX),
        pause_s=time_s("pause", default.pause_s, 0.0),
        timeout_s=time_s("timeout", default.timeout_s, 0.5),
        council=_council(document, found["council"]) if "council" in found else "",
    )


def _council(document: Document, node: Node) -> str:
    name = document.text(node, "council")
    try:
        load(None).find(name)  # a drill's cluster has those that ship
    except UnknownTemplate as error:
        document.refuse(node, f"council: {error}")
    return name


def _step(document: Document, entry: Node, nodes: int) -> Step:
    found = document.mapping(entry, "a step")
    actions = [name for name in found if name not in ("at", "after")]
    for name in actions:
        if name.lower() not in ACTIONS:
            near = nearest(name, [each.name for each in ACTIONS.values()])
            document.refuse(found[name][0], f"unknown action {shown(name)}: {near}")
    if len(actions) != 1:
        names = f"not {' and '.join(actions)}" if actions else "and this one has none"
        document.refuse(entry, f"a step has one action, {names}")
    if "at" in found and "after" in found:
        document.refuse(entry, "a step is either at a time or after something, not both")
    key, value = found[actions[0]]
    action = ACTIONS[actions[0].lower()]
    words = document.text(value, action.name).split()
    try:
        arguments = action.read(words, nodes)
    except Misused as wrong:
        usage = f"{action.name}: {action.usage}" if action.usage else f"{action.name}:"
        document.refuse(key, f"{action.name}: {wrong} (usage: {usage})")
    at_s = after = None
    if "at" in found:
        at_s = document.duration_s(found["at"][1], "at")
        if at_s > DURATION_MAX_S:
            document.refuse(found["at"][1], f"a drill takes {DURATION_MAX_S:g}s at most")
    if "after" in found:
        text = document.text(found["after"][1], "after")
        after = moment(text)
        if after is None:
            document.refuse(
                found["after"][1],
                f"after must be such as 300 operations, or 2.5s, not {shown(text)}",
            )
    text = " ".join([action.name, *words])
    return Step(entry.start_mark.line + 1, text, action.method, arguments, at_s, after)


def _check_order(
    document: Document, entries: list[Node], steps: tuple[Step, ...], load: LoadPlan
) -> None:
    """What can only be seen of the steps together."""
    latest = 0.0
    down = False
    for entry, step in zip(entries, steps, strict=True):
        if step.at_s is not None:
            if step.at_s < latest:
                document.refuse(entry, f"at {step.at_s:g}s is before a step above it")
            latest = step.at_s
        if "answering" in step.text.split()[1:] and not load.conversations:
            document.refuse(entry, "nobody answers: load has no conversations")
        if down and (_counts(step.after) or _counts(step.arguments.get("moment"))):
            document.refuse(entry, f"{step.text}: no operation can succeed, as killAll ended all")
        if step.method == "start_all":
            if not down:
                document.refuse(entry, "startAll: everything runs already")
            down = False
        elif down and (step.method != "wait" or step.arguments["condition"] is not None):
            document.refuse(entry, f"{step.text}: nothing runs since killAll: startAll first")
        elif step.method == "kill_all":
            down = True


def _counts(moment: Moment | None) -> bool:
    return moment is not None and moment.operations is not None
