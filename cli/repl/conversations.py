"""The commands on whole conversations: create, view, viewall, fork, rename, delete."""

from __future__ import annotations

from dataclasses import asdict

from .documents import conversation_document, print_json, tell
from .language import CONVERSATION, JSON, NUMBER, STALE, WORDS, Command, Flag, Group, Parameter
from .render import show_conversation, show_conversations
from .session import Session


async def create(session: Session, conversation: str, system: str = "", json: bool = False) -> None:
    await session.client.create(conversation, system=system)
    line = f"{conversation} is created: ask with query {conversation} QUESTION"
    tell(session.output, json, line, conversation=conversation, system=system)


async def view(
    session: Session,
    conversation: str,
    at: int | None = None,
    stale: bool = False,
    full: bool = False,
    json: bool = False,
) -> None:
    found = await session.client.view(conversation, at=at, stale=stale)
    if json:
        print_json(session.output, conversation_document(found))
    else:
        show_conversation(session.output, found, full)


async def viewall(session: Session, stale: bool = False, json: bool = False) -> None:
    conversations = await session.client.conversations(stale=stale)
    if json:
        print_json(session.output, [asdict(each) for each in conversations])
        return
    if not conversations:
        session.output.line("no conversations yet: begin with create c1, then query c1 QUESTION")
        return
    show_conversations(session.output, conversations)


async def fork(
    session: Session, conversation: str, target: str, at: int | None = None, json: bool = False
) -> None:
    await session.client.fork(conversation, target, at)
    upto = f" up to turn {at}" if at else ""
    line = f"{target} is a copy of {conversation}{upto}"
    tell(session.output, json, line, conversation=target, source=conversation, at_turn=at)


async def rename(session: Session, conversation: str, target: str, json: bool = False) -> None:
    await session.client.rename(conversation, target)
    line = f"{conversation} is now {target}"
    tell(session.output, json, line, conversation=target, before=conversation)


async def delete(session: Session, conversation: str, json: bool = False) -> None:
    await session.client.delete(conversation)
    tell(session.output, json, f"{conversation} is deleted", deleted=conversation)


_ONE = Parameter("conversation", CONVERSATION)
_TARGET = Parameter("target", CONVERSATION, metavar="NEW")
_STALE_DETAIL = (
    "The answer is the latest there is, confirmed by a majority. With --stale it is what the node "
    "has applied, which works without a majority."
)

COMMANDS = (
    Command(
        "create",
        Group.CONVERSATIONS,
        "begin a conversation",
        create,
        (_ONE,),
        (Flag("system", WORDS), JSON),
        detail=(
            "An id is 1 to 64 of letters, digits, '.', '_' and '-'. --system gives it a system "
            "prompt, for queries that bring none of their own."
        ),
        example="create c1",
        changes=True,
    ),
    Command(
        "view",
        Group.CONVERSATIONS,
        "show a conversation's turns with their candidates",
        view,
        (_ONE,),
        (Flag("at", NUMBER), STALE, Flag("full"), JSON),
        detail=_STALE_DETAIL + " A terminal shows the first lines of long answers; --full, all. "
        "--at shows it as it was at a revision, from 1 to the one that view names; what was being "
        "written then is not shown.",
        example="view c1 --at 5",
    ),
    Command(
        "viewall",
        Group.CONVERSATIONS,
        "list all conversations",
        viewall,
        flags=(STALE, JSON),
        detail=_STALE_DETAIL,
        example="viewall",
    ),
    Command(
        "fork",
        Group.CONVERSATIONS,
        "copy a conversation, whole or up to a turn",
        fork,
        (_ONE, _TARGET),
        (Flag("at", NUMBER), JSON),
        detail="Both go their own ways afterwards. --at names the last turn that is copied.",
        example="fork c1 c2 --at 3",
        changes=True,
    ),
    Command(
        "rename",
        Group.CONVERSATIONS,
        "give a conversation another id",
        rename,
        (_ONE, _TARGET),
        (JSON,),
        example="rename c1 paxos",
        changes=True,
    ),
    Command(
        "delete",
        Group.CONVERSATIONS,
        "remove a conversation on every node",
        delete,
        (_ONE,),
        (JSON,),
        example="delete c1",
        changes=True,
    ),
)
