"""What holds for every sequence of commands: the state machine's promises, one a test."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest
from any_commands import (
    BEGINNING,
    LIMITS,
    Client,
    Log,
    content,
    logs,
    operation_lists,
    operations,
    play,
    played,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from consensusllm.conversations import (
    Choose,
    Chosen,
    CloseTurn,
    Code,
    CompareAndSwap,
    CreateConversation,
    Delete,
    Done,
    Fork,
    Limits,
    Machine,
    MalformedSnapshot,
    OpenSession,
    Operation,
    ReassignCandidate,
    RecordCandidate,
    RecordCheckpoint,
    Refused,
    Rename,
    RetryTurn,
    ServedModel,
    ServeModels,
    SessionCommand,
    SetBudget,
    encode,
    restore,
)
from consensusllm.conversations.prompt import Prompt


@given(logs)
def test_what_budgets_have_reserved_is_what_open_candidates_hold(log: Log) -> None:
    machine = Machine(LIMITS)
    play(machine, [(0, [SessionCommand(b"e" * 16, 0, 0, OpenSession())])])
    priced = ServedModel("m", "p", max_tokens=3, completion_price=10**6)
    pricing = ServeModels(1, (priced, replace(priced, name="m2")))
    limit = SetBudget("cluster", 20)
    play(machine, [(0, [SessionCommand(b"e" * 16, 1, 0, pricing)])])
    play(machine, [(0, [SessionCommand(b"e" * 16, 2, 0, limit)])])
    for step in log:
        play(machine, [step])
        held = dict.fromkeys(machine.budgets, 0)
        for turn in machine.freeze().turns.values():
            for each in turn.candidates:
                assert not (each.ended and (each.reserved or each.budgets))
                for scope in each.budgets:
                    assert scope in held or not each.reserved
                    held[scope] = held.get(scope, 0) + each.reserved
        reserved = {scope: each.reserved for scope, each in machine.budgets.items()}
        assert dict.fromkeys(held, 0) | reserved == held


@given(logs)
def test_equal_logs_give_equal_replies_and_equal_hashes_at_every_slot(log: Log) -> None:
    one, other = Machine(LIMITS), Machine(LIMITS)
    for time_ms, batch in log:
        assert play(one, [(time_ms, batch)]) == play(other, [(time_ms, batch)])
        # Asking at every slot, or at the end only, must not matter.
        one.state_hash()
    assert one.state_hash() == other.state_hash()
    assert list(encode(one.freeze())) == list(encode(other.freeze()))


@given(logs, logs)
def test_a_restored_machine_cannot_be_told_from_one_that_applied(before: Log, after: Log) -> None:
    applied = Machine(LIMITS)
    play(applied, before)
    extra = {"members": [1, 2, 3], "cluster": "é"}
    data = b"".join(encode(applied.freeze(extra)))
    restored = restore([data[i : i + 7] for i in range(0, len(data), 7)], LIMITS)
    assert restored.extra == extra
    assert restored.state_hash() == applied.state_hash()
    assert restored.applied_slot == applied.applied_slot
    assert restored.time_ms == applied.time_ms
    assert restored.counts() == applied.counts()
    assert restored.open_turns() == applied.open_turns()
    assert play(restored, after) == play(applied, after)
    assert restored.state_hash() == applied.state_hash()
    assert restored.open_turns() == applied.open_turns()
    assert restored.summaries("", 99) == applied.summaries("", 99)
    assert restored.keys("", "", 99) == applied.keys("", "", 99)
    assert list(encode(restored.freeze())) == list(encode(applied.freeze()))


@given(st.lists(st.tuples(operations, st.booleans()), max_size=60))
def test_the_hash_is_that_of_the_state_whenever_it_was_asked_for_before(
    wanted: list[tuple[Operation, bool]],
) -> None:
    client = Client()
    for operation, asked in [*((each, True) for each in BEGINNING), *wanted]:
        client.do(operation)
        if asked:
            client.machine.state_hash()
    # A machine that is restored hashes every record anew, and holds the result against the one
    # that the snapshot was written with.
    restored = restore(encode(client.machine.freeze()), LIMITS)
    assert restored.state_hash() == client.machine.state_hash()


@given(logs, logs)
def test_what_was_frozen_does_not_change_with_the_machine(before: Log, after: Log) -> None:
    machine = Machine(LIMITS)
    play(machine, before)
    frozen = machine.freeze()
    data = list(encode(frozen))
    play(machine, after)
    assert list(encode(frozen)) == data


@given(logs)
def test_the_indexes_agree_with_the_tables(log: Log) -> None:
    machine = Machine(LIMITS)
    play(machine, log)
    frozen = machine.freeze()
    assert list(frozen.conversations) == sorted(frozen.heads)
    assert list(frozen.key_names) == sorted(frozen.keys)
    assert machine.open_turns() == sorted(
        ((name, turn) for (name, _), turn in frozen.turns.items() if not turn.closed),
        key=lambda item: (item[0], item[1].turn),
    )
    for name, head in frozen.heads.items():
        conversation = machine.conversation(name)
        assert conversation is not None
        assert [turn.turn for turn in conversation.turns] == list(range(1, head.turns + 1))
        assert head.open_turns == sum(not turn.closed for turn in conversation.turns)
    assert sum(head.turns for head in frozen.heads.values()) == len(frozen.turns)
    for _, session in frozen.sessions:
        assert len(session.replies) <= LIMITS.replies_per_session
        assert all(number >= session.acknowledged for number in session.replies)
        assert session.held_bytes == session.copy().held_bytes
    assert len(frozen.sessions) <= LIMITS.sessions


@given(
    st.lists(operations, min_size=1, max_size=20),
    st.lists(st.integers(0, 19), max_size=30),
)
def test_each_command_happens_once_however_often_and_late_it_is_repeated(
    wanted: list[Operation], repeats: list[int]
) -> None:
    limits = replace(LIMITS, replies_per_session=100, reply_bytes_per_session=1000)
    once, often = Machine(limits), Machine(limits)
    opening = SessionCommand(b"a" * 16, 0, 0, OpenSession())
    play(once, [(0, [opening])])
    play(often, [(0, [opening])])
    named: list[SessionCommand | None] = [
        SessionCommand(b"a" * 16, number, 0, operation)
        for number, operation in enumerate(wanted, 1)
    ]
    _, sent = played(once, (0, named))
    replies = [once.apply(once.applied_slot + 1, 0, [command])[0] for command in sent]
    for number, command in enumerate(sent):
        again = [sent[index] for index in repeats if index < number]
        answered = often.apply(often.applied_slot + 1, 0, [*again, command, command])
        assert answered[-2:] == [replies[number]] * 2
        assert answered[:-2] == [replies[index] for index in repeats if index < number]
    assert content(often) == content(once)


@given(st.permutations(range(1, 7)), st.lists(st.integers(1, 6), max_size=12))
def test_reordered_commands_are_applied_in_the_order_of_the_log(
    order: list[int], repeats: list[int]
) -> None:
    machine = Machine(Limits())
    play(machine, [(0, [SessionCommand(b"a" * 16, 0, 0, OpenSession())])])
    held: bytes | None = None
    swaps = {}
    for number in order:
        swaps[number] = CompareAndSwap("k", held, held := bytes([number]))
    for number in [*order, *repeats]:
        command = SessionCommand(b"a" * 16, number, 0, swaps[number])
        assert play(machine, [(0, [command])]) == [[Done()]]
    assert machine.get("k") == held


@given(logs, operations)
def test_a_refusal_changes_nothing_but_the_session(log: Log, operation: Operation) -> None:
    machine = Machine(replace(LIMITS, sessions=9))
    play(machine, log)
    client = Client(machine)
    machine.take_touched()
    before = content(machine), machine.state_hash()
    reply = client.do(operation)
    after = content(machine), machine.state_hash()
    assert before[1] != after[1], "the session's number is part of the state"
    if isinstance(reply, Refused):
        assert before[0] == after[0]
        assert machine.take_touched() == ()
        assert reply.message.isprintable()
        assert reply.message


@given(operation_lists)
def test_a_turn_has_one_winner_for_ever(wanted: list[Operation]) -> None:
    client = Client()
    for operation in wanted:
        before = client.turns()
        reply = client.do(operation)
        after = client.turns()
        if isinstance(operation, Choose) and isinstance(reply, Chosen):
            assert before[operation.conversation, reply.turn].choice == 0
            chosen = after[operation.conversation, reply.turn].candidate(reply.candidate)
            assert chosen is not None
            assert chosen.answered
        if isinstance(operation, Choose) and isinstance(reply, Refused) and reply.winner:
            assert reply.code is Code.CONFLICT
            assert before[operation.conversation, reply.turn].choice == reply.winner
        for turn_id, turn in after.items():
            earlier = before.get(turn_id)
            if earlier is not None and earlier.choice:
                assert turn.choice == earlier.choice


@given(operation_lists)
def test_a_closed_turn_changes_by_choose_and_retry_only(wanted: list[Operation]) -> None:
    client = Client()
    for operation in wanted:
        before = client.turns()
        client.do(operation)
        after = client.turns()
        for turn_id, turn in before.items():
            if turn.closed and turn_id in after and after[turn_id] != turn:
                assert isinstance(operation, (Choose, RetryTurn))
                assert after[turn_id].candidates[: len(turn.candidates)] == turn.candidates


@given(operation_lists)
def test_an_ended_candidate_never_changes_and_an_open_one_obeys_its_attempt(
    wanted: list[Operation],
) -> None:
    client = Client()
    for operation in wanted:
        before = client.turns()
        reply = client.do(operation)
        for turn_id, turn in client.turns().items():
            if turn_id not in before:
                continue
            for candidate, now in zip(
                before[turn_id].candidates,
                turn.candidates[: len(before[turn_id].candidates)],
                strict=True,
            ):
                assert now.attempt >= candidate.attempt
                if candidate.ended:
                    assert now == candidate
                elif isinstance(operation, (RecordCandidate, RecordCheckpoint)) and (
                    now.text != candidate.text
                ):
                    assert reply == Done()
                    assert operation.attempt == candidate.attempt
                elif now.attempt > candidate.attempt:
                    assert now.text == candidate.text[: now.kept]
        if isinstance(operation, (RecordCandidate, RecordCheckpoint)) and reply == Done():
            held = before[operation.conversation, operation.turn].candidate(operation.candidate)
            assert held is not None
            assert not held.ended
            assert held.attempt == operation.attempt
        if isinstance(operation, ReassignCandidate) and reply == Done():
            moved = client.turns()[operation.conversation, operation.turn].candidate(
                operation.candidate
            )
            assert moved is not None
            assert moved.attempt == operation.attempt


@given(operation_lists)
def test_closing_closes_everything_and_every_closed_turn_has_ended(
    wanted: list[Operation],
) -> None:
    client = Client()
    for operation in wanted:
        reply = client.do(operation)
        after = client.turns()
        if isinstance(operation, CloseTurn) and reply == Done():
            latest = client.machine.conversation(operation.conversation)
            assert latest is not None
            assert after[operation.conversation, operation.turn or len(latest.turns)].closed
        for turn in after.values():
            assert turn.closed == all(candidate.ended for candidate in turn.candidates)
    for name, turn in client.machine.open_turns():
        assert client.do(CloseTurn(name, turn.turn, "end")) == Done()
    assert client.machine.open_turns() == []


@given(operation_lists, operation_lists)
def test_a_fork_and_its_source_never_touch_each_other(
    before: list[Operation], after: list[Operation]
) -> None:
    client = Client(Machine(replace(LIMITS, conversations=9)))
    for operation in before:
        client.do(operation)
    client.do(CreateConversation("c1"))
    client.do(Fork("c1", "copy"))
    copy = client.machine.conversation("copy")
    assert copy is not None
    for operation in after:
        client.do(operation)
    assert client.machine.conversation("copy") == copy


@given(operation_lists)
def test_a_prompt_never_changes_once_the_question_is_asked(wanted: list[Operation]) -> None:
    client = Client()
    for operation in wanted:
        prompts = all_prompts(client)
        if isinstance(client.do(operation), Refused) or isinstance(operation, Delete | Rename):
            continue
        after = all_prompts(client)
        assert {candidate: after[candidate] for candidate in prompts} == prompts


def all_prompts(client: Client) -> dict[tuple[str, int, int], Prompt]:
    return {
        (conversation, number, each.number): client.machine.prompt(conversation, turn, each)
        for (conversation, number), turn in client.turns().items()
        for each in turn.candidates
    }


@settings(max_examples=40)
@given(logs, st.data())
def test_a_damaged_snapshot_is_never_restored(log: Log, data: st.DataObject) -> None:
    machine = Machine(LIMITS)
    play(machine, log)
    whole = b"".join(encode(machine.freeze()))
    at = data.draw(st.integers(0, len(whole) - 1))
    for damaged in (
        whole[:at],
        whole[:at] + bytes([whole[at] ^ 1 << data.draw(st.integers(0, 7))]) + whole[at + 1 :],
        whole + b"x",
        whole + whole,
    ):
        try:
            restored = restore([damaged], LIMITS)
        except MalformedSnapshot:
            continue
        # Some bits of a zlib stream carry nothing (its window size, padding).
        assert damaged != whole[:at]
        assert list(encode(restored.freeze())) == list(encode(machine.freeze()))


@settings(max_examples=40)
@given(logs, st.data())
def test_a_snapshot_with_a_forged_line_is_never_restored(log: Log, data: st.DataObject) -> None:
    machine = Machine(LIMITS)
    play(machine, log)
    lines = zlib.decompress(b"".join(encode(machine.freeze()))).splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    other = data.draw(st.sampled_from([b"", b"[]\n", b"{}\n", b"1\n", b"[" * 5000, *lines]))
    forged = b"".join([*lines[:at], other, *lines[at + 1 :]])
    if other == lines[at]:
        return
    with pytest.raises(MalformedSnapshot):
        restore([zlib.compress(forged)], LIMITS)


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_no_bytes_make_restore_fail_in_another_way(chunks: list[bytes]) -> None:
    with pytest.raises(MalformedSnapshot):
        restore(chunks, LIMITS)
    with pytest.raises(MalformedSnapshot):
        restore([zlib.compress(b"\n".join(chunks))], LIMITS)
