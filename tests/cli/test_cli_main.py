"""The entry point: help without imports, one line for an error, and the exit statuses."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import consensusllm
from consensusllm.bench.processes import free_ports
from consensusllm.client import Unavailable
from consensusllm.config_file import ConfigError
from consensusllm.storage import WrongIdentity
from consensusllm_cli.main import COMMANDS, explain, run
from consensusllm_cli.repl.backend import NoSuchNode

HEAVY = ("grpc", "msgspec", "prompt_toolkit", "rich", "structlog", "sqlite3", "asyncio")

NOT_TO_SERVE = ("httpx", "importlib.metadata", "prompt_toolkit", "pydantic", "rich", "yaml")


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "consensusllm_cli.main", *arguments], capture_output=True, text=True
    )


def without(streams: str, *arguments: str) -> list[str]:
    """The command line of the program, started with ``streams`` closed, as in ``>&-``."""
    program = (sys.executable, "-m", "consensusllm_cli.main", *arguments)
    return ["sh", "-c", f'exec "$@" {streams}', "sh", *program]


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from consensusllm_cli.main import run; run(['--help']);"
        f"print('imported:', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("imported: []\n")
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


def test_a_node_imports_what_it_needs_to_serve_and_no_more() -> None:
    """A follower that comes back is a Python that starts: see DECISIONS."""
    code = (
        "import sys; import consensusllm.config, consensusllm.logs, consensusllm.server;"
        f"print('imported:', [name for name in {NOT_TO_SERVE} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "imported: []\n", done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_takes_verbose(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name, "--help"]) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"Usage: consensusllm {name} ")
    assert "--verbose" in output


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"consensusllm {consensusllm.__version__}\n"


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = run(arguments)
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("\n") == 1
    return status, errors


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("stats",), "consensusllm: no such command 'stats'; did you mean 'status'?; see"),
        (("zzz",), "consensusllm: no such command 'zzz'; there are up, node, orchestrator,"),
        (("--zzz",), "consensusllm: No such option '--zzz'"),
        (("node",), "consensusllm: Missing argument 'ID'"),
        (("node", "x", "--config", "c"), "consensusllm: Invalid value for 'ID': 'x' is not a"),
        (("node", "1"), "consensusllm: Missing option '--config'"),
        (("node", "1", "--config", "/no/c"), "consensusllm: /no/c: cannot be read: No such file"),
        (("drill", "--times", "2"), "consensusllm: no drill is named, so there is nothing to run"),
        (
            ("drill", "leader-crash", "--history", "/no/h"),
            "consensusllm: --history /no/h: No such file or directory",
        ),
        (("status", "--connect", "a"), "consensusllm: --connect: 'a' is not HOST:PORT"),
        (
            ("node", "one", "--config", "c"),
            "consensusllm: Invalid value for 'ID': 'one' is not a valid integer;",
        ),
        (
            ("simulate", "--hours", "many"),
            "consensusllm: Invalid value for '--hours': 'many' is not a valid number;",
        ),
    ],
)
def test_misuse_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], line: str
) -> None:
    status, errors = failure(capsys, *arguments)
    assert errors.startswith(line)
    assert status == 2


def test_without_a_command_the_help_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Usage: consensusllm [OPTIONS] COMMAND [ARGS]...\n\n")


def test_a_node_that_is_not_in_the_configuration_is_misuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"nodes": [{"id": 4, "address": "127.0.0.1:5104"}]}')
    status, errors = failure(capsys, "node", "1", "--config", str(path))
    assert (
        errors == "consensusllm: there is no node 1 in the configuration; it has 4: "
        "correct the id, or give --join HOST:PORT where it joins\n"
    )
    assert status == 2


def test_each_kind_of_error_has_its_words_and_its_status() -> None:
    assert explain(ConfigError("c.json: nodes: is missing")) == ("c.json: nodes: is missing", 2)
    assert explain(WrongIdentity("d: belongs to another")) == ("d: belongs to another", 1)
    assert explain(NoSuchNode("there is no node 9")) == ("there is no node 9", 2)
    assert explain(Unavailable("no node answers")) == ("no node answers", 1)
    assert explain(FileNotFoundError(2, "No such file", "f")) == ("f: No such file", 1)
    text, status = explain(KeyError("oh\nno"))
    assert text.startswith("internal error: KeyError: ")
    assert "--verbose" in text
    assert "\n" not in text
    assert status == 1


@click.command()
def broken() -> None:
    raise ZeroDivisionError("a bug")


@click.command()
def interrupted() -> None:
    raise KeyboardInterrupt


@click.command()
def unhappy() -> int:
    return 7


@pytest.fixture
def own_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (broken, interrupted, unhappy):
        assert command.name
        monkeypatch.setitem(COMMANDS, command.name, (f"{__name__}:{command.name}", ""))
    monkeypatch.setitem(sys.modules, __name__, sys.modules[broken.callback.__module__])


@pytest.mark.usefixtures("own_commands")
@pytest.mark.parametrize("arguments", [["--verbose", "broken"], ["broken", "--verbose"]])
def test_a_traceback_is_shown_with_verbose_alone(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(arguments) == 1
    assert "Traceback" in capsys.readouterr().err
    assert failure(capsys, "broken") == (
        1,
        "consensusllm: internal error: ZeroDivisionError: a bug; "
        "run it with --verbose and report the traceback\n",
    )


@pytest.mark.usefixtures("own_commands")
def test_an_interrupt_is_status_130_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["interrupted"]) == 130
    assert capsys.readouterr().err.strip() == ""


@pytest.mark.usefixtures("own_commands")
def test_a_commands_own_status_is_the_exit_status() -> None:
    assert run(["unhappy"]) == 7


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    code = (
        "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1);"
        "from consensusllm_cli.main import run; sys.exit(run(['--help']))"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert done.stderr == ""
    assert done.returncode == 1


def test_misuse_is_told_by_the_status_though_nobody_can_be_told_why() -> None:
    assert subprocess.run(without("2>/dev/full", "zzz")).returncode == 2


def test_the_module_runs_as_a_program() -> None:
    done = program("zzz")
    assert done.returncode == 2
    assert done.stderr.startswith("consensusllm: no such command 'zzz'")


@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-"])
def test_a_command_runs_with_its_standard_streams_closed(streams: str) -> None:
    done = subprocess.run(without(streams, "--version"), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_server_runs_with_standard_error_closed(tmp_path: Path) -> None:
    [port] = free_ports(1)
    node = {"id": 1, "address": "127.0.0.1:1"}
    document = {"orchestrator": {"address": f"127.0.0.1:{port}"}, "nodes": [node]}
    (tmp_path / "config.json").write_text(json.dumps(document))
    server = subprocess.Popen(
        without("2>&-", "orchestrator", "--config", str(tmp_path / "config.json"))
    )
    try:
        deadline = time.monotonic() + 20
        while server.poll() is None:
            with socket.socket() as caller:
                if caller.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline, "it never served"
            time.sleep(0.05)
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.wait()
