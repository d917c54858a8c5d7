"""Whatever is typed or piped: a command with its arguments, or a Misuse of one line."""

from __future__ import annotations

import io
import random

import pytest
from fuzzing import mutate
from hypothesis import given
from hypothesis import strategies as st

from consensusllm_cli.repl.lexer import Misuse, quote, take_text, take_word
from consensusllm_cli.repl.lines import join_blocks, read_lines
from consensusllm_cli.repl.output import Output
from consensusllm_cli.repl.parser import needs_more_lines, parse_arguments, parse_command
from consensusllm_cli.repl.sanitise import one_line
from consensusllm_cli.repl.table import TABLE

NODES = (1, 2, 3)
PIECES = (
    "c1", "1", "2,3", '"', '"""', "\\", "--one-way", "--stale", "--at=3", "--", "-1", "9" * 30,
    "50%", "1e3", "nan", "#", "\t", "\x1b[31m", "\u202e", "ü", "𝟙", "\u2028", "\x85", "", " ",
)  # fmt: skip
WORDS = [name for command in TABLE.commands for name in (command.name, *command.aliases)]


def said(error: Misuse) -> str:
    """What the session prints of a misuse."""
    stderr = io.StringIO()
    Output(io.StringIO(), stderr, terminal=False).error(str(error))
    text = stderr.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert text.strip()
    assert len(text) < 2000
    assert one_line(text) == text.strip("\n")
    return text


def run(line: str) -> bool:
    """Whether ``line`` is a command."""
    needs_more_lines(TABLE, line)
    try:
        found = parse_command(TABLE, line)
        if found is None:
            return False
        command, rest = found
        parsed = parse_arguments(command, rest, NODES)
    except Misuse as error:
        said(error)
        return False
    known = {each.name for each in (*command.parameters, *command.flags)}
    assert parsed.arguments.keys() <= known
    needed = {each.name for each in command.parameters if not each.optional}
    assert needed <= parsed.arguments.keys()
    return True


@pytest.mark.parametrize("rounds", [5_000, pytest.param(300_000, marks=pytest.mark.full)])
def test_a_line_is_a_command_or_a_misuse(seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    commands = 0
    for _ in range(rounds):
        name = rng.choice(WORDS)
        name = name.upper() if rng.random() < 0.2 else name
        blanks = (" ", " ", " ", "\t", "\n", "")
        line = name
        for _ in range(rng.randrange(5)):
            line += rng.choice(blanks) + rng.choice(PIECES)
        if rng.random() < 0.3:
            line = mutate(rng, line.encode()).decode(errors="replace")
        commands += run(line)
    assert commands > rounds // 50


@given(st.text())
def test_any_text_is_a_command_or_a_misuse(line: str) -> None:
    run(line)


@given(st.text())
def test_what_is_quoted_comes_back_as_it_was(text: str) -> None:
    assert take_text(quote(text)) == text
    word, rest = take_word(quote(text))
    assert word is not None
    assert (word.text, rest) == (text, "")


@given(st.binary(max_size=400))
async def test_any_bytes_are_lines(data: bytes) -> None:
    numbers = []
    async for number, line in join_blocks(TABLE, read_lines(io.BytesIO(data))):
        numbers.append(number)
        if isinstance(line, Misuse):
            said(line)
        else:
            run(line)
    assert numbers == sorted(numbers)
    assert not numbers or numbers[-1] <= data.count(b"\n") + 1
