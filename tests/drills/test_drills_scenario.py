"""The scenarios: what is read of one, and the one line for everything that is wrong with one."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.drills import DocumentError, find, shipped
from consensusllm.drills.actions import Actions
from consensusllm.drills.grammar import ACTIONS, Moment
from consensusllm.drills.scenario import LoadPlan, Scenario, parse

WHOLE = """\
description: Everything that a scenario may say.
cluster:
  nodes: 5
  models:
    - {provider: scripted, options: {tokens_per_second: 20, texts: ["one two"], seed: 7}}
  paxos: {heartbeat_ms: 40}
load: {clients: 3, pinned: 2, keys: 4, conversations: 2, pause: 10ms, timeout: 1.5s}
steps:
  - at: 2.5s
    failNode: leader
  - after: 300 operations
    FIXNODE: leader
  - failLink: leader follower --one-way
  - fixLink: leader follower
  - partition: 1,2 3
  - heal:
  - isolate: 3
  - delay: all 80 20
  - drop: 1 2 5%
  - duplicate: all 5
  - reorder: 1 2 50
  - replaceNode: follower
  - transferLeader: 3
  - pause: follower
  - resume: follower
  - killAll:
  - after: 500ms
    startAll:
  - loseDisk: 2
  - flipByte: 2 journal
  - fillDisk: answering
  - wait: agreement
  - wait: 20 operations
  - wait: 1.5s
"""


def parsed(text: str) -> Scenario:
    return parse(text.encode(), "x.yaml")


def refusal(text: str) -> str:
    with pytest.raises(DocumentError) as caught:
        parsed(text)
    line = str(caught.value)
    assert "\n" not in line
    return line


def steps(*lines: str) -> str:
    return "description: d\nsteps:\n" + "".join(f"  - {line}\n" for line in lines)


def test_a_scenario_is_read_as_it_is_written() -> None:
    scenario = parsed(WHOLE)
    assert scenario.nodes == 5
    assert scenario.load == LoadPlan(3, 2, 4, 2, 0.01, 1.5)
    document = scenario.document(6100, Path("data"))
    assert document["paxos"] == {"heartbeat_ms": 40}
    assert document["nodes"][4]["models"][0]["options"]["texts"] == ["one two"]
    assert document["nodes"][4]["models"][0]["options"]["seed"] == 7
    first, second, third, *_ = scenario.steps
    assert (first.at_s, first.method, first.arguments) == (2.5, "fail_node", {"node": "leader"})
    assert (second.after, second.text) == (Moment(operations=300), "fixNode leader")
    assert third.arguments == {"link": ("leader", "follower"), "one_way": True}
    by_method = {step.method: step.arguments for step in scenario.steps}
    assert by_method["partition"] == {"groups": ((1, 2), (3,))}
    assert by_method["delay"] == {"link": None, "delay_ms": 80.0, "jitter_ms": 20.0}
    assert by_method["drop"] == {"link": (1, 2), "percent": 5.0}
    assert by_method["flip_byte"] == {"node": 2, "file": "journal"}
    assert scenario.steps[-1].arguments == {"condition": None, "moment": Moment(seconds=1.5)}
    assert {step.method for step in scenario.steps} == {each.method for each in ACTIONS.values()}


def test_every_action_is_carried_out_by_a_method_that_takes_what_was_read() -> None:
    for step in parsed(WHOLE).steps:
        method = getattr(Actions, step.method)
        assert inspect.iscoroutinefunction(method)
        assert set(inspect.signature(method).parameters) == {"self", *step.arguments}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (steps("failnod: 1"), 3, "did you mean failNode?"),
        (steps("failNode: 4"), 3, "'4' is not a node: give one of 1, 2, 3, leader"),
        (steps("failNode:"), 3, "an argument is missing (usage: failNode: NODE)"),
        (steps("failNode: 1 2"), 3, "'2' is one argument too many"),
        (steps("failNode: 1\n    fixNode: 1"), 3, "one action, not failNode and fixNode"),
        (steps("at: 1s"), 3, "one action, and this one has none"),
        (steps("failNode: 1", "at: 1\n    heal:"), 4, "such as 2.5s, 300ms or 1min, not '1'"),
        (steps("at: 1s\n    after: 1s\n    heal:"), 3, "not both"),
        (steps("after: 3 operators\n    heal:"), 3, "300 operations"),
        (steps("after: 0 operations\n    heal:"), 3, "300 operations"),
        (steps("at: 5s\n    heal:", "at: 4s\n    heal:"), 5, "before a step above"),
        (steps("at: 1000min\n    heal:"), 3, "600s at most"),
        (steps("failLink: 1 1"), 3, "1 is named twice"),
        (steps("failLink: 1 leader"), 3, "1 and leader may be one node"),
        (steps("failLink: leader answering"), 3, "answering may be the other one"),
        (steps("failLink: 1 2 --two-way"), 3, "unknown flag '--two-way'"),
        (steps("partition: 1,2,3"), 3, "two groups at least"),
        (steps("partition: 1,2 2"), 3, "2 is named twice"),
        (steps("partition: 1,x"), 3, "'x' is not a node"),
        (steps("delay: all -5"), 3, "'-5' is not a time in ms"),
        (steps("drop: 1 2 101"), 3, "'101' is not a percentage"),
        (steps("drop: 1 5"), 3, "'5' is not a node"),
        (steps("flipByte: 1 log"), 3, "give database or journal"),
        (steps("wait: leadr"), 3, "cannot wait for 'leadr'"),
        (steps("heal: 1"), 3, "'1' is one argument too many"),
        (steps("startAll:"), 3, "everything runs already"),
        (steps("killAll:", "failNode: 1"), 4, "startAll first"),
        (steps("killAll:", "wait: leader"), 4, "startAll first"),
        (steps("killAll:", "after: 9 operations\n    startAll:"), 4, "no operation can succeed"),
        (steps("[1]"), 3, "must be a mapping"),
        (steps("heal: [1]"), 3, "must be plain text"),
        (steps("&a {heal: }"), 3, "anchors"),
        ("description: d\nsteps: []\n", 2, "1 to 200 steps"),
        ("description: d\nsteps: {}\n", 2, "must be a list"),
        ("description: d\nstep: []\n", 2, "did you mean steps?"),
        ("description: d\n", 1, "steps is missing"),
        ("steps: [{heal: }]\n", 1, "description is missing"),
        ("description: d\ndescription: d\nsteps: []\n", 2, "description is there twice"),
        (steps("heal:") + "load: {client: 3}\n", 4, "did you mean clients?"),
        (steps("heal:") + "load: {clients: 0}\n", 4, "from 1 to 64, not '0'"),
        (steps("heal:") + "load: {timeout: 0.1s}\n", 4, "from 0.5s to 60s"),
        (steps("heal:") + "load: {council: debat}\n", 4, "did you mean debate?"),
        (steps("heal:") + "load: {council: ''}\n", 4, "council template"),
        (steps("heal:") + "cluster: {nodes: 10}\n", 4, "from 1 to 9"),
        (steps("heal:") + "cluster: {paxos: {heartbeat: 1}}\n", 4, "paxos.heartbeat"),
        (steps("heal:") + "cluster: {models: [{provider: gpt}]}\n", 4, "models[0].provider"),
        (steps("heal:") + "cluster: {paxos: {heartbeat_ms: 0o9}}\n", 4, "paxos.heartbeat_ms"),
        (
            steps("wait: answering") + "load: {conversations: 0}\n",
            3,
            "nobody answers",
        ),
        ("", 1, "is empty"),
        ("a: b: c\n", 1, "not YAML"),
        ("a: b\n---\nc: d\n", 2, "not YAML"),
        ("- " * 5000, 1, "nested too deeply"),
        ("a: \x01\n", 1, "a character that YAML forbids"),
    ],
)
def test_what_is_wrong_gets_one_line_that_names_the_line(text: str, line: int, words: str) -> None:
    found = refusal(text)
    assert found.startswith(f"x.yaml:{line}: "), found
    assert words in found, found


def test_bytes_that_are_no_text_get_one_line() -> None:
    with pytest.raises(DocumentError, match=r"x\.yaml:2: is not text in UTF-8"):
        parse(b"description: d\n\xff\xfe", "x.yaml")


@given(st.text() | st.lists(st.sampled_from(WHOLE.split("\n")), max_size=40).map("\n".join))
def test_any_text_is_a_scenario_or_gets_one_line(text: str) -> None:
    line = "x.yaml:"
    try:
        parse(text.encode("utf-8", "surrogatepass"), "x.yaml")
    except DocumentError as error:
        line = str(error)
    assert line.startswith("x.yaml:")
    assert "\n" not in line


def test_each_drill_that_ships_is_named_described_and_found() -> None:
    drills = shipped()
    assert len(drills) >= 12
    for name, description in drills.items():
        assert len(description) > 30
        assert find(name).name == name


def test_a_file_is_found_by_its_path_and_anything_else_gets_the_nearest_name(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(steps("heal:"))
    assert find(str(path)).name == "mine"
    with pytest.raises(DocumentError, match="did you mean leader-crash"):
        find("leadercrash")
    with pytest.raises(DocumentError, match="Is a directory"):
        find(str(tmp_path))
    with pytest.raises(DocumentError, match="is not a file's name"):
        find("a\0b")
