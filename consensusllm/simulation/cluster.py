"""The whole simulated cluster: machines, network, clients, and the hand that does them harm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from random import Random

from consensusllm.conversations import Limits
from consensusllm.paxos import PaxosConfig, Role
from consensusllm.paxos.messages import (
    Message,
)
from consensusllm.replica.replica import ReplicaConfig
from consensusllm.transport.port import Envelope

from .faults import DRIFT_MAX, LEADER, OPERATED, Fault
from .harm import INFLICT, links
from .invariants import Invariants
from .late import Past, Replay
from .models import Mood
from .network import Network
from .node import Life, Node
from .operator import Operator
from .trace import Trace
from .virtual_loop import VirtualLoop

SESSIONS = (10, 40)
"""How many there may be: few, so that they are evicted within a run."""

HEARTBEATS_MISSED = 7
"""As long as that many heartbeats is the shortest election timeout."""

DELAYS_S = (0.001, 0.01, 0.03)
"""How far apart the nodes of a cluster are: one way, on average."""
WIDE_AREA_S = 0.15
"""How far they are in one of eight."""


class Cluster:
    """``first_members`` are the node ids at first, from 1, and ``nodes`` those of the moment,
    whether or not they are members yet, or still. Small logs and chunks, so that snapshots,
    compaction and transfers in pieces happen all the time."""

    def __init__(
        self,
        loop: VirtualLoop,
        seed: str,
        nodes: int,
        trace: Trace,
        *,
        heartbeat_s: float = 0.05,
    ) -> None:
        self.loop = loop
        self.trace = trace
        self.figures: Counter[str] = Counter()
        self.first_members = tuple(range(1, nodes + 1))
        sessions = Random(f"{seed}/sessions").choice(SESSIONS)
        self._limits = Limits(sessions=sessions, replies_per_session=64)
        self.invariants = Invariants(self.first_members, self._limits)
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
        if self.network.weather.delay_s == WIDE_AREA_S:
            # A command a slot would be three a second there, fewer than the clients ask again.
            self._max_batch_commands = max(4, self._max_batch_commands)
        self._pipeline_slots = rng.choice((1, 8, 8))
        self._heartbeat_s = heartbeat_s
        self.patience_s = round(HEARTBEATS_MISSED * heartbeat_s, 6)
        self._lease_s = Random(f"{seed}/leader lease").choice((0.0, self.patience_s))
        self._linger_s = Random(f"{seed}/linger").choice((0.0, 0.005))
        self.seed = seed
        self.nodes: dict[int, Node] = {}
        for node in self.first_members:
            self._new_node(node)
        self.operator = Operator(self, Random(f"{seed}/operator"))
        self._undo: dict[object, Callable[[], None]] = {}  # by the fault that it ends
        self._lasting: dict[int, Callable[[], None]] = {}  # by the node that is cut off, or down
        self._newcomers: set[int] = set()  # those of them that never had a vote
        self._cut_off: dict[int, tuple[str, ExitStack]] = {}  # how, and what ends it
        self.replay: Replay | None = None
        self.past = Past(Random(f"{seed}/past"))
        self.muted = ""
        """The kind of message that gets lost now, if any."""
        self.flood_bytes = 0
        """How much each write of a flood has; 0 while there is none."""

    @property
    def members(self) -> tuple[int, ...]:
        """Who may be asked, and may come to harm."""
        return tuple(self.nodes)

    def _new_node(self, node: int) -> None:
        self.nodes[node] = Node(self, node, Random(f"{self.seed}/node {node}"))

    def install(self, node: int) -> None:
        """A new machine, which is no member yet."""
        self._new_node(node)
        for cut_off, (detail, cuts) in self._cut_off.items():
            cuts.callback(self.network.cut(links(self, cut_off, (node,), detail)))
        self.nodes[node].start()
        self.trace.add(node, "installed")

    def retire(self, node: int) -> None:
        """The machine is taken away for ever."""
        gone = self.nodes.pop(node, None)
        if gone is not None:
            self._lasting.pop(node, None)
            self._newcomers.discard(node)
            self._cut_off.pop(node, None)
            gone.held_down = True
            gone.crash()
            self.trace.add(node, "retired")

    def replica_config(self, node: Node) -> ReplicaConfig:
        return ReplicaConfig(
            paxos=PaxosConfig(
                node=node.number,
                members=self.first_members,
                epoch_ms=node.clock.epoch_ms(),
                heartbeat_s=self._heartbeat_s,
                election_timeout_s=self.patience_s,
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
            limits=self._limits,
            snapshot_every_slots=self._snapshot_every_slots,
        )

    def life(self, node: int) -> Life | None:
        return self.nodes[node].life if node in self.nodes else None

    def post(self, src: int, dst: int, message: Message) -> None:
        """``message`` leaves node ``src``."""
        self.trace.add(src, f"-> {dst}", message)
        if not self._lost_for_good(src, dst):
            if self.replay is not None:
                self.replay.sent(dst, message)
            self.past.sent(dst, message)
        if self.muted == type(message).__name__:
            self.figures["messages lost"] += 1
            return
        self.network.post(src, dst, partial(self.deliver, dst, message))

    def deliver(self, dst: int, message: Message) -> None:
        life = self.life(dst)
        if life is not None:
            self.trace.add(dst, f"<- {message.sender}", message)
            life.receive(message)
            if self.replay is not None:
                self.replay.arrived(dst, life)

    def deliver_late(self, dst: int, life: Life, message: Message) -> None:
        """A copy of ``message``, which was sent to ``dst`` before, comes now. One that dies of it
        gets no more."""
        if self.life(dst) is life:
            self.trace.add(dst, f"<= {message.sender}", message)
            self.figures["messages replayed"] += 1
            life.receive(message)

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

    def unled(self) -> str:
        """Whether nobody leads; "" where somebody does."""
        return "" if self.leading() is not None else "nobody leads"

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
        if unled := self.unled():
            return unled
        for number, life in lives.items():
            assert life is not None
            machine = life.replica.machine
            if machine.applied_slot != self.invariants.frontier:
                return (
                    f"node {number} has applied slot {machine.applied_slot} "
                    f"of {self.invariants.frontier}"
                )
            if registry_off := self.invariants.registry.unsettled(machine, self.voters()):
                return registry_off
            if machine.counts().open_turns:
                return f"{machine.counts().open_turns} turns are open"
        return ""

    def look(self) -> None:
        """Check what is checked from time to time."""
        for number, node in self.nodes.items():
            if node.life is not None:
                self.invariants.bounds(number, node.life.replica, node.disk.platter)

    # Harm ---------------------------------------------------------------------------------------

    def damaged(self) -> set[int]:
        """Whose data is lost. One that never had a vote has none to lose."""
        return {n for n, each in self.nodes.items() if each.disk.has_voted and not each.disk.intact}

    def harmed(self) -> set[int]:
        """Whose data is lost, or who is cut off or stays down, but for those who never had any."""
        return self.damaged() | (self._lasting.keys() - self._newcomers)

    def may_damage(self, node: int) -> bool:
        """Whether a majority would still have data and links: what the protocol asks for; also of
        one member less, where the members may be changing."""
        size = len(self.voters()) - (not self.operator.restored)
        return len(self.harmed() | {node}) <= (size - 1) // 2

    def inflict(self, fault: Fault) -> None:
        number = fault.node
        if number == LEADER:
            number = self.leader() or self.members[0]
        if number and number not in self.nodes and fault.kind not in OPERATED:
            self.trace.add(0, "spared", fault)
            return
        done = INFLICT[fault.kind](self, fault, number)
        if done is False:
            self.trace.add(0, "spared", fault)
            return
        self.figures[f"fault: {fault.kind}"] += 1
        self.trace.add(0, "fault", fault)
        if callable(done):
            self._until(fault.lasts_s, done)

    def _until(self, lasts_s: float, undo: Callable[[], None]) -> None:
        key = object()

        def expire() -> None:
            if key in self._undo:
                self._undo.pop(key)()

        self._undo[key] = undo
        self.loop.call_later(lasts_s, expire)

    def heal(self) -> None:
        """The end of all harm that does not last, and every other node is up again. What rotted
        under a running node is only found at a start, so that one is started anew."""
        undo, self._undo = self._undo, {}
        for each in undo.values():
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
        """Cut ``node`` off its peers, those to come too, until `reconnect`. Whether the rest can do
        without it."""
        if node in self._lasting or not self.may_damage(node):
            return False
        cuts = ExitStack()
        cuts.callback(self.network.cut(links(self, node, self.members, detail)))
        self._lasting[node], self._cut_off[node] = cuts.close, (detail, cuts)
        return True

    def _lost_for_good(self, src: int, dst: int) -> bool:
        """Whether what is sent now runs into a lasting cut. It does not come late either: a node
        would vote now and then that the others are to do without, and could take one away."""
        outward, inward = self._cut_off.get(src), self._cut_off.get(dst)
        return (outward is not None and outward[0] in ("to", "both")) or (
            inward is not None and inward[0] in ("from", "both")
        )

    def crash_lastingly(self, node: int) -> bool:
        """Let ``node`` be down until `reconnect`. Whether the rest can do without it."""
        if node in self._lasting or not self.may_damage(node):
            return False
        machine = self.nodes[node]

        def revive() -> None:
            machine.held_down = False
            machine.start()

        self._lasting[node] = revive
        machine.held_down = True
        machine.crash()
        return True

    def hang_lastingly(self, node: int) -> bool:
        """Let the disk of ``node`` end nothing until `reconnect`. Whether the rest can do without
        it."""
        if node in self._lasting or not self.may_damage(node):
            return False
        machine = self.nodes[node]
        self._lasting[node] = machine.disk_goes_on
        machine.disk.hanging = True
        return True

    def hang_newcomer(self, node: int) -> None:
        """Let the disk of ``node``, which was just installed, end nothing until `reconnect`. The
        rest are to do without it as before: what it learns is not durable, so it gets no vote."""
        machine = self.nodes[node]
        self._lasting[node] = machine.disk_goes_on
        self._newcomers.add(node)
        machine.disk.hanging = True

    @property
    def newcomer_hangs(self) -> bool:
        return bool(self._newcomers)

    def reconnect(self) -> None:
        """The end of all harm that lasts."""
        lasting, self._lasting = self._lasting, {}
        self._newcomers.clear()
        self._cut_off.clear()
        for mend in lasting.values():
            mend()
