"""Changes of members, where nobody can make them."""

from __future__ import annotations

import pytest

from consensusllm.client import ChangeProgress, Client, Unavailable


async def test_who_asks_for_a_change_is_told_that_no_leader_answers() -> None:
    told: list[ChangeProgress] = []
    async with Client(["127.0.0.1:9"]) as client:
        with pytest.raises(Unavailable, match="was not done within"):
            await client.remove_node(1, timeout_s=0.3, on_progress=told.append)
    assert told
    assert told[0].waits_for.startswith("a leader: 127.0.0.1:9")
