"""The numbers of lives."""

from __future__ import annotations

from random import Random

import pytest

from consensusllm.storage import FIRST_LIFE, another_life

NOW_MS = 1_800_000_000_000


def test_a_later_life_has_the_higher_number_where_clocks_are_right() -> None:
    bits = Random(1).getrandbits
    lives = [another_life(NOW_MS + ms, bits) for ms in range(100)]
    assert lives == sorted(set(lives))


def test_no_two_lives_have_one_number_although_the_clock_begins_anew_at_each_start() -> None:
    bits = Random(1).getrandbits
    assert len({another_life(0, bits) for _ in range(20)}) == 20


@pytest.mark.parametrize("wall_ms", [-1, 0, NOW_MS, 1 << 42, 1 << 62])
def test_every_one_is_above_those_with_which_clusters_begin_and_fits(wall_ms: int) -> None:
    most = (1 << 19) - 1
    for bits in (0, most):
        life = another_life(wall_ms, lambda _, bits=bits: bits)
        assert max(FIRST_LIFE, NOW_MS) < life
        assert life + 1_000_000 * (1 + most) < 1 << 62, "a million renewals still fit on the wire"
