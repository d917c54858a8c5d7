"""The hash of a table, however much of it is hashed at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.conversations.fingerprint import Fingerprint


def line(key: int, record: bytes) -> bytes:
    return b"%d " % key + record


@given(st.dictionaries(st.integers(), st.binary()), st.lists(st.integers(0, 3)))
def test_steps_lead_to_the_hash_that_is_taken_at_once(
    table: dict[int, bytes], steps: list[int]
) -> None:
    stepped = Fingerprint(table, line)
    for key, number in enumerate(steps):
        table[key] = b"new"
        stepped.marked.add(key)
        for _ in range(number):
            stepped.step()
    while not stepped.step():
        pass
    assert not stepped.marked
    assert stepped.total() == Fingerprint(table, line).total()


@pytest.mark.parametrize(("records", "size_bytes", "steps"), [(3000, 1, 3), (9, 1 << 20, 9)])
def test_a_step_is_of_so_many_records_and_bytes(records: int, size_bytes: int, steps: int) -> None:
    table = dict.fromkeys(range(records), bytes(size_bytes))
    hashed = Fingerprint(table, line)
    taken = 1
    while not hashed.step():
        taken += 1
    assert taken == steps


def test_what_an_owner_hashes_as_it_goes_on_is_bounded_in_bytes_too() -> None:
    hashed = Fingerprint(dict.fromkeys(range(1030), bytes(1 << 20)), line)
    hashed.settle(1000)
    assert len(hashed.marked) == 1029
