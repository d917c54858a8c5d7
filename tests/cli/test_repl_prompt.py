"""The prompt, driven through a pseudo-terminal as a person would."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

ROOT = Path(__file__).parents[2]
ESCAPE_ENTER = "\x1b\r"

PROMPT = "consensusllm>"
_WHERE_IS_THE_CURSOR = "\x1b[6n"


class Terminal:
    """A child on a pseudo-terminal that says where its cursor is, as terminals do when asked."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._child: pexpect.spawn[str] = pexpect.spawn(
            sys.executable,
            ["-m", "tests.cli.repl_child"],
            cwd=str(ROOT),
            env=environment,  # type: ignore[arg-type]
            encoding="utf-8",
            dimensions=(40, 120),
            timeout=60,
        )
        self.seen = ""

    def expect(self, text: str) -> None:
        while self._child.expect_exact([text, _WHERE_IS_THE_CURSOR]) == 1:
            self.seen += self._child.before or ""
            self._child.send("\x1b[1;1R")
        self.seen += self._child.before or ""

    def shows(self, text: str) -> None:
        """Wait until ``text`` is in the bottom line. Where another was drawn before, only what
        differs is; so all is drawn anew."""
        answers = [text, _WHERE_IS_THE_CURSOR, "looking for the cluster…"]
        found = 2
        while found:
            if found == 2:
                self.send("\x0c")
            found = self._child.expect_exact(answers)
            self.seen += self._child.before or ""
            if found == 1:
                self._child.send("\x1b[1;1R")

    def send(self, keys: str) -> None:
        self._child.send(keys)

    def run(self, line: str, expected: str) -> None:
        """Type ``line`` at a prompt that is already there, and wait for the next one."""
        self.send(line + "\r")
        self.expect(expected)
        self.expect(PROMPT)

    def status(self) -> int | None:
        """Wait for the end of the process."""
        self._end()
        return self._child.exitstatus

    def killed(self, number: signal.Signals) -> bool:
        """Whether the process dies of the signal, which is sent to it."""
        self._child.kill(number)
        self._end()
        return self._child.signalstatus == number

    def _end(self) -> None:
        while self._child.expect_exact([pexpect.EOF, _WHERE_IS_THE_CURSOR]) == 1:
            self._child.send("\x1b[1;1R")
        self.seen += self._child.before or ""
        self._child.wait()

    def close(self) -> None:
        self._child.close(force=True)


Start = Callable[[], Terminal]


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history"


@pytest.fixture
def start(history: Path) -> Iterator[Start]:
    """Starts a REPL and waits for its prompt; all are ended at the end of the test."""
    terminals: list[Terminal] = []
    environment = {
        **os.environ,
        "CONSENSUSLLM_HISTORY": str(history),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *(path for path in sys.path if path)]),
        "TERM": "xterm-256color",
    }

    def spawn() -> Terminal:
        terminal = Terminal(environment)
        terminals.append(terminal)
        terminal.expect("help lists the commands")
        terminal.expect(PROMPT)
        return terminal

    yield spawn
    for terminal in terminals:
        terminal.close()


def test_the_bottom_line_shows_leader_ballot_commit_and_links(start: Start) -> None:
    terminal = start()
    terminal.shows("leader 2 · ballot 5.2 · commit 57 · nodes")
    terminal.expect("3●")


def test_tab_completes_commands_conversations_and_nodes(start: Start) -> None:
    terminal = start()
    terminal.shows("leader 2")  # by now the nodes have been asked
    for typed, completed in (("ren", "ame"), (" pax", "os-notes")):
        terminal.send(typed + "\t")
        terminal.expect(completed)
    terminal.run(" other", "paxos-notes is now other")
    terminal.send("fixN\t")
    terminal.expect("ode")
    terminal.run(" 3", "did fix_node")


def test_history_survives_and_is_only_its_owners(start: Start, history: Path) -> None:
    terminal = start()
    terminal.run("create remembered", "remembered is created")
    terminal.send("exit\r")
    assert terminal.status() == 0
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    again = start()
    again.send("\x1b[A\x1b[A")  # up, up: exit was the last, create the one before it
    again.expect("create remembered")
    again.run("", "remembered is created")


def test_a_question_goes_over_lines_by_escape_enter_and_by_blocks(start: Start) -> None:
    terminal = start()
    terminal.run("create c1", "c1 is created")
    terminal.run(f"query c1 one{ESCAPE_ENTER}two", "keeps an answer")
    terminal.run('query c1 """\rthree\rfour\r"""', "keeps an answer")
    terminal.send("export c1\r")
    terminal.expect('"question": "one\\ntwo"')
    terminal.expect('"question": "three\\nfour"')


def test_commands_that_are_pasted_are_run_one_by_one_once_enter_is_pressed(start: Start) -> None:
    terminal = start()
    terminal.send("\x1b[200~set k a value\rget k\rcreate c1\x1b[201~")
    terminal.expect("create c1")
    assert "is set" not in terminal.seen
    terminal.run("", "k is set")
    terminal.run("view c1", "0 turns")
    terminal.run("get k", "a value")


def test_ctrl_c_cancels_the_turn_and_the_prompt_goes_on(start: Start) -> None:
    terminal = start()
    terminal.run("create c1", "c1 is created")
    terminal.send("query c1 hold on\r")
    terminal.expect("a beginning")
    terminal.send("\x03")
    terminal.expect("turn 1 of c1 is cancelled: view c1 shows what there is")
    terminal.expect(PROMPT)
    terminal.run("view c1", "closed, nothing chosen yet")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_end_while_a_turn_is_watched_gives_the_terminal_back(
    start: Start, number: signal.Signals
) -> None:
    terminal = start()
    terminal.run("create c1", "c1 is created")
    terminal.send("query c1 hold on\r")
    terminal.expect("a beginning")
    terminal.seen = ""
    assert terminal.killed(number)
    assert "turn 1 of c1 is cancelled" in terminal.seen
    shown, hidden = "\x1b[?25h", "\x1b[?25l"
    assert terminal.seen.rfind(shown) > terminal.seen.rfind(hidden)
    assert "Traceback" not in terminal.seen


def test_sigterm_at_the_prompt_ends_it(start: Start) -> None:
    terminal = start()
    assert terminal.killed(signal.SIGTERM)
    assert "Traceback" not in terminal.seen


def test_ctrl_c_at_the_prompt_clears_the_line(start: Start) -> None:
    terminal = start()
    terminal.send("create unwanted")
    terminal.expect("unwanted")
    terminal.send("\x03")
    terminal.expect(PROMPT)
    terminal.run("view unwanted", "there is no conversation 'unwanted'")


def test_an_error_is_one_line_and_the_prompt_goes_on(start: Start) -> None:
    terminal = start()
    terminal.run("quary c1 x", "unknown command 'quary': did you mean query?")
    terminal.run("failNode abc", "failNode: 'abc' is not a node: give one of 1, 2, 3")
    assert "Traceback" not in terminal.seen


def test_ctrl_d_leaves_with_status_0(start: Start) -> None:
    terminal = start()
    terminal.run("create c1", "c1 is created")
    terminal.send("\x04")
    assert terminal.status() == 0
    assert "Traceback" not in terminal.seen
