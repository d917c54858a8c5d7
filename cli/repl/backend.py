"""Owns the way to a cluster: the ports that the commands speak through, and what is behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Protocol

from consensusllm.client import (
    Budget,
    Chosen,
    Client,
    ConsensusError,
    Conversation,
    ConversationSummary,
    GenerationOptions,
    InvalidRequest,
    OnProgress,
    Plan,
    Status,
    Templates,
    TurnOpened,
    Unauthenticated,
    Unavailable,
    Verification,
    WatchEvent,
)
from consensusllm.orchestrator.client import FaultList, FaultsClient, TraceEvent
from consensusllm.secret import Secret

from ..addresses import ClusterAddresses
from ..options import NOBODY

STATUS_TIMEOUT_S = 1.0
_PORT_MAX = 65535


class NoSuchNode(InvalidRequest):
    """The session cannot be pinned to a node that is not there."""


class Conversations(Protocol):
    """What the commands need of `consensusllm.client.Client`."""

    async def create(self, conversation: str, *, system: str = "") -> None: ...
    async def ask(
        self,
        conversation: str,
        question: str,
        *,
        close_after: int = 0,
        deadline_ms: int = 0,
        options: GenerationOptions | None = None,
        plan: Plan | None = None,
    ) -> int: ...
    async def retry(
        self, conversation: str, turn: int | None = None, *, plan: Plan | None = None
    ) -> TurnOpened: ...
    async def templates(self) -> Templates: ...
    def watch(
        self, conversation: str, turn: int, *, candidates: Sequence[int] = (), deadline_ms: int = 0
    ) -> AsyncGenerator[WatchEvent, None]: ...
    async def choose(
        self, conversation: str, candidate: int, turn: int | None = None
    ) -> Chosen: ...
    async def cancel(self, conversation: str, turn: int | None = None) -> None: ...
    async def view(
        self, conversation: str, *, at: int | None = None, stale: bool = False
    ) -> Conversation: ...
    async def verify(self, conversation: str) -> Verification: ...
    async def conversations(
        self, *, stale: bool = False, timeout_s: float | None = None
    ) -> list[ConversationSummary]: ...
    async def fork(self, conversation: str, target: str, at_turn: int | None = None) -> None: ...
    async def rename(self, conversation: str, target: str) -> None: ...
    async def delete(self, conversation: str) -> None: ...
    async def export_conversation(
        self, conversation: str, *, stale: bool = False
    ) -> dict[str, Any]: ...
    async def import_conversation(
        self, conversation: Conversation, name: str, *, tell: Callable[[int, int], None]
    ) -> None: ...
    async def put(self, key: str, value: bytes) -> None: ...
    async def set_budget(self, scope: str, limit: int | None) -> None: ...
    async def budgets(self) -> dict[str, Budget]: ...
    async def get(self, key: str, *, stale: bool = False) -> bytes | None: ...
    async def add_node(
        self, node: int, address: str, *, on_progress: OnProgress | None = None
    ) -> None: ...
    async def remove_node(self, node: int, *, on_progress: OnProgress | None = None) -> None: ...
    async def transfer_leader(
        self, node: int, *, on_progress: OnProgress | None = None
    ) -> None: ...


class Faults(Protocol):
    """What the commands need of `consensusllm.orchestrator.client.FaultsClient`."""

    async def fail_node(self, node: int) -> str: ...
    async def fix_node(self, node: int) -> str: ...
    async def install_node(self, node: int, address: str) -> str: ...
    async def retire_node(self, node: int, *, reusable: bool = False) -> str: ...
    async def fail_link(self, a: int, b: int, one_way: bool = False) -> str: ...
    async def fix_link(self, a: int, b: int, one_way: bool = False) -> str: ...
    async def partition(self, groups: Sequence[Sequence[int]]) -> str: ...
    async def heal(self) -> str: ...
    async def delay(self, a: int, b: int, delay_ms: float, jitter_ms: float = 0.0) -> str: ...
    async def drop(self, a: int, b: int, percent: float) -> str: ...
    async def duplicate(self, a: int, b: int, percent: float) -> str: ...
    async def reorder(self, a: int, b: int, percent: float) -> str: ...
    async def isolate(self, node: int) -> str: ...
    async def faults(self) -> FaultList: ...
    def trace(self, kinds: Sequence[str] = ()) -> AsyncIterator[TraceEvent]: ...


class Backend(Protocol):
    """A cluster, as a session sees it."""

    @property
    def client(self) -> Conversations: ...

    @property
    def nodes(self) -> Sequence[int]:
        """The ids that are known so far, in order."""

    async def statuses(self) -> dict[int, Status | None]:
        """What each node says of itself, by id; None for one that does not answer in time. Raises
        Unauthenticated."""

    async def faults(self) -> Faults | None:
        """The orchestrator; None where none is known."""

    def address_by_rule(self, node: int) -> str | None:
        """``host:port`` on the orchestrator's host, its port plus ``node``; None: there is none."""


class Cluster:
    """The backend of a running cluster. Nodes that were not named are learnt from the others."""

    def __init__(
        self, client: Client, addresses: ClusterAddresses, resources: AsyncExitStack
    ) -> None:
        self.client: Conversations = client
        self._asking = client
        self._given = addresses
        self._by_id: dict[int, str] = dict(addresses.by_id)
        self._orchestrator = addresses.orchestrator
        self._cluster_id = addresses.cluster_id
        self._faults: FaultsClient | None = None
        self._resources = resources

    @property
    def nodes(self) -> Sequence[int]:
        return sorted(self._by_id)

    async def statuses(self) -> dict[int, Status | None]:
        found: dict[int, Status | None] = {}
        asked: set[str] = set()
        wanted = [*self._given.nodes, *self._by_id.values()]
        # Those that answer may name others, which are asked in a second round.
        while fresh := [address for address in dict.fromkeys(wanted) if address not in asked]:
            asked.update(fresh)
            for address, status in zip(
                fresh, await asyncio.gather(*map(self._status, fresh)), strict=True
            ):
                if status is not None:
                    found[status.node] = status
                    self._learn(status, address)
            wanted = [address for node, address in self._by_id.items() if node not in found]
        self._forget_those_who_left(found)
        return {node: found.get(node) for node in sorted({*self._by_id, *found})}

    async def faults(self) -> Faults | None:
        if self._orchestrator is None:
            await self.statuses()
        elif not self._cluster_id:  # who has the administration's token alone is heard too
            with suppress(Unauthenticated):
                await self.statuses()
        if self._faults is None and self._orchestrator is not None:
            token = _plain(self._given.orchestrator_token)
            self._faults = await self._resources.enter_async_context(
                FaultsClient(self._orchestrator, token)
            )
        if self._faults is not None:
            self._faults.cluster_id = self._cluster_id
        return self._faults

    def address_by_rule(self, node: int) -> str | None:
        host, _, port = (self._orchestrator or "").rpartition(":")
        if not host or int(port) + node > _PORT_MAX:
            return None
        return f"{host}:{int(port) + node}"

    async def pin(self, node: int) -> None:
        """Speak to ``node`` alone from now on. Raises NoSuchNode, Unavailable,
        Unauthenticated."""
        if node not in self._by_id:
            await self.statuses()
        if node not in self._by_id:
            if not self.nodes:
                raise Unavailable(NOBODY)
            known = ", ".join(map(str, self.nodes))
            raise NoSuchNode(f"there is no node {node}: the nodes are {known}")
        token = _plain(self._given.client_token)
        self.client = await self._resources.enter_async_context(
            Client([self._by_id[node]], token=token, pinned=True)
        )

    async def _status(self, address: str) -> Status | None:
        try:
            return await self._asking.status(address, timeout_s=STATUS_TIMEOUT_S)
        except Unauthenticated:
            raise
        except ConsensusError:
            return None

    def _forget_those_who_left(self, found: Mapping[int, Status | None]) -> None:
        """Who is silent and no member by the leader's word is no node of this cluster."""
        leading = [one for one in found.values() if one is not None and one.role == "leading"]
        if leading:
            newest = max(leading, key=lambda one: (one.ballot_seq_num, one.ballot_pid))
            members = {member.node for member in newest.members}
            for node in [node for node in self._by_id if node not in members | found.keys()]:
                del self._by_id[node]

    def _learn(self, status: Status, address: str) -> None:
        self._by_id[status.node] = address
        self._cluster_id = self._cluster_id or status.cluster_id
        for member in status.members:
            if member.address:
                self._by_id.setdefault(member.node, member.address)
        if self._orchestrator is None and status.orchestrator_address:
            self._orchestrator = status.orchestrator_address


@asynccontextmanager
async def connect(addresses: ClusterAddresses, node: int | None) -> AsyncIterator[Backend]:
    """A backend for the cluster at ``addresses``, pinned to ``node`` where it is given.

    Nothing is asked of the cluster until it is needed. Raises NoSuchNode, Unavailable,
    Unauthenticated.
    """
    async with AsyncExitStack() as resources:
        token = _plain(addresses.client_token)
        client = await resources.enter_async_context(Client(addresses.nodes, token=token))
        cluster = Cluster(client, addresses, resources)
        if node is not None:
            await cluster.pin(node)
        yield cluster


def _plain(secret: Secret | None) -> str | None:
    return secret.reveal() if secret is not None else None
