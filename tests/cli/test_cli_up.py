"""``up``: what it refuses before anything runs, and how a cluster of fake nodes lives and ends."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest
from click.testing import CliRunner

from consensusllm.config import demo_config, demo_document
from consensusllm.orchestrator import FaultRefused, FaultsClient
from consensusllm_cli.formation import Formation
from consensusllm_cli.main import run

FAKE_CLUSTER = Path(__file__).with_name("fake_cluster.py")
DEADLINE_S = 60.0


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {DEADLINE_S} s"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Whether the process runs; one that nobody has collected yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def children_of(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def free_base_port() -> int:
    """A port with four free ones above it."""
    for base in range(20_000 + os.getpid() % 8000, 32_000, 5):
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for port in range(base, base + 5):
                taken = held.enter_context(socket.socket())
                taken.bind(("127.0.0.1", port))
            return base
    raise AssertionError("no free ports")


class Fakes:
    """A launcher process whose three nodes are fake, in a directory of its own."""

    def __init__(self, directory: Path, *, direct: bool = True) -> None:
        self.base_port = free_base_port()
        self.directory = directory
        self.config = directory / "config.json"
        document = demo_document(3, self.base_port, directory, direct)
        self.config.write_text(json.dumps(document))
        self.command = [sys.executable, str(FAKE_CLUSTER), str(self.config), str(directory)]
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        return self.process

    def ready_line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def pids(self) -> list[int]:
        """The pids of the three nodes, once all of them run."""
        places = [self.directory / f"node-{number}" for number in (1, 2, 3)]
        wait_for(lambda: all(place.exists() for place in places), "three nodes")
        return [int(place.read_text()) for place in places]

    def gone(self, pids: list[int]) -> None:
        wait_for(lambda: not any(map(lives, pids)), "end of the children")

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        for number in (1, 2, 3, 4):  # those that a failing test left
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int((self.directory / f"node-{number}").read_text()), signal.SIGKILL)


@pytest.fixture
def fakes(tmp_path: Path) -> Iterator[Fakes]:
    fakes = Fakes(tmp_path)
    yield fakes
    fakes.end()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)]
)
def test_up_says_when_there_is_a_leader_and_ends_all_on_a_signal(
    fakes: Fakes, number: signal.Signals, status: int
) -> None:
    launcher = fakes.start()
    assert fakes.ready_line() == (
        f"ready: 3 nodes, leader 2, direct links, faults 127.0.0.1:{fakes.base_port}\n"
    )
    pids = fakes.pids()
    launcher.send_signal(number)
    assert launcher.wait(DEADLINE_S) == status
    fakes.gone(pids)


def test_the_children_end_when_the_launcher_is_killed(fakes: Fakes) -> None:
    launcher = fakes.start()
    pids = fakes.pids()
    launcher.kill()
    launcher.wait(DEADLINE_S)
    fakes.gone(pids)


def test_the_children_end_with_the_terminal(fakes: Fakes) -> None:
    launcher, terminal = pty.fork()
    if launcher == 0:
        os.execv(sys.executable, fakes.command)
    pids = fakes.pids()
    os.close(terminal)
    fakes.gone(pids)
    os.waitpid(launcher, 0)


async def test_fault_commands_kill_and_start_nodes_for_real(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, direct=False)
    fakes.start()
    try:
        assert fakes.ready_line() == (
            f"ready: 3 nodes, leader 2, orchestrator 127.0.0.1:{fakes.base_port}\n"
        )
        old = fakes.pids()
        async with FaultsClient(f"127.0.0.1:{fakes.base_port}") as faults:
            await faults.fail_node(2)
            assert [lives(pid) for pid in old] == [True, False, True]
            await faults.fix_node(2)
        new = fakes.pids()
        assert (new[0], new[2]) == (old[0], old[2])
        assert new[1] != old[1]
        assert lives(new[1])
    finally:
        fakes.end()
    fakes.gone(new)


async def test_a_node_that_could_not_be_remembered_is_when_it_is_asked_for_again(
    fakes: Fakes,
) -> None:
    launcher = fakes.start()
    assert fakes.ready_line().startswith("ready: ")
    address = f"127.0.0.1:{fakes.base_port + 4}"
    async with FaultsClient(f"127.0.0.1:{fakes.base_port}") as faults:
        with pytest.raises(FaultRefused, match="the disk is full"):
            await faults.install_node(4, address)
        assert await faults.install_node(4, address) == f"node 4 is started at {address}"
    pids = [*fakes.pids(), int((fakes.directory / "node-4").read_text())]
    launcher.send_signal(signal.SIGTERM)
    output, _ = launcher.communicate(timeout=DEADLINE_S)
    assert output == f"kept: {{4: '{address}'}}\n"
    fakes.gone(pids)


async def test_a_node_that_did_not_become_a_member_is_forgotten_and_can_be_started_anew(
    fakes: Fakes,
) -> None:
    launcher = fakes.start()
    assert fakes.ready_line().startswith("ready: ")
    address = f"127.0.0.1:{fakes.base_port + 4}"
    place = fakes.directory / "node-4"
    async with FaultsClient(f"127.0.0.1:{fakes.base_port}") as faults:
        with contextlib.suppress(FaultRefused):  # once there is no room to remember it
            await faults.install_node(4, address)
        await faults.install_node(4, address)
        first = int(place.read_text())
        await faults.retire_node(4, reusable=True)
        assert not lives(first)
        with pytest.raises(FaultRefused, match="node 3 was no new one"):
            await faults.retire_node(3, reusable=True)
        await faults.install_node(4, address)
        second = int(place.read_text())
        assert lives(second)
        await faults.retire_node(4)
        with pytest.raises(FaultRefused, match="node 4 was removed, and its number is never used"):
            await faults.install_node(4, address)
    launcher.send_signal(signal.SIGTERM)
    output, _ = launcher.communicate(timeout=DEADLINE_S)
    there, gone = f"kept: {{4: '{address}'}}", "kept: {}"
    assert output.splitlines()[:3] == [there, gone, there]
    assert not lives(second)


async def test_a_member_of_the_launchers_own_cluster_is_not_ended_for_good(fakes: Fakes) -> None:
    fakes.start()
    assert fakes.ready_line().startswith("ready: ")
    pids = fakes.pids()
    address = f"127.0.0.1:{fakes.base_port}"
    async with FaultsClient(address, cluster_id="another") as faults:
        with pytest.raises(FaultRefused, match="of cluster 'demo', not 'another'"):
            await faults.retire_node(3)
    async with FaultsClient(address, cluster_id="demo") as faults:  # as many a cluster is called
        with pytest.raises(
            FaultRefused,
            match="node 3 of this launcher's cluster 'demo' is a member still: if that is the one",
        ):
            await faults.retire_node(3)
        assert all(map(lives, pids))
        await faults.fail_node(3)
        await faults.fix_node(3)  # its number is not lost


async def test_who_is_a_member_is_not_decided_without_a_node_that_answers(fakes: Fakes) -> None:
    fakes.start()
    assert fakes.ready_line().startswith("ready: ")
    pids = fakes.pids()
    async with FaultsClient(f"127.0.0.1:{fakes.base_port}") as faults:
        await faults.fail_node(2)
        with pytest.raises(FaultRefused, match="no node leads here that could say whether node 3"):
            await faults.retire_node(3)
    assert lives(pids[2])


def test_a_full_disk_does_not_fail_a_session_that_went_well(fakes: Fakes) -> None:
    (fakes.directory / "launcher.log").symlink_to("/dev/full")
    done = subprocess.run(
        [*fakes.command, "--repl"],
        input="failNode 3\nexit\n",
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert "node 3 is dead and stays down until fixNode 3\n" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


async def test_the_warnings_of_a_node_that_joins_are_shown_as_the_others_are(fakes: Fakes) -> None:
    launcher = fakes.start()
    assert fakes.ready_line().startswith("ready: ")
    async with FaultsClient(f"127.0.0.1:{fakes.base_port}") as faults:
        with contextlib.suppress(FaultRefused):
            await faults.install_node(4, f"127.0.0.1:{fakes.base_port + 4}")
    assert launcher.stderr is not None
    errors = launcher.stderr.fileno()
    os.set_blocking(errors, False)
    shown = bytearray()

    def is_shown() -> bool:
        with contextlib.suppress(BlockingIOError):
            shown.extend(os.read(errors, 4096))
        return b"consensusllm: node-4: [warning  ] a slow disk\n" in shown

    wait_for(is_shown, "warning of node 4")


def test_a_node_that_dies_by_itself_is_reported_with_the_remedy(fakes: Fakes) -> None:
    launcher = fakes.start()
    fakes.ready_line()
    pids = fakes.pids()
    os.kill(pids[2], signal.SIGKILL)
    assert launcher.stderr is not None
    line = launcher.stderr.readline()
    assert line.startswith("consensusllm: node 3 was killed by SIGKILL: ")
    assert line.endswith("start it again with `fixNode 3` in the REPL\n")


def test_the_end_of_the_orchestrator_is_the_end_of_the_cluster(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, direct=False)
    launcher = fakes.start()
    try:
        fakes.ready_line()
        pids = fakes.pids()
        [orchestrator] = children_of(launcher.pid) - set(pids)
        os.kill(orchestrator, signal.SIGKILL)
        _, errors = launcher.communicate(timeout=DEADLINE_S)
        assert launcher.returncode == 1
        assert errors.splitlines()[-1].startswith("consensusllm: the orchestrator died")
        fakes.gone(pids)
    finally:
        fakes.end()


def test_the_end_of_the_orchestrator_ends_the_repl_too_and_the_terminal_is_as_before(
    tmp_path: Path,
) -> None:
    fakes = Fakes(tmp_path, direct=False)
    command = f"{shlex.join([*fakes.command, '--repl'])} & echo launcher $!; fg; stty -a"
    terminal = pexpect.spawn(
        "bash",
        ["--norc", "-m", "-c", command],
        env={**os.environ, "TERM": "xterm", "CONSENSUSLLM_HISTORY": str(tmp_path / "history")},
        dimensions=(40, 140),
        encoding="utf-8",
        timeout=DEADLINE_S,
    )
    try:
        terminal.expect(r"launcher (\d+)")
        launcher = int(terminal.match.group(1))
        terminal.expect_exact("consensusllm>")
        pids = fakes.pids()
        [orchestrator] = [
            child
            for child in children_of(launcher) - set(pids)
            if b"\0orchestrator\0" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
        os.kill(orchestrator, signal.SIGKILL)
        terminal.expect(r"\nconsensusllm: the orchestrator died, so the cluster was ended: start")
        terminal.expect(r" icanon .* echo ")
        terminal.expect(pexpect.EOF)
        fakes.gone(pids)
    finally:
        terminal.close(force=True)
        fakes.end()


# Before anything is started -------------------------------------------------------------------


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = run(["up", *arguments])
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("\n") == 1
    return status, errors.removeprefix("consensusllm: ").rstrip("\n")


def test_a_port_in_use_is_named_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = free_base_port()
    with socket.create_server(("127.0.0.1", base + 2)):
        data = tmp_path / "data"
        status, line = refusal(capsys, "--base-port", str(base), "--data-dir", str(data))
    assert status == 1
    assert line == (
        f"port {base + 2}, meant for node 2, is in use: "
        "stop what listens there, or choose another with --base-port"
    )
    assert not (data / "cluster.json").exists()


def test_the_ports_that_must_be_free_are_those_of_the_members_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = free_base_port()
    joined = base + 4
    formation = Formation(tmp_path)
    formation.form(demo_config(base_port=base, data_dir=tmp_path))
    record = formation.formed()
    assert record is not None
    formation.keep(replace(record, joined={4: f"127.0.0.1:{joined}"}, retired=(2,)))
    formation.release()
    with (
        socket.create_server(("127.0.0.1", base + 2)),
        socket.create_server(("127.0.0.1", joined)),
    ):
        _, line = refusal(capsys, "--base-port", str(base), "--data-dir", str(tmp_path))
    assert line == (
        f"port {joined}, meant for node 4, is in use: "
        "stop what listens there, for it joined with that port, and keeps it"
    )


def test_a_node_that_joined_shares_no_port_with_one_of_another_base_port(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = free_base_port()
    formation = Formation(tmp_path)
    formation.form(demo_config(base_port=base + 9, data_dir=tmp_path))
    record = formation.formed()
    assert record is not None
    formation.keep(replace(record, joined={4: f"127.0.0.1:{base + 2}"}))
    formation.release()
    for port, other in ((base, "node 2"), (base + 2, "the orchestrator")):
        status, line = refusal(capsys, "--base-port", str(port), "--data-dir", str(tmp_path))
        assert status == 1
        assert line == (
            f"node 4 joined with port {base + 2}, which {other} would have: "
            "choose another with --base-port"
        )


def test_the_working_directory_is_part_of_the_data_directorys_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "${HOME}x"
    place.mkdir()
    monkeypatch.chdir(place)
    for arguments in ((), ("--data-dir", "data")):
        status, line = refusal(capsys, "--base-port", str(free_base_port()), *arguments)
        assert status == 2
        assert line.startswith("--data-dir needs the name of a directory, without ${; ")
        assert f"{place}" in line
    assert list(place.iterdir()) == []


def test_a_data_directory_needs_a_name_that_means_the_same_everywhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("", "${HOME}x"):
        status, line = refusal(capsys, "--data-dir", name)
        assert status == 2
        assert line.startswith("--data-dir needs the name of a directory, without ${; ")


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("--data-dir", "move it away, or use another --data-dir"),
        ("--log-dir", "another with --log-dir"),
    ],
)
def test_a_file_in_place_of_a_directory_is_named_with_the_remedy(
    option: str, remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    options = {"--data-dir": str(tmp_path / "data"), option: str(tmp_path / "file")}
    given = [word for pair in options.items() for word in pair]
    _, line = refusal(capsys, "--base-port", str(free_base_port()), *given)
    assert line.startswith(f"{tmp_path / 'file'}: File exists: ")
    assert line.endswith(remedy)


def test_a_data_directory_of_another_launcher_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = Formation(tmp_path)
    status, line = refusal(capsys, "--data-dir", str(tmp_path))
    holder.release()
    assert status == 1
    assert line.startswith(f"{tmp_path} is in use by another launcher (process {os.getpid()}): ")


def test_a_foreign_address_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = demo_document(1, free_base_port(), tmp_path)
    document["nodes"][0]["address"] = "192.0.2.1:5101"
    path = tmp_path / "c.json"
    path.write_text(json.dumps(document))
    status, line = refusal(capsys, "--config", str(path))
    assert status == 1
    assert line.startswith("192.0.2.1:5101, meant for node 1, cannot be served from this")


def test_the_data_directory_may_come_from_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", str(tmp_path / "there"))
    path = tmp_path / "c.json"
    path.write_text(json.dumps(demo_document(1, free_base_port(), "${PLACE}")))
    holder = Formation(tmp_path / "there")
    _, line = refusal(capsys, "--config", str(path))
    holder.release()
    assert line.startswith(f"{tmp_path / 'there'} is in use by another launcher")


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--nodes", "10"), "Invalid value for '--nodes': 10 is not in the range 1<=x<=9"),
        (("--nodes", "0"), "Invalid value for '--nodes': 0 is not in the range 1<=x<=9"),
        (("--base-port", "65530"), "Invalid value for '--base-port'"),
        (("--config", "c.json", "--nodes", "3"), "--nodes cannot go with --config"),
        (("--config", "/no/such/file"), "/no/such/file: cannot be read: No such file"),
    ],
)
def test_misuse_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], fault: str
) -> None:
    status, line = refusal(capsys, *arguments)
    assert status == 2
    assert line.startswith(fault)


def test_up_has_help() -> None:
    from consensusllm_cli.up import up

    text = CliRunner().invoke(up, ["--help"]).output
    for option in ("--config", "--nodes", "--data-dir", "--base-port", "--direct", "--repl"):
        assert option in text
