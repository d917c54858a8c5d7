"""What a conversation was at each of its revisions, and the hash chain over its turns."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from hashlib import sha256
from typing import Any

import pytest
from any_commands import COUNCIL, Client, operation_lists
from hypothesis import given

from consensusllm.conversations import (
    Candidate,
    Choose,
    CloseTurn,
    Conversation,
    CreateConversation,
    Delete,
    Fork,
    Hedge,
    Operation,
    PlannedCandidate,
    ReassignCandidate,
    RecordCheckpoint,
    Refused,
    Rename,
    RetryTurn,
    Turn,
    at_revision,
    chain,
)
from consensusllm.conversations.documents import (
    MalformedDocument,
    from_document,
    to_document,
)
from consensusllm.conversations.history import contradiction, last_revision

Views = dict[str, dict[int, tuple[Turn, ...]]]


def without_open_text(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    return tuple(
        replace(
            turn,
            candidates=tuple(
                each if each.ended else replace(each, text="") for each in turn.candidates
            ),
        )
        for turn in turns
    )


def follow(views: Views, operation: Operation, client: Client) -> None:
    """Move what was seen as ``operation``, which was done, moves the conversations."""
    if isinstance(operation, Delete):
        del views[operation.conversation]
    elif isinstance(operation, Rename):
        views[operation.target] = views.pop(operation.conversation)
    elif isinstance(operation, Fork):
        through = operation.at_turn or None
        views[operation.target] = {
            revision: turns[:through] for revision, turns in views[operation.source].items()
        }


def conversations(client: Client) -> list[Conversation]:
    names = client.machine.freeze().conversations
    found = [client.machine.conversation(name) for name in names]
    return [each for each in found if each is not None]


@given(operation_lists)
def test_every_revision_can_be_seen_as_it_was(wanted: list[Operation]) -> None:
    client = Client()
    views: Views = {}
    for operation in wanted:
        if not isinstance(client.do(operation), Refused):
            follow(views, operation, client)
        for each in conversations(client):
            views.setdefault(each.conversation, {})[each.revision] = without_open_text(each.turns)
    for each in conversations(client):
        assert views[each.conversation]
        for revision, turns in views[each.conversation].items():
            was = at_revision(each, revision)
            assert was.revision == revision
            assert was.turns == turns


@given(operation_lists)
def test_no_turn_contradicts_itself_and_every_head_is_found_again(wanted: list[Operation]) -> None:
    client = Client()
    for operation in wanted:
        client.do(operation)
    for each in conversations(client):
        assert [contradiction(turn) for turn in each.turns] == [""] * len(each.turns)
        assert all(last_revision(turn) <= each.revision for turn in each.turns)
        told = dict(chain.heads(each))
        head = ""
        for revision in range(1, each.revision + 1):
            head = told.get(revision, head)
            assert head == chain.head(at_revision(each, revision))
            first, last = chain.revisions_of_head(each, head) or (0, 0)
            assert first <= revision <= last
        assert head == chain.head(each)


@given(operation_lists)
def test_every_conversation_is_whole_in_its_document(wanted: list[Operation]) -> None:
    client = Client()
    for operation in wanted:
        client.do(operation)
    for each in conversations(client):
        document = json.loads(json.dumps(to_document(each)))
        assert from_document(Conversation, document, "it") == each


def told(driver: Any) -> Conversation:
    """A conversation with everything that can happen to one."""
    driver.ask("c1", "first", candidates=2)  # revision 2
    driver.done(RecordCheckpoint("c1", 1, 1, 1, 0, "so far"))
    driver.done(ReassignCandidate("c1", 1, 1, 2, 3, 2))
    driver.answer("c1", 1, 1, "so, first")
    driver.done(CloseTurn("c1", 1, "enough"))  # 6
    driver.done(RetryTurn("c1", 1, (PlannedCandidate(1, 2),), 300_000))
    driver.ask("c1", "second", candidates=1)  # 8
    driver.answer("c1", 1, 3, "third")
    driver.done(Choose("c1", 1, 3))  # 10
    driver.answer("c1", 2, 1, "late")
    return driver.machine.conversation("c1")


def test_a_revision_shows_what_was_answered_chosen_and_retried_by_then(driver: Any) -> None:
    conversation = told(driver)
    assert conversation.revision == 11
    assert at_revision(conversation, 1).turns == ()
    asked = at_revision(conversation, 3).turns[0].candidate(1)
    assert (asked.node, asked.attempt, asked.text, asked.takeovers) == (1, 1, "", ())
    moved = at_revision(conversation, 4).turns[0].candidate(1)
    assert (moved.node, moved.attempt, moved.ended) == (3, 2, False)
    closed = at_revision(conversation, 6).turns[0]
    assert (closed.closed, closed.choice, len(closed.candidates)) == (True, 0, 2)
    assert closed.deadline_ms == closed.opened_ms + 120_000
    retried = at_revision(conversation, 7).turns[0]
    assert (retried.closed, len(retried.candidates)) == (False, 3)
    assert retried.deadline_ms > closed.deadline_ms
    assert [turn.choice for turn in at_revision(conversation, 9).turns] == [0, 0]
    assert [turn.choice for turn in at_revision(conversation, 10).turns] == [3, 0]
    assert at_revision(conversation, 11) == conversation


def test_a_fork_has_the_past_and_the_links_of_what_it_copied(driver: Any) -> None:
    conversation = told(driver)
    driver.done(Fork("c1", "c2", 1))
    fork = driver.machine.conversation("c2")
    assert chain.links(fork) == chain.links(conversation)[:1]
    assert at_revision(fork, 6).turns == at_revision(conversation, 6).turns
    assert at_revision(fork, 9).turns == at_revision(conversation, 9).turns[:1]


def test_a_link_is_what_its_definition_says(driver: Any) -> None:
    conversation = told(driver)
    link = bytes(32)
    for turn, told_link in zip(conversation.turns, chain.links(conversation), strict=True):
        text = json.dumps(to_document(turn), sort_keys=True, separators=(",", ":"))
        link = sha256(link + sha256(text.encode()).digest()).digest()
        assert link.hex() == told_link
    assert chain.head(conversation) == link.hex()


def test_an_empty_conversation_has_a_head_of_zeros(driver: Any) -> None:
    driver.done(CreateConversation("c1"))
    empty = driver.machine.conversation("c1")
    assert chain.head(empty) == "0" * 64
    driver.ask("c1")
    assert chain.revisions_of_head(driver.machine.conversation("c1"), "0" * 64) == (1, 1)


def test_a_head_outlives_a_rename_and_not_the_smallest_change(driver: Any) -> None:
    conversation = told(driver)
    head = chain.head(conversation)
    driver.done(Rename("c1", "c2"))
    driver.ask("c2", "more")
    renamed = driver.machine.conversation("c2")
    assert chain.revisions_of_head(renamed, head) == (11, 12)
    for turn in conversation.turns:
        for altered in alterations(turn):
            turns = list(renamed.turns)
            turns[turn.turn - 1] = altered
            forged = replace(renamed, turns=tuple(turns))
            assert chain.links(forged)[: turn.turn - 1] == chain.links(renamed)[: turn.turn - 1]
            assert chain.links(forged)[turn.turn - 1] != chain.links(renamed)[turn.turn - 1]
            assert contradiction(altered) or chain.revisions_of_head(forged, head) is None


def alterations(turn: Turn) -> list[Turn]:
    """``turn`` with each of its fields changed, and each of its candidates' fields."""
    found = [altered for field in fields(turn) for altered in changed(turn, field.name)]
    for candidate in turn.candidates:
        for field in fields(candidate):
            found += [turn.with_candidate(each) for each in changed(candidate, field.name)]
    return [each for each in found if each != turn]


def changed(record: Any, name: str) -> list[Any]:
    if name == "number":  # the candidate would not be found in its place
        return []
    value = getattr(record, name)
    other: Any
    if isinstance(value, bool):
        other = not value
    elif isinstance(value, int):
        other = value + 1
    elif isinstance(value, str):
        other = f"{value}."
    elif isinstance(value, tuple):
        other = value[:-1]
    elif name == "hedge":
        other = Hedge(1, 1, "m", record.opened_revision)
    elif value is None:
        other = COUNCIL
    else:
        other = replace(value, **{fields(value)[0].name: 1})
    return [replace(record, **{name: other})]


def test_fields_that_have_their_defaults_are_not_in_a_document() -> None:
    assert to_document(Candidate(1, 2)) == {"number": 1, "node": 2}
    assert from_document(Candidate, {"number": 1, "node": 2}, "it") == Candidate(1, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"turns": ...}, "it lacks 'turns'"),
        ({"turns": {}}, r"it\.turns must be a list"),
        ({"turns": [3]}, r"it\.turns\[0\] must be a JSON object"),
        ({"extra": 1}, "it has 'extra', which is not known"),
        ({"revision": True}, r"it\.revision must be a whole number"),
        ({"revision": 1.0}, r"it\.revision must be a whole number"),
        ({"revision": 1 << 64}, r"it\.revision must be a whole number of 64 bits"),
        ({"conversation": None}, r"it\.conversation must be a string"),
        ({"conversation": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_a_malformed_document_is_refused_with_the_place(
    changes: dict[str, Any], words: str
) -> None:
    document = {"conversation": "c1", "revision": 1, "turns": [], **changes}
    document = {key: value for key, value in document.items() if value is not ...}
    with pytest.raises(MalformedDocument, match=words):
        from_document(Conversation, document, "it")


@pytest.mark.parametrize(
    ("temperature", "read"), [(1, 1.0), (0.5, 0.5), (None, None), (float("nan"), ...), ("1", ...)]
)
def test_a_number_with_a_fraction_may_be_written_without(temperature: Any, read: Any) -> None:
    document = {"turn": 1, "question": "?", "candidates": [], "options": {}}
    document["options"] = {"temperature": temperature}
    if read is ...:
        with pytest.raises(MalformedDocument, match=r"it\.options\.temperature must be a number"):
            from_document(Turn, document, "it")
    else:
        assert from_document(Turn, document, "it").options.temperature == read
