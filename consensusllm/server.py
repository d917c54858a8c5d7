"""The composition root of a node: the one place that knows every concrete part.

It opens the disk (or rejoins after losing it), restores the state, joins replica, transport,
answerer and gRPC server, serves until it is told to stop, and ends everything in order.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import structlog
from async_timeout import timeout

from consensusllm import pauses
from consensusllm.config import Config, NodeConfig
from consensusllm.conversations import Limits, Machine
from consensusllm.council.answerer import Answerer
from consensusllm.council.live_text import KIND as STREAM_KIND
from consensusllm.council.live_text import LiveText
from consensusllm.council.prober import Prober
from consensusllm.llm.port import Provider
from consensusllm.paxos import Membership, PaxosConfig, Recovered, Role
from consensusllm.replica.local import LocalReplica
from consensusllm.replica.opening import open_replica
from consensusllm.replica.replica import Replica, ReplicaConfig
from consensusllm.replica.runtime import Runtime
from consensusllm.service.asking import Planner
from consensusllm.service.councils import Templates
from consensusllm.service.pipeline import Requests
from consensusllm.service.servicer import ClientServicer
from consensusllm.service.status import Facts
from consensusllm.storage import (
    FIRST_LIFE,
    Disk,
    StorageError,
    another_life,
    format_disk,
    open_disk,
    set_aside,
)
from consensusllm.transport import (
    DirectTransport,
    QueueLimits,
    RelayedTransport,
    Transport,
    add_standard_services,
    listen,
    make_server,
)
from consensusllm.wire.generated import (
    client_pb2,
    client_pb2_grpc,
    peer_pb2,
    peer_pb2_grpc,
)

if TYPE_CHECKING:
    from consensusllm.serving import OwnModel

log = structlog.get_logger()

READ_TIMEOUT_S = 10.0
STOP_GRACE_S = 1.0
STOP_WITHIN_S = 10.0
"""A node that stops waits no longer, as for a disk that hangs: it loses nothing by a kill -9."""

STEP_FIRST_S = 1.0
UNLED_S = 0.25
"""So long at most a node that has started catches up before it makes its models, whose imports want
the interpreter as well; where nobody leads the time is better used."""


class NodeFailed(Exception):
    """The node had to stop: its disk failed, or the code did. One line."""


async def run_node(
    config: Config, node_id: int, *, bootstrap: bool, rejoin: bool = False, join: str = ""
) -> None:
    """Serve as node ``node_id`` until SIGTERM or SIGINT, or until the disk fails.

    ``bootstrap`` makes the node's data at the first start of a new cluster. Without it a node that
    has no data rejoins: it learns before it votes; ``rejoin``: also where the configuration lists
    no other node, as others were added later. ``join`` is the address of one that the
    configuration does not list: it waits to be added. Raises StorageError, CannotListen,
    NodeFailed, ConfigError.
    """
    own = config.joining(node_id, join) if join else config.node(node_id)
    disk, recovered, machine = open_node(config, node_id, bootstrap=bootstrap, rejoin=rejoin)
    pauses.keep_short()
    stopping = threading.Timer(STOP_WITHIN_S, _end_the_process)
    stopping.daemon = True
    try:
        node = _Node(config, own, disk, recovered, machine)
        await node.serve(stopping.start)
    finally:
        disk.close()
        stopping.cancel()


def _end_the_process() -> None:
    """Without its threads: one that is held by the disk never ends, and would be waited for."""
    log.error(
        "the node did not stop in time: its process ends as it is; see whether its disk hangs",
        seconds=STOP_WITHIN_S,
    )
    os._exit(1)


# The disk ---------------------------------------------------------------------------------------


def open_node(
    config: Config, node_id: int, *, bootstrap: bool, rejoin: bool = False
) -> tuple[Disk, Recovered, Machine]:
    """The disk of node ``node_id`` and what it holds; see `replica.opening` for what is done where
    there is none, or a damaged one. Raises StorageError."""
    home = _Directory(config.node_dir(node_id), config.cluster_id, node_id)
    alone = [node.id for node in config.nodes] == [node_id] and not rejoin
    disk, recovered, machine = open_replica(home, Limits(), alone=alone, bootstrap=bootstrap)
    if bootstrap and not recovered.voting:
        log.warning(
            "--bootstrap gives no vote to data that was made without it: the node learns from the "
            "others first; where the cluster is new, stop all nodes and remove their data",
            at=home.name,
        )
    return disk, recovered, machine


class _Directory:
    """The data directory of a node, as `open_replica` wants it."""

    def __init__(self, path: Path, cluster_id: str, node_id: int) -> None:
        self.name = str(path)
        self._path = path
        self._cluster_id = cluster_id
        self._node_id = node_id

    def open(self) -> Disk:
        return open_disk(self._path, self._cluster_id, self._node_id)

    def format(self, *, voting: bool) -> None:
        life = FIRST_LIFE if voting else another_life(time.time_ns() // 1_000_000, secrets.randbits)
        format_disk(self._path, self._cluster_id, self._node_id, life, voting)

    def set_aside(self) -> str:
        return str(set_aside(self._path))


# The node ---------------------------------------------------------------------------------------


class _Node:
    def __init__(
        self,
        config: Config,
        own: NodeConfig,
        disk: Disk,
        recovered: Recovered,
        machine: Machine,
    ) -> None:
        self._config = config
        self._own = own
        self._stop = asyncio.Event()
        self._broken: BaseException | None = None
        self._addresses: dict[int, str] = {node.id: node.address for node in config.nodes}
        self._configured = {own.id: own.address, **self._addresses}
        rng = random.Random(int.from_bytes(os.urandom(8), "big"))
        now = asyncio.get_running_loop().time()
        replica = Replica(_replica_config(config, own.id, now), recovered, machine, rng, now)
        self._transport = self._make_transport(rng)
        self._runtime = Runtime(replica, disk, self._transport, self._on_broken)
        self._runtime.on_members = self._on_members
        self._models: list[OwnModel] = []
        self._templates = Templates(config.council.templates)
        self._live = LiveText(
            own.id, lambda node, body: self._transport.send(node, STREAM_KIND, body)
        )
        self._runtime.on_kind(STREAM_KIND, self._live.receive)
        self._local = LocalReplica(self._runtime, self._live)

    def _make_transport(self, rng: random.Random) -> Transport:
        config, own = self._config, self._own
        bound = config.limits.message_bytes
        queue = QueueLimits.for_messages(bound)
        if config.network == "direct":
            return DirectTransport(
                config.cluster_id,
                own.id,
                self._addresses,
                address=own.address,
                limits=queue,
                max_message_bytes=bound,
                rng=rng,
            )
        return RelayedTransport(
            config.orchestrator.address,
            config.cluster_id,
            own.id,
            self._addresses,
            client_address=own.address,
            limits=queue,
            max_message_bytes=bound,
            rng=rng,
        )

    def _on_members(self, membership: Membership) -> None:
        """Speak to the members from now on. The configuration says where the first ones are, and
        the change that added one, where that is."""
        own = self._own.id
        known = {
            each.node: each.address or self._configured.get(each.node, "")
            for each in membership.members
        }
        self._addresses.clear()
        self._addresses.update((node, address) for node, address in known.items() if address)
        self._transport.meet({n: a for n, a in self._addresses.items() if n != own})
        since = self._runtime.replica.paxos.membership_slot
        if self._addresses.get(own, self._own.address) != self._own.address:
            log.warning(
                "the cluster has another address for this node, and looks for it there: start it "
                "at that one, or remove it and add a node of another number here",
                listens=self._own.address,
                cluster=self._addresses[own],
            )
        if own in membership.removed:
            log.warning(
                "this node was removed from the cluster for ever: "
                "end its process, once the removal is said to be done",
                node=own,
            )
        elif since == 0 and self._runtime.replica.role is not Role.LEARNING:
            self._compare_with_config(set(known))
        elif since > 0:
            log.info("members", voting=_listed(membership.voters), joining=membership.learner)

    def _compare_with_config(self, members: set[int]) -> None:
        """The members are those with which the data was made, whatever the file says by now."""
        configured = {node.id for node in self._config.nodes}
        if members != configured:
            log.warning(
                "the configuration's nodes are not the cluster's, which go on to count: "
                "correct the file, or change the members with addNode and removeNode",
                members=_listed(members),
                configuration=_listed(configured),
            )

    def _on_broken(self, error: BaseException) -> None:
        self._broken = error
        self._stop.set()

    async def serve(self, on_stop: Callable[[], None]) -> None:
        """Until it is told to stop, or has to; ``on_stop`` is called then. Raises NodeFailed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        config, own = self._config, self._own
        server = make_server(config.limits.message_bytes)
        facts = Facts(
            config.cluster_id,
            own.id,
            self._addresses,
            config.network,
            config.orchestrator.address if config.network == "orchestrated" else "",
            self._models,
        )
        requests = Requests(
            self._runtime,
            self._addresses,
            default_timeout_s=READ_TIMEOUT_S,
            planner=Planner(
                self._runtime,
                default_deadline_ms=config.answering.deadline_ms,
                domains=config.domains,
                templates=self._templates,
                models=self._models,
                configured={
                    node.id: {model.known_name for model in node.models if model.known_name}
                    for node in config.nodes
                },
            ),
            on_query=self._local.is_asking,
            max_question_bytes=config.limits.question_bytes,
            max_value_bytes=config.limits.value_bytes,
            max_command_bytes=min(config.limits.message_bytes // 2, config.paxos.max_pending_bytes),
            max_waiting_bytes=config.paxos.max_pending_bytes,
            max_response_bytes=config.limits.message_bytes - 4096,
        )
        token = config.client_token.reveal() if config.client_token else None
        servicer = ClientServicer(
            self._runtime,
            requests,
            self._live,
            facts,
            self._templates,
            token=token,
            read_timeout_s=READ_TIMEOUT_S,
        )
        client_pb2_grpc.add_ClientServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        names = [client_pb2.DESCRIPTOR.services_by_name["Client"].full_name]
        if isinstance(self._transport, DirectTransport):
            peer_pb2_grpc.add_PeerServicer_to_server(self._transport.servicer, server)  # type: ignore[no-untyped-call]
            names.append(peer_pb2.DESCRIPTOR.services_by_name["Peer"].full_name)
        health = await add_standard_services(server, names)
        address = listen(server, own.address)
        await server.start()
        await self._runtime.start()
        work = [asyncio.create_task(each) for each in (self._answer(), self._read_templates())]
        for task in work:
            task.add_done_callback(_tell_if_failed)
        log.info("serving", node=own.id, address=address, network=config.network)
        await self._stop.wait()
        on_stop()
        log.info("stopping", node=own.id)
        if self._broken is None:
            await health.stopping()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        servicer.close()
        await self._runtime.close()
        self._live.close()
        await server.stop(STOP_GRACE_S)
        if self._broken is not None:
            raise NodeFailed(_reason(self._broken)) from self._broken

    async def _in_step(self) -> None:
        """Return once the node is in step, or that has taken STEP_FIRST_S: what can wait shall not
        make it later."""
        with suppress(asyncio.TimeoutError):
            async with timeout(STEP_FIRST_S):
                await self._runtime.in_step(UNLED_S)

    async def _read_templates(self) -> None:
        await self._in_step()
        for problem in (await self._templates.read()).problems:
            log.warning("not a council template", reason=problem)

    async def _answer(self) -> None:
        """Find out which models there are, then answer with them until cancelled."""
        await self._in_step()
        serving = await asyncio.to_thread(_import_serving)
        made: list[OwnModel] = await serving.make_models(self._config, self._own, os.environ)
        try:
            self._models.extend(made)
            providers: dict[str, Provider] = {
                each.served.name: each.provider for each in made if each.provider is not None
            }
            if made[0].provider is not None:
                providers[""] = made[0].provider
            answering = self._config.answering
            answerer = Answerer(
                self._local,
                providers,
                models=tuple(each.served for each in made if each.provider is not None),
                early=[each.served.name for each in made if each.early],
                unserved=made[0].note,
                concurrency=answering.concurrency,
                reassign_after_s=answering.reassign_after_ms / 1000,
            )
            await answerer.start()
            try:
                if answering.probe_every_ms:
                    servers = {each.served.server: each.probing for each in made if each.probing}
                    await Prober(self._local, servers, answering.probe_every_ms / 1000).run()
                await asyncio.Event().wait()
            finally:
                await answerer.close()
        finally:
            for each in made:
                if each.provider is not None:
                    await each.provider.aclose()


def _import_serving() -> ModuleType:
    """Not before the node serves: it votes without its models."""
    from consensusllm import serving

    return serving


def _listed(nodes: Iterable[int]) -> str:
    return ",".join(map(str, sorted(nodes)))


def _tell_if_failed(work: asyncio.Task[None]) -> None:
    """A node that cannot answer still votes; but somebody has to be told."""
    if not work.cancelled() and (error := work.exception()) is not None:
        log.error("this node answers no questions any more", exc_info=error)


def _replica_config(config: Config, node_id: int, now: float) -> ReplicaConfig:
    settings = config.paxos
    paxos = PaxosConfig(
        node=node_id,
        members=tuple(sorted(node.id for node in config.nodes)),
        epoch_ms=int(time.time() * 1000 - now * 1000),
        heartbeat_s=settings.heartbeat_ms / 1000,
        election_timeout_s=settings.election_timeout_ms / 1000,
        leader_lease_s=settings.leader_lease_ms / 1000,
        clock_drift=settings.clock_drift_percent / 100,
        pipeline_slots=settings.pipeline_slots,
        max_batch_commands=settings.max_batch_commands,
        max_batch_bytes=settings.max_batch_bytes,
        max_pending_commands=settings.max_pending_commands,
        max_pending_bytes=settings.max_pending_bytes,
        log_retain_bytes=settings.log_retain_bytes,
        chunk_bytes=settings.chunk_bytes,
    )
    return ReplicaConfig(
        paxos=paxos,
        snapshot_every_bytes=settings.snapshot_every_bytes,
        snapshot_every_slots=settings.snapshot_every_slots,
        snapshot_bytes_per_s=settings.snapshot_bytes_per_s,
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, StorageError):
        return str(error)
    log.error("a bug stopped the node", exc_info=error)
    return f"a bug stopped the node: {type(error).__name__}: {error}"
