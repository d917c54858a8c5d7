"""Commands on a conversation as a whole: exported, imported, seen as it was, verified."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consensusllm.client import (
    Conversation,
    InvalidRequest,
    NodeCopy,
    TooLarge,
    Unavailable,
)
from consensusllm.conversations import ConversationSummary, chain
from consensusllm.conversations.records import TIME_MAX_MS
from consensusllm_cli.repl.output import Output
from consensusllm_cli.repl.render import show_conversations
from consensusllm_cli.repl.session import Outcome
from tests.cli.desk import Desk


async def test_export_and_import_carry_a_conversation(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "c 1.json"
    out = await desk.done("query c1 Was heißt das? 名前", f'export c1 "{file}"')
    assert out == f"c1 is written to {file}\n"
    turns = desk.cluster.held["c1"]
    assert turns[0].question == "Was heißt das? 名前"
    assert os.listdir(tmp_path) == [file.name]
    assert await desk.done(f'import "{file}" c2') == f"c2 is imported from {file}\n"
    assert desk.cluster.held["c2"] == turns
    assert await desk.failed(f'import "{file}"') == (
        "import: 'c1' exists already: choose another id"
    )
    await desk.done("delete c1", f'import "{file}"')
    assert desk.cluster.held["c1"] == turns


CHATS = [
    {
        "title": title,
        "current_node": "2",
        "mapping": {
            "1": {
                "children": ["2"],
                "message": {
                    "author": {"role": "user"},
                    "content": {"content_type": "text", "parts": [f"What is {title}?"]},
                },
            },
            "2": {
                "parent": "1",
                "message": {
                    "author": {"role": "assistant"},
                    "content": {"content_type": "text", "parts": ["A protocol."]},
                },
            },
        },
    }
    for title in ("Paxos", "Raft", "Zab")
]


async def test_a_file_of_several_conversations_is_imported_as_far_as_ids_are_free(
    desk: Desk, tmp_path: Path
) -> None:
    file = tmp_path / "conversations.json"
    file.write_text(json.dumps(CHATS), encoding="utf-8")
    assert "holds 3 conversations: leave the id out" in await desk.failed(f"import {file} mine")
    desk = Desk()
    desk.cluster.held["raft"] = []
    failed = await desk.failed(f"import {file}")
    assert failed.endswith(
        "import: 1 conversation of 3 not imported, as there is one of that id: raft"
    )
    assert desk.out == f"paxos is imported from {file}\nzab is imported from {file}\n"
    shown = await desk.done("view zab")
    assert shown.endswith("> What is Zab?\n\n[1] imported · chosen\n  A protocol.\n")


@pytest.fixture
def refuse(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Exception], None]:
    """Has the cluster refuse to import one conversation."""

    def refuse(name: str, error: Exception) -> None:
        take = desk.cluster.import_conversation

        async def take_others(one: Conversation, target: str, **named: Any) -> None:
            if target == name:
                raise error
            await take(one, target, **named)

        monkeypatch.setattr(desk.cluster, "import_conversation", take_others)

    return refuse


async def test_what_the_cluster_refuses_of_a_file_is_named_and_the_others_are_imported(
    desk: Desk, tmp_path: Path, refuse: Callable[[str, Exception], None]
) -> None:
    file = tmp_path / "conversations.json"
    file.write_text(json.dumps(CHATS), encoding="utf-8")
    refuse("paxos", TooLarge("turn 1 has 9 bytes: the most is 6"))
    refuse("raft", InvalidRequest("turn 1 cannot be imported"))
    desk.cluster.held["zab"] = []
    failed = (
        "import: paxos is refused: turn 1 has 9 bytes: the most is 6\n"
        "import: raft is refused: turn 1 cannot be imported\n"
        "import: 3 conversations of 3 not imported, as there is one of that id: zab; "
        "as they are refused: paxos, raft\n"
    )
    assert await desk.run(f"import {file}") is Outcome.FAILED
    assert (desk.out, desk.err) == ("", failed)
    assert await desk.run("delete zab", f"import {file} --json") is Outcome.FAILED
    told = json.loads(desk.out)
    assert (told["imported"], told["taken"]) == (["zab"], [])
    assert told["refused"] == {
        "paxos": "turn 1 has 9 bytes: the most is 6",
        "raft": "turn 1 cannot be imported",
    }


async def test_an_import_of_several_that_is_cut_off_names_where(
    desk: Desk, tmp_path: Path, refuse: Callable[[str, Exception], None]
) -> None:
    file = tmp_path / "conversations.json"
    file.write_text(json.dumps(CHATS), encoding="utf-8")
    refuse("raft", Unavailable("no answer within 10 s: check that a majority runs"))
    assert await desk.failed(f"import {file}") == (
        "import: raft: no answer within 10 s: check that a majority runs"
    )
    assert desk.out == f"paxos is imported from {file}\n"


async def test_view_at_a_revision_asks_for_it_and_says_which_it_is(desk: Desk) -> None:
    assert (await desk.done("view c1 --at 3")).startswith("c1 · 0 turns · revision 3\n")
    assert desk.cluster.calls == [("view", "c1", 3)]


async def test_verify_shows_every_copy_and_the_head(desk: Desk) -> None:
    await desk.done("query c1 What?")
    desk.cluster.copies = (
        NodeCopy("a:3", 3, trouble="no connection"),
        NodeCopy("a:1", 1, 7),
        NodeCopy("a:2", 2, 6),
    )
    head = chain.head(Conversation("c1", 7, tuple(desk.cluster.held["c1"])))
    table = "node\trevision\tcopy\n1\t7\tagrees\n2\t6\tagrees, 1 revision behind\n"
    table += "3\t-\tcannot be read\n"
    ended = f"head of c1 at revision 7: {head}\n"
    assert await desk.done("verify c1") == table + ended
    assert await desk.done(f"verify c1 --head {head.upper()}") == table + ended + (
        "it had the head that was noted at revisions 3 to 7: what stood then still stands\n"
    )
    assert await desk.failed(f"verify c1 --head {'0' * 63}1") == (
        f"verify: c1 never had the head {'0' * 63}1: what stood then was altered, or it was the "
        "head of another conversation"
    )


async def test_verify_fails_where_a_copy_differs(desk: Desk) -> None:
    desk.cluster.copies = (NodeCopy("a:1", 1, 7), NodeCopy("a:2", 2, 7, differs_from=4))
    assert await desk.failed("verify c1") == (
        "verify: the copies of c1 DIFFER: node 2 from turn 4 on"
    )
    assert "2\t7\tDIFFERS from turn 4 on\n" in desk.out


async def test_verify_takes_nothing_but_a_head(desk: Desk) -> None:
    assert await desk.run("verify c1 --head 12") is Outcome.MISUSE
    assert "'12' is not a head: give the 64 hexadecimal digits of verify" in desk.err


async def test_export_without_a_file_prints_the_document(desk: Desk) -> None:
    out = await desk.done('query c1 "\\u \x7f"', "export c1")
    assert json.loads(out)["conversation"]["turns"][0]["question"] == "\\u \x7f"


async def test_export_without_a_majority_is_possible_where_it_may_be_stale(desk: Desk) -> None:
    await desk.done("query c1 What?")
    desk.cluster.majority = False
    assert "check that a majority runs" in await desk.failed("export c1")
    document = json.loads(await desk.done("export c1 --stale"))
    assert document["conversation"]["turns"][0]["question"] == "What?"
    assert "> What?" in await desk.done("export c1 --markdown --stale")


async def test_export_to_no_directory_says_so(desk: Desk, tmp_path: Path) -> None:
    await desk.done("query c1 What?")
    assert await desk.failed(f'export c1 "{tmp_path}/no/c1.json"') == (
        f"export: {tmp_path}/no/c1.json: there is no directory {tmp_path}/no: make it first"
    )


async def test_export_does_not_replace_what_is_no_regular_file(desk: Desk, tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    await desk.done(f"export c1 {link}")
    assert link.is_symlink()


async def test_an_export_without_its_links_is_imported_with_a_word(
    desk: Desk, tmp_path: Path
) -> None:
    file = tmp_path / "c1.json"
    await desk.done("query c1 What?", f"export c1 {file}")
    assert await desk.done(f"import {file} c2") == f"c2 is imported from {file}\n"
    document = json.loads(file.read_text(encoding="utf-8"))
    del document["links"], document["head"]
    file.write_text(json.dumps(document), encoding="utf-8")
    assert await desk.done(f"import {file} c3") == (
        f"c3 is imported from {file}: the file has no links, so nothing says that it is what was"
        " exported\n"
    )


async def test_export_as_markdown(desk: Desk) -> None:
    out = await desk.done("query c1 What?", "choose c1 2", "export c1 --markdown")
    assert out.startswith("# c1\n\n## Turn 1\n\n> What?\n")
    assert "### Candidate 2: node 2, `model-2` (chosen)\n\n> answer 2\n" in out


async def test_a_time_that_no_calendar_has_is_not_imported(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "c1.json"
    await desk.done("query c1 What?", f"export c1 {file}")
    document = json.loads(file.read_text(encoding="utf-8"))
    document["conversation"]["updated_ms"] = TIME_MAX_MS + 1
    file.write_text(json.dumps(document), encoding="utf-8")
    assert f"updated at {TIME_MAX_MS + 1} ms" in await desk.failed(f"import {file} c2")


def test_the_last_time_that_can_be_imported_is_listed() -> None:
    out = io.StringIO()
    summary = ConversationSummary("c1", 0, 0, "", TIME_MAX_MS)
    show_conversations(Output(out, io.StringIO(), terminal=False), [summary])
    assert "9999-12-31 23:59:59Z" in out.getvalue()


@pytest.mark.parametrize("content", ["[1]", "no json", '{"turns": []}'])
async def test_importing_what_was_not_exported_fails(
    desk: Desk, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "file.json"
    file.write_text(content, encoding="utf-8")
    assert (await desk.failed(f"import {file}")).startswith(f"import: {file}: ")
    assert desk.cluster.calls == []
