"""The documents say what the code does: tables, diagram, rules, sessions, snippets, links."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import click
import pytest
from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from consensusllm.config import Config
from consensusllm.conversations import Code
from consensusllm.paxos import messages
from consensusllm.provider_names import OURS
from consensusllm.wire.generated import client_pb2
from consensusllm_cli.main import COMMANDS, commands
from consensusllm_cli.repl.parser import parse_arguments, parse_command
from consensusllm_cli.repl.table import TABLE

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PROTOCOL = ROOT / "docs" / "PROTOCOL.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
NODES = (1, 2, 3)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose_of(path: Path) -> str:
    """The document without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text_of(path), flags=re.DOTALL | re.MULTILINE)


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a document in ``language``."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(path), re.DOTALL | re.MULTILINE)


def table(path: Path, head: str) -> list[list[str]]:
    """The rows of the document's one table whose first line begins with ``head``."""
    [found] = re.findall(rf"^{re.escape(head)}.*\n\|[ |-]+\|\n((?:\|.*\n)+)", text_of(path), re.M)
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in found.splitlines()
    ]


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# Generated parts ------------------------------------------------------------------------------


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_parts_are_current() -> None:
    generate = generator()
    for path in generate.DOCUMENTS:
        text = text_of(path)
        assert generate.filled(text) == text, f"{path.name} is old: python docs/generate.py"
    found = {name for path in DOCUMENTS for _, name, _ in generate.BLOCK.findall(text_of(path))}
    assert found == set(generate.BLOCKS)


# Commands -------------------------------------------------------------------------------------


def parse(line: str) -> None:
    found = parse_command(TABLE, line)
    assert found is not None, f"{line!r} is no command"
    command, rest = found
    parse_arguments(command, rest, NODES)


def test_every_line_of_a_session_is_a_command_of_the_repl() -> None:
    lines = re.findall(r"^consensusllm> (.+)$", text_of(README), re.MULTILINE)
    assert lines
    for line in lines:
        parse(line)


def test_every_drill_is_made_of_commands_of_the_repl() -> None:
    for _, script, _ in table(README, "| Drill |"):
        for line in spans(script):
            parse(line)


def command_lines() -> Iterator[list[str]]:
    """Every ``consensusllm ...`` of the documents' shell blocks and transcripts."""
    for path in DOCUMENTS:
        for block in (*blocks(path, "sh"), *blocks(path, "text")):
            for line in block.splitlines():
                words = shlex.split(line, comments=True) if "consensusllm " in line else []
                if "consensusllm" in words:
                    yield words[words.index("consensusllm") + 1 :]


def test_every_command_line_has_a_command_and_options_that_exist() -> None:
    lines = list(command_lines())
    assert lines
    context = click.Context(commands)
    for name, *words in lines:
        command = commands.get_command(context, name)
        assert command is not None, f"consensusllm {name}: no such command"
        command.make_parser(click.Context(command)).parse_args(list(words))
        for index, word in enumerate(words):
            if name == "repl" and word == "-c":
                parse(words[index + 1])


def test_every_command_that_a_document_names_exists() -> None:
    for path in DOCUMENTS:
        for span in spans(prose_of(path)):
            if match := re.match(r"consensusllm ([a-z-]+)", span):
                assert match[1] in COMMANDS, f"{path.name}: {span}"


# Configuration --------------------------------------------------------------------------------


def section_of(annotation: Any) -> type[Struct] | None:
    """The settings that ``annotation`` is, or is a tuple of."""
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return annotation
    return next(filter(None, map(section_of, get_args(annotation))), None)


def keys_of(model: type[Struct], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """``(key path, default as JSON, unit)`` of every setting."""
    for field in fields(model):
        name = field.name
        section = section_of(field.type)
        if section is not None:
            is_list = field.type is not section
            yield from keys_of(section, f"{prefix}{name}{'[]' if is_list else ''}.")
            continue
        if field.required:
            default = "required"
        else:
            value = field.default if field.default is not NODEFAULT else field.default_factory()
            default = f"`{json.dumps(str(value) if isinstance(value, Path) else value)}`"
        unit = {"ms": "ms", "bytes": "bytes"}.get(name.rpartition("_")[2], "")
        yield prefix + name, default, unit


def test_the_table_of_settings_is_that_of_the_code() -> None:
    documented = [
        (spans(key)[0], default, unit) for key, default, unit, _ in table(README, "| Key |")
    ]
    assert documented == list(keys_of(Config))


def test_the_configurations_in_the_readme_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COUNCIL_TOKEN", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "secret")
    [council] = blocks(README, "json")
    Config.from_document(json.loads(council), source="README.md")
    documented = set()
    for provider, _, snippet, _ in table(README, "| Provider |"):
        model = json.loads(spans(snippet)[0])
        assert model["provider"] == spans(provider)[0]
        nodes = [{"id": 1, "address": "127.0.0.1:1", "models": [model]}]
        Config.from_document({"nodes": nodes}, source="README.md")
        documented.add(model["provider"])
    assert documented == {"auto", *OURS}


# The protocol ---------------------------------------------------------------------------------


def test_the_table_of_messages_is_that_of_the_code() -> None:
    documented = {name: spans(fields) for name, fields, *_ in table(PROTOCOL, "| Message |")}
    known = {
        name: [field.name for field in dataclasses.fields(kind)]
        for name, kind in vars(messages).items()
        if isinstance(kind, type) and kind.__module__ == messages.__name__
    }
    assert documented == known


def test_every_cell_of_the_table_of_messages_is_filled() -> None:
    for name, _, way, when, reaction in table(PROTOCOL, "| Message |"):
        assert way, name
        assert when or name == "Entry", name
        assert reaction, name


def rules() -> dict[int, str]:
    found = re.findall(r"^### (\d+)\. .*\n((?:(?!^#).*\n)+)", text_of(PROTOCOL), re.MULTILINE)
    return {int(number): text for number, text in found}


def names_of_tests() -> set[str]:
    defined = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
    return {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in defined.findall(text_of(path))
    }


def test_each_of_the_seventeen_rules_has_a_source_a_file_and_tests_that_exist() -> None:
    assert list(rules()) == list(range(1, 18))
    known = names_of_tests()
    for number, text in rules().items():
        for word in ("*Source:*", "*Kept by*", "*Tests:*"):
            assert word in text, f"rule {number} lacks {word}"
        kept_by, _, tests = text.partition("*Tests:*")
        assert re.search(r"\]\(\.\./\S+\.py\)", kept_by), f"rule {number} names no file"
        named = spans(tests)
        assert named, f"rule {number} names no test"
        assert set(named) <= known, f"rule {number}: {set(named) - known} are no tests"
        own = {name for name in known if name.startswith(f"test_rule_{number:02}_")}
        assert own, f"no test is named after rule {number}"
        numbered = {name for name in named if name.startswith("test_rule_")}
        assert numbered <= own, f"rule {number} names tests of another rule"


def test_what_a_document_says_to_be_in_a_file_is_there() -> None:
    link = re.compile(r"\]\((\S+\.py)\)\s+\(`(\w+)`\)")
    found = [(path, *match) for path in DOCUMENTS for match in link.findall(text_of(path))]
    assert found
    for path, target, name in found:
        defined = rf"^ *(?:async )?(?:def|class) {name}\b|^{name}\b"
        assert re.search(defined, text_of(path.parent / target), re.MULTILINE), f"{target}: {name}"


def test_every_failure_and_refusal_that_a_client_can_get_is_explained() -> None:
    documented = {spans(kind)[0] for kind, *_ in table(PROTOCOL, "| Kind |")}
    assert documented == set(client_pb2.Failure.Kind.keys()) - {"UNSPECIFIED"}
    [refusals] = re.findall(r"\*\*Refusals\*\*(.*?)\n\n", text_of(PROTOCOL), re.DOTALL)
    assert set(spans(refusals)) == {code.value for code in Code}


# All documents --------------------------------------------------------------------------------


def test_the_python_of_the_readme_compiles_and_imports_what_exists() -> None:
    snippets = blocks(README, "python")
    assert snippets
    for snippet in snippets:
        for node in ast.walk(ast.parse(snippet)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose_of(path))
    assert links
    for link in links:
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target) if target else path
        assert file.exists(), f"{link}: no such file"
        assert not anchor or anchor in anchors(file), f"{link}: no such heading"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_document_names_a_place_on_somebodys_machine(path: Path) -> None:
    assert not re.search(r"/(?:home|root|tmp|work|Users)/", text_of(path))
