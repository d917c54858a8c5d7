"""The commands of the prompt itself: help and exit."""

from __future__ import annotations

import textwrap

from .language import WORD, Command, Group, Parameter
from .session import Leave, Session

_WIDTH = 78
_WITHOUT_HEADING = (Group.CONVERSATIONS, Group.SETTINGS)
"""They speak for themselves: all fits on a screen."""


async def show_help(session: Session, command: str = "") -> None:
    if command:
        _one_command(session, session.table.find(command))
        return
    width = max(len(each.usage) for each in session.table.commands)
    for group in Group:
        commands = [each for each in session.table.commands if each.group is group]
        if group is Group.SHELL:
            parts = [("  ", (each.usage, "cyan"), f"  {each.summary}") for each in commands]
            session.output.line(*(piece for part in parts for piece in part))
            continue
        if group not in _WITHOUT_HEADING:
            session.output.line((group.value, "bold"))
        for each in commands:
            session.output.line("  ", (each.usage.ljust(width), "cyan"), f"  {each.summary}")


async def leave(session: Session) -> None:
    raise Leave


def _one_command(session: Session, command: Command) -> None:
    output = session.output
    output.line((command.usage, "bold cyan"))
    output.line(f"  {command.summary}")
    for line in textwrap.wrap(command.detail, _WIDTH):
        output.line(f"  {line}")
    shown = [(flag.usage[1:-1], flag.meaning) for flag in command.flags if flag.meaning]
    width = max((len(usage) for usage, _ in shown), default=0)
    for usage, meaning in shown:
        output.line("  ", (usage.ljust(width), "cyan"), f"  {meaning}")
    if command.example:
        output.line("  for example: ", (command.example, "cyan"))
    if command.aliases:
        output.line(f"  also: {', '.join(command.aliases)}")


COMMANDS = (
    Command(
        "help",
        Group.SHELL,
        "list the commands, or explain one",
        show_help,
        (Parameter("command", WORD, optional=True, metavar="COMMAND"),),
        example="help query",
    ),
    Command(
        "exit",
        Group.SHELL,
        "leave; Ctrl-D does too",
        leave,
        aliases=("quit",),
        example="exit",
    ),
)
