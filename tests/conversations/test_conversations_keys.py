"""Plain keys, and the sorted names that list them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensusllm.conversations import Code, CompareAndSwap, DeleteKey, Limits, Put
from consensusllm.conversations.names import SortedNames


def test_put_get_and_delete(driver: Any) -> None:
    assert driver.machine.get("k") is None
    driver.done(Put("k", b""))
    assert driver.machine.get("k") == b""
    driver.done(Put("k", b"v"))
    assert driver.machine.get("k") == b"v"
    driver.done(DeleteKey("k"))
    assert driver.machine.get("k") is None
    assert driver.refused(DeleteKey("k")).code is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("stands", "expected", "new"),
    [
        (None, None, b"v"),
        (b"v", b"v", b"w"),
        (b"v", b"v", None),
        (None, None, None),
        (b"", b"", b"v"),
    ],
)
def test_a_swap_that_expects_what_stands_happens(
    driver: Any, stands: bytes | None, expected: bytes | None, new: bytes | None
) -> None:
    if stands is not None:
        driver.done(Put("k", stands))
    driver.done(CompareAndSwap("k", expected, new))
    assert driver.machine.get("k") == new


@pytest.mark.parametrize(
    ("stands", "expected"), [(None, b"v"), (b"v", None), (b"v", b"w"), (b"", None), (None, b"")]
)
def test_a_swap_that_expects_something_else_is_told_what_stands(
    driver: Any, stands: bytes | None, expected: bytes | None
) -> None:
    if stands is not None:
        driver.done(Put("k", stands))
    refused = driver.refused(CompareAndSwap("k", expected, b"new"))
    assert (refused.code, refused.current) == (Code.CONFLICT, stands)


def test_keys_and_values_are_bounded(driver_class: Any) -> None:
    driver = driver_class(Limits(key_characters=3, value_bytes=2, keys=2))
    assert driver.refused(Put("", b"")).code is Code.INVALID
    assert driver.refused(Put("k" * 4, b"")).code is Code.INVALID
    assert driver.refused(Put("k", b"vvv")).code is Code.TOO_LARGE
    driver.done(Put("ééé", b"vv"))
    driver.done(Put("k", b""))
    assert driver.refused(CompareAndSwap("new", None, b"")).code is Code.TOO_LARGE
    driver.done(Put("k", b"v"))


def test_keys_are_listed_by_prefix_page_by_page(driver: Any) -> None:
    for key in ("b", "a/2", "a/1", "a", "é"):
        driver.done(Put(key, b""))
    assert driver.machine.keys("", "", 10) == ["a", "a/1", "a/2", "b", "é"]
    assert driver.machine.keys("a/", "", 10) == ["a/1", "a/2"]
    assert driver.machine.keys("a/", "a/1", 10) == ["a/2"]
    assert driver.machine.keys("", "a", 2) == ["a/1", "a/2"]
    assert driver.machine.keys("a", "c", 2) == []
    assert driver.machine.keys("c", "", 2) == []


NAMES = st.text(st.sampled_from("abc"), min_size=1, max_size=8)


@given(
    st.lists(NAMES, max_size=300),
    st.lists(NAMES, max_size=100),
    st.text("abc", max_size=3),
    st.text("abc", max_size=3),
    st.integers(0, 20),
)
def test_sorted_names_page_as_a_sorted_set_does(
    added: list[str], removed: list[str], prefix: str, after: str, limit: int
) -> None:
    names, model = SortedNames(), set()
    for name in added:
        if name not in model:
            names.add(name)
            model.add(name)
    for name in removed:
        if name in model:
            names.remove(name)
            model.remove(name)
    assert list(names) == sorted(model)
    fitting = [name for name in sorted(model) if name.startswith(prefix) and name > after]
    assert names.page(after, limit, prefix) == fitting[:limit]
    assert list(SortedNames(sorted(model))) == sorted(model)


def test_sorted_names_stay_sorted_over_many_blocks() -> None:
    numbers = [f"{number * 7919 % 5003:05}" for number in range(5003)]
    names = SortedNames()
    for name in numbers:
        names.add(name)
    assert list(names) == sorted(numbers)
    assert names.page("01233", 2000) == sorted(numbers)[1234:3234]
    for name in numbers[::2]:
        names.remove(name)
    assert list(names) == sorted(numbers[1::2])
