"""What is left out of a prompt that a model cannot read whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.conversations import Limits, RecordCandidate, encode, restore
from consensusllm.conversations.context_window import (
    ANSWER_SHARE,
    MESSAGE_TOKENS,
    TooLong,
    estimated_tokens,
    fitted,
)
from consensusllm.conversations.history import turn_at
from consensusllm.conversations.prompt import Prompt

TURN_TOKENS = 2 * (MESSAGE_TOKENS + 10)  # of 30 characters for each message
LAST_TOKENS = MESSAGE_TOKENS + 10

texts = st.text(max_size=40)
tokens = st.integers(1, 300)
maybe_tokens = st.none() | st.integers(1, 200)


def conversation(turns: int) -> Prompt:
    messages = []
    for number in range(1, turns + 1):
        messages += [("user", f"q{number:029}"), ("assistant", f"a{number:029}")]
    return (*messages, ("user", "?" * 30))  # type: ignore[return-value]


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    *earlier, last = draw(st.lists(st.tuples(texts, texts), min_size=1, max_size=8))
    messages = [each for q, a in earlier for each in (("user", q), ("assistant", a))]
    return (*messages, ("user", last[0]))  # type: ignore[return-value]


def cautious(text: str) -> int:
    """What the module promises of a message, in other words: three bytes a token, and a frame."""
    return MESSAGE_TOKENS + len(range(0, len(text.encode()), 3))


@pytest.mark.parametrize(
    ("room", "left_out"),
    [
        (LAST_TOKENS + 3 * TURN_TOKENS, 0),
        (LAST_TOKENS + 3 * TURN_TOKENS - 1, 1),
        (LAST_TOKENS + 2 * TURN_TOKENS, 1),
        (LAST_TOKENS + TURN_TOKENS, 2),
        (LAST_TOKENS + TURN_TOKENS - 1, 3),
        (LAST_TOKENS, 3),
    ],
)
def test_the_oldest_turns_go_and_only_as_many_as_have_to(room: int, left_out: int) -> None:
    prompt = conversation(3)
    assert fitted(prompt, (), room + 7, 7) == (prompt[2 * left_out :], left_out)


def test_what_is_told_beside_the_prompt_takes_its_room() -> None:
    prompt = conversation(1)
    room = LAST_TOKENS + TURN_TOKENS + MESSAGE_TOKENS + 2
    assert fitted(prompt, ("", "system"), room + 1, 1) == (prompt, 0)
    assert fitted(prompt, ("", "system"), room, 1) == (prompt[2:], 1)


def test_a_share_is_left_for_an_answer_that_nothing_bounds() -> None:
    prompt = conversation(2)
    window = (LAST_TOKENS + 2 * TURN_TOKENS) * ANSWER_SHARE // (ANSWER_SHARE - 1)
    assert fitted(prompt, (), window, None) == (prompt, 0)
    assert fitted(prompt, (), window - ANSWER_SHARE, None) == (prompt[2:], 1)


def test_a_model_whose_context_is_not_known_is_sent_all() -> None:
    prompt = conversation(50)
    assert fitted(prompt, ("system",), 0, 1000) == (prompt, 0)


@pytest.mark.parametrize(("window", "answer"), [(LAST_TOKENS + 4, 5), (LAST_TOKENS, 1 << 40)])
def test_what_does_not_fit_by_itself_is_not_cut(window: int, answer: int) -> None:
    with pytest.raises(TooLong) as caught:
        fitted(conversation(2), (), window, answer)
    message = str(caught.value)
    assert message == (
        f"what is asked takes some {LAST_TOKENS} tokens, even without the earlier turns, and the "
        f"model has {window}, of which {answer:,} are for the answer: shorten it, lower "
        "max_tokens, or ask a model with a longer context"
    )


def test_an_estimate_counts_bytes_and_begun_tokens() -> None:
    assert estimated_tokens([]) == 0
    assert estimated_tokens(["12345", "é", "123"]) == 3
    assert estimated_tokens(["12345", "é", "1234"]) == 3


@given(prompts(), texts, tokens, maybe_tokens)
def test_what_is_sent_is_the_longest_end_that_fits(
    prompt: Prompt, system: str, window: int, answer: int | None
) -> None:
    room = window - (window // ANSWER_SHARE if answer is None else answer)
    beside = cautious(system) if system else 0

    def needed(sent: Prompt) -> int:
        return beside + sum(cautious(text) for _, text in sent)

    try:
        sent, left_out = fitted(prompt, (system,), window, answer)
    except TooLong:
        assert needed(prompt[-1:]) > room
    else:
        assert needed(sent) <= room
        assert sent == prompt[2 * left_out :]
        assert sent[-1] == prompt[-1]
        assert left_out == 0 or needed(prompt[2 * left_out - 2 :]) > room


@given(prompts(), texts, tokens, tokens, maybe_tokens)
def test_a_longer_context_never_leaves_more_out(
    prompt: Prompt, system: str, window: int, more: int, answer: int | None
) -> None:
    try:
        _, left_out = fitted(prompt, (system,), window, answer)
    except TooLong:
        return
    assert fitted(prompt, (system,), window + more, answer)[1] <= left_out


@given(prompts(), tokens, maybe_tokens)
def test_a_turn_that_was_left_out_stays_out_as_the_conversation_grows(
    prompt: Prompt, window: int, answer: int | None
) -> None:
    try:
        _, left_out = fitted(prompt, (), window, answer)
        longer = (*prompt, ("assistant", ""), prompt[-1])
        assert fitted(longer, (), window, answer)[1] >= left_out
    except TooLong:
        return


def test_a_candidate_keeps_how_many_turns_it_was_not_sent(driver: Any) -> None:
    def record(turn: int, left_out: int) -> RecordCandidate:
        head = (*("c1", turn, 1, 1), "text", "model", "stop")
        return RecordCandidate(*head, left_out=left_out, context_tokens=8192)

    for _ in range(3):
        driver.ask("c1", candidates=1)
    assert (
        driver.refused(record(3, 3)).message == "3 turns cannot be left out: 2 come before turn 3"
    )
    before = driver.machine.state_hash()
    driver.done(record(3, 2))
    (candidate,) = driver.turn("c1", 3).candidates
    assert (candidate.left_out, candidate.context_tokens) == (2, 8192)
    restored = restore(encode(driver.machine.freeze()), Limits())
    assert restored.conversation("c1") == driver.machine.conversation("c1")
    assert restored.state_hash() == driver.machine.state_hash() != before
    (earlier,) = turn_at(driver.turn("c1", 3), candidate.ended_revision - 1).candidates
    assert (earlier.left_out, earlier.context_tokens) == (0, 0)


def test_the_hash_of_a_state_sees_what_was_left_out(driver_class: Any) -> None:
    hashes = set()
    for more in ({}, {"context_tokens": 9}, {"context_tokens": 9, "left_out": 1}):
        driver = driver_class()
        driver.ask("c1", candidates=1)
        driver.ask("c1", candidates=1)
        driver.done(RecordCandidate("c1", 2, 1, 1, "text", "model", "stop", **more))
        hashes.add(driver.machine.state_hash())
    assert len(hashes) == 3
