"""The check-history command: what it prints, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from consensusllm.linearizability import Operation, to_line
from consensusllm_cli import check_history
from consensusllm_cli.main import run

PUT_1 = Operation(0, "put", "k", 1, 0, 1, True)
PUT_2 = Operation(0, "put", "k", 2, 2, 3, True)
STALE = Operation(1, "get", "k", None, 4, 5, True, 1)
FRESH = Operation(1, "get", "k", None, 4, 5, True, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "good.jsonl", PUT_1, PUT_2, FRESH)
    write(tmp_path / "bad.jsonl", PUT_1, PUT_2, STALE)
    return tmp_path


def write(path: Path, *operations: Operation) -> None:
    path.write_text("".join(f"{to_line(each)}\n" for each in operations), encoding="utf-8")


def test_a_linearizable_history_is_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check-history", str(folder / "good.jsonl")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("linearizable: 3 operations on 1 key, 0 of unknown outcome, checked in ")


def test_a_history_that_is_not_fails_and_says_why(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check-history", str(folder / "bad.jsonl")]) == 1
    out = capsys.readouterr().out
    assert out.startswith("not linearizable: 3 operations on 1 key, ")
    assert "there is no place for process 1's get -> 1." in out
    assert "|==x==|" in out


def test_what_takes_too_long_fails_as_undecided(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["check-history", str(folder / "good.jsonl"), "--time-limit", "1e-9"]
    assert run(arguments) == 1
    out = capsys.readouterr().out
    assert out.startswith("undecided: 3 operations on 1 key, ")
    assert "try a longer --time-limit" in out


def test_no_short_reason_in_time_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_history, "explain", lambda *_: None)
    assert run(["check-history", str(folder / "bad.jsonl")]) == 1
    assert 'key "k" shows it, but no short reason was found' in capsys.readouterr().out


@pytest.mark.parametrize(("name", "start"), [("out.html", "<!DOCTYPE html>"), ("out.svg", "<?xml")])
def test_the_failure_is_drawn(
    folder: Path, name: str, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = folder / name
    arguments = ["check-history", str(folder / "bad.jsonl"), "--picture", str(picture)]
    assert run(arguments) == 1
    assert picture.read_text(encoding="utf-8").startswith(start)
    assert capsys.readouterr().out.endswith(f"picture: {picture}\n")


def test_there_is_nothing_to_draw_of_a_linearizable_history(folder: Path) -> None:
    picture = folder / "out.svg"
    assert run(["check-history", str(folder / "good.jsonl"), "--picture", str(picture)]) == 0
    assert not picture.exists()


@pytest.mark.parametrize(
    ("name", "status", "verdict"),
    [("good.jsonl", 0, "linearizable"), ("bad.jsonl", 1, "not linearizable")],
)
def test_json_is_one_object(
    folder: Path, name: str, status: int, verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check-history", str(folder / name), "--json"]) == status
    fields = json.loads(capsys.readouterr().out)
    assert fields["verdict"] == verdict
    assert (fields["operations"], fields["keys"], fields["unknown"]) == (3, 1, 0)
    assert ("explanation" in fields) is (status == 1)


def test_a_malformed_history_is_misuse_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "good.jsonl"
    path.write_text(f"{path.read_text(encoding='utf-8')}nonsense\n", encoding="utf-8")
    assert run(["check-history", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"check-history: {path} line 4: not JSON (Expecting value at column 1)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["missing.jsonl"], "check-history: missing.jsonl: No such file or directory\n"),
        (["."], "check-history: .: Is a directory\n"),
        (
            ["good.jsonl", "--format", "kv"],
            "check-history: good.jsonl line 1: not a line of a kv log\n",
        ),
        (
            ["bad.jsonl", "--picture", "no/o.svg"],
            "check-history: no/o.svg: No such file or directory\n",
        ),
        (["good.jsonl", "--picture", "out.png"], "must end in .html or .svg"),
        (["good.jsonl", "--time-limit", "0"], "0.0 is not in the range x>0"),
        (["good.jsonl", "--time-limit", "nan"], "nan is not a finite number"),
        (["good.jsonl", "--time-limit", "soon"], "'soon' is not a valid number"),
    ],
)
def test_misuse_is_told_in_one_line(
    folder: Path,
    arguments: list[str],
    error: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    assert run(["check-history", *arguments]) == 2
    text = capsys.readouterr().err
    assert error in text
    assert text.count("\n") == 1
