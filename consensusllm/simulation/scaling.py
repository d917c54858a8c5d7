"""What distance and numbers cost: ``python -m consensusllm.simulation.scaling`` prints two tables.

The first is worked out: what a leader sends and computes for a command. The second is measured in
simulated time: clusters of the product's own replicas, every node equally far from every other,
without faults but for leaders whose process is killed or whose machine is lost. A write is measured
from its arrival at a node to the moment at which that node may answer it. Computing costs no time
there, so those figures are distance and disk alone, and the same for the same seed.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from consensusllm.conversations.commands import OpenSession, Operation, Put, SessionCommand
from consensusllm.conversations.replies import Reply, SessionOpened
from consensusllm.conversations.sessions import SESSION_BYTES
from consensusllm.paxos import Ballot, Batch, PaxosConfig
from consensusllm.paxos.messages import Accept
from consensusllm.replica.outcomes import Failure
from consensusllm.replica.replica import ReplicaConfig
from consensusllm.wire.commands import encode_command
from consensusllm.wire.peer import encode_message

from .cluster import Cluster
from .node import Node
from .run import discard, repeatable
from .trace import Trace
from .virtual_loop import VirtualLoop

NODES = (3, 5, 7, 9)
DELAYS_MS = (0.25, 5.0, 25.0, 75.0, 150.0)
"""One way, on average: a rack, a region, a continent, an ocean, the other side of the earth."""

BATCHES = (1, 16, 64, 256)
"""Commands in a slot."""

COMMAND_US = 24.0
"""CPU of a leader for a command by itself: decoding, applying, answering."""

SLOT_US = 1000.0
"""CPU of a leader for a slot by itself, whatever is in it: the message of its clients and the
answer, the disk, turns of the event loop, and the waking up for each. With 3 nodes `consensusllm
bench` shows 1,238 us of the leader for a put at 1 outstanding and 29 at 256: slots of 1 and of 251
commands."""

PEER_US = 100.0
"""CPU of a leader for one peer's part of a slot, a message out and one in. Of 3, 5 and 7 nodes in
one run, each peer added 6 to 7 % to what a slot costs the leader of three: 80 to 130 us."""

HEARTBEAT_S, ELECTION_TIMEOUT_S = 0.05, 1.0
"""The product's defaults."""

PATIENCE_S = 120.0
SETTLING_S = 3.0
LOOK_S = 0.01
_NAME = b"wide area client"


@dataclass(frozen=True, slots=True)
class Load:
    """What a command costs its leader: messages to and from peers, bytes to all peers, and CPU."""

    nodes: int
    batch: int
    messages: float
    sent_bytes: float
    cpu_us: float

    @property
    def per_second(self) -> float:
        """What one core can do."""
        return 1e6 / self.cpu_us


def load(nodes: int, batch: int, value_bytes: int = 256) -> Load:
    """Of puts, in slots of ``batch`` commands. Each slot is one Accept to and one Accepted from
    each peer; the end of the chosen prefix rides along with the next."""
    put = Put("key/0000", bytes(value_bytes))
    command = encode_command(SessionCommand(bytes(SESSION_BYTES), 1_000_000, 999_999, put))
    slot = Batch.pack(1_700_000_000_000, [command] * batch)
    accept = Accept(1, Ballot(7, 1, 1_000_000), (slot,), 999_999)
    peers = nodes - 1
    return Load(
        nodes,
        batch,
        messages=2 * peers / batch,
        sent_bytes=peers * len(encode_message(accept)) / batch,
        cpu_us=COMMAND_US + (SLOT_US + peers * PEER_US) / batch,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """Medians in simulated ms: of a write that a client gives to the leader, and to a follower; and
    from a leader's end to the next write that a survivor answers. Its connections end with it where
    its process was ``killed``; a machine that is ``lost`` is silent, and the longest is there too.
    """

    nodes: int
    delay_ms: float
    leader_ms: float
    follower_ms: float
    killed_ms: float
    lost_ms: float
    lost_most_ms: float


class _Quiet(Cluster):
    """As the product is configured, but for the time that is measured."""

    def replica_config(self, node: Node) -> ReplicaConfig:
        usual = super().replica_config(node)
        paxos = PaxosConfig(
            node=node.number,
            members=self.members,
            epoch_ms=usual.paxos.epoch_ms,
            heartbeat_s=HEARTBEAT_S,
            election_timeout_s=ELECTION_TIMEOUT_S,
        )
        return ReplicaConfig(paxos=paxos, limits=usual.limits)


def measure(
    nodes: int, delay_ms: float, *, writes: int = 30, failovers: int = 10, seed: int = 1
) -> Row:
    """One cluster; from 3 nodes on, so that one may be lost."""
    assert nodes >= 3
    loop = VirtualLoop()
    failures: list[BaseException] = []
    rows: list[Row] = []

    def failed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failures.append(context.get("exception") or RuntimeError(context["message"]))
        loop.stop()

    loop.set_exception_handler(failed)
    with repeatable(failures, loop):
        cluster = _Quiet(loop, f"{seed}/{nodes}/{delay_ms}", nodes, Trace(loop.time))
        cluster.network.weather.delay_s = delay_ms / 1000
        cluster.fair_weather = replace(cluster.network.weather)

        async def main() -> None:
            rows.append(await _row(cluster, delay_ms, writes, failovers))

        task = loop.create_task(main())
        task.add_done_callback(lambda _: loop.stop())
        loop.run_forever()
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            failures.append(error)
        discard(loop)
    if failures:
        raise failures[0]
    return rows[0]


async def _row(cluster: Cluster, delay_ms: float, writes: int, failovers: int) -> Row:
    cluster.start()
    writer = _Writer(cluster)
    await writer.open(cluster.members[0])
    leaders, followers = [], []
    await _settle(cluster)
    for _ in range(writes):
        leader = cluster.leader()
        assert leader is not None
        leaders.append(await writer.put(leader))
        followers.append(await writer.put(_another(cluster, leader)))
    killed = [await _failover(cluster, writer, silent=False) for _ in range(failovers)]
    lost = [await _failover(cluster, writer, silent=True) for _ in range(failovers)]
    return Row(
        len(cluster.members),
        delay_ms,
        statistics.median(leaders),
        statistics.median(followers),
        statistics.median(killed),
        statistics.median(lost),
        max(lost),
    )


async def _failover(cluster: Cluster, writer: _Writer, *, silent: bool) -> float:
    """How long writes stay away, in simulated ms. The old leader is back when it returns."""
    leader = cluster.leader()
    assert leader is not None
    lifted = cluster.network.cut((leader, peer) for peer in cluster.members if silent)
    cluster.nodes[leader].crash()
    cluster.connections_end(leader)
    gap_ms = await writer.put(_another(cluster, leader))
    lifted()
    cluster.nodes[leader].start()
    await _settle(cluster)
    return gap_ms


class _Writer:
    """One client, one write at a time."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._session = _NAME
        self._number = 0

    async def open(self, node: int) -> None:
        opened = await self._write(node, OpenSession())
        assert isinstance(opened, SessionOpened), opened
        self._session = opened.session

    async def put(self, node: int) -> float:
        """How long it took, in simulated ms."""
        begin = self._cluster.loop.time()
        self._number += 1
        await self._write(node, Put("key", b"%256d" % self._number))
        return (self._cluster.loop.time() - begin) * 1000

    async def _write(self, node: int, operation: Operation) -> Reply:
        outcome: asyncio.Future[Reply | Failure] = self._cluster.loop.create_future()
        command = SessionCommand(self._session, self._number, self._number, operation)
        life = self._cluster.life(node)
        assert life is not None
        life.submit(encode_command(command), command, PATIENCE_S, outcome.set_result)
        answer = await outcome
        assert not isinstance(answer, Failure), answer
        return answer


def _another(cluster: Cluster, leader: int) -> int:
    return next(number for number in cluster.members if number != leader)


async def _settle(cluster: Cluster) -> None:
    """Until one leads, everybody has applied the same, and nobody is about to stand up."""
    await asyncio.sleep(SETTLING_S)
    while cluster.unsettled():
        cluster.look()
        await asyncio.sleep(LOOK_S)


def load_table(loads: Sequence[Load]) -> str:
    """In Markdown."""
    head = ["Nodes", "Commands a slot", "Peer messages a command", "Bytes sent a command"]
    rows = [
        [
            str(one.nodes),
            str(one.batch),
            f"{one.messages:.3g}",
            f"{one.sent_bytes:,.0f}",
            f"{one.cpu_us:.0f}",
            f"{one.per_second:,.0f}",
        ]
        for one in loads
    ]
    return _markdown([*head, "CPU us a command", "Commands a second and core"], rows)


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    head = ["One-way delay, ms", "Nodes", "Write at the leader, ms", "Write at a follower, ms"]
    lines = [
        [
            f"{row.delay_ms:g}",
            str(row.nodes),
            f"{row.leader_ms:.1f}",
            f"{row.follower_ms:.1f}",
            f"{row.killed_ms:,.0f}",
            f"{row.lost_ms:,.0f}",
            f"{row.lost_most_ms:,.0f}",
        ]
        for row in rows
    ]
    head += ["Process killed, ms", "Machine lost, ms", "Machine lost, most ms"]
    return _markdown(head, lines)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    print(load_table([load(nodes, batch) for nodes in NODES for batch in BATCHES]), end="\n\n")
    rows = []
    for delay_ms in DELAYS_MS:
        for nodes in NODES:
            print(f"{nodes} nodes, {delay_ms:g} ms", file=sys.stderr, flush=True)
            rows.append(measure(nodes, delay_ms))
    print(table(rows))


if __name__ == "__main__":
    main()
