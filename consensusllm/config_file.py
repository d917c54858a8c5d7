"""A configuration's file as it stands, and what is wrong with it, in words of ours."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


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
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
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
    return document


_VARIABLE = re.compile(r"\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\})?")


def expand(value: Any, where: str, source: str) -> Any:
    """``value`` with the environment's values in place of ``${NAME}``, at every depth."""

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
        return _VARIABLE.sub(fill, value)
    if isinstance(value, list):
        return [expand(item, f"{where}[{index}]", source) for index, item in enumerate(value)]
    if isinstance(value, dict):
        if isinstance(value, _Object) and value.repeated is not None:
            raise ConfigError(f"{source}: {_join(where, value.repeated)}: is there twice")
        return {key: expand(item, _join(where, key), source) for key, item in value.items()}
    return value


def _join(where: str, key: str) -> str:
    shown = key if key.isprintable() and len(key) <= 64 else f"{key!r:.64}"
    return f"{where}.{shown}" if where else shown


def first_fault(model: type[BaseModel], error: ValidationError) -> str:
    """The first fault as ``key path: what is wrong``, in our words and without the value."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    # A misspelt key is also a missing one: the spelling is the fault.
    fault = min(faults, key=lambda one: one["type"] != "extra_forbidden")
    where = ""
    known: Mapping[str, Any] = model.model_fields
    path = fault["loc"]
    for part in path[:-1]:
        if isinstance(part, str) and part in known:
            known = _fields_below(known[part].annotation)
    for part in path:
        where = f"{where}[{part}]" if isinstance(part, int) else _join(where, part)
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
        hint = f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(known)}"
        return f"{where}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{where}: is missing"
    message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{where}: {message}" if where else message


def _fields_below(annotation: Any) -> Mapping[str, Any]:
    """The fields of the section that ``annotation`` is, or is a tuple of; none of anything else."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.model_fields
    for argument in get_args(annotation):
        if found := _fields_below(argument):
            return found
    return {}
