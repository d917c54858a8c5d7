"""Owns the way from a line to a command with its arguments, by the table of commands."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .language import Command, Parameter
from .lexer import BLANKS, Misuse, Word, is_comment_or_blank, is_open_block, take_text, take_word


@dataclass(frozen=True, slots=True)
class Parsed:
    command: Command
    arguments: dict[str, Any] = field(default_factory=dict)


class Table:
    """The commands by name, in any case, aliases included."""

    def __init__(self, commands: Iterable[Command]) -> None:
        self.commands = tuple(commands)
        self._by_name = {
            name.lower(): command
            for command in self.commands
            for name in (command.name, *command.aliases)
        }

    def find(self, name: str) -> Command:
        """Raises Misuse that names the nearest command."""
        command = self._by_name.get(name.lower())
        if command is None:
            near = difflib.get_close_matches(name.lower(), self._by_name, n=1)
            remedy = f"did you mean {self._by_name[near[0]].name}?" if near else "help lists them"
            raise Misuse(f"unknown command {name!r}: {remedy}")
        return command


def parse_command(table: Table, line: str) -> tuple[Command, str] | None:
    """The line's command and the rest of the line; None for a comment or a blank line."""
    if is_comment_or_blank(line):
        return None
    try:
        line.encode()
    except UnicodeEncodeError:
        raise Misuse("the line is not valid UTF-8 text") from None
    name, rest = take_word(line)
    assert name is not None, "a line that is not blank has a word"
    return table.find(name.text), rest


def parse_arguments(command: Command, rest: str, nodes: Sequence[int]) -> Parsed:
    """Raises Misuse, with the usage where an argument is missing or too many."""
    arguments: dict[str, Any] = {}
    if command.takes_text:
        for parameter in command.parameters:
            if parameter.kind.is_text:
                rest = _take_leading_flags(command, rest, arguments, nodes)
                word: Word | None = Word(take_text(rest), quoted=True)
                present = bool(rest.strip())
            else:
                word, rest = take_word(rest)
                present = word is not None
                if word is not None and not word.quoted and word.text.startswith("--"):
                    raise Misuse(
                        f"{word.text!r} is no {parameter.name}, and flags come behind it: "
                        f"usage: {command.usage}"
                    )
            if not present:
                raise _missing(command, parameter)
            assert word is not None
            arguments[parameter.name] = parameter.kind.read(word.text, nodes)
        return Parsed(command, arguments)
    words = _take_flags(command, _all_words(rest), arguments, nodes)
    for parameter in command.parameters:
        if not words:
            if not parameter.optional:
                raise _missing(command, parameter)
            break
        if parameter.repeated:
            arguments[parameter.name] = tuple(parameter.kind.read(word, nodes) for word in words)
            words = []
        else:
            arguments[parameter.name] = parameter.kind.read(words.pop(0), nodes)
    if words:
        raise Misuse(f"{words[0]!r} is one argument too many: usage: {command.usage}")
    return Parsed(command, arguments)


def needs_more_lines(table: Table, line: str) -> bool:
    """Whether the line's text is a block that is not closed yet."""
    try:
        found = parse_command(table, line)
        if found is None or not found[0].takes_text:
            return False
        command, rest = found
        for parameter in command.parameters:
            if not parameter.kind.is_text:
                _, rest = take_word(rest)
        rest = _take_leading_flags(command, rest, {}, ())
    except Misuse:
        return False
    return is_open_block(rest)


def lines_of(table: Table, text: str) -> list[str]:
    """The lines of ``text``, those of a block joined, where each is a command by itself; otherwise
    ``text`` is one line: that of a question, for one, which has several."""
    lines: list[str] = []
    for line in text.split("\n"):
        if lines and needs_more_lines(table, lines[-1]):
            lines[-1] += f"\n{line}"
        else:
            lines.append(line)
    try:
        for line in lines:
            if (found := parse_command(table, line)) is not None:
                parse_arguments(*found, ())
    except Misuse:
        return [text]
    return lines


def _all_words(rest: str) -> list[Word]:
    words = []
    word, rest = take_word(rest)
    while word is not None:
        words.append(word)
        word, rest = take_word(rest)
    return words


def _take_flags(
    command: Command, words: list[Word], arguments: dict[str, Any], nodes: Sequence[int]
) -> list[str]:
    """Put the flags' values in ``arguments``; return the words that are left."""
    left: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word.quoted or not word.text.startswith("--"):
            left.append(word.text)
        else:
            _take_flag(command, word, lambda: next(waiting, None), arguments, nodes)
    return left


def _take_leading_flags(
    command: Command, rest: str, arguments: dict[str, Any], nodes: Sequence[int]
) -> str:
    """Put the flags before a text in ``arguments``; return the text. A text that begins with two
    dashes itself is put behind a lone --, or between quotes."""
    while command.flags:
        word, after = take_word(rest) if rest.lstrip(BLANKS).startswith("--") else (None, "")
        if word is None:
            break
        if word.text == "--":
            return after

        def following() -> Word | None:
            nonlocal after
            word, after = take_word(after)
            return word

        _take_flag(command, word, following, arguments, nodes)
        rest = after
    return rest


def _take_flag(
    command: Command,
    word: Word,
    following: Callable[[], Word | None],
    arguments: dict[str, Any],
    nodes: Sequence[int],
) -> None:
    """Put the value of the flag ``word`` in ``arguments``; ``following`` is the next word."""
    flag_text, equals, value = word.text.partition("=")
    flag = next((flag for flag in command.flags if flag.word == flag_text.lower()), None)
    if flag is None:
        near = difflib.get_close_matches(flag_text, [flag.word for flag in command.flags], n=1)
        hint = ""
        if near and command.leaves_flags_out:
            hint = f"did you mean {near[0]}? "
        elif command.takes_text:
            hint = "a text that begins so goes behind a lone --: "
        raise Misuse(f"unknown flag {flag_text!r}: {hint}usage: {command.usage}")
    if flag.name in arguments and not flag.repeated:
        raise Misuse(f"{flag.word} is given twice: usage: {command.usage}")
    if flag.kind is None:
        if equals:
            raise Misuse(f"{flag.word} takes no value: usage: {command.usage}")
        arguments[flag.name] = True
        return
    if not equals and flag.otherwise is not None:
        arguments[flag.name] = flag.otherwise
        return
    if not equals:
        next_word = following()
        if next_word is None:
            raise Misuse(f"{flag.word} needs a value: usage: {command.usage}")
        value = next_word.text
    read = flag.kind.read(value, nodes)
    arguments[flag.name] = (*arguments.get(flag.name, ()), read) if flag.repeated else read


def _missing(command: Command, parameter: Parameter) -> Misuse:
    what = parameter.metavar or f"the {parameter.name}"
    return Misuse(f"{what} is missing: usage: {command.usage}")
