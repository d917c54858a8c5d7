"""The terminal's mode while something is drawn on it."""

from __future__ import annotations

import io
import os
import pty
import termios

import pytest

from consensusllm_cli.terminal import leave_prompt, undisturbed


def test_while_it_is_drawn_on_keys_do_not_show_and_ctrl_c_throws_nothing_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    master, slave = pty.openpty()
    with os.fdopen(master, "rb", buffering=0), os.fdopen(slave, "rb", buffering=0) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        before = termios.tcgetattr(stdin)
        with undisturbed():
            during = termios.tcgetattr(stdin)[3]
            assert not during & termios.ECHO
            assert during & termios.NOFLSH
            assert during & termios.ISIG
        assert termios.tcgetattr(stdin) == before


def test_what_is_no_terminal_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stdin in (io.StringIO(), None):
        monkeypatch.setattr("sys.stdin", stdin)
        with undisturbed():
            pass
    leave_prompt()
    assert capsys.readouterr().out == ""
