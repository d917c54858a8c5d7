"""The command that checks a conversation's hash chain, over the nodes and against a noted head."""

from __future__ import annotations

from dataclasses import asdict

from consensusllm.client import NodeCopy, found_at

from .documents import print_json
from .language import CONVERSATION, HEAD, JSON, Command, Flag, Group, Parameter
from .render import plural
from .session import CommandFailed, Session


async def verify(session: Session, conversation: str, head: str = "", json: bool = False) -> None:
    found = await session.client.verify(conversation)
    revision = found.conversation.revision
    copies = sorted(found.copies, key=lambda copy: (copy.node, copy.address))
    if json:
        document = {"conversation": conversation, "revision": revision, "head": found.head}
        told = [asdict(copy) for copy in copies]
        print_json(session.output, {**document, "copies": told})
    else:
        session.output.table(
            ["node", "revision", "copy"],
            [
                [
                    str(copy.node or copy.address),
                    "-" if copy.revision is None else str(copy.revision),
                    _said(copy, revision),
                ]
                for copy in copies
            ],
        )
        session.output.line(f"head of {conversation} at revision {revision}: {found.head}")
    different = [copy for copy in found.copies if copy.differs_from]
    if different:
        said = ", ".join(f"node {copy.node} from turn {copy.differs_from} on" for copy in different)
        raise CommandFailed(f"the copies of {conversation} DIFFER: {said}")
    if head:
        first, last = found_at(found.conversation, head)
        if not json:
            session.output.line(
                f"it had the head that was noted {_when(first, last)}: what stood then still stands"
            )


def _said(copy: NodeCopy, revision: int) -> str:
    if copy.trouble:
        return "cannot be read"
    if copy.differs_from:
        return f"DIFFERS from turn {copy.differs_from} on"
    behind = revision - (copy.revision or 0)
    return "agrees" if behind <= 0 else f"agrees, {plural(behind, 'revision')} behind"


def _when(first: int, last: int) -> str:
    return f"at revision {first}" if first == last else f"at revisions {first} to {last}"


COMMANDS = (
    Command(
        "verify",
        Group.CONVERSATIONS,
        "compare all copies, and with a head noted before",
        verify,
        (Parameter("conversation", CONVERSATION),),
        (Flag("head", HEAD), JSON),
        detail=(
            "The head is a hash of the whole conversation: note it, and --head says another day "
            "whether what stood then still stands. consensusllm verify FILE checks an export."
        ),
        example="verify c1",
    ),
)
