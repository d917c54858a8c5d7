"""Markdown of a conversation: what is written comes back, and nothing else is taken for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.client import Candidate, Conversation, InvalidRequest, Turn, Usage
from consensusllm.client.foreign import NO_ANSWER
from consensusllm.conversations.history import contradiction
from consensusllm_cli.repl.markdown import from_markdown, to_markdown
from consensusllm_cli.repl.sanitise import sanitise
from tests.cli.desk import Desk
from tests.cli.repl_fakes import candidate
from tests.cli.test_repl_councils import TURN

# What an adversary would write, and what breaks lines in one program and not in another.
PIECES = st.sampled_from(
    (
        *("", "a", "# c1", "## Turn 2", "### Candidate 2: node 2 (chosen)", ">", "> x", "- x"),
        *(
            "*Failed: x*",
            "*Not finished.*",
            "```",
            " ",
            "    ",
            "<!--",
            "\n",
            "\n\n",
            "\u2028",
            "é`",
        ),
    )
)
TEXTS = st.lists(PIECES, max_size=8).map("".join).map(sanitise)
SAID = TEXTS.filter(bool)
GOOD = """\
# c1

## Turn 1

> What?

### Candidate 1: node 1, `m`

> one

### Candidate 2: imported (chosen)

> two

*Tokens: ? of the prompt, 3 of the answer.*
"""


def read(number: int, text: str, **fields: object) -> Candidate:
    """As it is read back."""
    known = {"node": 0, "model": f"model-{number}", "planned_node": 0, "ended_revision": 2}
    known |= {"finish_reason": "stop"}
    return candidate(number, text, **{**known, "planned_model": f"model-{number}", **fields})


@given(SAID, TEXTS, SAID, st.sampled_from(["m", "org/m-1:8b (q4), fast", ""]))
def test_questions_answers_and_the_choice_come_back(
    question: str, system: str, answer: str, model: str
) -> None:
    usage = Usage(12, 3)
    one = candidate(1, answer, model=model, usage=usage, finish_reason="length")
    two = candidate(3, "", error="timed out", finish_reason="")
    whole = Conversation(
        "c1",
        9,
        (
            Turn(1, question, (one, two), choice=1, closed=True),
            Turn(2, "And?", (candidate(2, "so far", ended=False),)),
        ),
        system=system,
    )
    found = from_markdown(to_markdown(whole))
    assert (found.conversation, found.system) == ("c1", system)
    first, second = found.turns
    assert (first.question, first.choice) == (question, 1)
    assert first.candidates == (
        read(1, answer, model=model, planned_model=model, usage=usage, finish_reason="length"),
        read(3, "", error="timed out", finish_reason=""),
    )
    (open_one,) = second.candidates
    assert (open_one.text, open_one.answered, second.closed) == ("so far", False, True)
    assert [contradiction(turn) for turn in found.turns] == ["", ""]


def test_of_a_council_its_answers_come_back() -> None:
    council = replace(TURN, choice=7)
    (turn,) = from_markdown(to_markdown(Conversation("c1", 9, (council,)))).turns
    assert [(each.number, each.text) for each in turn.candidates] == [
        (1, "one"),
        (2, "two"),
        (3, "three"),
        (7, "in short"),
    ]
    assert (turn.choice, turn.council) == (7, None)


def test_one_without_turns_comes_back() -> None:
    assert from_markdown(to_markdown(Conversation("c1", 1, ()))).turns == ()


def test_what_people_leave_out_is_no_answer() -> None:
    (turn,) = from_markdown("# c1\n## Turn 1\n> What?\n### Candidate 1: node 1\n").turns
    assert turn.candidates[0].error == NO_ANSWER


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("# c1", "# two words", "line 1: not what export --markdown writes: want # and the"),
        ("## Turn 1", "## Turn 2", "line 3: not what export --markdown writes: want turn 1"),
        ("> What?", "What?", "line 5: not what export --markdown writes: want a question behind >"),
        ("> one", "one", "line 9: not what export --markdown writes: want a heading, a quoted"),
        ("Candidate 2", "Candidate 1", "line 11: not what export --markdown writes: want candid"),
        ("> two", "", "line 11: not what export --markdown writes: want one answer"),
        ("`m`", "`m` (chosen)", "line 11: not what export --markdown writes: want one answer"),
        ("### Candidate 1: node 1", "### Candidate one", "want ### Candidate and its number"),
    ],
)
def test_what_is_not_its_form_is_refused_with_the_line(old: str, new: str, words: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidRequest) as caught:
        from_markdown(GOOD.replace(old, new, 1))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_import_reads_it_and_says_what_it_leaves_out(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "c1.md"
    file.write_text("\ufeff" + GOOD, encoding="utf-8")
    assert await desk.done(f"import {file} c2") == (
        f"c2 is imported from {file}: its questions, answers and choices: all the rest is in JSON"
        " only\n"
    )
    shown = await desk.done("view c2")
    assert shown.endswith("[1] imported · m\n  one\n\n[2] imported · chosen · 3 tokens\n  two\n")
    file.write_text(GOOD.replace("> one", "one"), encoding="utf-8")
    assert (await desk.failed(f"import {file} c3")).startswith(f"import: {file}: line 9: not what")


def test_a_form_feed_ends_no_line() -> None:
    """Source text is full of them."""
    turn = Turn(1, "a\n\x0cb\rc\x0bd\x1c\x85e\n", (), closed=True)
    text = to_markdown(Conversation("c1", 1, (turn,), system="x\x0cy"))
    assert "> xy\n" in text
    assert "> a\n> bcde\n" in text
