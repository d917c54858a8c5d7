"""A configuration's file as it stands, and what is wrong with it, in words of ours."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import Struct

DEPTH_MAX = 64
SIZE_MAX_BYTES = 16 << 20

SectionT = TypeVar("SectionT", bound=Struct)


class ConfigError(ValueError):
    """One line: the file, the key path, and what is wrong with it."""


class _Object(dict[str, Any]):
    """A JSON object that remembers a key it was given twice, until its path is known."""

    repeated: str | None = None


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    result = _Object()
    for key, value in pairs:
        if key in result:
            result.repeated = key
        result[key] = value
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def read_document(path: str | Path) -> dict[str, Any]:
    """The JSON object in the file ``path``, with ``${NAME}`` as it stands there, to be checked by
    `Config.from_document`. Raises ConfigError."""
    if not str(path):
        raise ConfigError("the name of the configuration is empty: give that of a file")
    try:
        with Path(path).open("rb") as file:
            content = file.read(SIZE_MAX_BYTES + 1)
        if len(content) > SIZE_MAX_BYTES:
            raise ValueError(f"has more than {SIZE_MAX_BYTES} bytes: shorten it")
        text = content.decode("utf-8-sig")
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise ConfigError(f"{path}: {where}: not JSON: {error.msg}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not a text file in UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(document, _Object):
        raise ConfigError(f"{path}: must hold one JSON object")
    if document.repeated is not None:
        raise ConfigError(f"{path}: {_join('', document.repeated)}: is there twice")
    return document


_VARIABLE = re.compile(r"\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\})?")


def expand(value: Any, where: str, source: str, depth: int = 0) -> Any:
    """``value`` with the environment's values in place of ``${NAME}``, at every depth."""
    if depth > DEPTH_MAX:
        raise ConfigError(f"{source}: is nested too deeply")

    def fill(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        if name is None:
            raise ConfigError(f"{source}: {where}: write ${{NAME}} or ${{NAME:-default}}")
        found = os.environ.get(name)
        if default is not None and not found:
            return default.removeprefix(":-")
        if found is None:
            raise ConfigError(f"{source}: {where}: the environment variable {name} is not set")
        return found

    if isinstance(value, str):
        return _text(_VARIABLE.sub(fill, value), where, source)
    if isinstance(value, list):
        return [
            expand(item, f"{where}[{index}]", source, depth + 1) for index, item in enumerate(value)
        ]
    if isinstance(value, dict):
        if isinstance(value, _Object) and value.repeated is not None:
            raise ConfigError(f"{source}: {_join(where, value.repeated)}: is there twice")
        return {
            _text(key, _join(where, key), source): expand(
                item, _join(where, key), source, depth + 1
            )
            for key, item in value.items()
        }
    return value


def _text(text: str, where: str, source: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{source}: {where}: holds half a surrogate pair") from None
    return text


def _join(where: str, key: str) -> str:
    shown = key if key.isprintable() and len(key) <= 64 else f"{key!r:.64}"
    return f"{where}.{shown}" if where else shown


def check(
    kind: type[SectionT],
    document: Mapping[str, Any],
    source: str,
    custom: Callable[[type, Any], Any],
) -> SectionT:
    """The settings of ``kind`` in ``document``; ``custom`` makes a value of a type that JSON has
    not, or raises ValueError. Raises ConfigError with the first fault, without a secret."""
    _check_keys(kind, document, "", source)
    try:
        return msgspec.convert(document, kind, dec_hook=custom)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_fault(kind, str(error))}") from None


def _check_keys(kind: type[Struct], value: Any, where: str, source: str) -> None:
    """A misspelt key is often a missing one too: the spelling is the fault."""
    if not isinstance(value, Mapping):
        return
    known = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, item in value.items():
        path = _join(where, key)
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(known)}"
            raise ConfigError(f"{source}: {path}: unknown key; {hint}")
        section = _section(known[key])
        if section is not None and isinstance(item, list):
            for index, each in enumerate(item):
                _check_keys(section, each, f"{path}[{index}]", source)
        elif section is not None:
            _check_keys(section, item, path, source)


def _section(annotation: Any) -> type[Struct] | None:
    """The settings that ``annotation`` is, or is a tuple of; None for any other value."""
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return annotation
    return next(filter(None, map(_section, get_args(annotation))), None)


_WORDS: dict[str, str] = {}


def matching(pattern: str, words: str) -> msgspec.Meta:
    """A constraint on text: ``words`` say of what it must be that matches ``pattern``."""
    _WORDS[f" matching regex {pattern!r}"] = f" of {words}"
    return msgspec.Meta(pattern=pattern)


_PLACE = re.compile(r" - at `\$\.?(\S*)`\Z")
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_GOT = re.compile(r"Expected `([^`]*)`(?:, got `([^`]*)`)?(.*)", re.DOTALL)
_NAMES = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "null",
    "object": "an object",
    "str": "text",
}


def _fault(kind: type[Struct], message: str) -> str:
    """What msgspec says, as ``key path: what is wrong`` in our words."""
    found = _PLACE.search(message)
    where = found[1] if found else ""
    message = message[: found.start()] if found else message
    if missing := _MISSING.fullmatch(message):
        return f"{_join(where, missing[1])}: is missing"
    if message.startswith("Invalid enum value"):
        message = f"must be {' or '.join(map(repr, _choices(kind, where)))}"
    elif got := _GOT.fullmatch(message):
        instead = f", not {_named(got[2])}" if got[2] else ""
        message = f"must be {_named(got[1])}{_WORDS.get(got[3], got[3])}{instead}"
    return f"{where}: {message}" if where else message


def _named(kinds: str) -> str:
    return " or ".join(_NAMES.get(each, each) for each in kinds.split(" | "))


def _choices(kind: type[Struct], where: str) -> tuple[Any, ...]:
    """What may stand at the path ``where`` of settings of ``kind``."""
    annotation: Any = kind
    for name in re.findall(r"[a-z_]+", where):
        section = _section(annotation)
        assert section is not None, "a path leads through sections"
        [annotation] = [each.type for each in msgspec.structs.fields(section) if each.name == name]
    return get_args(annotation)
