"""From a line to a command with its arguments, by the same table that the help reads."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.wire.generated import peer_pb2
from consensusllm_cli.repl import COMMANDS
from consensusllm_cli.repl.language import Command
from consensusllm_cli.repl.lexer import Misuse, quote
from consensusllm_cli.repl.parser import Parsed, Table, lines_of, needs_more_lines, parse_arguments
from consensusllm_cli.repl.parser import parse_command as find
from consensusllm_cli.repl.trace import KINDS

TABLE = Table(COMMANDS)
NODES = (1, 2, 3)


def parse(line: str, nodes: tuple[int, ...] = NODES) -> Parsed:
    found = find(TABLE, line)
    assert found is not None
    return parse_arguments(*found, nodes)


def arguments(line: str) -> dict[str, object]:
    return parse(line).arguments


def misuse(line: str, nodes: tuple[int, ...] = NODES) -> str:
    with pytest.raises(Misuse) as raised:
        parse(line, nodes)
    return str(raised.value)


@given(st.text().filter(lambda text: text.strip() != ""))
def test_any_question_round_trips_quoted(question: str) -> None:
    assert arguments(f"query c1 {quote(question)}") == {
        "conversation": "c1",
        "question": question,
    }


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_question_round_trips_as_typed(text: str) -> None:
    question = f"Q{text}?"
    assert arguments(f"query c1 {question}")["question"] == question


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_value_round_trips_quoted(value: str) -> None:
    assert arguments(f"set k {quote(value)}") == {"key": "k", "value": value}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("choose c1 2", {"conversation": "c1", "candidate": 2}),
        ("choose c1 --turn 3 2", {"conversation": "c1", "candidate": 2, "turn": 3}),
        ("choose c1 2 --turn=3", {"conversation": "c1", "candidate": 2, "turn": 3}),
        ("view c1 --STALE --full", {"conversation": "c1", "stale": True, "full": True}),
        ("fork c1 c2 --at 4", {"conversation": "c1", "target": "c2", "at": 4}),
        ("faillink 1 2 --one-way", {"a": 1, "b": 2, "one_way": True}),
        ("PARTITION 1,2 3", {"groups": ((1, 2), (3,))}),
        ("delay 1 2 80ms 20", {"a": 1, "b": 2, "ms": 80.0, "jitter": 20.0}),
        ("drop 1 2 12.5%", {"a": 1, "b": 2, "percent": 12.5}),
        ("trace prepare accept --count 5", {"what": ("prepare", "accept"), "count": 5}),
        ("help", {}),
        ('export c1 "--odd name"', {"conversation": "c1", "file": "--odd name"}),
        ("query c1 -- --turn is not a flag here", {
            "conversation": "c1", "question": "--turn is not a flag here"
        }),
        ('query c1 "--turn is none here either"', {
            "conversation": "c1", "question": "--turn is none here either"
        }),
        ("query c1 what is --turn for?", {
            "conversation": "c1", "question": "what is --turn for?"
        }),
        ('query c1 --models a,b@2 --n 3 --one --persona "a  judge" why?  so', {
            "conversation": "c1", "question": "why?  so", "models": ("a", "b@2"), "n": 3,
            "one": True, "persona": "a  judge"
        }),
        ("query c1 --file a.md --file=b.md --deadline 1.5s --seed -3 why?", {
            "conversation": "c1", "question": "why?", "file": ("a.md", "b.md"),
            "deadline": 1.5, "seed": -3
        }),
        ("set k -- --v", {"key": "k", "value": "--v"}),
        ('set k "--v"', {"key": "k", "value": "--v"}),
        ("set k v --json", {"key": "k", "value": "v --json"}),
        ("set k --json v", {"key": "k", "value": "v", "json": True}),
        ("query c1 --council Is it --so?", {
            "conversation": "c1", "question": "Is it --so?", "council": ""
        }),
        ("query c1 --COUNCIL=debate  Is it so?", {
            "conversation": "c1", "question": "Is it so?", "council": "debate"
        }),
        ('set k ""', {"key": "k", "value": ""}),
        ('set "--k" v', {"key": "--k", "value": "v"}),
        ('get "--k"', {"key": "--k"}),
    ],
)  # fmt: skip
def test_arguments(line: str, expected: dict[str, object]) -> None:
    assert arguments(line) == expected


@pytest.mark.parametrize("name", ["failNode", "failnode", "FAILNODE"])
def test_names_are_found_in_any_case(name: str) -> None:
    assert parse(f"{name} 1").command.name == "failNode"


def test_quit_is_exit() -> None:
    assert parse("quit").command.name == "exit"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("quary c1 hello", "unknown command 'quary': did you mean query?"),
        ("xyzzy", "unknown command 'xyzzy': help lists them"),
        ("set --k v", "'--k' is no key, and flags come behind it: usage: set KEY VALUE…"),
        ("set --json a b", "'--json' is no key, and flags come behind it: usage: set KEY VALUE…"),
        ("query --one c1 Why?", "'--one' is no conversation, and flags come behind it: "
         "usage: query ID [--FLAG…] QUESTION…"),
        ("failNode abc", "'abc' is not a node: give one of 1, 2, 3"),
        ("failNode 4", "'4' is not a node: give one of 1, 2, 3"),
        ("failLink 1 0", "'0' is not a node: give one of 1, 2, 3"),
        ("partition 1,1 2", "'1,1' names a node twice"),
        ("partition 1, 2", "'' is not a node: give one of 1, 2, 3"),
        (
            "create a/b",
            "'a/b' is not a conversation id: "
            "use 1 to 64 of letters, digits, '.', '_' and '-'",
        ),
        ("choose c1", "CANDIDATE is missing: "
         "usage: choose ID CANDIDATE [--turn N]"),
        ("choose c1 two", "'two' is not a number: give one from 1 up"),
        ("choose c1 0", "'0' is not a number: give one from 1 up"),
        ("choose c1 ²", "'²' is not a number: give one from 1 up"),
        ("choose c1 1 2", "'2' is one argument too many: "
         "usage: choose ID CANDIDATE [--turn N]"),
        ("choose c1 1 --turn", "--turn needs a value: "
         "usage: choose ID CANDIDATE [--turn N]"),
        ("choose c1 1 --turn 1 --turn 2", "--turn is given twice: "
         "usage: choose ID CANDIDATE [--turn N]"),
        ("view c1 --fool", "unknown flag '--fool': "
         "usage: view ID [--at N] [--stale] [--full]"),
        ("view c1 --full=yes", "--full takes no value: "
         "usage: view ID [--at N] [--stale] [--full]"),
        ("drop 1 2 101", "'101' is not a percentage: give a number from 0 to 100"),
        ("drop 1 2 nan", "'nan' is not a percentage: give a number from 0 to 100"),
        ("delay 1 2 -5", "'-5' is not a time in milliseconds: "
         "give a number from 0 to 3600000"),
        ("query c1", "the question is missing: usage: query ID [--FLAG…] QUESTION…"),
        ("query c1 --one", "the question is missing: usage: query ID [--FLAG…] QUESTION…"),
        ("query c1 --model a why?", "unknown flag '--model': did you mean --models? "
         "usage: query ID [--FLAG…] QUESTION…"),
        ("query c1 --models", "--models needs a value: usage: query ID [--FLAG…] QUESTION…"),
        ("query c1 --models a,,b why?", "'a,,b' has an empty name: "
         "write names with commas between them"),
        ("query c1 --temperature 3 why?", "'3' is not a temperature: give a number from 0 to 2"),
        ("query c1 --deadline abc why?", "'abc' is not a time in seconds: give a number from "
         "0.001 to 3600"),
        ("failLink 1", "B is missing: usage: failLink A B [--one-way]"),
        ("query c1 --deadline 0 why?", "'0' is not a time in seconds: give a number from "
         "0.001 to 3600"),
        ("query c1 --seed x why?", "'x' is not a whole number"),
        ("query c1 --council", "the question is missing: usage: query ID [--FLAG…] QUESTION…"),
        ("query c1 --counsel why?", "unknown flag '--counsel': did you mean --council? "
         "usage: query ID [--FLAG…] QUESTION…"),
        ("set k --v", "unknown flag '--v': a text that begins so goes behind a lone --: "
         "usage: set KEY VALUE…"),
        ("set k --json", "the value is missing: usage: set KEY VALUE…"),
        ("query c1 --council= why?", "an argument is empty"),
        ('query c1 ""', "the question is empty"),
        ('query c1 """open', 'the """ block is not closed: end it with """'),
        ("create c\udc80", "the line is not valid UTF-8 text"),
    ],
)  # fmt: skip
def test_misuse_is_one_line_that_says_what_to_do(line: str, message: str) -> None:
    assert misuse(line) == message


def test_a_node_cannot_be_named_wrongly_even_when_the_nodes_are_not_known() -> None:
    assert misuse("failNode abc", nodes=()) == "'abc' is not a node: give its number, such as 1"
    assert parse("failNode 4", nodes=()).arguments == {"node": 4}


def test_comments_and_blank_lines_are_no_commands() -> None:
    assert find(TABLE, "# query c1 x") is None
    assert find(TABLE, "  ") is None


def test_only_a_text_can_open_a_block() -> None:
    assert needs_more_lines(TABLE, 'query c1 """What')
    assert needs_more_lines(TABLE, 'SET k """')
    assert not needs_more_lines(TABLE, 'query c1 """What"""')
    assert not needs_more_lines(TABLE, 'query c1 say """')
    assert not needs_more_lines(TABLE, 'create """')
    assert not needs_more_lines(TABLE, 'nonsense """')
    assert not needs_more_lines(TABLE, '# query c1 """')


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_example_in_the_table_is_valid(command: Command) -> None:
    assert parse(command.example).command is command


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_handler_takes_what_the_table_says(command: Command) -> None:
    parameters = inspect.signature(command.handler).parameters
    names = [parameter.name for parameter in (*command.parameters, *command.flags)]
    assert list(parameters) == ["session", *names]
    for parameter in command.parameters:
        has_default = parameters[parameter.name].default is not inspect.Parameter.empty
        assert has_default == parameter.optional
    for flag in command.flags:
        assert parameters[flag.name].default is not inspect.Parameter.empty


def test_the_kinds_of_a_trace_are_those_of_the_wire() -> None:
    message = peer_pb2.PeerMessage.DESCRIPTOR.oneofs_by_name["message"]
    assert sorted(KINDS) == sorted([*(field.name for field in message.fields), "stream"])


@pytest.mark.parametrize(
    "lines",
    [
        ["status"],
        ["set k v", "get k", "status"],
        ["create c1", "", "# a comment", 'query c1 """\nget k\nset k v\n"""', "failNode 9"],
        ["query c1 one\ntwo"],
        ["query c1 What does this mean?\nget rid of it"],
        ["set k v\nstaus"],
        ['query c1 """\nget k\nset k v'],
        [""],
    ],
)
def test_lines_are_run_one_by_one_only_where_each_is_a_command(lines: list[str]) -> None:
    assert lines_of(TABLE, "\n".join(lines)) == lines
