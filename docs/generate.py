"""Writes the parts of the documents that the code knows better: `python docs/generate.py`.

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->`` and is replaced whole.
tests/test_docs.py fails where a document is not what this would write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from consensusllm.paxos import TRANSITIONS, Role
from consensusllm_cli.main import COMMANDS as COMMAND_LINE
from consensusllm_cli.repl import COMMANDS as REPL
from consensusllm_cli.repl.language import Group

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "PROTOCOL.md")
BLOCK = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def role_diagram() -> str:
    """The roles of a replica and every way between them, from paxos/roles.py."""
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    [*] --> {start.value}" for start in (Role.FOLLOWING, Role.LEARNING)]
    lines += [
        f"    {before.value} --> {after.value}: {event.name} ({event.value.replace(':', ' -')})"
        for (before, event), after in TRANSITIONS.items()
    ]
    return "\n".join([*lines, "```"])


def command_line() -> str:
    """The program's commands."""
    return _table(
        ("Command", "What it does"),
        ((f"`consensusllm {name}`", text) for name, (_, text) in COMMAND_LINE.items()),
    )


def repl_commands() -> str:
    """The REPL's commands but for the faults."""
    return _commands(group for group in Group if group is not Group.FAULTS)


def fault_commands() -> str:
    return _commands([Group.FAULTS])


def _commands(groups: Iterable[Group]) -> str:
    wanted = set(groups)
    rows = ((f"`{each.usage}`", each.summary) for each in REPL if each.group in wanted)
    return _table(("Command", "What it does"), rows)


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "| --- | --- |"]
    lines += [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|")


BLOCKS: dict[str, Callable[[], str]] = {
    "command-line": command_line,
    "fault-commands": fault_commands,
    "repl-commands": repl_commands,
    "role-diagram": role_diagram,
}


def filled(text: str) -> str:
    """``text`` with every generated part as the code has it now."""
    return BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]()}\n{found[3]}", text)


if __name__ == "__main__":
    for path in DOCUMENTS:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
