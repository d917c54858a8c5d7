"""Owns what a command is: its parameters, flags, help and handler. One row of the table each.

The parser, the completion, the help and the README's table all read the same rows.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .lexer import Misuse

_CONVERSATION = re.compile(r"[A-Za-z0-9._-]{1,64}")
_FLAGS_SHOWN = 3
_PERCENT_MAX = 100.0
_DELAY_MAX_MS = 3_600_000.0
_DEADLINE_MAX_S = 3600.0


class Group(Enum):
    """The headings of the help, in their order; settings and the prompt itself need none."""

    CONVERSATIONS = "Conversations and settings"
    SETTINGS = "Settings"
    CLUSTER = "The cluster"
    FAULTS = "Faults (through the orchestrator)"
    SHELL = "The prompt"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a word must be. ``read`` gets the word and the ids of the known nodes (maybe none)."""

    metavar: str
    read: Callable[[str, Sequence[int]], Any]
    is_text: bool = False
    """The rest of the line rather than a word."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A positional argument, handed to the handler as keyword ``name`` unless it is left out."""

    name: str
    kind: Kind
    optional: bool = False
    repeated: bool = False
    metavar: str = ""

    @property
    def usage(self) -> str:
        shown = (self.metavar or self.kind.metavar) + (
            "…" if self.repeated or self.kind.is_text else ""
        )
        return f"[{shown}]" if self.optional else shown


@dataclass(frozen=True, slots=True)
class Flag:
    """``--name``, with a value where ``kind`` is given; keyword ``name`` of the handler, with all
    values where it may be ``repeated``. ``meaning`` is its line of the command's help.

    Where ``otherwise`` is given the value may be left out, and is only written behind a ``=``.
    """

    name: str
    kind: Kind | None = None
    meaning: str = ""
    repeated: bool = False
    otherwise: str | None = None

    @property
    def word(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def usage(self) -> str:
        if self.kind is None:
            return f"[{self.word}]"
        if self.otherwise is not None:
            return f"[{self.word}[={self.kind.metavar}]]"
        return f"[{self.word} {self.kind.metavar}]"


JSON = Flag("json", None, "print JSON, with all that is known")
STALE = Flag("stale", None, "read what the node has applied, without asking a majority")


@dataclass(frozen=True, slots=True)
class Command:
    """One command: ``handler(session, **arguments)`` runs it."""

    name: str
    group: Group
    summary: str
    handler: Callable[..., Awaitable[None]]
    parameters: tuple[Parameter, ...] = ()
    flags: tuple[Flag, ...] = ()
    detail: str = ""
    example: str = ""
    aliases: tuple[str, ...] = ()
    changes: bool = False
    """Where Ctrl-C ends it, what it changes may be changed: so it is said."""

    @property
    def usage(self) -> str:
        """Many flags are left to the command's own help, and so is --json, which all have that
        show something. Those of a text come before it."""
        parameters = [parameter.usage for parameter in self.parameters]
        flags = [flag.usage for flag in self.flags if flag is not JSON]
        if self.leaves_flags_out:
            flags = ["[--FLAG…]"]
        place = len(parameters) - self.takes_text
        return " ".join([self.name, *parameters[:place], *flags, *parameters[place:]])

    @property
    def leaves_flags_out(self) -> bool:
        """Whether its usage does not name its flags."""
        return len([flag for flag in self.flags if flag is not JSON]) > _FLAGS_SHOWN

    @property
    def needs_nodes(self) -> bool:
        return any(parameter.kind in (NODE, NODES) for parameter in self.parameters)

    @property
    def takes_text(self) -> bool:
        return any(parameter.kind.is_text for parameter in self.parameters)


def _any_word(word: str, nodes: Sequence[int]) -> str:
    if not word:
        raise Misuse("an argument is empty")
    return word


def _question(text: str, nodes: Sequence[int]) -> str:
    if not text.strip():
        raise Misuse("the question is empty")
    return text


def _value(text: str, nodes: Sequence[int]) -> str:
    return text


def _conversation(word: str, nodes: Sequence[int]) -> str:
    if not _CONVERSATION.fullmatch(word):
        raise Misuse(
            f"{word!r} is not a conversation id: use 1 to 64 of letters, digits, '.', '_' and '-'"
        )
    return word


def _number(word: str, nodes: Sequence[int]) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", word) or int(word) < 1:
        raise Misuse(f"{word!r} is not a number: give one from 1 up")
    return int(word)


def _head(word: str, nodes: Sequence[int]) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", word):
        raise Misuse(f"{word!r:.80} is not a head: give the 64 hexadecimal digits of verify")
    return word.lower()


def _node(word: str, nodes: Sequence[int]) -> int:
    node = int(word) if re.fullmatch(r"[0-9]{1,9}", word) else 0
    if node < 1 or (nodes and node not in nodes):
        remedy = f"one of {', '.join(map(str, nodes))}" if nodes else "its number, such as 1"
        raise Misuse(f"{word!r} is not a node: give {remedy}")
    return node


def _nodes(word: str, nodes: Sequence[int]) -> tuple[int, ...]:
    members = tuple(_node(part, nodes) for part in word.split(","))
    if len(set(members)) < len(members):
        raise Misuse(f"{word!r} names a node twice")
    return members


def _quantity(word: str, what: str, maximum: float, minimum: float = 0.0) -> float:
    number = float(word) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", word) else -1.0
    if not minimum <= number <= maximum:
        raise Misuse(f"{word!r} is not {what}: give a number from {minimum:g} to {maximum:.0f}")
    return number


def _percent(word: str, nodes: Sequence[int]) -> float:
    return _quantity(word.removesuffix("%"), "a percentage", _PERCENT_MAX)


def _milliseconds(word: str, nodes: Sequence[int]) -> float:
    return _quantity(word.removesuffix("ms"), "a time in milliseconds", _DELAY_MAX_MS)


def _seconds(word: str, nodes: Sequence[int]) -> float:
    return _quantity(word.removesuffix("s"), "a time in seconds", _DEADLINE_MAX_S, 0.001)


def _temperature(word: str, nodes: Sequence[int]) -> float:
    return _quantity(word, "a temperature", 2.0)


def _integer(word: str, nodes: Sequence[int]) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", word):
        raise Misuse(f"{word!r} is not a whole number")
    return int(word)


def _names(word: str, nodes: Sequence[int]) -> tuple[str, ...]:
    names = tuple(part.strip() for part in word.split(","))
    if not all(names):
        raise Misuse(f"{word!r} has an empty name: write names with commas between them")
    return names


CONVERSATION = Kind("ID", _conversation)
NODE = Kind("NODE", _node)
NODES = Kind("NODES", _nodes)
NUMBER = Kind("N", _number)
HEAD = Kind("HEAD", _head)
PERCENT = Kind("PERCENT", _percent)
MILLISECONDS = Kind("MS", _milliseconds)
SECONDS = Kind("SECONDS", _seconds)
TEMPERATURE = Kind("T", _temperature)
INTEGER = Kind("N", _integer)
NAMES = Kind("NAMES", _names)
FILE = Kind("FILE", _any_word)
WORD = Kind("WORD", _any_word)
TEMPLATE = Kind("TEMPLATE", _any_word)
QUESTION = Kind("QUESTION", _question, is_text=True)
VALUE = Kind("VALUE", _value, is_text=True)
WORDS = Kind("TEXT", _value)
"""A word that may be anything; several are put between quotes."""
