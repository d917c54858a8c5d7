"""The command drill: a scripted fault on a cluster of its own, beside the one that is spoken to."""

from __future__ import annotations

import secrets

from ..drill import program, report, verdict_lines
from .documents import print_json
from .language import JSON, WORD, Command, Group, Parameter
from .lexer import Misuse
from .output import Output
from .session import CommandFailed, Session


async def drill(session: Session, name: str = "", json: bool = False) -> None:
    from consensusllm.drills import DocumentError, find, run_drill, shipped

    if not name and json:
        listed = [{"drill": name, "what": what} for name, what in shipped().items()]
        print_json(session.output, listed)
        return
    if not name:
        session.output.table(["drill", "what happens"], [list(row) for row in shipped().items()])
        return
    try:
        scenario = find(name)
    except DocumentError as error:
        raise Misuse(str(error)) from None
    outcome = await run_drill(
        scenario, program(), secrets.randbits(32), _Lines(session.output, json)
    )
    if json:
        print_json(session.output, report(scenario, [outcome]))
    else:
        for line in verdict_lines(outcome):
            session.output.line(line)
    if not outcome.judgement.passed:
        raise CommandFailed("the drill did not pass: see the lines above")


class _Lines:
    """Progress as a line a step, unless ``quiet``."""

    def __init__(self, output: Output, quiet: bool) -> None:
        self._output = output
        self._quiet = quiet

    def line(self, seconds: float, text: str) -> None:
        if not self._quiet:
            self._output.line(f"{seconds:7.2f} s  {text}")

    def count(self, steps: int, total: int, operations: int) -> None:
        """The lines are enough."""


COMMANDS = (
    Command(
        "drill",
        Group.CLUSTER,
        "break another cluster by script, and get a verdict",
        drill,
        (Parameter("name", WORD, optional=True, metavar="NAME"),),
        (JSON,),
        detail=(
            "NAME is a drill that ships, or a YAML file; without it they are listed. The drill "
            "runs on a cluster of its own, with its own ports and data; this one is not touched. "
            "Ctrl-C ends it."
        ),
        example="drill leader-crash",
    ),
)
