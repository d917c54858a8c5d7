"""Each command: what it asks of the cluster, what it prints, how it fails."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest

from consensusllm.client import (
    File,
    GenerationOptions,
    InvalidRequest,
    Plan,
    Turn,
)
from consensusllm.conversations.records import Hedge, TakenOver
from consensusllm.orchestrator.client import InvalidFault
from consensusllm_cli.repl.session import Leave, Outcome
from consensusllm_cli.repl.table import TABLE
from tests.cli.desk import Desk
from tests.cli.repl_fakes import candidate


@pytest.mark.parametrize(
    ("line", "call", "printed"),
    [
        ("create c2", ("create", "c2"), "c2 is created: ask with query c2 QUESTION\n"),
        ("fork c1 c2 --at 1", ("fork", "c1", "c2", 1), "c2 is a copy of c1 up to turn 1\n"),
        ("fork c1 c2", ("fork", "c1", "c2", None), "c2 is a copy of c1\n"),
        ("rename c1 c2", ("rename", "c1", "c2"), "c1 is now c2\n"),
        ("delete c1", ("delete", "c1"), "c1 is deleted\n"),
        ("set k  two  words ", ("put", "k", b"two  words"), "k is set\n"),
        ('set k "a\\nb"', ("put", "k", b"a\nb"), "k is set\n"),
        (
            "view c1 --stale",
            ("view", "c1", True),
            "c1 · 0 turns · revision 7\nask with: query c1 QUESTION\n",
        ),
        ("viewall", ("conversations",), None),
        ("viewall --stale", ("conversations", True), None),
    ],
)
async def test_a_command_asks_the_client_and_says_what_happened(
    desk: Desk, line: str, call: tuple[object, ...], printed: str | None
) -> None:
    out = await desk.done(line)
    assert desk.cluster.calls == [call]
    if printed is not None:
        assert out == printed


async def test_query_prints_every_answer_in_order_and_what_to_do_next(desk: Desk) -> None:
    assert await desk.done("query c1 What is  Paxos?") == (
        "turn 1 of c1\n"
        "\n[1] node 1 · model-1\n  answer 1\n"
        "\n[2] node 2 · model-2\n  answer 2\n"
        "\n[3] node 3 · model-3\n  answer 3\n"
        "\nchoose c1 N --turn 1 keeps an answer: N is 1, 2, 3\n"
    )
    assert desk.cluster.calls == [("ask", "c1", "What is  Paxos?"), ("watch", "c1", 1, ())]


async def test_query_shows_a_failed_candidate_and_leaves_it_out_of_the_choice(desk: Desk) -> None:
    out = await desk.done("query c1 two fails")
    assert "[2] node 2 · model-2 · failed: timed out\n" in out
    assert out.endswith("choose c1 N --turn 1 keeps an answer: N is 1, 3\n")


async def test_query_fails_where_nobody_answered(desk: Desk) -> None:
    error = await desk.failed("query c1 all fail")
    assert error == "query: no candidate of turn 1 answered: retry c1 --turn 1 asks again"


async def test_query_marks_a_takeover(desk: Desk) -> None:
    out = await desk.done("query c1 a node dies")
    assert "[1] node 1 · model-1 · taken over at character 0\n  answer 1\n" in out
    assert "lost" not in out


@pytest.mark.parametrize(
    ("takeovers", "hedge", "said"),
    [
        ((TakenOver(2, 3, 0),), None, " · taken over at character 0"),
        ((TakenOver(2, 3, 9), TakenOver(3, 3, 0)), None, " · taken over at character 0"),
        (
            (TakenOver(2, 3, 9), TakenOver(3, 2, 4)),
            None,
            " · taken over 2 times, last at character 4",
        ),
        ((TakenOver(2, 1, 0),), None, ""),
        (
            (TakenOver(2, 3, 0, model="b", reason="down"),),
            None,
            " · b in place of what failed: down",
        ),
        ((TakenOver(2, 3, 0, model="b"),), Hedge(2, 3, "b"), " · b was asked too, and was first"),
    ],
)
async def test_a_takeover_is_one_of_a_node_that_is_gone(
    desk: Desk, takeovers: tuple[TakenOver, ...], hedge: Hedge | None, said: str
) -> None:
    one = candidate(
        *(1, "yes"),
        node=takeovers[-1].node,
        planned_node=1,
        attempt=takeovers[-1].attempt,
        takeovers=takeovers,
        hedge=hedge,
    )
    desk.cluster.held["c1"] = [Turn(1, "?", (one,), closed=True)]
    heading = f"[1] node {one.node} · model-1{said}\n"
    assert heading in await desk.done("view c1")


async def test_cancel_closes_a_turn_once(desk: Desk) -> None:
    await desk.cluster.ask("c1", "what?")
    assert await desk.done("cancel c1") == (
        "the latest turn of c1 is cancelled: its models are stopped\n"
    )
    assert await desk.failed("cancel c1 --turn 1") == (
        "cancel: turn 1 of c1 is closed: nothing to do"
    )


async def test_what_can_never_be_done_is_misuse_whoever_says_so(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(*_: object, **__: object) -> int:
        raise InvalidRequest("there is no strategy 'smrt': did you mean smart?")

    monkeypatch.setattr(desk.cluster, "ask", refuses)
    assert await desk.run("query c1 --strategy smrt Why?") is Outcome.MISUSE
    assert desk.err == "query: there is no strategy 'smrt': did you mean smart?\n"
    assert desk.cluster.fake_faults is not None
    monkeypatch.setattr(desk.cluster.fake_faults, "_told", refused_fault)
    assert await desk.run("partition 1,2,3") is Outcome.MISUSE


async def refused_fault(*_: object) -> str:
    raise InvalidFault("one group is no partition: name two or more")


async def test_a_gap_in_the_numbers_does_not_hide_a_candidate(desk: Desk) -> None:
    await desk.cluster.ask("c1", "?")
    turns = desk.cluster.held["c1"]
    desk.cluster._answers = lambda question: (candidate(1, "one"), candidate(3, "three"))  # type: ignore[method-assign]
    assert len(turns) == 1
    out = await desk.done("query c1 again")
    assert out.index("[1] node 1") < out.index("[3] node 3")


async def test_retry_shows_the_new_candidates_only(desk: Desk) -> None:
    out = await desk.done("query c1 What?", "retry c1 --turn 1")
    assert out.startswith("turn 1 of c1\n\n[4] node 1 · model-1\n  again 1\n")
    assert "answer" not in out.replace("keeps an answer", "")
    assert out.endswith("\nchoose c1 N --turn 1 keeps an answer: N is 1, 2, 3, 4, 5, 6\n")
    assert desk.cluster.calls[-2:] == [("retry", "c1", 1), ("watch", "c1", 1, (4, 5, 6))]


async def test_choose_says_what_was_chosen(desk: Desk) -> None:
    out = await desk.done("query c1 What?", "choose c1 2 --turn 1")
    assert out == "turn 1 of c1: candidate 2 is chosen\n"
    assert desk.cluster.calls[-1] == ("choose", "c1", 2, 1)


async def test_choosing_against_a_winner_names_it(desk: Desk) -> None:
    error = await desk.failed("query c1 What?", "choose c1 2", "choose c1 3")
    assert error == "choose: turn 1 of c1 already has a winner: candidate 2"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("choose c1 9", "choose: turn 1 has no candidate 9: it has 1 to 3"),
        ("choose c1 2", "choose: candidate 2 has not answered: choose another"),
        ("view c9", "view: there is no conversation 'c9': check its id"),
        ("create c1", "create: 'c1' exists already: choose another id"),
        ("get nothing", "get: no key 'nothing': set nothing VALUE makes it"),
        ("import /no/such/file", "import: /no/such/file: No such file or directory"),
    ],
)
async def test_a_refusal_is_one_line(desk: Desk, line: str, error: str) -> None:
    assert await desk.failed("query c1 two fails", line) == error


async def test_without_a_majority_a_command_fails_and_a_stale_view_works(desk: Desk) -> None:
    desk.cluster.majority = False
    said = "no answer within 10 s: check that a majority runs"
    offer = "; or add --stale, for what the node has applied"
    assert await desk.failed("view c1") == f"view: {said}{offer}"
    assert await desk.done("view c1 --stale")


@pytest.mark.parametrize("line", ["verify c1", "templates", "set k v", "delete c1"])
async def test_stale_is_offered_only_where_there_is_such_a_flag(desk: Desk, line: str) -> None:
    desk.cluster.majority = False
    assert (await desk.failed(line)).endswith("check that a majority runs")


async def test_a_value_can_be_read_stale(desk: Desk) -> None:
    desk.cluster.values["k"] = b"old"
    desk.cluster.majority = False
    assert (await desk.failed("get k")).endswith("what the node has applied")
    assert await desk.done("get k --stale") == "old\n"


async def test_view_marks_choice_failure_and_what_is_open(desk: Desk) -> None:
    desk.cluster.held["c1"] = [
        Turn(
            1,
            "What is\n*Paxos*?",
            (
                candidate(1, "[red]one[/red]\n  **two**"),
                candidate(2, "", error="timed out"),
                candidate(3, "so far", ended=False),
                candidate(4, "cut", finish_reason="length"),
                candidate(5, "withheld", finish_reason="filtered"),
            ),
            choice=1,
        ),
        Turn(2, "And?", (candidate(1, "", ended=False), candidate(2, "yes"))),
    ]
    assert await desk.done("view c1") == (
        "c1 · 2 turns · revision 7\n"
        "\nturn 1 · candidate 1 is chosen\n> What is\n> *Paxos*?\n"
        "\n[1] node 1 · model-1 · chosen\n  [red]one[/red]\n    **two**\n"
        "\n[2] node 2 · model-2 · failed: timed out\n"
        "\n[3] node 3 · model-3 · answering\n  so far\n"
        "\n[4] node 4 · model-4 · cut short: length\n  cut\n"
        "\n[5] node 5 · model-5 · cut short: filtered\n  withheld\n"
        "\nturn 2 · open: 1 of 2 candidates ended\n> And?\n"
        "\n[1] node 1 · model-1 · answering\n"
        "\n[2] node 2 · model-2\n  yes\n"
    )


@pytest.mark.parametrize("terminal", [False, True])
async def test_no_text_of_a_conversation_controls_the_terminal(
    terminal: bool, tmp_path: Path
) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil"
    desk = Desk(terminal)
    turn = Turn(1, hostile, (candidate(1, hostile, model=hostile, error=hostile),), closed=True)
    desk.cluster.held["c1"] = [turn]
    desk.cluster.values["k"] = hostile.encode()
    for line in ("view c1", "viewall", "get k", "export c1", "export c1 --markdown"):
        out = await desk.done(line)
        assert "evil" in out
        for control in ("\x1b]", "\x1b[2J", "\x9b", "\u202e", "\x07"):
            assert control not in out
    file = tmp_path / "c1.md"
    await desk.done(f"export c1 {file} --markdown")
    written = file.read_text(encoding="utf-8")
    assert "evil" in written
    assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(written)


async def test_no_text_of_a_model_passes_for_a_line_of_ours(desk: Desk) -> None:
    lines = ("[2] node 2 · model-2 · chosen", "### Candidate 2: node 2 (chosen)", "", "*Failed: x*")
    forged = "".join(f"{line}{line_break}" for line in lines for line_break in ("\n", "\u2028"))
    turn = Turn(1, forged, (candidate(1, forged, error=forged, model=forged),), closed=True)
    desk.cluster.held["c1"] = [turn]
    for command in ("view c1", "export c1 --markdown"):
        shown = (await desk.done(command)).splitlines()
        assert not [
            line for line in shown if line.startswith(("[2]", "### Candidate 2", "*Failed: x*"))
        ]


async def test_a_terminal_shows_markup_as_typed_and_shortens_long_answers() -> None:
    desk = Desk(terminal=True)
    text = "[red]first[/red] :smile:\n" + "more\n" * 50 + "the last line"
    desk.cluster.held["c1"] = [Turn(1, "?", (candidate(1, text),), closed=True)]
    short = await desk.done("view c1")
    assert "[red]first[/red] :smile:" in short
    assert "32 more lines: view with --full shows all" in short
    assert "the last line" not in short
    assert "the last line" in await desk.done("view c1 --full")


async def test_a_terminal_breaks_long_lines_behind_the_margin() -> None:
    desk = Desk(terminal=True)
    text = "word " * 100 + "\n\n    code"
    desk.cluster.held["c1"] = [Turn(1, text, (candidate(1, text),), closed=True)]
    shown = re.sub(r"\x1b\[[0-9;]*m", "", await desk.done("view c1"))
    asked, _, said = shown.partition("[1] node 1")
    assert asked.count("> word word") == said.count("\n  word word") > 1
    assert "\nword" not in shown
    assert "\n>     code\n" in asked
    assert said.endswith("\n      code\n")


async def test_piped_output_is_never_shortened_and_never_wrapped(desk: Desk) -> None:
    text = "\n".join(["word " * 100 + "\tafter a tab"] * 50)
    desk.cluster.held["c1"] = [Turn(1, "?", (candidate(1, text),), closed=True)]
    assert textwrap.indent(text, "  ") in await desk.done("view c1")


async def test_viewall_lists_conversations_for_scripts(desk: Desk) -> None:
    desk.cluster.held["c2"] = [Turn(1, "What\n is\tthis?", (), closed=False)]
    assert await desk.done("viewall") == (
        "conversation\tturns\topen\tlast question\tupdated\n"
        "c1\t0\t0\t\t2023-11-14 22:13:20Z\n"
        "c2\t1\t1\tWhat is this?\t2023-11-14 22:13:20Z\n"
    )


async def test_viewall_of_an_empty_cluster_says_how_to_begin(desk: Desk) -> None:
    desk.cluster.held.clear()
    assert await desk.done("viewall") == (
        "no conversations yet: begin with create c1, then query c1 QUESTION\n"
    )


async def test_get_shows_text_as_it_is_and_bytes_in_hexadecimal(desk: Desk) -> None:
    assert await desk.done('set k "a\\n  b"', "get k") == "a\n  b\n"
    desk.cluster.values["k"] = b"\xff\x00"
    assert await desk.done("get k") == "0xff00\n"


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        (0, ""),
        (1, "1 earlier turn left out: it does not fit the model's 8,192 tokens"),
        (3, "3 earlier turns left out: they do not fit the model's 8,192 tokens"),
    ],
)
async def test_what_a_model_was_not_sent_is_said(desk: Desk, left_out: int, said: str) -> None:
    one = candidate(1, "yes", left_out=left_out, context_tokens=8192)
    desk.cluster.held["c1"] = [Turn(1, "?", (one,), closed=True)]
    note = f" · {said}" if said else ""
    assert f"\n[1] node 1 · model-1{note}\n  yes\n" in await desk.done("view c1")
    markdown = await desk.done("export c1 --markdown")
    assert (f"\n\n*{said}.*\n" in markdown) if said else ("left out" not in markdown)
    document = json.loads(await desk.done("export c1"))
    (shown,) = document["conversation"]["turns"][0]["candidates"]
    assert (shown.get("left_out", 0), shown["context_tokens"]) == (left_out, 8192)


async def test_help_lists_every_command_on_one_screen(desk: Desk) -> None:
    out = await desk.done("help")
    for command in TABLE.commands:
        assert f"  {command.usage}" in out
        assert command.summary in out
    assert "\n  get KEY [--stale]  " in out
    assert len(out.splitlines()) <= 42
    assert max(map(len, out.splitlines())) <= 100


async def test_help_of_a_command_gives_usage_meaning_and_example(desk: Desk) -> None:
    out = await desk.done("help QUERY")
    assert out.startswith("query ID [--FLAG…] QUESTION…\n  ask every node's model")
    assert "exactly as typed" in out
    assert out.endswith("  for example: query c1 What is Paxos?\n")
    assert await desk.run("help quary") is Outcome.MISUSE


async def test_exit_and_quit_leave(desk: Desk) -> None:
    for line in ("exit", "QUIT"):
        with pytest.raises(Leave):
            await desk.session.run(line)


async def test_a_bug_is_one_line_and_a_traceback_only_where_it_is_wanted() -> None:
    def broken(question: str) -> tuple[()]:
        raise ZeroDivisionError("a bug\nin two lines")

    for verbose in (False, True):
        desk = Desk(verbose=verbose)
        desk.cluster._answers = broken  # type: ignore[method-assign,assignment]
        assert await desk.run("query c1 x") is Outcome.FAILED
        assert desk.err.endswith(
            "query: internal error: ZeroDivisionError: a bug in two lines; --verbose shows more\n"
        )
        assert ("Traceback" in desk.err) == verbose


async def test_query_hands_on_how_it_is_asked(desk: Desk, tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("\ufeffnotes", encoding="utf-8")
    await desk.done(
        f"query c1 --models a,b@2 --n 2 --close-after 3 --deadline 1.5 --temperature 0.5 --seed 7 "
        "--hedge 2.5 "
        f'--max-tokens 9 --system "be kind" --persona "a judge" --domain law --file "{notes}" Why?'
    )
    assert desk.cluster.asked == (
        3,
        1500,
        GenerationOptions(0.5, 9, 7, "be kind", hedge_ms=2500),
        Plan(("a", "b@2"), 2, False, "", "law", "a judge", (File("notes.md", "notes"),)),
    )
    assert desk.cluster.calls[-1] == ("watch", "c1", 1, (), 1500)
    await desk.done("query c1 Why?")
    assert desk.cluster.asked == (0, 0, GenerationOptions(), Plan())
    await desk.done("retry c1 --one")
    assert desk.cluster.asked == (0, 0, None, Plan(one=True))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file or directory: name a text file that is there"),
        (b"\xff\xfe", "is no text in UTF-8: only text goes with a question"),
        (b"x" * ((1 << 20) + 1), "has over 1048576 bytes: give a shorter part of it"),
    ],
)
async def test_a_file_that_cannot_go_with_a_question_is_one_line(
    desk: Desk, tmp_path: Path, content: bytes | None, why: str
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    assert (await desk.failed(f"query c1 --file {file} Why?")).endswith(why)
    assert desk.cluster.calls == []


async def test_query_as_json_is_the_closed_turn(desk: Desk) -> None:
    document = json.loads(await desk.done("query c1 --json Why?"))
    assert (document["conversation"], document["turn"], document["closed"]) == ("c1", 1, True)
    assert [each["number"] for each in document["candidates"]] == [1, 2, 3]


async def test_create_with_a_system_prompt(desk: Desk) -> None:
    await desk.done('create c2 --system "be kind"')
    assert desk.cluster.calls == [("create", "c2", "be kind")]


async def test_help_of_query_explains_its_flags(desk: Desk) -> None:
    out = await desk.done("help query")
    for flag in TABLE.find("query").flags:
        assert f"  {flag.usage[1:-1]}" in out
        assert flag.meaning in out


async def test_budget_sets_shows_and_removes(desk: Desk) -> None:
    assert (await desk.done("budget")).startswith("no budgets: ")
    assert await desk.done("budget conversation:c1") == "conversation:c1 has no budget\n"
    out = await desk.done("budget cluster 5.25")
    assert out == "scope\tlimit\tspent\treserved\tleft\ncluster\t5.25\t0.25\t0.000001\t4.999999\n"
    await desk.done("budget user:ann 0.000001")
    assert desk.cluster.calls[-1] == ("set_budget", "user:ann", 1)
    assert (await desk.done("budget")).count("\n") == 3
    assert await desk.done("budget cluster none") == "cluster has no budget\n"


@pytest.mark.parametrize("amount", ["five", "-1", "1.", "1.0000001", "1e3", "1,5", ""])
async def test_an_amount_that_is_none_is_misuse(desk: Desk, amount: str) -> None:
    assert await desk.run(f'budget cluster "{amount}"') is Outcome.MISUSE
    assert desk.cluster.calls == []
