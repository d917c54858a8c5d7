"""Owns the way out: every text is sanitised here, whoever wrote it, and never read as markup.

On a terminal lines have colour and tables are drawn; anywhere else lines are plain and complete,
and tables are tab-separated with a row of headings, so that scripts can rely on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..progress import Tell, shown
from .sanitise import one_line, sanitise

_ERROR_CHARACTERS = 1000
"""A message may quote what it refuses, and that may be a file by mistake."""

Styled = str | tuple[str, str]
"""A text, or a text and its rich style."""


class Output:
    """Where a session prints. ``terminal`` says whether a person is looking at ``stdout``."""

    def __init__(self, stdout: TextIO, stderr: TextIO, terminal: bool) -> None:
        self.terminal = terminal
        self._stdout = stdout
        self._stderr = stderr
        self.console = Console(
            file=stdout, force_terminal=terminal, markup=False, highlight=False, emoji=False
        )

    def line(self, *parts: Styled) -> None:
        """Print the parts one after the other, then a newline. Long lines are not cut or filled."""
        if self.terminal:
            self.console.print(styled(*parts), soft_wrap=True)
        else:
            self._stdout.write(styled(*parts).plain + "\n")
            self._stdout.flush()

    def block(self, text: str, margin: Styled, style: str = "") -> None:
        """Print ``text`` behind ``margin``, which begins every line. A terminal breaks long ones
        between words, and what follows is behind the margin too; elsewhere they stay as they are.
        """
        edge = styled(margin)
        for line in text.splitlines():
            said = styled((line, style))
            if self.terminal:
                width = max(1, self.console.width - edge.cell_len)
                for part in said.wrap(self.console, width) or [said]:
                    part.rstrip()
                    self.console.print(edge + part, soft_wrap=True)
            else:
                self._stdout.write(((edge + said).plain if line else edge.plain.rstrip()) + "\n")
        self._stdout.flush()

    def progress(self) -> AbstractContextManager[Tell]:
        """How far something is: on the standard error, which no script reads."""
        return shown(self._stderr, terminal=self.terminal, each=False)

    def raw(self, text: str) -> None:
        """Print ``text``, which is harmless already, as it is."""
        self._stdout.write(text)
        self._stdout.flush()

    def error(self, message: str) -> None:
        """Print one line to the standard error; the middle of a very long one is left out."""
        line = one_line(message)
        if len(line) > _ERROR_CHARACTERS:
            half = _ERROR_CHARACTERS // 2
            line = f"{line[:half].rstrip()} … {line[-half:].lstrip()}"
        self._stderr.write(line + "\n")
        self._stderr.flush()

    def raw_error(self, text: str) -> None:
        """Print a traceback, sanitised, to the standard error."""
        self._stderr.write(sanitise(text))
        self._stderr.flush()

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table; every cell is put on one line."""
        cells = [[one_line(cell) for cell in row] for row in rows]
        if not self.terminal:
            for row in [list(headings), *cells]:
                self._stdout.write("\t".join(row) + "\n")
            self._stdout.flush()
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in headings:
            table.add_column(Text(heading), header_style="bold", overflow="fold")
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        self.console.print(table)


def styled(*parts: Styled) -> Text:
    """The parts, sanitised, as rich shows them: no markup is read."""
    text = Text()
    for part in parts:
        content, style = (part, "") if isinstance(part, str) else part
        text.append(sanitise(content), style=style)
    return text
