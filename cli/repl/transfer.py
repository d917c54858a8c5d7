"""The commands that carry conversations in and out of the cluster: export and import."""

from __future__ import annotations

import os
from collections.abc import Callable
from json import dumps, loads
from pathlib import Path

from consensusllm.client import (
    AlreadyExists,
    Candidate,
    Conversation,
    InvalidRequest,
    read_conversations,
)
from consensusllm.conversations import shortfalls
from consensusllm.conversations.tally import described

from ..progress import Tell
from .documents import print_json
from .findings import council_state, place_of
from .language import CONVERSATION, FILE, JSON, Command, Flag, Group, Parameter
from .render import left_out, plural
from .sanitise import escape_controls, one_line, sanitise
from .session import CommandFailed, Session

_IMPORT_BYTES_MAX = 256 << 20


async def export(
    session: Session,
    conversation: str,
    file: str = "",
    markdown: bool = False,
    stale: bool = False,
) -> None:
    if markdown:
        text = to_markdown(await session.client.view(conversation, stale=stale))
        text = printed = sanitise(text)  # a file that is shown moves a terminal just as well
    else:
        document = await session.client.export_conversation(conversation, stale=stale)
        text = dumps(document, ensure_ascii=False, indent=2) + "\n"
        printed = escape_controls(text)
    if not file:
        session.output.raw(printed)
        return
    _write_whole(file, text)
    session.output.line(f"{conversation} is written to {file}")


async def import_file(
    session: Session, file: str, conversation: str = "", json: bool = False
) -> None:
    found = _read_conversations(file)
    if conversation and len(found) > 1:
        raise CommandFailed(
            f"{file}: holds {len(found)} conversations: leave the id out, and each gets its own"
        )
    taken: list[str] = []
    imported: list[str] = []
    with session.output.progress() as tell:
        for each in found:
            target = conversation or each.conversation
            try:
                await session.client.import_conversation(each, target, tell=_telling(tell, target))
            except AlreadyExists:
                if len(found) == 1:
                    raise
                taken.append(target)
            else:
                imported.append(target)
                if not json:
                    session.output.line(f"{target} is imported from {file}")
    if json:
        print_json(session.output, {"file": file, "imported": imported, "taken": taken})
    if taken:
        raise CommandFailed(
            f"{plural(len(taken), 'conversation')} of {len(found)} not imported, as there is one"
            f" of that id: {', '.join(taken)}"
        )


def _telling(tell: Tell, target: str) -> Callable[[int, int], None]:
    return lambda done, total: tell(done, total, f"importing {target}")


def to_markdown(conversation: Conversation) -> str:
    """The conversation to read or publish. Questions and answers are quoted, so that none of them
    can pass for a heading or a note of ours; otherwise they stand as they came."""
    parts = [f"# {conversation.conversation}\n"]
    for turn in conversation.turns:
        parts.append(f"## Turn {turn.turn}\n\n{_quoted(turn.question)}\n")
        if turn.council is not None:
            parts.append(f"*{council_state(turn, turn.council)}*\n")
            lacked = [f"- {described(turn.council, each)}" for each in shortfalls(turn)]
            parts += ["\n".join([*lacked, ""])] if lacked else []
        for candidate in turn.candidates:
            heading = f"### Candidate {candidate.number}: "
            heading += f"node {candidate.node}" if candidate.node else "imported"
            heading += f", {one_line(candidate.model)}" if candidate.model else ""
            heading += f", {place_of(turn.council, candidate)}" if turn.council else ""
            heading += " (chosen)" if candidate.number == turn.choice else ""
            said = [_quoted(candidate.text)] if candidate.text else []
            parts.append("\n\n".join([heading, *said, *_notes(candidate)]) + "\n")
    if not conversation.turns:
        parts.append(f"{plural(0, 'turn')}.\n")
    return "\n".join(parts)


def _notes(candidate: Candidate) -> list[str]:
    """What is to be known of a candidate beside its text."""
    notes = [
        f"*Attempt {each.attempt}, of node {each.node}, went on at character {each.kept}.*"
        for each in candidate.takeovers
    ]
    if candidate.hedge is not None:
        first = "and was first" if candidate.hedge_won else "as nothing came"
        notes.append(f"*{candidate.hedge.model} was asked too, {first}.*")
    if candidate.error:
        notes.append(f"*Failed: {one_line(candidate.error)}*")
    elif not candidate.ended:
        notes.append("*Not finished.*")
    elif candidate.finish_reason not in ("", "stop"):
        notes.append(f"*Ended by: {candidate.finish_reason}.*")
    if candidate.left_out:
        notes.append(f"*{left_out(candidate)}.*")
    counts = (candidate.usage.prompt_tokens, candidate.usage.completion_tokens)
    if counts != (None, None):
        prompt, answer = ("?" if count is None else count for count in counts)
        notes.append(f"*Tokens: {prompt} of the prompt, {answer} of the answer.*")
    return notes


def _quoted(text: str) -> str:
    lines = text.rstrip().splitlines(keepends=True)
    return "".join(f"> {line}" if line.strip() else f">{line}" for line in lines)


def _read_conversations(file: str) -> list[Conversation]:
    path = Path(file).expanduser()
    if path.stat().st_size > _IMPORT_BYTES_MAX:
        raise CommandFailed(f"{file}: is larger than {_IMPORT_BYTES_MAX >> 20} MiB")
    try:
        document = loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CommandFailed(f"{file}: is not a JSON document: export makes one") from error
    try:
        return read_conversations(document)
    except InvalidRequest as error:
        raise CommandFailed(f"{file}: {error}") from error


def _write_whole(file: str, text: str) -> None:
    """Write beside the file and rename, so that it is never seen half written."""
    path = Path(file).expanduser()
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8", newline="\n")  # a device or a pipe stays what it is
        return
    if not path.parent.is_dir():
        raise CommandFailed(f"{file}: there is no directory {path.parent}: make it first")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


COMMANDS = (
    Command(
        "export",
        Group.CONVERSATIONS,
        "write a conversation as JSON or Markdown",
        export,
        (Parameter("conversation", CONVERSATION), Parameter("file", FILE, optional=True)),
        (Flag("markdown"), Flag("stale")),
        detail=(
            "JSON has all that is known, and import reads it; Markdown is for people. Without a "
            "file it is shown. A file name with blanks goes between double quotes. An existing "
            "file is replaced. With --stale it is what the node has applied, which works without a "
            "majority."
        ),
        example="export c1 c1.json",
    ),
    Command(
        "import",
        Group.CONVERSATIONS,
        "make conversations from an exported file",
        import_file,
        (Parameter("file", FILE), Parameter("conversation", CONVERSATION, optional=True)),
        (JSON,),
        detail=(
            "Without an id it gets the one in the file. It appears whole or not at all. ChatGPT's "
            "conversations.json and Open WebUI's export are read too, all that a file holds."
        ),
        example="import c1.json c2",
    ),
)
