"""The commands that carry conversations in and out of the cluster: export and import."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from consensusllm.client import Conversation

from .language import CONVERSATION, FILE, Command, Flag, Group, Parameter
from .render import plural
from .sanitise import escape_controls, sanitise
from .session import CommandFailed, Session

_IMPORT_BYTES_MAX = 256 << 20


async def export(
    session: Session, conversation: str, file: str = "", markdown: bool = False
) -> None:
    if markdown:
        text = to_markdown(await session.client.view(conversation))
        printed = sanitise(text)
    else:
        document = await session.client.export_conversation(conversation)
        text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
        printed = escape_controls(text)
    if not file:
        session.output.raw(printed)
        return
    _write_whole(file, text)
    session.output.line(f"{conversation} is written to {file}")


async def import_file(session: Session, file: str, conversation: str = "") -> None:
    document = _read_document(file)
    target = conversation or document.get("conversation")
    if not isinstance(target, str):
        raise CommandFailed(f"{file}: names no conversation: import {file} CONVERSATION does")
    with session.output.progress() as tell:
        await session.client.import_conversation(
            document, target, tell=lambda done, total: tell(done, total, f"importing {target}")
        )
    session.output.line(f"{target} is imported from {file}")


def to_markdown(conversation: Conversation) -> str:
    """The conversation to read or publish; the texts stand in it as they are."""
    parts = [f"# {conversation.conversation}\n"]
    for turn in conversation.turns:
        parts.append(f"## Turn {turn.turn}\n\n{_quoted(turn.question)}\n")
        for candidate in turn.candidates:
            heading = f"### Candidate {candidate.number}: node {candidate.node}"
            heading += f", {candidate.model}" if candidate.model else ""
            heading += " (chosen)" if candidate.number == turn.choice else ""
            body = candidate.text
            if candidate.error:
                body += f"\n\n*Failed: {candidate.error}*"
            elif not candidate.ended:
                body += "\n\n*Not finished.*"
            parts.append(f"{heading}\n\n{body.strip()}\n")
    if not conversation.turns:
        parts.append(f"{plural(0, 'turn')}.\n")
    return "\n".join(parts)


def _quoted(question: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in question.split("\n"))


def _read_document(file: str) -> dict[str, Any]:
    path = Path(file).expanduser()
    if path.stat().st_size > _IMPORT_BYTES_MAX:
        raise CommandFailed(f"{file}: is larger than {_IMPORT_BYTES_MAX >> 20} MiB")
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CommandFailed(f"{file}: is not a JSON document: export makes one") from error
    if not isinstance(document, dict):
        raise CommandFailed(f"{file}: is not an exported conversation: export makes one")
    return document


def _write_whole(file: str, text: str) -> None:
    """Write beside the file and rename, so that it is never seen half written."""
    path = Path(file).expanduser()
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8", newline="\n")  # a device or a pipe stays what it is
        return
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
        (Flag("markdown"),),
        detail=(
            "JSON is what import reads; Markdown is for people. Without a file it is shown. "
            "A file name with blanks goes between double quotes. An existing file is replaced."
        ),
        example="export c1 c1.json",
    ),
    Command(
        "import",
        Group.CONVERSATIONS,
        "make a conversation from an exported file",
        import_file,
        (Parameter("file", FILE), Parameter("conversation", CONVERSATION, optional=True)),
        detail="Without an id it gets the one in the file. It appears whole or not at all.",
        example="import c1.json c2",
    ),
)
