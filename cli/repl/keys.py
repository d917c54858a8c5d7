"""The commands on the replicated settings: set and get."""

from __future__ import annotations

from .language import VALUE, WORD, Command, Group, Parameter
from .session import CommandFailed, Session

_KEY = Parameter("key", WORD, metavar="KEY")


async def put(session: Session, key: str, value: str) -> None:
    await session.client.put(key, value.encode())
    session.output.line(f"{key} is set")


async def get(session: Session, key: str) -> None:
    value = await session.client.get(key)
    if value is None:
        raise CommandFailed(f"no key {key!r}: set {key} VALUE makes it")
    try:
        session.output.line(value.decode())
    except UnicodeDecodeError:
        session.output.line(f"0x{value.hex()}")


COMMANDS = (
    Command(
        "set",
        Group.SETTINGS,
        "store a value under a key",
        put,
        (_KEY, Parameter("value", VALUE)),
        detail="The value is the rest of the line, as the question of query is.",
        example="set greeting Hello, world",
    ),
    Command(
        "get",
        Group.SETTINGS,
        "show a value",
        get,
        (_KEY,),
        detail="A value that is not text is shown in hexadecimal.",
        example="get greeting",
    ),
)
