"""``run.sh`` as a person runs it: its words, the demo from a pipe, and the demo in tmux.

The virtual environment is a stand-in that leads to the one of this test run, stamped as installed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from consensusllm.bench.processes import free_ports

ROOT = Path(__file__).parents[2]
RUN = ROOT / "run.sh"
DEADLINE_S = 40
SECRET = "sk-kept-in-memory"


def program(path: Path, *command: str) -> None:
    path.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in command) + ' "$@"\n')
    path.chmod(0o755)


class Machine:
    """What run.sh finds: an environment, a data directory, ports, and a tmux server of its own."""

    def __init__(self, directory: Path) -> None:
        venv = directory / "venv"
        (venv / "bin").mkdir(parents=True)
        program(venv / "bin" / "python", sys.executable)
        program(venv / "bin" / "consensusllm", sys.executable, "-m", "consensusllm_cli.main")
        pyproject = (ROOT / "pyproject.toml").read_bytes()
        stamp = subprocess.run(["cksum"], input=pyproject, capture_output=True, check=True).stdout
        (venv / ".consensusllm-providers").write_text(f"{stamp.decode().strip()} {ROOT}\n")
        self.temporary = directory / "tmp"
        for made in ("tmp", "tmux"):
            (directory / made).mkdir()
        [self.base_port] = free_ports(1, in_a_row=5)
        self.data_dir = directory / "data"
        self.environment = {
            **os.environ,
            "ANY_API_KEY": SECRET,
            "CONSENSUSLLM_BASE_PORT": str(self.base_port),
            "CONSENSUSLLM_DATA_DIR": str(self.data_dir),
            "CONSENSUSLLM_HISTORY": str(directory / "history"),
            "CONSENSUSLLM_VENV": str(venv),
            "TERM": "xterm",
            "TMPDIR": str(self.temporary),
            "TMUX_TMPDIR": str(directory / "tmux"),
        }
        self.environment.pop("TMUX", None)
        self.terminals: list[pexpect.spawn[str]] = []

    def run(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [RUN, *arguments],
            input=text,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd="/",
            timeout=DEADLINE_S,
        )

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", *arguments], capture_output=True, text=True, env=self.environment
        )
        return done.stdout

    def in_terminal(self, command: str = str(RUN), *arguments: str) -> pexpect.spawn[str]:
        terminal = pexpect.spawn(
            command,
            list(arguments),
            env=self.environment,
            cwd="/",
            dimensions=(40, 140),
            encoding="utf-8",
            timeout=DEADLINE_S,
        )
        self.terminals.append(terminal)
        return terminal

    def show_terminals(self) -> None:
        """Print what nobody has read yet, for whoever looks at a test that failed."""
        for terminal in self.terminals:
            with contextlib.suppress(pexpect.EOF, pexpect.TIMEOUT):
                while not terminal.closed:
                    print(terminal.read_nonblocking(10_000, timeout=0))

    def hides_keys(self) -> bool:
        """Whether no temporary file holds the environment, keys among it."""
        files = [path for path in self.temporary.rglob("*") if path.is_file()]
        return not any(SECRET in path.read_text() for path in files)

    def is_quiet(self) -> bool:
        """Whether nothing listens on the cluster's ports."""
        for port in range(self.base_port, self.base_port + 4):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return False
        return True


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.show_terminals()
    machine.tmux("kill-server")
    wait_for(machine.is_quiet, "end of the cluster")
    assert machine.hides_keys()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {DEADLINE_S} s"
        time.sleep(0.05)


def test_help_names_every_way_to_run_it(machine: Machine) -> None:
    done = machine.run("help")
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("./run.sh test [--full]", "CONSENSUSLLM_BASE_PORT", "CONSENSUSLLM_DATA_DIR"):
        assert word in done.stdout


def test_an_unknown_command_is_misuse(machine: Machine) -> None:
    done = machine.run("tset")
    assert done.returncode == 2
    assert done.stderr.endswith("run.sh: unknown command 'tset': see the lines above\n")


def test_a_machine_without_python_is_told_what_to_install(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "cat", "cksum", "dirname"):
        found = shutil.which(tool)
        assert found
        (tools / tool).symlink_to(found)
    environment = {"PATH": str(tools), "CONSENSUSLLM_VENV": str(tmp_path / "venv")}
    done = subprocess.run([RUN], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr == (
        "run.sh: needs Python 3.10 or later with its venv module: "
        "install python3 and python3-venv\n"
    )


def test_an_environment_without_pip_that_is_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    program(venv / "bin" / "python", "false")
    for name in ("pyvenv.cfg", "mine"):
        (venv / name).write_text("mine\n")
    environment = {**os.environ, "CONSENSUSLLM_VENV": str(venv)}
    done = subprocess.run([RUN, "test"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr == (
        f"run.sh: {venv} has no pip that runs, and is not run.sh's own: mend it, or set "
        "CONSENSUSLLM_VENV\n"
    )
    assert (venv / "mine").exists()


def test_commands_from_a_pipe_run_on_a_cluster_that_ends_with_them(machine: Machine) -> None:
    done = machine.run(text="create c1\nchoose c1 7\n")
    assert "ready: 3 nodes, leader " in done.stdout
    assert done.returncode == 1, "the choice failed, and so the REPL's status is 1"
    assert machine.is_quiet()
    assert machine.run(text="view c1\n").returncode == 0, "what was created is there again"


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_tmux_shows_the_cluster_and_all_of_it_ends_with_the_repl(machine: Machine) -> None:
    for name in ("CONSENSUSLLM_DATA_DIR", "CONSENSUSLLM_VENV"):  # from where it is typed
        machine.environment[name] = machine.environment[name].removeprefix("/")
    machine.environment["CONSENSUSLLM_SESSION"] = "my.demo"  # tmux has no such name
    terminal = machine.in_terminal()
    titles = ["REPL", "launcher", "node 1", "node 2", "node 3"]

    def panes() -> list[str]:
        shown = machine.tmux("list-panes", "-s", "-F", "#{pane_active} #{pane_title}")
        return [line[2:] for line in shown.splitlines()]

    wait_for(lambda: sorted(panes()) == sorted(titles), "five panes")
    assert panes()[0] == "REPL"
    repl = machine.tmux("list-panes", "-s", "-F", "#{pane_id}").splitlines()[0]
    wait_for(lambda: "consensusllm>" in machine.tmux("capture-pane", "-p", "-t", repl), "prompt")
    terminal.send("create c1\r")
    wait_for(lambda: "c1 is created" in machine.tmux("capture-pane", "-p", "-t", repl), "answer")
    assert machine.hides_keys(), "also while the cluster runs"
    assert stat.S_IMODE(machine.data_dir.stat().st_mode) == 0o700
    terminal.send("exit\r")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    assert machine.is_quiet()
    assert machine.tmux("list-sessions") == ""


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_a_repl_that_is_interrupted_as_it_starts_ends_the_session(machine: Machine) -> None:
    """As by Ctrl-C, which its shell gets too."""
    path = Path(machine.environment["CONSENSUSLLM_VENV"]) / "bin" / "consensusllm"
    command = path.read_text().removeprefix("#!/bin/sh\n")
    path.write_text(f"#!/bin/sh\ncase $1 in repl) kill -INT 0 ;; esac\n{command}")
    terminal = machine.in_terminal()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 130
    assert machine.is_quiet()
    assert machine.tmux("list-sessions") == ""


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_a_cluster_that_cannot_start_says_why_when_tmux_is_gone(machine: Machine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", machine.base_port + 1))
        taken.listen()
        terminal = machine.in_terminal()
        terminal.expect(f"consensusllm: port {machine.base_port + 1}, meant for node 1, is in use")
        terminal.expect("run.sh: the cluster did not start: see the lines above")
        terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 1
    assert machine.tmux("list-sessions") == ""


def a_server_that_takes_its_time_to_end(machine: Machine, directory: Path) -> None:
    """Whoever comes to tmux's server once its last session was ended is turned away one time."""
    tmux, going = shutil.which("tmux"), directory / "going"
    (directory / "bin").mkdir()
    wrapper = directory / "bin" / "tmux"
    wrapper.write_text(
        "#!/bin/bash\n"
        f'case $1 in kill-session) {tmux} "$@"; status=$?; touch {going}; exit $status ;;\n'
        f"    list-sessions | new-session) if [ -e {going} ]; then\n"
        f"        rm {going}; echo server exited unexpectedly >&2; exit 1; fi ;;\n"
        f'esac\nexec {tmux} "$@"\n'
    )
    wrapper.chmod(0o755)
    machine.environment["PATH"] = f"{wrapper.parent}:{os.environ['PATH']}"


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_tmux_session_that_was_left_is_ended_first(machine: Machine, tmp_path: Path) -> None:
    a_server_that_takes_its_time_to_end(machine, tmp_path)
    first = machine.in_terminal()
    wait_for(lambda: "REPL" in machine.tmux("list-panes", "-s", "-F", "#{pane_title}"), "REPL")
    wait_for(lambda: machine.tmux("list-clients") != "", "client")
    machine.tmux("detach-client", "-s", "consensusllm")
    first.expect("detached; the cluster goes on")
    first.expect(pexpect.EOF)
    first.close()
    assert not machine.is_quiet()
    assert list(machine.temporary.iterdir()) == [], "nobody is there to remove it later"
    second = machine.in_terminal()
    second.expect("ending the session 'consensusllm' that was left from before")
    wait_for(lambda: machine.tmux("list-clients") != "", "client")
    second.close(force=True)
    wait_for(machine.is_quiet, "end of the cluster with its terminal")


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_a_session_that_is_ended_while_it_starts_ends_what_waits_for_it(
    machine: Machine, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    program(tmp_path / "venv" / "bin" / "consensusllm", "sh", "-c", f"touch {started}; sleep 60")
    terminal = machine.in_terminal()
    wait_for(started.exists, "launcher")
    machine.tmux("kill-session", "-t", "=consensusllm")
    terminal.expect("the session 'consensusllm' was ended from elsewhere: run this again")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 1


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_who_is_in_tmux_already_sees_the_demo_and_comes_back_to_where_they_were(
    machine: Machine,
) -> None:
    terminal = machine.in_terminal("tmux", "new-session", "-s", "own", "bash --norc")
    shell = "=own:"

    def shown(pane: str) -> str:
        return machine.tmux("capture-pane", "-p", "-t", pane)

    def where() -> str:
        return machine.tmux("list-clients", "-F", "#{session_name}").strip()

    wait_for(lambda: where() == "own" and shown(shell).strip() != "", "a shell in tmux")
    terminal.send(f"{RUN}\r")
    wait_for(lambda: where() == "consensusllm", "the demo in the same terminal")
    wait_for(lambda: "consensusllm>" in shown("=consensusllm:"), "prompt")
    terminal.send("exit\r")
    wait_for(lambda: where() == "own", "the shell that was left")
    wait_for(machine.is_quiet, "end of the cluster")
    assert machine.tmux("list-sessions", "-F", "#{session_name}").split() == ["own"]
    machine.tmux("kill-server")
    terminal.close(force=True)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_a_tmux_that_nobody_is_attached_to_shows_the_demo_in_the_pane_it_was_started_in(
    machine: Machine,
) -> None:
    machine.tmux("new-session", "-d", "-s", "own", "-x", "160", "-y", "45", "bash --norc")

    def shown() -> str:
        return machine.tmux("capture-pane", "-p", "-t", "=own:")

    def type_in(text: str) -> None:
        machine.tmux("send-keys", "-t", "=own:", text, "Enter")

    wait_for(lambda: shown().strip() != "", "a shell in tmux")
    type_in(f"{RUN}; echo back with $?")
    wait_for(lambda: "consensusllm>" in shown(), "prompt")
    type_in("create c1")
    wait_for(lambda: "c1 is created" in shown(), "answer")
    type_in("exit")
    wait_for(lambda: "back with 0" in shown(), "the shell that was left")
    assert machine.tmux("list-sessions", "-F", "#{session_name}").split() == ["own"]
