"""Files that a line names: homes, pipes, and what is no file."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
from pathlib import Path

import pytest
from prompt_toolkit.history import InMemoryHistory

from consensusllm_cli.repl.history import history_path, open_history
from tests.cli.desk import Desk

pytestmark = pytest.mark.timeout(60)

LONG = "x" * (1 << 20)
"""More than a pipe holds."""


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    return pipe


@pytest.mark.parametrize("line", ["import {}", "export c1 {}", "query c1 --file {} Why?"])
async def test_a_home_that_there_is_not_is_one_line(desk: Desk, line: str) -> None:
    assert (await desk.failed(line.format("~nosuch/x"))).endswith(
        ": ~nosuch/x: there is no such home: write the path in full"
    )


async def test_a_tilde_is_the_home_wherever_a_file_is_named(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    await desk.done("export c1 ~/c1.json", "import ~/c1.json c2", "query c2 --file ~/c1.json Why?")
    assert (tmp_path / "c1.json").exists()


def test_who_has_no_home_has_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "CONSENSUSLLM_HISTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert history_path() is None
    assert isinstance(open_history(None), InMemoryHistory)


async def test_a_conversation_goes_through_a_pipe(desk: Desk, pipe: Path) -> None:
    await desk.done(f"query c1 {LONG}")
    other = Desk()
    importing = asyncio.create_task(other.done(f"import {pipe} c2"))
    await asyncio.sleep(0)  # it has opened the pipe by now, and waits
    assert await desk.done(f"export c1 {pipe}") == f"c1 is written to {pipe}\n"
    assert await importing == f"c2 is imported from {pipe}\n"
    assert other.cluster.held["c2"][0].question == LONG


async def test_a_pipe_that_nobody_reads_is_one_line(desk: Desk, pipe: Path) -> None:
    assert (await desk.failed(f"export c1 {pipe}")).endswith(
        ": name a file, or a pipe that somebody reads"
    )


async def test_a_link_stays_one_and_a_file_keeps_its_readers(desk: Desk, tmp_path: Path) -> None:
    await desk.done(f"query c1 {LONG}")
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real)
    await desk.done(f"export c1 {link}")
    assert link.is_symlink()
    assert LONG in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o600
    new = tmp_path / "new.json"
    await desk.done(f"export c1 {new}")
    assert new.stat().st_mode & 0o777 == 0o666 & ~_umask()


async def test_an_open_file_of_ones_own_is_written_into(desk: Desk, tmp_path: Path) -> None:
    """As /dev/stdout is one, where the output goes to a file."""
    await desk.done(f"query c1 {LONG}")
    out, stdout = tmp_path / "out.json", tmp_path / "stdout"
    with out.open("w") as file:
        stdout.symlink_to(f"/proc/self/fd/{file.fileno()}")
        await desk.done(f"export c1 {stdout}")
        file.write("and more\n")
    assert stdout.is_symlink()
    *document, more = out.read_text().splitlines()
    assert more == "and more"
    assert LONG in str(json.loads("".join(document)))


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


async def test_a_directory_is_no_file(desk: Desk, tmp_path: Path) -> None:
    assert await desk.failed(f"import {tmp_path}") == f"import: {tmp_path}: Is a directory"
    assert (await Desk().failed(f"export c1 {tmp_path}")).startswith(
        f"export: {tmp_path}: Is a directory"
    )
