"""Councils as clients ask for them: the templates of this node, and who takes which seat."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar

from consensusllm.conversations.commands import PlannedCandidate
from consensusllm.conversations.council import Council
from consensusllm.conversations.records import Turn
from consensusllm.council.convening import convened
from consensusllm.council.planning import Unplannable
from consensusllm.council.templates import Library, Role, StagePlan, UnknownTemplate
from consensusllm.wire.councils import council_to_proto
from consensusllm.wire.generated import client_pb2 as pb

_SEED_BITS = 62
Result = TypeVar("Result")


class Templates:
    """The templates as they were last read, from the package and from ``directory``."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._library: Library | None = None
        self._reading: Future[Library] | None = None

    async def read(self) -> pb.Templates:
        """Read them anew, off the event loop; files that are no template do not stop the others.
        Who asks while they are being read gets what that brings."""
        if self._reading is None or self._reading.done():
            self._reading = _in_a_thread_of_its_own(partial(_load, self._directory))
        library = self._library = await asyncio.shield(asyncio.wrap_future(self._reading))
        return pb.Templates(
            templates=[
                pb.Template(
                    name=each.name,
                    description=each.description,
                    revision=each.revision,
                    own=each.own,
                    stages=map(_stage, each.stages),
                    roles=map(_role, each.roles),
                    samples=each.samples,
                    chairman=_role(each.chairman) if each.sums_up else None,
                )
                for _, each in sorted(library.templates.items())
            ],
            problems=library.problems,
        )

    def convened(
        self,
        name: str,
        places: Sequence[PlannedCandidate],
        serving: Collection[int],
        deadline_ms: int,
    ) -> Council:
        """The council of the template ``name``; see `convening`. Raises Unplannable."""
        if self._library is None and self._directory is None:  # what ships is soon read
            self._library = _load(None)
        if self._library is None:
            raise Unplannable("this node still reads its council templates: ask again in a moment")
        try:
            template = self._library.find(name)
        except UnknownTemplate as error:
            raise Unplannable(str(error)) from None
        seed = secrets.randbits(_SEED_BITS)
        return convened(template, places, serving=serving, seed=seed, deadline_ms=deadline_ms)


def _in_a_thread_of_its_own(work: Callable[[], Result]) -> Future[Result]:
    """What ``work`` returns. One that hangs, as on a file system that is gone, keeps the process
    from nothing: the threads of asyncio's pool are waited for at the end."""
    result: Future[Result] = Future()

    def run() -> None:
        if not result.set_running_or_notify_cancel():
            return
        try:
            result.set_result(work())
        except Exception as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True, name="templates").start()
    return result


def _load(directory: Path | None) -> Library:
    from consensusllm.council.template_files import load  # YAML is not needed to begin to serve

    return load(directory)


def _role(role: Role) -> pb.TemplateRole:
    return pb.TemplateRole(name=role.name, instructions=role.instructions)


def _stage(stage: StagePlan) -> pb.TemplateStage:
    return pb.TemplateStage(
        kind=stage.kind.value,
        by=stage.by,
        quorum=stage.quorum,
        deadline_ms=stage.deadline_ms or 0,
        instructions=stage.instructions,
    )


def stage_opened(turn: Turn, stage: int, after: int) -> pb.WatchEvent:
    """That candidates of ``stage`` behind number ``after`` answer now."""
    assert turn.council is not None, "only a council has stages"
    seats: Sequence[pb.SeatTaken] = [
        pb.SeatTaken(candidate=each.number, seat=each.seat, node=each.node)
        for each in turn.candidates
        if each.stage == stage and each.number > after
    ]
    council = council_to_proto(turn.council)
    return pb.WatchEvent(stage_opened=pb.StageOpened(stage=stage, council=council, seats=seats))
