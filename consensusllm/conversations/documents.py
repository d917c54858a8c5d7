"""Records as JSON objects and back, by their fields alone: a record that gets a field is whole in
its document too.

A field that has its default is left out. So a document means the same to a version that adds
fields, and so does the hash of one (see chain.py).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

RecordT = TypeVar("RecordT")

_INTEGERS = range(-(1 << 63), 1 << 64)
_NAMES = {str: "a string", int: "a whole number", bool: "true or false", float: "a number"}


class MalformedDocument(ValueError):
    """The document is not what `to_document` makes; the message is one line and names the place."""


def to_document(record: Any) -> dict[str, Any]:
    """``record``, a dataclass of plain values, tuples and such dataclasses, as a JSON object."""
    return {
        each.name: _to_json(value)
        for each in fields(record)
        if (value := getattr(record, each.name)) != _default(each)
    }


def from_document(kind: type[RecordT], document: object, place: str) -> RecordT:
    """The record of a ``document`` that was found at ``place``. Raises MalformedDocument."""
    if not isinstance(document, Mapping):
        raise MalformedDocument(f"{place} must be a JSON object")
    expected, needed = _fields(cast("Hashable", kind))
    for name in sorted(needed - document.keys()):
        raise MalformedDocument(f"{place} lacks {name!r}")
    for name in sorted(document.keys() - expected.keys(), key=str):
        raise MalformedDocument(f"{place} has {name!r:.80}, which is not known")
    return kind(
        **{
            name: _from_json(expected[name], value, f"{place}.{name}")
            for name, value in document.items()
        }
    )


def _to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_to_json(each) for each in value]
    if isinstance(value, Enum):
        return value.value
    return to_document(value) if is_dataclass(value) else value


def _from_json(kind: Any, value: Any, place: str) -> Any:
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise MalformedDocument(f"{place} must be a list")
        (inner, _) = get_args(kind)
        return tuple(
            _from_json(inner, each, f"{place}[{index}]") for index, each in enumerate(value)
        )
    (plain,) = set(get_args(kind)) - {type(None)} or {kind}
    if value is None and plain is not kind:
        return None
    if is_dataclass(plain):
        assert isinstance(plain, type)
        return from_document(plain, value, place)
    if issubclass(plain, Enum):
        try:
            return plain(value)
        except ValueError:
            known = ", ".join(str(each.value) for each in plain)
            raise MalformedDocument(f"{place} must be one of {known}") from None
    if plain is float and type(value) is int and abs(value) < 1 << 53:
        value = float(value)  # some programs write 1.0 as 1
    if type(value) is not plain:
        raise MalformedDocument(f"{place} must be {_NAMES[plain]}")
    if plain is int and value not in _INTEGERS:
        raise MalformedDocument(f"{place} must be {_NAMES[int]} of 64 bits")
    if plain is float and not math.isfinite(value):
        raise MalformedDocument(f"{place} must be a number that JSON has")
    if plain is str and any("\ud800" <= character <= "\udfff" for character in value):
        raise MalformedDocument(f"{place} holds half of a surrogate pair: it is no text")
    return value


@cache
def _fields(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """The types of a record's fields by their names, and the names of those without a default."""
    types = get_type_hints(kind)
    known = fields(kind)
    needed = frozenset(each.name for each in known if _default(each) is MISSING)
    return {each.name: types[each.name] for each in known}, needed


def _default(field: Field[Any]) -> Any:
    """The default of a field, or MISSING."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default
