"""The calls on budgets."""

from __future__ import annotations

from consensusllm.client import checks
from consensusllm.client.base import BaseCalls
from consensusllm.client.errors import InvalidRequest
from consensusllm.conversations.commands import SetBudget
from consensusllm.conversations.records import Budget
from consensusllm.wire.generated import client_pb2
from consensusllm.wire.records import budget_from_proto

LIMIT_MAX = 1 << 60


class BudgetCalls(BaseCalls):
    """The part of `Client` that bounds what calls of models cost."""

    async def set_budget(
        self, scope: str, limit: int | None, *, timeout_s: float | None = None
    ) -> None:
        """Bound what the calls of ``scope`` ("cluster", "conversation:ID" or "user:NAME") cost by
        ``limit``, in millionths of the currency; None removes the bound. What was spent since the
        bound was first set counts.

        Raises InvalidRequest, NotFound (there is none to remove), Conflict (calls under way)."""
        if limit is not None and not 0 <= limit <= LIMIT_MAX:
            raise InvalidRequest(f"{limit} is no budget: give 0 or more millionths")
        await self._command(SetBudget(checks.text(scope, "a scope"), limit), timeout_s)

    async def budgets(
        self, *, stale: bool = False, timeout_s: float | None = None
    ) -> dict[str, Budget]:
        """Every budget by its scope."""
        reply = await self._read(client_pb2.Read(stale=stale, budgets=True), timeout_s)
        return {each.scope: budget_from_proto(each) for each in reply.budgets.budgets}
