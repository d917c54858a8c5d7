"""The templates of councils: YAML files, those that ship and a user's own, validated by lines.

    description: What it is for, in a line.
    roles:                     seats, one each; without them every live node has a seat, or, with
      - name: critical         ``samples: 5`` in their place, one model has so many
        instructions: What the seat is told.
    chairman:                  who sums up; there is a usual one
      name: judge
      instructions: ...
    stages:                    opinions first; then any of rebuttal, review, synthesis, majority
      - kind: opinions
        by: [critical]         these roles only
        quorum: 2              so many answers close the stage; all, unless it is said
        deadline: 60s          the query's, unless it is said
        instructions: Told to every seat of the stage.

A template includes no other one, and anchors are refused, so none can recurse.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from consensusllm.conversations.answers import idle_stages, why_idle
from consensusllm.conversations.council import Council, Stage, StageKind
from consensusllm.document import Document, DocumentError, Node, nearest, shown

from .templates import SEATS_MAX, SUFFIX, Library, Role, StagePlan, Template

BYTES_MAX = 64 << 10
FILES_MAX = 200
STAGES_MAX = 8
INSTRUCTIONS_CHARACTERS = 8000
DEADLINE_MAX_S = 3600.0

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_KINDS = tuple(kind.value for kind in StageKind)


def load(directory: Path | None) -> Library:
    """The templates that ship, and those in ``directory``, which may take the place of others.

    Reads files, and takes a while: not for an event loop. Files that cannot be read, or are no
    templates, are problems of the library and raise nothing.
    """
    found: dict[str, Template] = {}
    problems: list[str] = []
    folder = resources.files(__package__) / "templates"
    shipped = [(entry.name, entry.read_bytes()) for entry in folder.iterdir()]
    for name, data in sorted(shipped):
        template = parse(data, name)
        found[template.name] = template
    for path in _files(directory, problems):
        try:
            template = parse(_read(path), str(path), own=True)
        except DocumentError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror}")
        else:
            found[template.name] = template
    return Library(found, tuple(problems))


def _read(path: Path) -> bytes:
    """At most a byte more than a template may have. What is no file is not waited for: a pipe, say,
    that nobody writes. Raises OSError."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        return file.read(BYTES_MAX + 1)


def _files(directory: Path | None, problems: list[str]) -> Iterable[Path]:
    if directory is None:
        return ()
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == SUFFIX)
    except OSError as error:
        problems.append(f"{directory}: cannot be read: {error.strerror}")
        return ()
    if len(paths) > FILES_MAX:
        problems.append(f"{directory}: has {len(paths)} templates: {FILES_MAX} are read")
    return paths[:FILES_MAX]


# Parsing --------------------------------------------------------------------------------------


def parse(data: bytes, source: str, *, own: bool = False) -> Template:
    """The template in ``data``, named as the file ``source`` is. Raises DocumentError."""
    name = Path(source).stem
    if not _NAME.fullmatch(name):
        raise DocumentError(
            f"{source}: {shown(name)} cannot be a template's name: use 1 to 64 of a-z, 0-9, - and _"
        )
    document = Document(data, source, BYTES_MAX)
    keys = ("description", "roles", "samples", "chairman", "stages")
    root = {key: value for key, (_, value) in document.mapping(document.root, name, keys).items()}
    for key in ("description", "stages"):
        if key not in root:
            document.refuse(document.root, f"{key} is missing")
    if "roles" in root and "samples" in root:
        document.refuse(root["samples"], "a council has either roles or samples")
    roles = _roles(document, root["roles"]) if "roles" in root else ()
    samples = document.whole(root["samples"], "samples", 2, SEATS_MAX) if "samples" in root else 0
    stages = _stages(document, root["stages"], roles)
    _check_readers(document, root["stages"], stages, [role.name for role in roles], samples)
    chairman = Role("chairman")
    if "chairman" in root:
        chairman = _role(document, root["chairman"], "chairman")
        if all(stage.kind is not StageKind.SYNTHESIS for stage in stages):
            document.refuse(root["chairman"], "a chairman has nothing to do without a synthesis")
    return Template(
        name,
        " ".join(document.text(root["description"], "description").split()),
        hashlib.sha256(data).hexdigest()[:16],
        stages,
        roles,
        samples,
        chairman,
        own,
    )


def _roles(document: Document, node: Node) -> tuple[Role, ...]:
    entries = document.sequence(node, "roles")
    if not 1 <= len(entries) <= SEATS_MAX:
        document.refuse(node, f"a council has 1 to {SEATS_MAX} roles, not {len(entries)}")
    roles = tuple(_role(document, entry, "a role") for entry in entries)
    names = [role.name for role in roles]
    for entry, name in zip(entries, names, strict=True):
        if names.count(name) > 1:
            document.refuse(entry, f"the role {name} is there twice")
    return roles


def _role(document: Document, node: Node, what: str) -> Role:
    found = document.mapping(node, what, ("name", "instructions"))
    if "name" not in found:
        document.refuse(node, f"{what} needs a name")
    name = document.text(found["name"][1], "name")
    if not _NAME.fullmatch(name):
        document.refuse(
            found["name"][1], f"{shown(name)} cannot be a role's name: use a-z, 0-9, - and _"
        )
    return Role(name, _instructions(document, found))


def _instructions(document: Document, found: Mapping[str, tuple[Node, Node]]) -> str:
    if "instructions" not in found:
        return ""
    node = found["instructions"][1]
    text = document.text(node, "instructions")
    if len(text) > INSTRUCTIONS_CHARACTERS:
        document.refuse(
            node, f"instructions have {len(text)} characters: {INSTRUCTIONS_CHARACTERS} at most"
        )
    return text


def _stages(document: Document, node: Node, roles: tuple[Role, ...]) -> tuple[StagePlan, ...]:
    entries = document.sequence(node, "stages")
    if not 1 <= len(entries) <= STAGES_MAX:
        document.refuse(node, f"a council has 1 to {STAGES_MAX} stages, not {len(entries)}")
    stages = tuple(_stage(document, entry, roles) for entry in entries)
    if stages[0].kind is not StageKind.OPINIONS:
        document.refuse(entries[0], "the first stage must be opinions: nothing is there to read")
    for entry, stage in zip(entries[:-1], stages[:-1], strict=True):
        if stage.kind in (StageKind.SYNTHESIS, StageKind.MAJORITY):
            document.refuse(entry, f"{stage.kind.value} ends a council: make it the last stage")
    return stages


def _check_readers(
    document: Document,
    node: Node,
    stages: tuple[StagePlan, ...],
    roles: Sequence[str],
    samples: int,
) -> None:
    """Refuse a stage in which nobody would have enough to read. A council without roles or samples
    has as many members as models are asked."""
    seats = list(roles) or [str(number) for number in range(samples)]
    council = Council(
        *("", "", 0, ()),
        tuple(
            Stage(
                each.kind,
                tuple(seats.index(name) + 1 for name in each.by) or tuple(range(1, len(seats) + 1)),
            )
            for each in stages
        ),
    )
    for number in idle_stages(council) if seats else ():
        stage = council.stage(number)
        entry = document.sequence(node, "stages")[number - 1]
        document.refuse(
            entry, f"nobody has enough to read in a {stage.kind.value}: {why_idle(stage)}"
        )


def _stage(document: Document, node: Node, roles: tuple[Role, ...]) -> StagePlan:
    found = document.mapping(node, "a stage", ("kind", "by", "quorum", "deadline", "instructions"))
    if "kind" not in found:
        document.refuse(node, f"a stage needs a kind: one of {', '.join(_KINDS)}")
    word = document.text(found["kind"][1], "kind")
    if word not in _KINDS:
        document.refuse(found["kind"][1], f"unknown kind {shown(word)}: {nearest(word, _KINDS)}")
    kind = StageKind(word)
    everybody = kind in (StageKind.OPINIONS, StageKind.REBUTTAL, StageKind.REVIEW)
    for key in ("by", "quorum"):
        if key in found and not everybody:
            document.refuse(found[key][0], f"{key}: {word} is not done by seats at the same time")
    if kind is StageKind.MAJORITY and len(found) > 1:
        document.refuse(node, "a majority asks nobody: it has a kind and nothing else")
    by = _by(document, found["by"][1], roles) if "by" in found else ()
    most = len(by) or len(roles) or SEATS_MAX
    quorum = document.whole(found["quorum"][1], "quorum", 1, most) if "quorum" in found else 0
    deadline_ms = None
    if "deadline" in found:
        seconds = document.duration_s(found["deadline"][1], "deadline")
        if not 0 < seconds <= DEADLINE_MAX_S:
            document.refuse(found["deadline"][1], f"deadline must be up to {DEADLINE_MAX_S:g}s")
        deadline_ms = max(1, round(1000 * seconds))
    return StagePlan(kind, by, quorum, deadline_ms, _instructions(document, found))


def _by(document: Document, node: Node, roles: tuple[Role, ...]) -> tuple[str, ...]:
    names = [role.name for role in roles]
    found: list[str] = []
    for entry in document.sequence(node, "by"):
        name = document.text(entry, "a role's name")
        if not names:
            document.refuse(entry, "by: this council has no roles")
        if name not in names:
            document.refuse(entry, f"unknown role {shown(name)}: {nearest(name, names)}")
        if name in found:
            document.refuse(entry, f"{name} is named twice")
        found.append(name)
    if not found:
        document.refuse(node, "by names no role: leave it out for all of them")
    return tuple(found)
