"""The commands about councils: the templates, and how a query names one."""

from __future__ import annotations

import difflib
from dataclasses import asdict

from consensusllm.client import TemplateSummary, Turn
from consensusllm.conversations import StageKind, outcome

from .documents import print_json
from .findings import council_state
from .language import JSON, Command, Group
from .lexer import Misuse
from .output import Output
from .session import CommandFailed, Session

THREE_STAGE = "three-stage"
_ENDS = (StageKind.SYNTHESIS, StageKind.MAJORITY)
"""What brings a council to its one answer."""


async def template_of(session: Session, named: str, question: str) -> tuple[str, str]:
    """The template and the question. Where none was ``named`` the question's first word may be
    one's name; a word with a hyphen that is nearly one is taken for a slip."""
    if named:
        return named, question
    first, _, rest = question.partition(" ")
    known = {each.name for each in (await session.client.templates()).templates}
    if first not in known:
        near = difflib.get_close_matches(first, known, n=1, cutoff=0.8) if "-" in first else []
        if near:
            raise Misuse(
                f"there is no template {first!r}: did you mean {near[0]}? To ask just these words, "
                f"say --council={THREE_STAGE}"
            )
        return THREE_STAGE, question
    if not rest.strip():
        raise Misuse(f"the question is missing: {first} is a template")
    return first, rest.strip()


async def templates(session: Session, json: bool = False) -> None:
    found = await session.client.templates()
    if json:
        print_json(session.output, [asdict(each) for each in found.templates])
    else:
        session.output.table(
            ["template", "stages", "roles", "revision", "description"],
            [
                [
                    each.name,
                    " ".join(stage.kind for stage in each.stages),
                    " ".join(role.name for role in each.roles) or _seats(each),
                    each.revision,
                    f"{each.description} (own)" if each.own else each.description,
                ]
                for each in found.templates
            ],
        )
    if found.problems:
        for problem in found.problems:
            session.output.error(problem)
        raise CommandFailed("not all templates can be used: correct what the lines above name")


def _seats(template: TemplateSummary) -> str:
    return f"{template.samples} samples" if template.samples else "-"


def hint(output: Output, conversation: str, turn: Turn, quiet: bool) -> None:
    """What can be done with a council's turn, unless ``quiet``. Raises CommandFailed where it was
    to come to an answer and did not."""
    assert turn.council is not None, "the turn has a council"
    if not any(candidate.answered for candidate in turn.candidates):
        raise CommandFailed(f"nobody in the council of turn {turn.turn} answered: ask again")
    found = outcome(turn)
    if not quiet:
        output.line()
        output.line((f"turn {turn.turn}", "bold"), f" · {council_state(turn, turn.council)}")
        if found:
            choice = f"choose {conversation} {found} --turn {turn.turn}"
            output.line((f"{choice} keeps that answer", "dim"))
    if turn.closed and not found and any(each.kind in _ENDS for each in turn.council.stages):
        raise CommandFailed(
            f"the council of turn {turn.turn} came to no answer: choose one of its candidates by "
            "its number, or ask again"
        )


COMMANDS = (
    Command(
        "templates",
        Group.SETTINGS,
        "kinds of councils",
        templates,
        flags=(JSON,),
        detail=(
            "They ship with the program or come from the directory council.templates of the node's "
            "configuration, which is read anew. query ID --council=TEMPLATE QUESTION uses one."
        ),
        example="templates",
    ),
)
