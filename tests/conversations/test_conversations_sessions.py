"""At most once: repeated, reordered, acknowledged, expired and over-full sessions."""

from __future__ import annotations

from typing import Any

from consensusllm.conversations import (
    Code,
    CompareAndSwap,
    CreateConversation,
    Done,
    Limits,
    Machine,
    OpenSession,
    Operation,
    Put,
    Refused,
    Reply,
    SessionCommand,
    SessionOpened,
    encode,
    restore,
)
from consensusllm.wire.commands import decode_command

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


def opened(session: bytes, acknowledged: int = 0) -> SessionCommand:
    return SessionCommand(session, 0, acknowledged, OpenSession())


def create(session: bytes, sequence: int, acknowledged: int, name: str) -> SessionCommand:
    return SessionCommand(session, sequence, acknowledged, CreateConversation(name))


def code(reply: Reply) -> Code | None:
    return reply.code if isinstance(reply, Refused) else None


def test_a_repeated_command_gets_its_first_reply(driver: Any) -> None:
    assert code(driver.send(create(A, 1, 0, "c1"))[0]) is Code.SESSION_EXPIRED
    a = driver.opened(A)
    assert driver.send(create(a, 1, 0, "c1")) == [Done()]
    assert driver.send(create(a, 1, 0, "c1")) == [Done()], "applied twice, it would be EXISTS"
    refused = driver.send(create(a, 2, 0, "c1"))
    assert code(refused[0]) is Code.EXISTS
    assert driver.send(create(a, 2, 0, "c1")) == refused


def test_commands_out_of_order_are_each_applied_once(driver: Any) -> None:
    a = driver.opened(A)
    swaps = {
        2: CompareAndSwap("k", None, b"2"),
        1: CompareAndSwap("k", b"2", b"1"),
        3: CompareAndSwap("k", b"1", b"3"),
    }
    for _ in range(2):
        for sequence, swap in swaps.items():
            assert driver.send(SessionCommand(a, sequence, 0, swap)) == [Done()]
    assert driver.machine.get("k") == b"3"


def test_an_acknowledged_number_is_never_applied(driver: Any) -> None:
    a = driver.opened(A)
    driver.send(create(a, 1, 0, "c1"), create(a, 3, 3, "c3"))
    for sequence in (1, 2):
        (reply,) = driver.send(create(a, sequence, 0, f"late{sequence}"))
        assert code(reply) is Code.STALE
    (reply,) = driver.send(create(a, 4, 5, "misnumbered"))
    assert code(reply) is Code.STALE
    assert driver.machine.counts().conversations == 2
    assert driver.send(create(a, 3, 0, "c3")) == [Done()]


def test_replies_are_forgotten_once_acknowledged(driver: Any) -> None:
    a = driver.opened(A)
    driver.send(*(create(a, n, 0, f"c{n}") for n in range(1, 50)))
    driver.send(create(a, 50, 40, "c50"))
    sessions = dict(driver.machine.freeze().sessions)
    assert sorted(sessions[a].replies) == list(range(40, 51))
    driver.send(create(a, 10**18, 10**18, "far"))
    assert list(dict(driver.machine.freeze().sessions)[a].replies) == [10**18]


def test_numbers_and_opening_belong_together(driver: Any) -> None:
    a = driver.opened(A)
    assert code(driver.send(create(a, 0, 0, "c1"))[0]) is Code.INVALID
    assert code(driver.send(SessionCommand(a, 1, 0, OpenSession()))[0]) is Code.INVALID
    assert driver.machine.counts().conversations == 0
    assert driver.opened(A) == a


def test_opening_again_forgets_no_number(driver: Any) -> None:
    a = driver.opened(A)
    driver.send(create(a, 1, 0, "c1"))
    assert driver.send(opened(A), opened(A, acknowledged=1)) == [SessionOpened(a)] * 2
    assert driver.send(create(a, 1, 0, "c1")) == [Done()]
    driver.send(opened(A, acknowledged=2))
    assert code(driver.send(create(a, 1, 0, "c1"))[0]) is Code.STALE


def test_a_session_with_too_many_unacknowledged_replies_ends(driver_class: Any) -> None:
    driver = driver_class(Limits(replies_per_session=2))
    a = driver.opened(A)
    driver.send(create(a, 1, 0, "c1"), create(a, 2, 0, "c2"))
    assert driver.send(create(a, 2, 0, "c2")) == [Done()], "what is answered needs no room"
    assert driver.send(create(a, 3, 2, "c3")) == [Done()], "what is acknowledged makes room"
    (reply,) = driver.send(create(a, 4, 0, "c4"))
    assert code(reply) is Code.SESSION_EXPIRED
    assert "2 of its replies are not acknowledged" in reply.message
    assert a not in dict(driver.machine.freeze().sessions)
    for late in (create(a, 4, 4, "c4"), create(a, 2, 0, "c2"), create(a, 5, 5, "c5")):
        assert code(driver.send(late)[0]) is Code.SESSION_EXPIRED
    assert driver.machine.counts().conversations == 3
    restored = restore(encode(driver.machine.freeze()), driver.limits)
    assert restored.state_hash() == driver.machine.state_hash()
    again = driver.opened(A)
    assert again != a
    assert driver.send(create(again, 1, 1, "c4")) == [Done()]


def test_values_in_unacknowledged_replies_are_bounded_in_bytes(driver_class: Any) -> None:
    driver = driver_class(Limits(reply_bytes_per_session=10))
    lost: Operation = CompareAndSwap("k", None, b"x")
    a = driver.opened(A)
    driver.send(SessionCommand(a, 1, 0, Put("k", b"v" * 6)))
    for sequence, expected in ((2, Code.CONFLICT), (3, Code.CONFLICT), (4, Code.TOO_LARGE)):
        assert code(driver.send(SessionCommand(a, sequence, 0, lost))[0]) is expected
    assert dict(driver.machine.freeze().sessions)[a].held_bytes == 12
    for sequence, expected in ((4, Code.TOO_LARGE), (5, Code.CONFLICT)):
        (reply,) = driver.send(SessionCommand(a, sequence, 3, lost))
        assert code(reply) is expected, "a refusal is final, like any other reply"
    assert dict(driver.machine.freeze().sessions)[a].held_bytes == 12


def test_the_session_that_is_unused_the_longest_goes_first(driver_class: Any) -> None:
    driver = driver_class(Limits(sessions=3))
    a, b = driver.opened(A), driver.opened(B)
    driver.send(create(a, 1, 0, "c1"))
    c = driver.opened(C)
    assert [session for session, _ in driver.machine.freeze().sessions] == [b, a, c]
    assert code(driver.send(create(b, 1, 0, "c2"))[0]) is None
    driver.opened(b"d" * 16)
    assert code(driver.send(create(a, 2, 0, "c3"))[0]) is Code.SESSION_EXPIRED


def test_what_is_opened_again_after_it_was_evicted_is_another_session(driver_class: Any) -> None:
    driver = driver_class(Limits(sessions=2))
    before = driver.opened(A)
    assert driver.send(create(before, 1, 0, "c1")) == [Done()]
    driver.opened(B)
    driver.opened(C)
    after = driver.opened(A)
    assert before[:16] == after[:16] == A
    assert int.from_bytes(after[16:], "big") > int.from_bytes(before[16:], "big") > 0
    for session in (before, A, A + bytes(8)):
        assert code(driver.send(create(session, 1, 0, "c2"))[0]) is Code.SESSION_EXPIRED
    assert driver.send(create(after, 1, 0, "c2")) == [Done()]


# What was written before sessions had numbers -----------------------------------------------------

OLD_LOG = [
    "0a10616161616161616161616161616161612200",
    "0a1061616161616161616161616161616161100118018a01060a016b120131",
    "0a1061616161616161616161616161616161100218019201090a016b1201391a0132",
    "0a10626262626262626262626262626262622200",
    "0a1062626262626262626262626262626262100118018a01060a016c120176",
]
"""Sessions a and b: open a; put k; a compare and swap that is refused; open b; put l."""

OLD_SNAPSHOT = (
    "78017d8ec16ac3301044eff90ab1975cb620d5891d17f2093de42c7c90a57563ac4a10c98110faef1d937bb488dd1d76"
    "9867c9e7542495b5c4f8fb51aaab42dcf1f36fd859f231fb85b8d15ab3e666938a9432e7444cad795ff0b1616b06b6f6"
    "932ddd645a8b04381139c5d9578c8b3cd47ed9ab6b8ea1289772bdca4ddd5d5ce54bc59c17e5aa82a67212742c404c38"
    "ddee0486a082f83960fc7133b03650fabe9ccf34e00118095b0efe4b852409140d8a0e5afbd3743c1c6534ae0b4677ed"
    "18fa51c2a9d7fdd84e34ecfe01013a54fb"
)
"""After the first three of them."""

OLD_HASH = "1599aa2db2993cd980de1eb3797154a5"
"""After all of them."""


def test_a_snapshot_and_a_log_of_before_sessions_had_numbers_give_the_state_that_they_gave() -> (
    None
):
    commands = [decode_command(bytes.fromhex(each)) for each in OLD_LOG]
    replayed = Machine(Limits())
    restored = restore([bytes.fromhex(OLD_SNAPSHOT)], Limits())
    for machine in (replayed, restored):
        for slot in range(machine.applied_slot + 1, len(commands) + 1):
            (reply,) = machine.apply(slot, 1000 * slot, [commands[slot - 1]])
            assert slot == 3 or reply == Done()
        assert machine.state_hash() == OLD_HASH
        (again,) = machine.apply(6, 6000, [commands[2]])
        assert code(again) is Code.CONFLICT
        assert again.current == b"1"


def test_sessions_of_before_are_refused_what_they_have_no_room_for_as_before(
    driver_class: Any,
) -> None:
    for limits in (Limits(replies_per_session=2), Limits(reply_bytes_per_session=2)):
        driver = driver_class(limits)
        driver.send(SessionCommand(A, 0, 0, OpenSession(numbered=False)))
        driver.send(SessionCommand(A, 1, 0, Put("k", b"vv")))
        driver.send(SessionCommand(A, 2, 0, CompareAndSwap("k", None, b"x")))
        assert code(driver.send(create(A, 3, 0, "c3"))[0]) is Code.TOO_LARGE
        assert driver.send(create(A, 3, 3, "c3")) == [Done()]


def test_a_command_that_could_not_be_decoded_is_refused_alone(driver: Any) -> None:
    before = driver.machine.state_hash()
    driver.machine.apply(driver.machine.applied_slot + 1, 0, ())
    assert driver.machine.state_hash() == before
    replies = driver.machine.apply(driver.machine.applied_slot + 1, 0, [None])
    assert code(replies[0]) is Code.INVALID
    assert driver.machine.state_hash() == before
    a = driver.opened(A)
    assert driver.send(None, create(a, 1, 0, "c1"))[1:] == [Done()]
