"""What a person sees of a drill: progress, the verdict, and the REPL's command."""

from __future__ import annotations

import io
import json
import resource
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from consensusllm.drills import Figures, Judgement, Outcome, find, run_drill, shipped
from consensusllm_cli import drill as drill_module
from consensusllm_cli.drill import Lines, verdict_lines
from consensusllm_cli.main import run

PASSED = Judgement("leader-crash", 7, (), Figures(120, 117, 1, 2, 845, 2, 9, 1, 12.5))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_line_a_step_where_nobody_looks() -> None:
    stream = io.StringIO()
    with Lines(stream) as lines:
        lines.count(0, 4, 10)
        lines.line(1.5, "failNode leader: node 1 was killed")
        lines.count(1, 4, 20)
    assert stream.getvalue() == "   1.50 s  failNode leader: node 1 was killed\n"


def test_progress_has_a_bar_below_the_lines_on_a_terminal() -> None:
    stream = Terminal()
    with Lines(stream) as lines:
        lines.count(1, 4, 20)
        lines.line(1.5, "heal: every fault is lifted")
    erase, bar = "\r\x1b[K", "[######..................] step 1 of 4, 20 operations"
    line = "   1.50 s  heal: every fault is lifted\n"
    assert stream.getvalue() == f"{erase}{bar}{erase}{line}{erase}{bar}{erase}"


def test_the_verdict_has_the_figures() -> None:
    text = "\n".join(verdict_lines(Outcome(PASSED, (), None)))
    assert text.startswith("PASSED  leader-crash: linearizable, states equal, nothing lost")
    assert "120 operations: 117 ok, 1 failed, 2 unknown; 9 turns, 1 taken over" in text
    assert "longest gap in availability 845 ms; 2 elections; 12.5 s in all; seed 7" in text
    assert PASSED.as_json()["passed"] is True


def test_a_failure_says_why_and_where_to_look() -> None:
    failed = replace(PASSED, problems=("states differ at slot 6", "lost: 1.1"))
    text = "\n".join(verdict_lines(Outcome(failed, (), Path("/tmp/kept"))))
    assert text.startswith("FAILED  leader-crash\n  - states differ at slot 6\n  - lost: 1.1\n")
    assert "kept in /tmp/kept" in text
    assert failed.as_json()["passed"] is False


def test_what_was_skipped_has_not_passed() -> None:
    skipped = replace(PASSED, skipped="no such right here")
    assert verdict_lines(Outcome(skipped, (), None)) == [
        "SKIPPED  leader-crash: no such right here"
    ]
    assert not skipped.passed


def test_what_was_skipped_half_way_has_failed_where_it_had_found_something() -> None:
    skipped = replace(PASSED, skipped="no such right here", problems=("states differ at slot 6",))
    lines = verdict_lines(Outcome(skipped, (), None))
    assert lines[0] == "FAILED  leader-crash, skipped half way: no such right here"
    assert lines[1] == "  - states differ at slot 6"
    assert lines[2].startswith("  120 operations: 117 ok")


@pytest.mark.parametrize(
    ("judgement", "status"),
    [
        (PASSED, 0),
        (replace(PASSED, problems=("lost: 1.1",)), 1),
        (replace(PASSED, skipped="no such right here"), 1),
        (replace(PASSED, skipped="no such right here", problems=("lost: 1.1",)), 1),
    ],
)
def test_the_exit_status_is_0_where_the_report_says_passed(
    judgement: Judgement,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def outcome(*_: object) -> Outcome:
        return Outcome(judgement, (), None)

    monkeypatch.setattr(drill_module, "_run", outcome)
    assert run(["drill", "leader-crash", "--json"]) == status
    assert json.loads(capfd.readouterr().out)["passed"] is (status == 0)


class Unseen:
    def line(self, seconds: float, text: str) -> None: ...

    def count(self, steps: int, total: int, operations: int) -> None: ...


async def test_a_full_disk_is_skipped_where_the_system_cannot_limit_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(resource, "prlimit")
    outcome = await run_drill(find("full-disk"), ["false"], 1, Unseen())
    assert "needs a system that can limit the files" in outcome.judgement.skipped
    assert outcome.directory is None


async def test_a_cluster_that_does_not_start_fails_the_drill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    outcome = await run_drill(find("leader-crash"), ["false"], 1, Unseen())
    assert outcome.judgement.problems[0] == "the cluster did not start: it said nothing"
    assert outcome.directory is not None
    assert outcome.directory.parent == tmp_path


def test_the_repl_lists_the_drills_and_refuses_an_unknown_one(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run(["repl", "--base-port", "1", "-c", "drill"]) == 0
    listed = [line.split("\t")[0] for line in capfd.readouterr().out.splitlines()[1:]]
    assert listed == list(shipped())
    assert run(["repl", "--base-port", "1", "-c", "drill leader-crsh"]) == 2
    assert capfd.readouterr().err.endswith("did you mean leader-crash?\n")
