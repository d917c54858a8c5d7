"""The commands on the replicated settings: set and get."""

from __future__ import annotations

from .documents import tell
from .language import JSON, STALE, VALUE, WORD, Command, Group, Parameter
from .session import CommandFailed, Session

_KEY = Parameter("key", WORD, metavar="KEY")


async def put(session: Session, key: str, value: str, json: bool = False) -> None:
    await session.client.put(key, value.encode())
    tell(session.output, json, f"{key} is set", key=key, value=value)


async def get(session: Session, key: str, stale: bool = False, json: bool = False) -> None:
    value = await session.client.get(key, stale=stale)
    if value is None:
        raise CommandFailed(f"no key {key!r}: set {key} VALUE makes it")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        shown = f"0x{value.hex()}"
        tell(session.output, json, shown, key=key, value=None, hexadecimal=shown)
    else:
        tell(session.output, json, text, key=key, value=text)


COMMANDS = (
    Command(
        "set",
        Group.SETTINGS,
        "store a value under a key",
        put,
        (_KEY, Parameter("value", VALUE)),
        (JSON,),
        detail="The value is the rest of the line, as the question of query is: one that begins "
        "with two dashes goes behind a lone --, or between quotes.",
        example="set greeting Hello, world",
        changes=True,
    ),
    Command(
        "get",
        Group.SETTINGS,
        "show a value",
        get,
        (_KEY,),
        (STALE, JSON),
        detail="A value that is not text is shown in hexadecimal. With --stale it is what the node "
        "has applied, which works without a majority.",
        example="get greeting",
    ),
)
