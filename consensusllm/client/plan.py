"""Who is to answer a question, and with what beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consensusllm.client import checks
from consensusllm.client.errors import InvalidRequest
from consensusllm.wire.generated import client_pb2

SAMPLES_MAX = 64


@dataclass(frozen=True, slots=True)
class File:
    """A text that goes with a question."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """``models`` are names, or ``name@node``; each gives ``samples`` answers. ``one``: only the
    best of them, or of all. None of these: one answer of each node's default model. ``strategy``
    says which is the best: smart (also ""), priority, round-robin or cheapest.

    ``domain`` is a name of the nodes' configuration, whose text the models are told first, then
    that they are ``persona``. ``files`` become part of the question. ``council`` names the template
    of a council that is to answer (see `Client.templates`); its seats are those models'. ``user``
    is who asks, as far as budgets go.
    """

    models: Sequence[str] = ()
    samples: int = 1
    one: bool = False
    strategy: str = ""
    domain: str = ""
    persona: str = ""
    files: Sequence[File] = ()
    council: str = ""
    user: str = ""

    def choose_models(self, ask: client_pb2.Ask) -> None:
        """Put who is to answer into ``ask``. Raises InvalidRequest."""
        if not 1 <= self.samples <= SAMPLES_MAX:
            raise InvalidRequest(f"{self.samples} samples: ask for 1 to {SAMPLES_MAX}")
        ask.models.extend(checks.text(name, "a model's name") for name in self.models)
        ask.samples = self.samples
        ask.one = self.one
        ask.strategy = checks.text(self.strategy, "a strategy")

    def with_files(self, question: str) -> str:
        """The question, then each file between two lines that name it, as it is recorded."""
        return "\n\n".join([question, *map(_framed, self.files)]) if question else question


def _framed(file: File) -> str:
    if not file.name or not file.name.isprintable() or '"' in file.name:
        raise InvalidRequest(f"{file.name!r:.80} cannot be a file's name here: give another")
    end = "" if file.text.endswith("\n") else "\n"
    return f'<file name="{file.name}">\n{file.text}{end}</file>'
