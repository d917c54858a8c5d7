"""Lines that nobody types: pipes, scripts and -c, and the exit status that they end with."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from consensusllm_cli.repl import command, lines, repl
from consensusllm_cli.repl.lexer import Misuse
from consensusllm_cli.repl.lines import join_blocks, read_lines
from consensusllm_cli.repl.table import TABLE
from tests.cli.repl_fakes import FakeCluster, connected


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    cluster = FakeCluster()
    monkeypatch.setattr(command, "connect_to", connected(cluster))
    return cluster


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(repl, arguments, input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def calls(cluster: FakeCluster) -> list[Any]:
    """What was asked of the client, without the connecting."""
    return cluster.calls[1:]


def test_piped_lines_are_run_and_not_echoed(cluster: FakeCluster) -> None:
    result = run(stdin="# a comment\n\ncreate c1\n  rename c1 c2\nset k v")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "c1 is created: ask with query c1 QUESTION\nc1 is now c2\nk is set\n"


def test_a_failure_does_not_stop_the_lines_after_it(cluster: FakeCluster) -> None:
    result = run(stdin="view c1\ncreate c1\n")
    assert result.exit_code == 1
    assert result.stderr == "view: there is no conversation 'c1': check its id\n"
    assert calls(cluster) == [("view", "c1"), ("create", "c1")]


def test_misuse_is_status_2_whatever_else_failed(cluster: FakeCluster) -> None:
    assert run(stdin="creat c1\n").exit_code == 2
    assert run(stdin="view c9\nfailNode abc\nview c9\nhelp\n").exit_code == 2


def test_exit_ends_the_lines_with_the_status_so_far(cluster: FakeCluster) -> None:
    assert run(stdin="exit\nview c9\n").exit_code == 0
    result = run(stdin="view c9\nquit\ncreate c1\n")
    assert result.exit_code == 1
    assert "c1" not in cluster.held


def test_commands_of_the_option_are_run_in_order(cluster: FakeCluster) -> None:
    result = run("-c", "create c1", "-c", 'query c1 """a\nb"""', stdin="create c2\n")
    assert result.exit_code == 0
    assert calls(cluster)[:2] == [("create", "c1"), ("ask", "c1", "a\nb")]
    assert "c2" not in cluster.held
    assert run("-c", "create c1", "-c", "create c3").exit_code == 1
    assert "c3" in cluster.held


def test_a_script_is_run_and_its_errors_say_where(cluster: FakeCluster, tmp_path: Path) -> None:
    script = tmp_path / "script.txt"
    script.write_bytes("\ufeffcreate c1\r\nquery c1 Größe?\r\n\nview c9\nxyzzy\n".encode())
    result = run(str(script))
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"{script}:4: view: there is no conversation 'c9': check its id",
        f"{script}:5: unknown command 'xyzzy': help lists them",
    ]
    assert calls(cluster)[1] == ("ask", "c1", "Größe?")


@pytest.mark.parametrize(
    "arguments", [["/no/such/script"], ["-c", "help", __file__], ["--node", "0"]]
)
def test_a_bad_command_line_is_status_2(cluster: FakeCluster, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2
    assert cluster.calls == []


def test_a_block_goes_over_lines_and_is_unchanged(cluster: FakeCluster) -> None:
    block = "  two  blanks\n\n# no comment\n\tcreate c9 名前 🙂\\n"
    result = run(stdin=f'create c1\nquery c1 """\n{block}\n"""\nset k after\n')
    assert result.exit_code == 0
    assert ("ask", "c1", block) in cluster.calls
    assert cluster.values == {"k": b"after"}


def test_a_block_that_never_ends_is_misuse(cluster: FakeCluster) -> None:
    result = run(stdin='create c1\nquery c1 """\nmore\n')
    assert result.exit_code == 2
    assert result.stderr == 'the """ block of line 2 is not closed\n'


def test_a_line_that_is_not_utf8_is_misuse_and_the_next_one_is_run(cluster: FakeCluster) -> None:
    result = run(stdin=b"create \xff\ncreate c1\n")
    assert (result.exit_code, result.stderr) == (2, "line 1 is not UTF-8 text\n")
    assert "c1" in cluster.held


@pytest.mark.parametrize("bad", [2, 3])
def test_nothing_of_a_block_with_a_line_that_is_not_utf8_is_run(
    cluster: FakeCluster, bad: int
) -> None:
    lines = [b"create c1", b'query c1 """', b"why?", b"delete c1", b'"""', b"create c2"]
    lines[bad - 1] += b" \xff"
    result = run(stdin=b"\n".join(lines))
    assert (result.exit_code, result.stderr) == (2, f"line {bad} is not UTF-8 text\n")
    assert set(cluster.held) == {"c1", "c2"}
    assert not any(name == "ask" for name, *_ in cluster.calls)


def test_node_and_cluster_are_handed_on(cluster: FakeCluster) -> None:
    assert run("--node", "2", "--connect", "127.0.0.1:7001", "-c", "help").exit_code == 0
    name, addresses, node = cluster.calls[0]
    assert (name, addresses.nodes, node) == ("connect", ("127.0.0.1:7001",), 2)


async def test_lines_come_as_they_are_written_to_a_pipe() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        lines = join_blocks(TABLE, read_lines(stream))
        os.write(writing, "create c1\ncreate ü".encode()[:-1])
        assert await anext(lines) == (1, "create c1")
        following = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)
        assert not following.done()
        os.write(writing, "ü".encode()[1:] + b"\n")
        assert await following == (2, "create ü")
        os.close(writing)
        with pytest.raises(StopAsyncIteration):
            await anext(lines)


async def test_only_a_newline_ends_a_line() -> None:
    text = "set k a\u2028b\x0bc\x85d"
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        lines: list[tuple[int, str | Misuse]] = [each async for each in read_lines(stream)]
    assert lines == [(1, text)]


async def test_a_line_without_an_end_is_no_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_BYTES_MAX", 1 << 20)
    endless = io.BytesIO(bytes(4 << 20))
    got = [(number, str(line)) async for number, line in read_lines(endless)]
    assert got == [(1, "line 1 has more than 1048576 bytes")]
    assert endless.tell() < 2 << 20, "it is not read to its end"
