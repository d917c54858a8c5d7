"""Owns the reading of a YAML document by its lines, so that every refusal names one.

It works on the nodes of the document rather than on the values that YAML would make of them: a
scalar is the text that stands there, and ``1,2`` or ``off`` is never taken for anything else.
Refuses repeated keys, and anchors, which can make a small file large.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from typing import Any, NoReturn, TypeAlias

import yaml

SHOWN_MAX = 40
DEPTH_MAX = 32

Node: TypeAlias = "yaml.Node"

_OPENS = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSES = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)
_HALF = re.compile(r"[\ud800-\udfff]")
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?(ms|s|min)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "min": 60.0}


class DocumentError(ValueError):
    """One line: the file, the line, and what is wrong there."""


def nearest(word: str, known: Collection[str]) -> str:
    """What to say after an unknown word: the nearest of ``known``, or all of them."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def shown(text: str) -> str:
    """``text`` in quotes, on one line, cut."""
    return repr(text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…")


class Document:
    """One YAML document of ``bytes_max`` at most; ``source`` names it in errors."""

    def __init__(self, data: bytes, source: str, bytes_max: int) -> None:
        """Raises DocumentError where ``data`` is no document of plain YAML."""
        self.source = source
        if len(data) > bytes_max:
            raise DocumentError(f"{source}: has more than {bytes_max} bytes: shorten it")
        try:
            text = data.decode("utf-8-sig")
            depth = 0
            for token in yaml.scan(text, Loader=yaml.SafeLoader):
                # While it is scanned: what is nested a thousandfold takes minutes to scan.
                depth += isinstance(token, _OPENS) - isinstance(token, _CLOSES)
                if depth > DEPTH_MAX:
                    self._refuse(token.start_mark.line, "is nested too deeply")
                if isinstance(token, yaml.AnchorToken | yaml.AliasToken):
                    self._refuse(token.start_mark.line, "anchors are not read here: write it out")
                if isinstance(token, yaml.ScalarToken) and _HALF.search(token.value):
                    self._refuse(token.start_mark.line, "half a surrogate pair is no character")
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except UnicodeDecodeError as error:
            self._refuse(data[: error.start].count(b"\n"), "is not text in UTF-8")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._refuse(mark.line if mark else 0, f"not YAML: {error.problem or error.context}")
        except yaml.reader.ReaderError as error:
            self._refuse(text[: error.position].count("\n"), "holds a character that YAML forbids")
        if root is None:
            self._refuse(0, "is empty")
        self.root: Node = root

    def refuse(self, node: Node, reason: str) -> NoReturn:
        """Raise a DocumentError at the line of ``node``."""
        self._refuse(node.start_mark.line, reason)

    def _refuse(self, line: int, reason: str) -> NoReturn:
        raise DocumentError(f"{self.source}:{line + 1}: {' '.join(reason.split())}") from None

    def mapping(
        self, node: Node, what: str, known: Collection[str] | None = None
    ) -> dict[str, tuple[Node, Node]]:
        """The nodes of each key and value. ``known`` (None: any) are the keys that there are."""
        if not isinstance(node, yaml.MappingNode):
            self.refuse(node, f"{what} must be a mapping of names to values")
        found: dict[str, tuple[Node, Node]] = {}
        for key, value in node.value:
            name = self.text(key, f"a name in {what}")
            if known is not None and name not in known:
                self.refuse(key, f"{what} has no {shown(name)}: {nearest(name, known)}")
            if name in found:
                self.refuse(key, f"{name} is there twice")
            found[name] = (key, value)
        return found

    def sequence(self, node: Node, what: str) -> list[Node]:
        if not isinstance(node, yaml.SequenceNode):
            self.refuse(node, f"{what} must be a list, each entry after a dash")
        return list(node.value)

    def text(self, node: Node, what: str) -> str:
        """The scalar as it is written; an empty one is ""."""
        if not isinstance(node, yaml.ScalarNode):
            self.refuse(node, f"{what} must be plain text on one line")
        return str(node.value).strip()

    def whole(self, node: Node, what: str, lowest: int, highest: int) -> int:
        text = self.text(node, what)
        if not re.fullmatch(r"[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
            self.refuse(
                node, f"{what} must be a whole number from {lowest} to {highest}, not {shown(text)}"
            )
        return int(text)

    def duration_s(self, node: Node, what: str) -> float:
        text = self.text(node, what)
        seconds = duration_s(text)
        if seconds is None:
            self.refuse(
                node, f"{what} must be a time such as 2.5s, 300ms or 1min, not {shown(text)}"
            )
        return seconds

    def plain(self, node: Node, what: str) -> Any:
        """The value as JSON has it."""
        if isinstance(node, yaml.MappingNode):
            found = self.mapping(node, what)
            return {name: self.plain(value, f"{what}.{name}") for name, (_, value) in found.items()}
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(entry, what) for entry in node.value]
        text, tag = str(node.value), node.tag.rpartition(":")[2]
        try:
            if tag == "null":
                return None
            if tag == "bool":
                return text.lower() in ("true", "yes", "on")
            return {"int": int, "float": float}.get(tag, str)(text)
        except ValueError:
            self.refuse(node, f"{what}: {shown(text)} is not a plain number")


def duration_s(text: str) -> float | None:
    """Seconds of ``2.5s``, ``300ms`` or ``1min``; None for anything else."""
    match = _DURATION.fullmatch(text)
    return float(match[1]) * _UNITS_S[match[2]] if match else None
