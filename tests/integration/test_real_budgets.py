"""A hundred clients against one budget, over real processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from real_cluster import RealCluster, eventually

from consensusllm.client import Client, OverBudget, Plan

CLIENTS = 100
QUERIES = 3
LIMIT = 600
MOST = 20
"""What a query reserves: an answer of twenty tokens, each for a millionth."""


async def use_up(client: Client) -> None:
    """Ask until less is left than a query could cost."""
    with pytest.raises(OverBudget, match="the budget of cluster is 0"):
        await ask_for_ever(client)


async def ask_for_ever(client: Client) -> None:
    while True:
        await client.query("c1", "why?", plan=Plan(("m",)))


async def test_a_hundred_clients_never_spend_a_millionth_too_much(tmp_path: Path) -> None:
    model = {
        "provider": "scripted",
        "name": "m",
        "price": {"completion": 1.0},
        "max_tokens": MOST,
        "options": {"texts": ["one two three", "one two three four five six seven"]},
    }
    async with RealCluster(tmp_path, models=[model]) as cluster:
        watcher = cluster.client()
        await cluster.everybody_is_live()

        async def registered() -> bool:
            status = await cluster.status(1)
            return status is not None and len(status.registry) == 3

        await eventually(registered, "every node has told of its models")
        await watcher.set_budget("cluster", LIMIT)
        refused: list[str] = []

        async def spend(client: Client, number: int) -> None:
            name = f"c{number}"
            await client.create(name)
            for _ in range(QUERIES):
                try:
                    turn = await client.query(name, "why?", plan=Plan(("m",)))
                except OverBudget as error:
                    refused.append(str(error))
                else:
                    assert all(each.answered for each in turn.candidates)

        async def watch() -> None:
            while True:
                budget = (await watcher.budgets())["cluster"]
                assert budget.spent + budget.reserved <= LIMIT
                await asyncio.sleep(0.02)

        clients = [cluster.client(1 + number % 3) for number in range(CLIENTS)]
        watching = asyncio.create_task(watch())
        await asyncio.gather(*(spend(each, number) for number, each in enumerate(clients)))
        assert not watching.done(), watching
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

        budget = (await watcher.budgets())["cluster"]
        conversations = [await watcher.view(f"c{number}") for number in range(CLIENTS)]
        costs = [
            each.cost
            for conversation in conversations
            for turn in conversation.turns
            for each in turn.candidates
        ]
        assert refused
        assert all(each.startswith("the budget of cluster is 0.0006: ") for each in refused)
        assert len(costs) == CLIENTS * QUERIES - len(refused)
        assert (budget.spent, budget.reserved) == (sum(costs), 0)
        assert 0 < budget.spent <= LIMIT

        await watcher.set_budget("user:ann", 0)
        with pytest.raises(OverBudget, match="the budget of user:ann is 0"):
            await watcher.query("c1", "why?", plan=Plan(("m",), user="ann"))
        await use_up(watcher)
        budget = (await watcher.budgets())["cluster"]
        assert LIMIT - MOST < budget.spent <= LIMIT
