"""Templates: those that ship, a user's own, and what is wrong with one, by its line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from consensusllm.conversations import Limits, PlannedCandidate, StageKind
from consensusllm.conversations.council_rules import check_council
from consensusllm.council.convening import CHAIRMEN_MAX, convened
from consensusllm.council.planning import Unplannable
from consensusllm.council.template_files import BYTES_MAX, load, parse
from consensusllm.council.templates import Library, Template, UnknownTemplate
from consensusllm.document import DocumentError

SHIPPED = (
    "code-review",
    "debate",
    "diverse-analysis",
    "ethics",
    "self-consistency",
    "three-stage",
)
GOOD = b"""description: Mine.
roles:
  - name: pro
    instructions: Be for it.
  - name: con
chairman:
  name: judge
stages:
  - kind: opinions
    quorum: 2
    deadline: 1.5s
  - kind: rebuttal
    by: [con]
    instructions: Answer.
  - kind: synthesis
"""


def at(*nodes: int) -> tuple[PlannedCandidate, ...]:
    return tuple(PlannedCandidate(node, node) for node in nodes)


@pytest.fixture(scope="module")
def library() -> Library:
    return load(None)


def test_the_templates_that_ship_are_there(library: Library) -> None:
    assert sorted(library.templates) == list(SHIPPED)
    assert library.problems == ()


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("nodes", [(1,), (2, 5), (1, 2, 3, 4, 5), tuple(range(1, 10))])
def test_they_make_councils_that_can_be_convened(
    library: Library, name: str, nodes: tuple[int, ...]
) -> None:
    template = library.find(name)
    council = convened(template, at(*nodes), seed=len(nodes) - 1, deadline_ms=900)
    check_council(council, Limits())
    assert (council.template, council.revision) == (name, template.revision)
    assert {each.node for each in council.members} <= set(nodes)
    assert {stage.deadline_ms for stage in council.stages} == {900}
    last = council.stages[-1]
    if last.kind is StageKind.SYNTHESIS:
        chairs = [council.member(seat).node for seat in last.seats]
        assert chairs[0] == nodes[-1]
        assert len(set(chairs)) == len(chairs) == min(len(nodes), CHAIRMEN_MAX)


def test_roles_go_round_the_nodes_and_every_node_has_a_seat_without_them(library: Library) -> None:
    debate = convened(library.find("debate"), at(3), seed=3, deadline_ms=1)
    assert [(each.node, each.role) for each in debate.members] == [
        (3, "proponent"),
        (3, "opponent"),
        (3, "judge"),
    ]
    ethics = convened(library.find("ethics"), at(2, 1), seed=0, deadline_ms=1)
    assert [each.node for each in ethics.members] == [1, 2, 1, 2, 1, 2, 1, 1, 2]
    plain = convened(library.find("three-stage"), at(3, 1, 2), seed=1, deadline_ms=1)
    assert [each.node for each in plain.members] == [1, 2, 3, 2, 3, 1]
    samples = convened(library.find("self-consistency"), at(3, 1, 2), seed=4, deadline_ms=1)
    assert [each.node for each in samples.members] == [2] * 5


@pytest.mark.parametrize("name", ["debate", "ethics", "self-consistency", "three-stage"])
def test_many_councils_are_not_the_work_of_one_node(library: Library, name: str) -> None:
    work: Counter[int] = Counter()
    for seed in range(30):
        council = convened(library.find(name), at(1, 2, 3), seed=seed, deadline_ms=1)
        for stage in council.stages:
            sums_up = stage.kind is StageKind.SYNTHESIS
            seats = stage.seats[:1] if sums_up else stage.seats  # the others only where that fails
            work.update(council.member(seat).node for seat in seats)
    assert len({*work.values()}) == 1
    assert len(work) == 3


def test_roles_samples_and_chairs_go_to_nodes_that_serve_a_model(library: Library) -> None:
    known: dict[str, Any] = {"serving": {1, 3}, "seed": 1, "deadline_ms": 1}
    debate = convened(library.find("debate"), at(1, 2, 3), **known)
    assert [each.node for each in debate.members] == [3, 1, 3, 1]
    samples = convened(library.find("self-consistency"), at(1, 2, 3), **known)
    assert {each.node for each in samples.members} == {3}
    plain = convened(library.find("three-stage"), at(1, 2, 3), **known)
    assert [each.node for each in plain.members] == [1, 2, 3, 3, 1]
    nobody = convened(library.find("debate"), at(1, 2), seed=1, deadline_ms=1)
    assert [each.node for each in nobody.members] == [2, 1, 2, 1]


def test_the_models_of_the_query_take_the_seats(library: Library) -> None:
    places = (
        PlannedCandidate(1, 1, "a"),
        PlannedCandidate(2, 1, "b", ("c",)),
        PlannedCandidate(3, 2, "a"),
    )
    council = convened(library.find("three-stage"), places, seed=1, deadline_ms=1)
    assert [(each.node, each.model, each.role) for each in council.members] == [
        (1, "a", ""),
        (1, "b", ""),
        (2, "a", ""),
        (2, "a", "chairman"),
        (1, "a", "chairman"),
    ]
    assert [each.fallbacks for each in council.members] == [(), ("c",), (), (), ()]


def test_named_models_sit_in_the_order_in_which_they_were_named(library: Library) -> None:
    places = (PlannedCandidate(1, 2, "b"), PlannedCandidate(2, 1, "a"))
    debate = convened(library.find("debate"), places, seed=0, deadline_ms=1)
    assert [(each.model, each.role) for each in debate.members[:2]] == [
        ("b", "proponent"),
        ("a", "opponent"),
    ]
    assert [each.node for each in debate.members[2:]] == [1, 2]
    turned = convened(library.find("debate"), places, seed=1, deadline_ms=1)
    assert turned.members[:2] == debate.members[:2], "in that order, whatever the seed"
    assert [each.node for each in turned.members[2:]] == [2, 1]
    one = (PlannedCandidate(1, 2, "b"),)
    samples = convened(library.find("self-consistency"), one, seed=1, deadline_ms=1)
    assert {each.model for each in samples.members} == {"b"}


@pytest.mark.parametrize(
    ("template", "seats"), [("debate", 2), ("three-stage", 12), ("self-consistency", 1)]
)
def test_more_models_than_seats_are_refused(library: Library, template: str, seats: int) -> None:
    places = tuple(PlannedCandidate(number, 1, "a") for number in range(1, seats + 2))
    with pytest.raises(Unplannable, match=f"{seats + 1} models .* {template} takes {seats}:"):
        convened(library.find(template), places, seed=0, deadline_ms=1)


def test_a_template_says_who_how_many_and_how_long() -> None:
    template = parse(GOOD, "mine.yaml", own=True)
    assert isinstance(template, Template)
    assert template.own
    council = convened(template, at(1, 2), seed=0, deadline_ms=60_000)
    opinions, rebuttal, synthesis = council.stages
    assert (opinions.seats, opinions.close_after, opinions.deadline_ms) == ((1, 2), 2, 1500)
    assert (rebuttal.seats, rebuttal.instructions) == ((2,), "Answer.")
    assert (synthesis.seats, synthesis.deadline_ms) == ((3, 4), 60_000)
    assert council.member(1).instructions == "Be for it."
    assert council.member(3).role == "judge"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("description: Mine.", "#", 2, "description is missing"),
        ("description: Mine.", "descriptoin: x", 1, "did you mean description?"),
        ("name: con", "name: pro", 3, "the role pro is there twice"),
        ("name: con", "name: Con!", 5, "cannot be a role's name"),
        ("- name: con", "- instructions: x", 5, "a role needs a name"),
        ("Be for it.", "x" * 9000, 4, "instructions have 9000 characters"),
        ("kind: opinions", "kind: review", 9, "the first stage must be opinions"),
        ("kind: synthesis", "kind: synthesys", 15, "did you mean synthesis?"),
        ("kind: rebuttal", "kind: synthesis", 13, "by: synthesis is not done by seats"),
        ("quorum: 2", "quorum: 3", 10, "quorum must be a whole number from 1 to 2"),
        ("deadline: 1.5s", "deadline: soon", 11, "deadline must be a time"),
        ("deadline: 1.5s", "deadline: 90min", 11, "deadline must be up to 3600s"),
        ("by: [con]", "by: [cob]", 13, "unknown role 'cob': did you mean con?"),
        ("by: [con]", "by: []", 13, "by names no role"),
        ("by: [con]", "by: [con, con]", 13, "con is named twice"),
        ("kind: rebuttal", "kind: review", 12, "nobody has enough to read in a review: it takes 3"),
        ("  - kind: synthesis", "  - kind: majority", 7, "a chairman has nothing to do"),
        ("  - kind: synthesis", "  - kind: majority\n    quorum: 1", 16, "quorum: majority"),
        ("  - kind: synthesis", "  - kind: majority\n    instructions: x", 15, "asks nobody"),
        ("  - kind: synthesis", "  - synthesis", 15, "a stage must be a mapping"),
        ("  - kind: synthesis", "  - {}", 15, "a stage needs a kind"),
        ("  - kind: synthesis", "  - kind: opinions\n" * 7, 9, "1 to 8 stages, not 9"),
        ("roles:", "samples: 3\nroles:", 2, "either roles or samples"),
        ("roles:", "samples: 1\nrole:", 3, "did you mean roles?"),
        ("by: [con]", "by: &x [con]", 13, "anchors are not read here"),
        ("description: Mine.", "description: [", 3, "not YAML"),
        ("Be for it.", '"Be \\ud83d it."', 4, "half a surrogate pair is no character"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(old: str, new: str, line: int, words: str) -> None:
    assert old in GOOD.decode()
    with pytest.raises(DocumentError) as caught:
        parse(GOOD.replace(old.encode(), new.encode(), 1), "mine.yaml")
    assert str(caught.value).startswith(f"mine.yaml:{line}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_that_holds_itself_or_is_too_large_is_refused() -> None:
    for data in (b"description: &a\n  - *a\n", b"stages: &s [*s]\n"):
        with pytest.raises(DocumentError, match="anchors"):
            parse(data, "mine.yaml")
    with pytest.raises(DocumentError, match="nested too deeply"):
        parse(b"stages: " + b"[" * 30_000, "mine.yaml")
    with pytest.raises(DocumentError, match="more than 65536 bytes"):
        parse(GOOD + b"#" * BYTES_MAX, "mine.yaml")
    with pytest.raises(DocumentError, match="cannot be a template's name"):
        parse(GOOD, "My Template.yaml")


def test_ones_own_come_beside_the_others_and_a_bad_one_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(GOOD)
    (tmp_path / "debate.yaml").write_bytes(GOOD)
    (tmp_path / "broken.yaml").write_bytes(b"stages: 1\n")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "notes.txt").write_text("no template")
    library = load(tmp_path)
    assert sorted(library.templates) == sorted((*SHIPPED, "mine"))
    assert library.find("debate").own
    assert library.find("mine").revision == library.find("debate").revision
    broken, folder = library.problems
    assert broken.startswith(f"{tmp_path / 'broken.yaml'}:1: ")
    assert folder == f"{tmp_path / 'folder.yaml'}: cannot be read: Is a directory"
    with pytest.raises(UnknownTemplate, match=r"'broken' has a fault: .*broken\.yaml:1: "):
        library.find("broken")
    with pytest.raises(UnknownTemplate, match="there is no council template 'roken'"):
        library.find("roken")


def test_a_directory_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    library = load(tmp_path / "none")
    assert sorted(library.templates) == list(SHIPPED)
    assert library.problems == (f"{tmp_path / 'none'}: cannot be read: No such file or directory",)


def test_an_unknown_template_names_the_nearest(library: Library) -> None:
    with pytest.raises(
        UnknownTemplate, match=r"no council template 'debat': did you mean debate\?"
    ):
        library.find("debat")
    with pytest.raises(UnknownTemplate, match="there are code-review, debate"):
        library.find("x" * 100)
