"""Looks at model servers for free, for the whole cluster.

A server that several nodes call is looked at by the one that holds its lease in the replicated
state; one that only its own node can reach, by that node. What is found goes into the log where it
differs from what the registry says, and otherwise only what renews a lease that others wait for: at
most one command a look, and in a cluster where nothing happens two or three a minute for a shared
server, and none for any other.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

import structlog

from consensusllm.conversations.commands import ProbedModel, RecordProbe
from consensusllm.conversations.probe_rules import PROBE_LEASE_MS, answers_by_model
from consensusllm.conversations.replies import Refused
from consensusllm.llm.port import Probe, Probing, ProviderError, RateLimited, Rejected

from .port import ReplicaPort, SubmitFailed

log = structlog.get_logger()

ERROR_BYTES = 256
UNREGISTERED_S = 0.25
"""How soon the registry is looked into again, while it does not have this node's models yet."""


class Prober:
    """``servers`` of this node's models by their names in the registry, each with what can look at
    it; every one is looked at every ``interval_s`` (> 0), more or less, as ``rng`` says."""

    def __init__(
        self,
        port: ReplicaPort,
        servers: Mapping[str, Probing],
        interval_s: float,
        rng: random.Random | None = None,
    ) -> None:
        self._port = port
        self._servers = servers
        self._interval_s = interval_s
        self._rng = rng or random.Random()

    async def run(self) -> None:
        """Look until cancelled."""
        await asyncio.gather(*map(self._watch, self._servers))

    async def _watch(self, server: str) -> None:
        while True:
            if not any(node == self._port.node for node in self._nodes(server)):
                await asyncio.sleep(UNREGISTERED_S)
                continue
            try:
                await self._look(server)
            except SubmitFailed as error:
                log.warning("a look at a model server is not recorded", error=str(error))
            except Exception:  # the node that looks answers questions too
                log.exception("a bug: a look at a model server failed", server=server)
            await asyncio.sleep(self._interval_s * self._rng.uniform(0.9, 1.1))

    def _nodes(self, server: str) -> list[int]:
        """Who serves models of ``server``."""
        return [
            node
            for node, models in sorted(self._port.machine.registry.items())
            if any(each.served.server == server for each in models)
        ]

    async def _look(self, server: str) -> None:
        port = self._port
        if not self._holds(server):
            lease = port.machine.probe_leases.get(server)
            if lease is not None and lease.node != port.node and port.now_ms() <= lease.until_ms:
                return
            if isinstance(await port.submit(RecordProbe(port.node, server)), Refused):
                return
        answers = answers_by_model(port.machine.registry, server)
        names = sorted(name for name in answers if name)
        probes = await self._probes(self._servers[server], names)
        found = [
            ProbedModel(name, probe.loaded, _cut(probe.error), answers[name])
            for name, probe in zip(names, probes, strict=True)
        ]
        if self._differs(server, found) or self._is_to_renew(server):
            reply = await port.submit(RecordProbe(port.node, server, tuple(found)))
            if isinstance(reply, Refused):
                log.info("a look at a model server does not count", reply=reply.message)

    def _holds(self, server: str) -> bool:
        """Whether nobody else may look there now."""
        lease = self._port.machine.probe_leases.get(server)
        if lease is None or lease.node != self._port.node:
            return False
        return self._port.now_ms() <= lease.until_ms or self._nodes(server) == [self._port.node]

    def _is_to_renew(self, server: str) -> bool:
        """Whether the lease ends soon, and another node would take it."""
        lease = self._port.machine.probe_leases.get(server)
        if lease is None:  # nobody serves models of it any more
            return False
        ends_soon = lease.until_ms - self._port.now_ms() < PROBE_LEASE_MS / 2
        return ends_soon and self._nodes(server) != [self._port.node]

    async def _probes(self, probing: Probing, names: Sequence[str]) -> Sequence[Probe]:
        try:
            return await probing.probe(names)
        except (Rejected, RateLimited):
            return [Probe()] * len(names)  # it is there, and does not let itself be looked at
        except ProviderError as error:
            return [Probe(error=str(error))] * len(names)

    def _differs(self, server: str, found: Sequence[ProbedModel]) -> bool:
        """Whether the registry does not say what was ``found``."""
        by_name = {each.model: (each.loaded, each.error) for each in found}
        return any(
            not each.probed_ms or (each.loaded, each.probe_error) != by_name[each.served.model]
            for models in self._port.machine.registry.values()
            for each in models
            if each.served.server == server and each.served.model in by_name
        )


def _cut(error: str) -> str:
    return error.encode("utf-8", "replace")[:ERROR_BYTES].decode("utf-8", "ignore")
