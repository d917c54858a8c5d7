"""The commands that carry conversations in and out of the cluster: export and import."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from json import dumps, loads

from consensusllm.client import (
    AlreadyExists,
    ConsensusError,
    Conversation,
    InvalidRequest,
    TooLarge,
    read_conversations,
)

from ..progress import Tell
from .documents import print_json, tell
from .files import read_bytes, write_text
from .language import CONVERSATION, FILE, JSON, STALE, Command, Flag, Group, Parameter
from .markdown import from_markdown, to_markdown
from .render import plural
from .sanitise import escape_controls, sanitise
from .session import CommandFailed, Session

_IMPORT_BYTES_MAX = 256 << 20
_NO_LINKS = "the file has no links, so nothing says that it is what was exported"
_SELECTED = "its questions, answers and choices: all the rest is in JSON only"


async def export(
    session: Session,
    conversation: str,
    file: str = "",
    markdown: bool = False,
    stale: bool = False,
    json: bool = False,
) -> None:
    if markdown:
        text = to_markdown(await session.client.view(conversation, stale=stale))
        text = printed = sanitise(text)  # a file that is shown moves a terminal just as well
    else:
        document = await session.client.export_conversation(conversation, stale=stale)
        text = dumps(document, ensure_ascii=False, indent=2) + "\n"
        printed = escape_controls(text)
    if file:
        await write_text(file, text)
        line = f"{conversation} is written to {file}"
        tell(session.output, json, line, conversation=conversation, file=file)
    elif json and markdown:
        print_json(session.output, {"conversation": conversation, "markdown": text})
    else:
        session.output.raw(printed)


async def import_file(
    session: Session, file: str, conversation: str = "", json: bool = False
) -> None:
    found, remark = await _read_conversations(file)
    if conversation and len(found) > 1:
        raise CommandFailed(
            f"{file}: holds {len(found)} conversations: leave the id out, and each gets its own"
        )
    imported: list[str] = []
    taken: list[str] = []
    refused: dict[str, str] = {}
    with session.output.progress() as tell:
        for each in found:
            target = conversation or each.conversation
            try:
                await session.client.import_conversation(each, target, tell=_telling(tell, target))
            except ConsensusError as error:
                if len(found) == 1:
                    raise
                if isinstance(error, AlreadyExists):
                    taken.append(target)
                elif isinstance(error, (InvalidRequest, TooLarge)):
                    refused[target] = str(error)
                else:
                    raise CommandFailed(f"{target}: {error}") from error
            else:
                imported.append(target)
                if not json:
                    session.output.line(
                        f"{target} is imported from {file}{remark and f': {remark}'}"
                    )
    if json:
        told = {"file": file, "imported": imported, "taken": taken, "refused": refused}
        print_json(session.output, {**told, "remark": remark})
    for target, why in refused.items():
        session.output.error(f"{session.place}import: {target} is refused: {why}")
    reasons = [f"as there is one of that id: {', '.join(taken)}"] if taken else []
    reasons += [f"as they are refused: {', '.join(refused)}"] if refused else []
    if reasons:
        lacking = plural(len(taken) + len(refused), "conversation")
        raise CommandFailed(f"{lacking} of {len(found)} not imported, {'; '.join(reasons)}")


def _telling(tell: Tell, target: str) -> Callable[[int, int], None]:
    return lambda done, total: tell(done, total, f"importing {target}")


async def _read_conversations(file: str) -> tuple[list[Conversation], str]:
    """The conversations, and what is to be said of them."""
    data = await read_bytes(file, _IMPORT_BYTES_MAX)
    if len(data) > _IMPORT_BYTES_MAX:
        raise CommandFailed(f"{file}: is larger than {_IMPORT_BYTES_MAX >> 20} MiB")
    try:
        text = StringIO(data.decode("utf-8-sig"), newline=None).read()
        if text.lstrip().startswith("# "):
            return [from_markdown(text)], _SELECTED
        document = loads(text)
        found = read_conversations(document)
    except InvalidRequest as error:
        raise CommandFailed(f"{file}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise CommandFailed(f"{file}: is neither JSON nor Markdown of export") from error
    unverified = "format" in document and "links" not in document
    return found, _NO_LINKS if unverified else ""


COMMANDS = (
    Command(
        "export",
        Group.CONVERSATIONS,
        "write a conversation as JSON or Markdown",
        export,
        (Parameter("conversation", CONVERSATION), Parameter("file", FILE, optional=True)),
        (Flag("markdown"), STALE, JSON),
        detail=(
            "JSON has all that is known; Markdown is for people. import reads both. Without a "
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
            "conversations.json and Open WebUI's export are read too, all that a file holds: "
            "what is refused of it is named, and the rest imported. Of Markdown the questions, "
            "answers and choices are read."
        ),
        example="import c1.json c2",
        changes=True,
    ),
)
