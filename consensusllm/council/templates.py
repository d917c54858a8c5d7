"""What a template of councils is, and the templates that there are. Their files are read by
`template_files`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from consensusllm.conversations.council import StageKind

from .planning import unknown

SEATS_MAX = 12
SUFFIX = ".yaml"


class UnknownTemplate(ValueError):
    """One line, with the nearest names."""


@dataclass(frozen=True, slots=True)
class Role:
    name: str
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """``by``: names of roles, () for all; ``deadline_ms`` None: the query's."""

    kind: StageKind
    by: tuple[str, ...] = ()
    quorum: int = 0
    deadline_ms: int | None = None
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """``revision`` are 16 hexadecimal digits of the SHA-256 of the file. ``own``: a user's."""

    name: str
    description: str
    revision: str
    stages: tuple[StagePlan, ...]
    roles: tuple[Role, ...] = ()
    samples: int = 0
    chairman: Role = Role("chairman")
    own: bool = False

    @property
    def sums_up(self) -> bool:
        """Whether there is something for a chairman to do."""
        return any(stage.kind is StageKind.SYNTHESIS for stage in self.stages)


@dataclass(frozen=True, slots=True)
class Library:
    """The templates by name, and a line for each file that is none."""

    templates: Mapping[str, Template] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def find(self, name: str) -> Template:
        """Raises UnknownTemplate."""
        found = self.templates.get(name)
        if found is None:
            for problem in self.problems:
                if f"/{name}{SUFFIX}:" in f"/{problem}":
                    raise UnknownTemplate(f"template {name!r:.80} has a fault: {problem}")
            raise UnknownTemplate(unknown("council template", name, list(self.templates)))
        return found
