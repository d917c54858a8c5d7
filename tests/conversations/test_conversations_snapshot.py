"""What a snapshot keeps, and what is not restored though its bytes are in order."""

from __future__ import annotations

import zlib
from itertools import pairwise
from typing import Any

import pytest

from consensusllm.conversations import (
    Candidate,
    Choose,
    CompareAndSwap,
    CreateConversation,
    Delete,
    DeleteKey,
    Encoding,
    GenerationOptions,
    Limits,
    MalformedSnapshot,
    OtherVersion,
    PlannedCandidate,
    Put,
    ReassignCandidate,
    RecordCandidate,
    RecordCheckpoint,
    SessionCommand,
    SubmitQuery,
    Turn,
    Usage,
    encode,
    restore,
)
from consensusllm.conversations.fingerprint import MODULUS, Fingerprint, digest
from consensusllm.conversations.lines import (
    Clock,
    clock_line,
    head_line,
    key_line,
    line,
    session_line,
    turn_line,
)
from consensusllm.conversations.records import Head
from consensusllm.conversations.sessions import Session


def test_every_field_of_every_record_survives(driver: Any) -> None:
    driver.done(CreateConversation("gone"))
    driver.ask("gone")
    driver.done(ReassignCandidate("gone", 1, 1, 2, 3, 0))
    driver.done(Delete("gone"))
    driver.done(CreateConversation("c1"))
    options = GenerationOptions(0.1, 7, -(2**60), "system\n")
    plan = (PlannedCandidate(1, 1, "planned"), PlannedCandidate(4, 2))
    driver.done(SubmitQuery("c1", "one \U0001f600\x00", plan, 2, 9999, options))
    attempt = driver.turn("c1", 1).candidate(1).attempt
    driver.done(RecordCandidate("c1", 1, 1, attempt, "text", "real", "length", Usage(3, 2**63), ""))
    driver.done(RecordCheckpoint("c1", 1, 4, attempt, 0, "so far"))
    driver.done(ReassignCandidate("c1", 1, 4, attempt + 1, 3, 2))
    driver.done(Choose("c1", 1, 1))
    driver.ask("c1", "two")
    driver.done(Put("key é", bytes(range(256))))
    session = b"s" * 16
    driver.refused(CompareAndSwap("key é", b"", b""))
    for sequence, operation in ((9, Put("a", b"")), (7, Put("", b"")), (8, Choose("c1", 1, 4))):
        driver.send(SessionCommand(driver.session, 10_000 + sequence, 0, operation))
    driver.send(SessionCommand(session, 1, 0, Put("no session", b"")))

    frozen = driver.machine.freeze({"members": [1, 2]})
    machine = restore(encode(frozen), Limits())
    again = machine.freeze(machine.extra)
    for name in ("slot", "time_ms", "attempt_floor", "touches", "heads", "turns", "keys", "extra"):
        assert getattr(again, name) == getattr(frozen, name)
    assert frozen.attempt_floor == 2
    for (old_name, old), (new_name, new) in zip(frozen.sessions, again.sessions, strict=True):
        assert old_name == new_name
        for slot in Session.__slots__:
            assert getattr(old, slot) == getattr(new, slot)
    assert machine.state_hash() == driver.machine.state_hash()


def test_a_long_snapshot_comes_in_chunks(driver: Any) -> None:
    random = b"".join(digest(b"%d" % i).to_bytes(16, "big") for i in range(60_000))
    driver.done(Put("random", random))
    *whole, rest = encode(driver.machine.freeze())
    assert len(whole) > 2
    assert set(map(len, whole)) == {256 * 1024}
    assert 0 < len(rest) < 256 * 1024
    assert restore([*whole, rest], Limits()).state_hash() == driver.machine.state_hash()


def test_a_snapshot_is_encoded_in_small_steps_that_make_the_same_bytes(driver: Any) -> None:
    for number in range(2_000):
        driver.done(Put(f"k{number}", b"%100d" % number))
    encoding = Encoding(driver.machine.freeze())
    parts, done = [], [0]
    for part in encoding:
        parts.append(part)
        done.append(encoding.done)
    assert [part for part in parts if part] == list(encode(driver.machine.freeze()))
    assert done[-1] == encoding.total == 2_000 + 2, "the keys, the session and the clock"
    assert max(after - before for before, after in pairwise(done)) < 200


def test_hashing_is_spread_over_the_slots_that_make_it_due() -> None:
    hashed: list[int] = []
    table = {number: number for number in range(10_000)}

    def line(key: int, record: int) -> bytes:
        hashed.append(key)
        return b"%d" % record

    fingerprint = Fingerprint(table, line)
    fingerprint.settle(10)
    assert 0 < len(hashed) < 200, "in proportion to what was written"
    while len(fingerprint.marked) > 1_024:
        fingerprint.settle(100)
    assert fingerprint.total() == sum(digest(b"%d" % number) for number in table) % MODULUS
    assert sorted(hashed) == list(table), "each once"


def test_a_snapshot_is_of_the_slot_at_which_it_was_frozen(driver: Any) -> None:
    driver.done(Put("k", b"before"))
    driver.ask("c1")
    state_hash, frozen = driver.machine.state_hash(), driver.machine.freeze()
    driver.done(Put("k", b"after"))
    driver.answer("c1", 1, 1)
    driver.done(CreateConversation("c2"))
    machine = restore(encode(frozen), Limits())
    assert machine.state_hash() == state_hash != driver.machine.state_hash()
    assert machine.get("k") == b"before"


def test_what_was_removed_leaves_no_trace_in_the_hash(driver_class: Any) -> None:
    asked, unasked = driver_class(), driver_class()
    for operation in (Put("k", b"v"), CreateConversation("c1"), DeleteKey("k"), Delete("c1")):
        for driver in (asked, unasked):
            driver.done(operation)
        asked.machine.state_hash()
    assert asked.machine.state_hash() == unasked.machine.state_hash()
    for driver in (asked, unasked):
        driver.ask("c1")
    asked.machine.state_hash()
    for driver in (asked, unasked):
        driver.done(Delete("c1"))
    assert asked.machine.state_hash() == unasked.machine.state_hash()


def test_many_changes_between_two_askings_are_hashed_rightly(driver: Any) -> None:
    for number in range(9_000):
        driver.do(Put(f"k{number % 5000}", b"%d" % number))
    machine = restore(encode(driver.machine.freeze()), Limits())
    assert machine.state_hash() == driver.machine.state_hash()


CLOCK = clock_line(Clock(1, 0, 2))
OPEN = Turn(1, "q", (Candidate(1, 1),))
CLOSED = Turn(1, "q", (Candidate(1, 1, ended=True),), closed=True)


def sealed(*records: bytes, first: bytes = line("consensusllm-state", 7, {})) -> bytes:
    """A snapshot of these records with the count and the hash that they have."""
    total = sum(map(digest, records)) % MODULUS
    end = line("end", len(records), 1, f"{total:032x}")
    return zlib.compress(b"\n".join((first, *records, end, b"")))


def test_records_in_order_are_restored() -> None:
    machine = restore(
        [
            sealed(
                CLOCK,
                session_line(b"a", Session(1, 0, {})),
                session_line(b"b", Session(2, 0, {})),
                head_line("c1", Head(1, 0, 0, 1, 1)),
                turn_line(("c1", 1), OPEN),
                key_line("k", b""),
                key_line("l", b""),
            )
        ],
        Limits(),
    )
    assert machine.open_turns() == [("c1", OPEN)]


@pytest.mark.parametrize(
    "records",
    [
        (),
        (CLOCK, session_line(b"a", Session(2, 0, {})), session_line(b"b", Session(1, 0, {}))),
        (CLOCK, session_line(b"a", Session(1, 0, {})), session_line(b"b", Session(1, 0, {}))),
        (
            CLOCK,
            session_line(b"n" * 16, Session(1, 0, {})),
            session_line(b"n" * 16 + bytes(8), Session(2, 0, {})),
        ),
        (CLOCK, key_line("l", b""), key_line("k", b"")),
        (CLOCK, key_line("k", b""), key_line("k", b"")),
        (CLOCK, head_line("c2", Head(1, 0, 0)), head_line("c1", Head(1, 0, 0))),
        (CLOCK, head_line("c1", Head(1, 0, 0, 1, 0))),
        (CLOCK, head_line("c1", Head(1, 0, 0, 1, 0)), turn_line(("c1", 1), OPEN)),
        (CLOCK, head_line("c1", Head(1, 0, 0, 1, 1)), turn_line(("c1", 1), CLOSED)),
        (CLOCK, head_line("c1", Head(1, 0, 0, 1, 0)), turn_line(("c2", 1), CLOSED)),
        (CLOCK, head_line("c1", Head(1, 0, 0, 1, 0)), turn_line(("c1", 1), Turn(1, "", ()))),
        (CLOCK, line("key", "k", 1)),
        (CLOCK, line("key", "k", "?")),
        (CLOCK, line("key", "k", "", "")),
        (CLOCK, line("session", "xy", 1, 0, [], [])),
        (CLOCK, line("session", "00", 1, 0, [], [[1, ["refused", "new", "", 0, 0, None]]])),
        (CLOCK, line("session", "00", 1, 0, [], [[1, ["new"]]])),
        (CLOCK, line("session", "00", 1, 0, [], [[1, []]])),
        (CLOCK, line("new")),
        (line("clock", 1, 0, True),),
    ],
)
def test_records_that_no_machine_has_are_not_restored(records: tuple[bytes, ...]) -> None:
    with pytest.raises(MalformedSnapshot):
        restore([sealed(*records)], Limits())


@pytest.mark.parametrize(
    "first",
    [line("consensusllm-state", 5, {}), line("other", 6, {}), line("consensusllm-state", 7, [])],
)
def test_another_version_is_not_restored(first: bytes) -> None:
    with pytest.raises(MalformedSnapshot):
        restore([sealed(CLOCK, first=first)], Limits())


def test_a_snapshot_of_another_release_is_told_from_a_damaged_one() -> None:
    for version in (6, 8):
        with pytest.raises(OtherVersion, match=rf"version {version}, .* reads version 7; start"):
            restore([sealed(CLOCK, first=line("consensusllm-state", version, {}))], Limits())
    with pytest.raises(MalformedSnapshot) as damaged:
        restore([sealed(CLOCK, first=line("consensusllm-state", "?", {}))], Limits())
    assert not isinstance(damaged.value, OtherVersion)


def test_a_changed_value_is_found_by_the_hash(driver: Any) -> None:
    driver.done(Put("k", b"value"))
    text = zlib.decompress(b"".join(encode(driver.machine.freeze())))
    forged = text.replace(key_line("k", b"value"), key_line("k", b"VALUE"))
    assert forged != text
    with pytest.raises(MalformedSnapshot, match="hash"):
        restore([zlib.compress(forged)], Limits())
