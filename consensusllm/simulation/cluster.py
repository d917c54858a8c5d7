"""The whole simulated cluster: machines, network, clients, and the hand that does them harm."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from random import Random

from consensusllm.conversations import Limits
from consensusllm.paxos import Ballot, PaxosConfig, Role
from consensusllm.paxos.messages import (
    Accept,
    Accepted,
    Commit,
    Heartbeat,
    HeartbeatReply,
    Message,
    Nack,
    Prepare,
    Promise,
)
from consensusllm.replica.replica import ReplicaConfig
from consensusllm.transport.port import Envelope

from .faults import FAMILIES, LEADER, Fault
from .invariants import Invariants
from .models import Mood
from .network import CLIENTS, Network
from .node import Life, Node
from .operator import Operator
from .trace import Trace
from .virtual_loop import VirtualLoop

LIMITS = Limits(sessions=40, replies_per_session=64)
"""Small, so that sessions are evicted within a run."""


REPLAYED = 256
"""How many messages a replay has for each node."""

_OF_A_BALLOT = (Accept, Accepted, Commit, Heartbeat, HeartbeatReply, Nack, Prepare, Promise)
"""What is replayed. Commands are none of it: clients repeat those while their sessions live."""


DELAYS_S = (0.001, 0.01, 0.03)
"""How far apart the nodes of a cluster are: one way, on average."""
WIDE_AREA_S = 0.15
"""How far they are in one of eight."""

DRIFT_MAX = 0.5
"""By how much of its rate a clock is off at most, under the fault of that name."""


class Cluster:
    """``first_members`` are the node ids at first, from 1, and ``nodes`` those of the moment,
    whether or not they are members yet, or still. Small logs and chunks, so that snapshots,
    compaction and transfers in pieces happen all the time."""

    def __init__(self, loop: VirtualLoop, seed: str, nodes: int, trace: Trace) -> None:
        self.loop = loop
        self.trace = trace
        self.figures: Counter[str] = Counter()
        self.first_members = tuple(range(1, nodes + 1))
        self.invariants = Invariants(self.first_members, LIMITS)
        self.network = Network(loop, Random(f"{seed}/network"), self.figures)
        self.network.weather.delay_s = Random(f"{seed}/distance").choice(DELAYS_S)
        if Random(f"{seed}/wide area").random() < 1 / 8:
            self.network.weather.delay_s = WIDE_AREA_S
        self.fair_weather = replace(self.network.weather)
        self.mood = Mood()
        self.sent = 0
        self.poll_s = 0.5
        rng = Random(f"{seed}/nodes")
        self._snapshot_every_slots = rng.choice((12, 50, 400))
        self._retain_bytes = rng.choice((0, 0, 4096))
        self._max_batch_commands = rng.choice((1, 4, 64))
        self._pipeline_slots = rng.choice((1, 8, 8))
        self._lease_s = Random(f"{seed}/leader lease").choice((0.0, 0.35))
        self._linger_s = Random(f"{seed}/linger").choice((0.0, 0.005))
        self._seed = seed
        self.nodes: dict[int, Node] = {}
        for node in self.first_members:
            self._new_node(node)
        self.operator = Operator(self, Random(f"{seed}/operator"))
        self._undo: dict[Callable[[], None], None] = {}
        self._lasting: dict[int, Callable[[], None]] = {}  # by the node that is cut off
        self.echo: Callable[[int, Life, Message], None] | None = None

    @property
    def members(self) -> tuple[int, ...]:
        """Who may be asked, and may come to harm."""
        return tuple(self.nodes)

    def _new_node(self, node: int) -> None:
        self.nodes[node] = Node(self, node, Random(f"{self._seed}/node {node}"))

    def install(self, node: int) -> None:
        """A new machine, which is no member yet."""
        self._new_node(node)
        self.nodes[node].start()
        self.trace.add(node, "installed")

    def retire(self, node: int) -> None:
        """The machine is taken away for ever."""
        gone = self.nodes.pop(node, None)
        if gone is not None:
            gone.retired = True
            gone.crash()
            self.trace.add(node, "retired")

    def replica_config(self, node: Node) -> ReplicaConfig:
        return ReplicaConfig(
            paxos=PaxosConfig(
                node=node.number,
                members=self.first_members,
                epoch_ms=node.clock.epoch_ms(),
                leader_lease_s=self._lease_s,
                clock_drift=DRIFT_MAX,
                linger_s=self._linger_s,
                pipeline_slots=self._pipeline_slots,
                max_batch_commands=self._max_batch_commands,
                max_batch_bytes=8 << 10,
                max_pending_commands=64,
                max_pending_bytes=64 << 10,
                max_log_bytes=256 << 10,
                log_retain_bytes=self._retain_bytes,
                chunk_bytes=2 << 10,
            ),
            limits=LIMITS,
            snapshot_every_slots=self._snapshot_every_slots,
        )

    def life(self, node: int) -> Life | None:
        return self.nodes[node].life if node in self.nodes else None

    def deliver(self, dst: int, message: Message) -> None:
        life = self.life(dst)
        if life is not None:
            self.trace.add(dst, f"<- {message.sender}", message)
            life.receive(message)
            if self.echo is not None:
                self.echo(dst, life, message)

    def deliver_live(self, envelope: Envelope) -> None:
        life = self.life(envelope.dst)
        if life is not None:
            life.receive_live(envelope)

    def connections_end(self, of: int) -> None:
        """Its peers are told that the connections of node ``of`` have ended."""
        for dst in self.members:
            if dst != of:
                self.network.post(of, dst, partial(self._tell_gone, of, dst))

    def _tell_gone(self, peer: int, dst: int) -> None:
        life = self.life(dst)
        if life is not None:
            self.trace.add(dst, "gone", peer)
            life.peer_gone(peer)

    def start(self) -> None:
        for node in self.nodes.values():
            node.start()

    def leader(self) -> int | None:
        """Who leads in the highest ballot."""
        life = self.leading()
        return life.replica.node if life is not None else None

    def leading(self) -> Life | None:
        """The process that leads in the highest ballot."""
        lives = [node.life for node in self.nodes.values() if node.life is not None]
        leading = [life for life in lives if life.replica.role is Role.LEADING]
        return max(leading, key=lambda each: each.replica.ballot) if leading else None

    def voters(self) -> tuple[int, ...]:
        """The members that vote, by the newest change that was applied anywhere."""
        return self.invariants.voters

    def unsettled(self) -> str:
        """What is still to come before the cluster is whole and quiet; "" where it is so."""
        if not self.operator.restored:
            return f"the members are {self.voters()}"
        lives = {number: node.life for number, node in self.nodes.items()}
        for number, life in lives.items():
            if life is None:
                return f"node {number} is down"
            if not self.nodes[number].disk.intact:
                return f"node {number} may not vote yet"
        if self.leader() is None:
            return "nobody leads"
        for number, life in lives.items():
            assert life is not None
            machine = life.replica.machine
            if machine.applied_slot != self.invariants.frontier:
                return (
                    f"node {number} has applied slot {machine.applied_slot} "
                    f"of {self.invariants.frontier}"
                )
            if machine.counts().open_turns:
                return f"{machine.counts().open_turns} turns are open"
        return ""

    def look(self) -> None:
        """Check what is checked from time to time."""
        for number, node in self.nodes.items():
            if node.life is not None:
                self.invariants.bounds(number, node.life.replica, node.disk.platter)

    # Harm ---------------------------------------------------------------------------------------

    def harmed(self) -> set[int]:
        """Whose data is lost, or who is cut off. One that never had a vote has none to lose."""
        lost = {n for n, each in self.nodes.items() if each.disk.has_voted and not each.disk.intact}
        return lost | self._lasting.keys()

    def may_damage(self, node: int) -> bool:
        """Whether a majority would still have data and links: what the protocol asks for; also of
        one member less, where the members may be changing."""
        size = len(self.voters()) - (not self.operator.restored)
        return len(self.harmed() | {node}) <= (size - 1) // 2

    def inflict(self, fault: Fault) -> None:
        number = fault.node
        if number == LEADER:
            number = self.leader() or self.members[0]
        if number and number not in self.nodes and fault.kind not in FAMILIES["membership"]:
            self.trace.add(0, "spared", fault)
            return
        done = _INFLICT[fault.kind](self, fault, number)
        if done is False:
            self.trace.add(0, "spared", fault)
            return
        self.figures[f"fault: {fault.kind}"] += 1
        self.trace.add(0, "fault", fault)
        if callable(done):
            self._until(fault.lasts_s, done)

    def _until(self, lasts_s: float, undo: Callable[[], None]) -> None:
        def expire() -> None:
            if undo in self._undo:
                del self._undo[undo]
                undo()

        self._undo[undo] = None
        self.loop.call_later(lasts_s, expire)

    def heal(self) -> None:
        """The end of all harm but for lasting cuts, and every node is up again. What rotted under a
        running node is only found at a start, so that one is started anew."""
        undo, self._undo = self._undo, {}
        for each in undo:
            each()
        self.network.weather = replace(self.fair_weather)
        for node in self.nodes.values():
            node.disk.mend()
            if node.paused:
                node.resume()
            if node.disk.rotten:
                node.crash()
            node.start()
        self.trace.add(0, "healed")

    def cut_lastingly(self, node: int, detail: str) -> bool:
        """Cut ``node`` off its peers until `reconnect`. Whether the rest can do without it."""
        if node in self._lasting or not self.may_damage(node):
            return False
        self._lasting[node] = self.network.cut(_links(self, node, self.members, detail))
        return True

    def reconnect(self) -> None:
        """The end of the lasting cuts."""
        lasting, self._lasting = self._lasting, {}
        for mend in lasting.values():
            mend()


Undo = Callable[[], None]
"""What ends the fault again; an inflicted fault gives it, or None, or False where it was spared."""


def _weather(field: str, scale: float) -> Callable[[Cluster, Fault, int], Undo]:
    def inflict(cluster: Cluster, fault: Fault, node: int) -> Undo:
        before = getattr(cluster.fair_weather, field)
        setattr(cluster.network.weather, field, max(before, scale * fault.rate**2))
        cluster.network.weather.straggle_s = fault.lasts_s
        return lambda: setattr(cluster.network.weather, field, before)

    return inflict


def _links(
    cluster: Cluster, node: int, others: tuple[int, ...], detail: str
) -> list[tuple[int, int]]:
    links = []
    for other in others:
        if other != node:
            links += [(node, other)] if detail in ("to", "both") else []
            links += [(other, node)] if detail in ("from", "both") else []
    return links


def _cut(cluster: Cluster, fault: Fault, node: int) -> Undo:
    return cluster.network.cut(_links(cluster, node, fault.others, fault.detail))


def _flap(cluster: Cluster, fault: Fault, node: int) -> Undo:
    """A link goes down and up, again and again."""
    links = _links(cluster, node, fault.others, "both")
    down = itertools.cycle((True, False))
    interval_s = 0.02 + 0.4 * fault.rate
    return _again(cluster, interval_s, lambda: cluster.network.cut(links if next(down) else ()))


def _depose(cluster: Cluster, fault: Fault, node: int) -> Undo:
    """Whoever leads is cut off, and comes back when the next one has become leader."""

    def isolate() -> Undo:
        leader = cluster.leader() or node
        return cluster.network.cut(_links(cluster, leader, cluster.members, "both"))

    return _again(cluster, 0.5 + 2.0 * fault.rate, isolate)


def _linger(cluster: Cluster, fault: Fault, node: int) -> Undo:
    """As `_depose`, of a leader whose clock is as slow as may be."""

    def isolate() -> Undo:
        leader = cluster.leader() or node
        clock = cluster.nodes[leader].clock
        mend = cluster.network.cut(_links(cluster, leader, cluster.members, "both"))
        clock.drift(1.0 - DRIFT_MAX)

        def undo() -> None:
            clock.drift(None)
            mend()

        return undo

    return _again(cluster, 0.5 + 2.0 * fault.rate, isolate)


def _tear(cluster: Cluster, fault: Fault, node: int) -> Undo:
    """What the leader sends reaches some and not others for a moment that is shorter than an
    election, so that its window has holes; then it reaches nobody, or nobody reaches anybody, until
    a next leader has to find out what was open."""
    rng = Random(f"{fault.at_s}/{fault.rate}")
    share = 0.3 + 0.7 * fault.rate
    everybody = list(itertools.permutations(cluster.members, 2))

    def cuts() -> Iterator[Iterable[tuple[int, int]]]:
        while True:
            leader = cluster.leader() or node
            outward = _links(cluster, leader, cluster.members, "to")
            for _ in range(30):
                yield [link for link in outward if rng.random() < share]
            silence = rng.choice((everybody, _links(cluster, leader, cluster.members, "both")))
            yield from itertools.repeat(silence, 60)
            yield from itertools.repeat((), 60)

    each = cuts()
    return _again(cluster, 0.01, lambda: cluster.network.cut(next(each)))


def _replay(cluster: Cluster, fault: Fault, node: int) -> Undo:
    """Whoever promises another ballot, or begins to lead in it, gets again what it got before."""
    kept: defaultdict[int, deque[Message]] = defaultdict(lambda: deque(maxlen=REPLAYED))
    known: dict[int, tuple[Role, Ballot]] = {}

    def echo(dst: int, life: Life, message: Message) -> None:
        now = life.replica.role, life.replica.ballot
        if known.setdefault(dst, now) != now:
            known[dst] = now
            for late in kept[dst]:
                cluster.trace.add(dst, f"<= {late.sender}", late)
                cluster.figures["messages replayed"] += 1
                life.receive(late)
        if isinstance(message, _OF_A_BALLOT):
            kept[dst].append(message)

    cluster.echo = echo
    return lambda: setattr(cluster, "echo", None)


def _lasting_cut(cluster: Cluster, fault: Fault, node: int) -> bool | None:
    """One that the others must be able to do without."""
    return None if cluster.cut_lastingly(node, fault.detail) else False


def _again(cluster: Cluster, interval_s: float, begin: Callable[[], Undo]) -> Undo:
    """Begin anew, and end what was begun before, at every interval until the result is called."""
    end = begin()
    ended = False

    def turn() -> None:
        nonlocal end
        if not ended:
            end()
            end = begin()
            cluster.loop.call_later(interval_s, turn)

    def stop() -> None:
        nonlocal ended
        ended = True
        end()

    cluster.loop.call_later(interval_s, turn)
    return stop


def _isolate(cluster: Cluster, fault: Fault, node: int) -> Undo:
    """From its peers, and from the clients too at higher rates."""
    others = cluster.members + ((CLIENTS,) if fault.rate > 0.7 else ())
    return cluster.network.cut(_links(cluster, node, others, "both"))


def _partition(cluster: Cluster, fault: Fault, node: int) -> Undo:
    here = fault.others
    there = [member for member in cluster.members if member not in here]
    return cluster.network.cut([pair for a in here for b in there for pair in ((a, b), (b, a))])


def _crash(cluster: Cluster, fault: Fault, node: int) -> Undo:
    cluster.nodes[node].crash()
    return cluster.nodes[node].start


def _crash_all(cluster: Cluster, fault: Fault, node: int) -> Undo:
    for each in cluster.nodes.values():
        each.crash()
    return cluster.start


def _reset(cluster: Cluster, fault: Fault, node: int) -> None:
    """Its connections end, although it lives."""
    cluster.connections_end(node)


def _pause(cluster: Cluster, fault: Fault, node: int) -> Undo:
    cluster.nodes[node].pause()
    return cluster.nodes[node].resume


def _trap(*, crash: bool) -> Callable[[Cluster, Fault, int], None]:
    def inflict(cluster: Cluster, fault: Fault, node: int) -> None:
        when, operation = fault.detail.split(" ", 1)
        cluster.nodes[node].disk.set_trap(operation, after=when == "after", crash=crash)

    return inflict


def _full(cluster: Cluster, fault: Fault, node: int) -> Undo:
    disk = cluster.nodes[node].disk
    disk.full = True
    return lambda: setattr(disk, "full", False)


def _slow(cluster: Cluster, fault: Fault, node: int) -> Undo:
    disk = cluster.nodes[node].disk
    disk.slowness = 1 + 400 * fault.rate**2
    return lambda: setattr(disk, "slowness", 1.0)


def _rot(cluster: Cluster, fault: Fault, node: int) -> bool | None:
    if not cluster.may_damage(node):
        return False
    return None if cluster.nodes[node].disk.rot(fault.detail) else False


def _lose(cluster: Cluster, fault: Fault, node: int) -> Undo | bool:
    if not cluster.may_damage(node):
        return False
    cluster.nodes[node].crash()
    cluster.nodes[node].disk.platter.lose()
    return cluster.nodes[node].start


def _jump(cluster: Cluster, fault: Fault, node: int) -> None:
    cluster.nodes[node].clock.ahead_ms += int(2000 * fault.rate)


def _drift(cluster: Cluster, fault: Fault, node: int) -> Undo:
    clock = cluster.nodes[node].clock
    clock.drift(1.0 + DRIFT_MAX * (2.0 * fault.rate - 1.0))
    return lambda: clock.drift(None)


def _mood(field: str, scale: float) -> Callable[[Cluster, Fault, int], Undo]:
    def inflict(cluster: Cluster, fault: Fault, node: int) -> Undo:
        before = getattr(Mood(), field)
        setattr(cluster.mood, field, max(before, scale * fault.rate))
        return lambda: setattr(cluster.mood, field, before)

    return inflict


def _operate(cluster: Cluster, fault: Fault, node: int) -> bool | None:
    return None if cluster.operator.begin(fault) else False


_INFLICT: dict[str, Callable[[Cluster, Fault, int], Undo | bool | None]] = {
    "lose": _weather("loss", 0.6),
    "duplicate": _weather("duplicate", 0.6),
    "straggle": _weather("straggle", 0.6),
    "slow link": _weather("delay_s", 0.2),
    "cut": _cut,
    "isolate": _isolate,
    "partition": _partition,
    "flap": _flap,
    "depose": _depose,
    "reset": _reset,
    "tear": _tear,
    "replay": _replay,
    "lasting cut": _lasting_cut,
    "crash": _crash,
    "crash all": _crash_all,
    "crash in disk": _trap(crash=True),
    "pause": _pause,
    "failed sync": _trap(crash=False),
    "full disk": _full,
    "slow disk": _slow,
    "rot": _rot,
    "lost disk": _lose,
    "jump": _jump,
    "drift": _drift,
    "linger": _linger,
    "slow models": _mood("slowness", 30.0),
    "failing models": _mood("failing", 0.9),
    **dict.fromkeys(FAMILIES["membership"], _operate),
}
