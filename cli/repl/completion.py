"""Owns what Tab offers: commands, flags, conversation ids and node ids."""

from __future__ import annotations

from collections.abc import Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from .language import CONVERSATION, NODE, NODES, WORD, Command, Kind
from .lexer import BLANKS, Misuse
from .parser import Table
from .session import Known


class CommandCompleter(Completer):
    """Completes by the table of commands and by what is known of the cluster; asks nobody."""

    def __init__(self, table: Table, known: Known) -> None:
        self._table = table
        self._known = known

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        before = document.text_before_cursor.lstrip(BLANKS)
        words = before.split()
        typed = "" if not words or before[-1] in BLANKS else words.pop()
        for offer in self._offers(words, typed):
            if offer.lower().startswith(typed.lower()):
                yield Completion(offer, start_position=-len(typed))

    def _offers(self, words: list[str], typed: str) -> Iterable[str]:
        if not words:
            return self._names()
        try:
            command = self._table.find(words[0])
        except Misuse:
            return ()
        if typed.startswith("--"):
            return [flag.word for flag in command.flags if flag.word not in words]
        kind = _kind_at(command, words[1:])
        if kind is CONVERSATION:
            return self._known.conversations
        if kind is NODE:
            return map(str, self._known.nodes)
        if kind is NODES:
            head, comma, _ = typed.rpartition(",")
            return [f"{head}{comma}{node}" for node in self._known.nodes]
        if kind is WORD and command.name == "help":
            return self._names()
        return ()

    def _names(self) -> list[str]:
        return sorted(command.name for command in self._table.commands)


def _kind_at(command: Command, words: list[str]) -> Kind | None:
    """What the word after ``words`` is to be."""
    flags = {flag.word: flag for flag in command.flags}
    position = 0
    values = iter(words)
    for word in values:
        flag = flags.get(word)
        if flag is None:
            position += 1
        elif flag.kind is not None and next(values, None) is None:
            return flag.kind
    if position < len(command.parameters):
        return command.parameters[position].kind
    if command.parameters and command.parameters[-1].repeated:
        return command.parameters[-1].kind
    return None
