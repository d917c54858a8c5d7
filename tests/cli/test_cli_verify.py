"""The verify command: offline, by the export alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consensusllm.client.export import export
from consensusllm.conversations import Candidate, Conversation, Turn, at_revision, chain
from consensusllm_cli.main import run


def turn(number: int, text: str) -> Turn:
    answer = Candidate(
        1,
        1,
        ended=True,
        text=text,
        planned_node=1,
        opened_revision=3 * number - 1,
        ended_revision=3 * number,
    )
    return Turn(
        turn=number,
        question="?",
        candidates=(answer,),
        choice=1,
        closed=True,
        asked_revision=3 * number - 2,
        choice_revision=3 * number + 1,
    )


CONVERSATION = Conversation("c1", 7, (turn(1, "one"), turn(2, "two")))
HEAD = chain.head(CONVERSATION)
EARLIER = chain.head(at_revision(CONVERSATION, 4))


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    file = tmp_path / "c1.json"
    file.write_text(json.dumps(export(CONVERSATION)), encoding="utf-8")
    return file


def altered(file: Path, change: Any) -> Path:
    document = json.loads(file.read_text(encoding="utf-8"))
    change(document)
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def test_an_export_that_fits_is_done(exported: Path, capsys: Any) -> None:
    assert run(["verify", str(exported)]) == 0
    assert capsys.readouterr().out == (
        f"c1: the links of 2 turns fit; head at revision 7: {HEAD}\n"
    )


def test_one_turn_is_no_turns(exported: Path, capsys: Any) -> None:
    exported.write_text(json.dumps(export(at_revision(CONVERSATION, 4))), encoding="utf-8")
    assert run(["verify", str(exported)]) == 0
    assert capsys.readouterr().out.startswith("c1: the links of 1 turn fit; head at revision 4: ")


def test_a_head_that_was_noted_earlier_is_found(exported: Path, capsys: Any) -> None:
    assert run(["verify", str(exported), "--head", EARLIER]) == 0
    assert capsys.readouterr().out.endswith(
        "it had the head that was noted at revision 4: what stood then still stands\n"
    )
    assert run(["verify", str(exported), "--head", EARLIER, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "conversation": "c1",
        "revision": 7,
        "turns": 2,
        "head": HEAD,
        "had_head_at": [4, 4],
    }


def test_an_altered_turn_is_named(exported: Path, capsys: Any) -> None:
    def change(document: Any) -> None:
        document["conversation"]["turns"][1]["candidates"][0]["text"] = "2"

    assert run(["verify", str(altered(exported, change))]) == 1
    said = capsys.readouterr().err
    assert said == f"verify: {exported}: turn 2 does not fit: it, or its link, was altered\n"


def test_who_recomputes_the_links_is_found_out_by_the_head(exported: Path, capsys: Any) -> None:
    forged = Conversation("c1", 7, (turn(1, "ONE"), turn(2, "two")))
    exported.write_text(json.dumps(export(forged)), encoding="utf-8")
    assert run(["verify", str(exported)]) == 0
    assert run(["verify", str(exported), "--head", EARLIER]) == 1
    assert f"c1 never had the head {EARLIER}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no json", "is not a JSON document: export makes one"),
        ("[" * 100_000, "is not a JSON document: export makes one"),
        ("[]", "the document must be a JSON object"),
        ('{"format": "other"}', "the document is 'other' without a version: only"),
        ('{"format": "other", "version": 3}', "the document is 'other' version 3: only"),
        ("{}", "the document says no format: give one that export made"),
    ],
)
def test_what_is_no_export_is_misuse(tmp_path: Path, capsys: Any, content: str, words: str) -> None:
    file = tmp_path / "file.json"
    file.write_text(content, encoding="utf-8")
    assert run(["verify", str(file), "--json"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"verify: {file}: {words}")
    assert said.err.count("\n") == 1
    assert json.loads(said.out)["error"].startswith(words)


def test_other_misuse_is_one_line(exported: Path, capsys: Any) -> None:
    assert run(["verify", str(exported), "--head", "12"]) == 2
    assert "'12' is no head: give 64 hexadecimal digits" in capsys.readouterr().err
    assert run(["verify", "/no/such/file"]) == 2
    assert capsys.readouterr().err == "verify: /no/such/file: No such file or directory\n"

    def change(document: Any) -> None:
        del document["links"], document["head"]

    assert run(["verify", str(altered(exported, change))]) == 2
    assert "has no links to verify it by: export it again" in capsys.readouterr().err
