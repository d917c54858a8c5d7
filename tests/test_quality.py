"""What the tools say of the tree: layering, types, style, dead code, generated code, packaging."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from consensusllm.wire.generate import PACKAGE, generate
from consensusllm_cli.main import COMMANDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("lint-imports", "--no-cache"),
        ("mypy",),
        ("vulture",),
    ],
    ids=" ".join,
)
def test_the_tree_passes(command: tuple[str, ...]) -> None:
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def without_versions(text: str) -> str:
    """Generated code as any release of the generator would write it."""
    text = re.sub(r"(Python Version: |GRPC_GENERATED_VERSION = ).*", r"\1", text)
    return re.sub(r"(Domain\.PUBLIC,)[\s\d,]*", r"\1", text)


def test_the_generated_code_is_that_of_the_protos(tmp_path: Path) -> None:
    generate(tmp_path)
    fresh = {path.name: path for path in (tmp_path / PACKAGE).iterdir()}
    kept = {path.name: path for path in (ROOT / PACKAGE).glob("*_pb2*")}
    assert fresh.keys() == kept.keys()
    for name, path in fresh.items():
        assert without_versions(path.read_text()) == without_versions(kept[name].read_text()), (
            f"{name} is not current: python -m consensusllm.wire.generate"
        )


def test_the_generated_code_runs_with_the_oldest_libraries_that_are_allowed() -> None:
    wanted = {
        "protobuf": r"Protobuf Python Version: ([\d.]+)",
        "grpcio": r"GRPC_GENERATED_VERSION = '([\d.]+)'",
    }
    requirements = map(Requirement, PYPROJECT["project"]["dependencies"])
    allowed = {one.name: one.specifier for one in requirements}
    for path in (ROOT / PACKAGE).glob("*_pb2*.py"):
        for library, pattern in wanted.items():
            for version in re.findall(pattern, path.read_text()):
                [oldest] = [one.version for one in allowed[library] if one.operator == ">="]
                assert Version(oldest) >= Version(version), f"{path.name} needs {library} {version}"


def test_every_package_of_the_tree_is_installed() -> None:
    found = set()
    for folder, name in (
        ("consensusllm", "consensusllm"),
        ("cli", "consensusllm_cli"),
        ("drills", "consensusllm_drills"),
    ):
        for path in (ROOT / folder).rglob("*.py"):
            below = path.parent.relative_to(ROOT / folder).parts
            found.add(".".join((name, *below)))
    assert found == set(PYPROJECT["tool"]["setuptools"]["packages"])


def test_every_package_says_what_it_owns() -> None:
    for folder in ("consensusllm", "cli"):
        for path in (ROOT / folder).rglob("*.py"):
            if PACKAGE not in path.as_posix():
                text = path.read_text(encoding="utf-8")
                assert text.startswith(('"""', 'r"""')), f"{path}: no docstring"


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"consensusllm {name}" in readme, f"README.md lacks `consensusllm {name}`"


def test_nothing_is_left_to_be_done() -> None:
    words = "|".join(("TO" + "DO", "FIX" + "ME", "Not" + "Implemented"))
    done = subprocess.run(["git", "grep", "-nE", words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode > 1:
        pytest.skip("this is no checkout of git")
    assert done.stdout == ""
