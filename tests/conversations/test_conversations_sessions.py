"""At most once: repeated, reordered, acknowledged, expired and over-full sessions."""

from __future__ import annotations

from typing import Any

from consensusllm.conversations import (
    Code,
    CompareAndSwap,
    CreateConversation,
    Done,
    Limits,
    OpenSession,
    Operation,
    Put,
    Refused,
    Reply,
    SessionCommand,
)

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


def opened(session: bytes, acknowledged: int = 0) -> SessionCommand:
    return SessionCommand(session, 0, acknowledged, OpenSession())


def create(session: bytes, sequence: int, acknowledged: int, name: str) -> SessionCommand:
    return SessionCommand(session, sequence, acknowledged, CreateConversation(name))


def code(reply: Reply) -> Code | None:
    return reply.code if isinstance(reply, Refused) else None


def test_a_repeated_command_gets_its_first_reply(driver: Any) -> None:
    first, again, late = driver.send(*[create(A, 1, 0, "c1")], opened(A), create(A, 1, 0, "c1"))
    assert code(first) is Code.SESSION_EXPIRED
    assert (again, late) == (Done(), Done())
    assert driver.send(create(A, 1, 0, "c1")) == [Done()], "applied twice, it would be EXISTS"
    refused = driver.send(create(A, 2, 0, "c1"))
    assert code(refused[0]) is Code.EXISTS
    assert driver.send(create(A, 2, 0, "c1")) == refused


def test_commands_out_of_order_are_each_applied_once(driver: Any) -> None:
    driver.send(opened(A))
    swaps = {
        2: CompareAndSwap("k", None, b"2"),
        1: CompareAndSwap("k", b"2", b"1"),
        3: CompareAndSwap("k", b"1", b"3"),
    }
    for _ in range(2):
        for sequence, swap in swaps.items():
            assert driver.send(SessionCommand(A, sequence, 0, swap)) == [Done()]
    assert driver.machine.get("k") == b"3"


def test_an_acknowledged_number_is_never_applied(driver: Any) -> None:
    driver.send(opened(A), create(A, 1, 0, "c1"), create(A, 3, 3, "c3"))
    for sequence in (1, 2):
        (reply,) = driver.send(create(A, sequence, 0, f"late{sequence}"))
        assert code(reply) is Code.STALE
    (reply,) = driver.send(create(A, 4, 5, "misnumbered"))
    assert code(reply) is Code.STALE
    assert driver.machine.counts().conversations == 2
    assert driver.send(create(A, 3, 0, "c3")) == [Done()]


def test_replies_are_forgotten_once_acknowledged(driver: Any) -> None:
    driver.send(opened(A), *(create(A, n, 0, f"c{n}") for n in range(1, 50)))
    driver.send(create(A, 50, 40, "c50"))
    sessions = dict(driver.machine.freeze().sessions)
    assert sorted(sessions[A].replies) == list(range(40, 51))
    driver.send(create(A, 10**18, 10**18, "far"))
    assert list(dict(driver.machine.freeze().sessions)[A].replies) == [10**18]


def test_numbers_and_opening_belong_together(driver: Any) -> None:
    driver.send(opened(A))
    assert code(driver.send(create(A, 0, 0, "c1"))[0]) is Code.INVALID
    assert code(driver.send(SessionCommand(A, 1, 0, OpenSession()))[0]) is Code.INVALID
    assert driver.machine.counts().conversations == 0
    assert driver.send(opened(A)) == [Done()]


def test_opening_again_forgets_no_number(driver: Any) -> None:
    driver.send(opened(A), create(A, 1, 0, "c1"), opened(A), opened(A, acknowledged=1))
    assert driver.send(create(A, 1, 0, "c1")) == [Done()]
    driver.send(opened(A, acknowledged=2))
    assert code(driver.send(create(A, 1, 0, "c1"))[0]) is Code.STALE


def test_too_many_unacknowledged_replies_are_refused_and_not_applied(driver_class: Any) -> None:
    driver = driver_class(Limits(replies_per_session=2))
    driver.send(opened(A), create(A, 1, 0, "c1"), create(A, 2, 0, "c2"))
    (reply,) = driver.send(create(A, 3, 0, "c3"))
    assert code(reply) is Code.TOO_LARGE
    assert driver.send(create(A, 2, 0, "c2")) == [Done()]
    assert driver.send(create(A, 3, 2, "c3")) == [Done()]


def test_values_in_unacknowledged_replies_are_bounded_in_bytes(driver_class: Any) -> None:
    driver = driver_class(Limits(reply_bytes_per_session=10))
    lost: Operation = CompareAndSwap("k", None, b"x")
    driver.send(opened(A), SessionCommand(A, 1, 0, Put("k", b"v" * 6)))
    for sequence, expected in ((2, Code.CONFLICT), (3, Code.CONFLICT), (4, Code.TOO_LARGE)):
        assert code(driver.send(SessionCommand(A, sequence, 0, lost))[0]) is expected
    for sequence in (4, 5):
        (reply,) = driver.send(SessionCommand(A, sequence, sequence - 1, lost))
        assert code(reply) is Code.CONFLICT
    assert dict(driver.machine.freeze().sessions)[A].held_bytes == 12


def test_the_session_that_is_unused_the_longest_goes_first(driver_class: Any) -> None:
    driver = driver_class(Limits(sessions=3))
    driver.send(opened(A), opened(B))
    driver.send(create(A, 1, 0, "c1"), opened(C))
    assert [name for name, _ in driver.machine.freeze().sessions][1:] == [A, C]
    assert code(driver.send(create(B, 1, 0, "c2"))[0]) is None
    driver.send(opened(b"d" * 16))
    assert code(driver.send(create(A, 2, 0, "c3"))[0]) is Code.SESSION_EXPIRED


def test_a_command_that_could_not_be_decoded_is_refused_alone(driver: Any) -> None:
    before = driver.machine.state_hash()
    driver.machine.apply(driver.machine.applied_slot + 1, 0, ())
    assert driver.machine.state_hash() == before
    replies = driver.machine.apply(driver.machine.applied_slot + 1, 0, [None])
    assert code(replies[0]) is Code.INVALID
    assert driver.machine.state_hash() == before
    assert driver.send(None, opened(A), create(A, 1, 0, "c1"))[1:] == [Done(), Done()]
