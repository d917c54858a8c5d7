"""The replicated clock as one node tells it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consensusllm.paxos.clock import Clock


def test_it_is_the_wall_clock_while_that_is_ahead() -> None:
    clock = Clock(5_000)
    clock.reached(5_000, 100.0)
    assert clock.time_ms(100.25) == 105_250


def test_it_goes_on_from_what_was_reached_at_its_own_rate() -> None:
    clock = Clock(0)
    clock.reached(1_000_000, 10.0)
    assert [clock.time_ms(now) for now in (10.0, 10.5, 20.0)] == [1_000_000, 1_000_500, 1_010_000]


@given(
    st.lists(
        st.tuples(st.floats(0.0, 1000.0, allow_nan=False), st.integers(0, 10_000_000)), max_size=30
    )
)
def test_it_never_goes_back_and_never_shows_less_than_was_reached(
    steps: list[tuple[float, int]],
) -> None:
    clock, now, last, highest = Clock(1_000), 0.0, 0, 0
    for more_s, time_ms in steps:
        now += more_s
        clock.reached(time_ms, now)
        highest = max(highest, time_ms)
        assert clock.time_ms(now) >= max(last, highest)
        last = clock.time_ms(now)
