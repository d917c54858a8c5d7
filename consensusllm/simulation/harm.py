"""What each kind of fault does to a cluster, and how it ends."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from consensusllm.paxos import Role

from .faults import DRIFT_MAX, OPERATED, Fault
from .late import Replay
from .models import Mood
from .network import CLIENTS

if TYPE_CHECKING:
    from .cluster import Cluster

CLOCK_OFF_MS = 3_600_000
"""By how much a clock is off at most that was set wrong, either way."""

FLOOD_BYTES = 6_000
"""How much one write of a flood has at most."""

Undo = Callable[[], None]
"""What ends the fault again; an inflicted fault gives it, or None, or False where it was spared."""


def _weather(field: str, scale: float) -> Callable[[Cluster, Fault, int], Undo]:
    def inflict(cluster: Cluster, fault: Fault, node: int) -> Undo:
        before = getattr(cluster.fair_weather, field)
        setattr(cluster.network.weather, field, max(before, scale * fault.rate**2))
        cluster.network.weather.straggle_s = fault.lasts_s
        return lambda: setattr(cluster.network.weather, field, before)

    return inflict


def links(
    cluster: Cluster, node: int, others: tuple[int, ...], detail: str
) -> list[tuple[int, int]]:
    """Between ``node`` and those of ``others`` that are there; none with itself."""
    links = []
    there = {CLIENTS, *cluster.members}
    for other in others:
        if other != node and other in there:
            links += [(node, other)] if detail in ("to", "both") else []
            links += [(other, node)] if detail in ("from", "both") else []
    return links


def _severed(cluster: Cluster, severed: list[tuple[int, int]]) -> Undo | bool:
    return cluster.network.cut(severed) if severed else False


def _cut(cluster: Cluster, fault: Fault, node: int) -> Undo | bool:
    return _severed(cluster, links(cluster, node, fault.others, fault.detail))


def _flap(cluster: Cluster, fault: Fault, node: int) -> Undo | bool:
    """A link goes down and up, again and again."""
    flapping = links(cluster, node, fault.others, "both")
    if not flapping:
        return False
    down = itertools.cycle((True, False))
    interval_s = 0.02 + 0.4 * fault.rate
    return _again(cluster, interval_s, lambda: cluster.network.cut(flapping if next(down) else ()))


def _who_leads(cluster: Cluster, node: int) -> int:
    """Where nobody leads, ``node``, or another one where that machine is gone by now."""
    return cluster.leader() or (node if node in cluster.nodes else cluster.members[0])


def _depose(cluster: Cluster, fault: Fault, node: int) -> Undo:
    """Whoever leads is cut off, and comes back when the next one has become leader."""

    def isolate() -> Undo:
        leader = _who_leads(cluster, node)
        return cluster.network.cut(links(cluster, leader, cluster.members, "both"))

    return _again(cluster, 0.5 + 2.0 * fault.rate, isolate)


def _linger(cluster: Cluster, fault: Fault, node: int) -> Undo:
    """As `_depose`, of a leader whose clock is as slow as may be."""

    def isolate() -> Undo:
        leader = _who_leads(cluster, node)
        clock = cluster.nodes[leader].clock
        mend = cluster.network.cut(links(cluster, leader, cluster.members, "both"))
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
            leader = _who_leads(cluster, node)
            outward = links(cluster, leader, cluster.members, "to")
            for _ in range(30):
                yield [link for link in outward if rng.random() < share]
            silence = rng.choice((everybody, links(cluster, leader, cluster.members, "both")))
            yield from itertools.repeat(silence, 60)
            yield from itertools.repeat((), 60)

    each = cuts()
    return _again(cluster, 0.01, lambda: cluster.network.cut(next(each)))


def _relapse(cluster: Cluster, fault: Fault, node: int) -> Undo:
    """Whoever leads comes to lead again, in ballot after ballot, with the same slots open: it
    reaches some and not others, then everybody is silent, or the others do without it, and then
    it is the only one who can be heard, until it stands again."""
    rng = Random(f"{fault.at_s}/{fault.rate}")
    leader = _who_leads(cluster, node)

    def stands() -> bool:
        life = cluster.life(leader)
        return life is not None and life.replica.role in (Role.PREPARING, Role.LEADING)

    def cuts() -> Iterator[Iterable[tuple[int, int]]]:
        while True:
            everybody = list(itertools.permutations(cluster.members, 2))
            outward = links(cluster, leader, cluster.members, "to")
            share = 0.3 + 0.7 * rng.random()
            for _ in range(rng.randrange(40)):
                yield [link for link in outward if rng.random() < share]
            for _ in range(rng.randrange(3)):
                without = links(cluster, leader, cluster.members, "both")
                yield from itertools.repeat(rng.choice((everybody, without)), rng.randrange(150))
            for _ in range(200):
                yield [link for link in everybody if leader not in link]
                if stands():
                    break

    each = cuts()
    return _again(cluster, 0.01, lambda: cluster.network.cut(next(each)))


def _replay(cluster: Cluster, fault: Fault, node: int) -> Undo:
    cluster.replay = Replay(cluster)
    return lambda: setattr(cluster, "replay", None)


def _echo(cluster: Cluster, fault: Fault, node: int) -> Undo:
    """Old messages come again, of every kind and any age, to one node after the other."""
    rng = Random(f"{fault.at_s}/{fault.rate}")

    def begin() -> Undo:
        dst = rng.choice(cluster.members)
        life = cluster.life(dst)
        if life is not None:
            for late in cluster.past.some(dst, rng):
                cluster.deliver_late(dst, life, late)
        return lambda: None

    return _again(cluster, 0.1 + fault.rate, begin)


def _mute(cluster: Cluster, fault: Fault, node: int) -> Undo:
    """Messages of one kind get lost, and all others arrive: each must be made up for by itself."""
    cluster.muted = fault.detail
    return lambda: setattr(cluster, "muted", "")


def _lasting_cut(cluster: Cluster, fault: Fault, node: int) -> bool | None:
    """One that the others must be able to do without."""
    return None if cluster.cut_lastingly(node, fault.detail) else False


def _lasting_crash(cluster: Cluster, fault: Fault, node: int) -> bool | None:
    """One that the others must be able to do without, and may replace meanwhile."""
    return None if cluster.crash_lastingly(node) else False


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


def _isolate(cluster: Cluster, fault: Fault, node: int) -> Undo | bool:
    """From its peers, and from the clients too at higher rates."""
    others = cluster.members + ((CLIENTS,) if fault.rate > 0.7 else ())
    return _severed(cluster, links(cluster, node, others, "both"))


def _partition(cluster: Cluster, fault: Fault, node: int) -> Undo | bool:
    there = tuple(member for member in cluster.members if member not in fault.others)
    here = [member for member in cluster.members if member in fault.others]
    return _severed(
        cluster, [link for each in here for link in links(cluster, each, there, "both")]
    )


def _crash(cluster: Cluster, fault: Fault, node: int) -> Undo | bool:
    if cluster.life(node) is None:
        return False
    cluster.nodes[node].crash()
    return cluster.nodes[node].start


def _crash_all(cluster: Cluster, fault: Fault, node: int) -> Undo:
    for each in cluster.nodes.values():
        each.crash()
    return cluster.start


def _reset(cluster: Cluster, fault: Fault, node: int) -> None:
    """Its connections end, although it lives."""
    cluster.connections_end(node)


def _pause(cluster: Cluster, fault: Fault, node: int) -> Undo | bool:
    if cluster.nodes[node].paused:
        return False
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


def _hanging_disk(cluster: Cluster, fault: Fault, node: int) -> bool | None:
    """It ends nothing more, and its node lives on: the others must be able to do without."""
    return None if cluster.hang_lastingly(node) else False


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


def _jump(cluster: Cluster, fault: Fault, node: int) -> Undo | None:
    cluster.nodes[node].clock.ahead_ms += int(2000 * fault.rate)
    return _seen(cluster, fault, node)


def _set_clock(cluster: Cluster, fault: Fault, node: int) -> Undo | None:
    """The wall clock is set wrong, and stays so."""
    cluster.nodes[node].clock.ahead_ms = int(CLOCK_OFF_MS * (2.0 * fault.rate - 1.0))
    return _seen(cluster, fault, node)


def _seen(cluster: Cluster, fault: Fault, node: int) -> Undo | None:
    """Only a process that starts looks at the wall clock: in half of the cases ``node`` crashes,
    and starts as the fault ends."""
    if Random(f"{fault.at_s}/{fault.rate}").random() < 0.5:
        return None
    cluster.nodes[node].crash()
    return cluster.nodes[node].start


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


def _flood(cluster: Cluster, fault: Fault, node: int) -> Undo:
    """Clients write as much as they can."""
    cluster.flood_bytes = 1 + int(FLOOD_BYTES * fault.rate)
    return lambda: setattr(cluster, "flood_bytes", 0)


def _operate(cluster: Cluster, fault: Fault, node: int) -> bool | None:
    return None if cluster.operator.begin(replace(fault, node=node)) else False


def _mistaken_removal(cluster: Cluster, fault: Fault, node: int) -> bool | None:
    """One goes down to stay, and in the same moment an operator has another one removed, whom
    nobody has removed already."""
    if node not in cluster.voters() or not cluster.operator.bears_one_less(node):
        return False
    others = [
        each for each in cluster.voters() if each != node and not cluster.operator.removes(each)
    ]
    if not others or not cluster.crash_lastingly(node):
        return False
    whom = others[min(int(fault.rate * len(others)), len(others) - 1)]
    cluster.operator.begin(replace(fault, kind="remove node", node=whom))
    return None


def _hanging_newcomer(cluster: Cluster, fault: Fault, node: int) -> bool | None:
    """A node is added whose disk ends nothing. Another one goes down to stay, where the rest can do
    without it; with a newcomer that has a vote they could not."""
    if cluster.newcomer_hangs:  # each keeps clients waiting
        return False
    if cluster.operator.bears_one_less(node) and node in cluster.voters():
        cluster.crash_lastingly(node)
    return _operate(cluster, fault, node)


INFLICT: dict[str, Callable[[Cluster, Fault, int], Undo | bool | None]] = {
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
    "relapse": _relapse,
    "replay": _replay,
    "echo": _echo,
    "mute": _mute,
    "lasting cut": _lasting_cut,
    "crash": _crash,
    "crash all": _crash_all,
    "crash in disk": _trap(crash=True),
    "lasting crash": _lasting_crash,
    "pause": _pause,
    "failed sync": _trap(crash=False),
    "full disk": _full,
    "slow disk": _slow,
    "hanging disk": _hanging_disk,
    "rot": _rot,
    "lost disk": _lose,
    "jump": _jump,
    "set clock": _set_clock,
    "drift": _drift,
    "linger": _linger,
    "slow models": _mood("slowness", 30.0),
    "failing models": _mood("failing", 0.9),
    "flood": _flood,
    **dict.fromkeys(OPERATED, _operate),
    "mistaken removal": _mistaken_removal,
    "hanging newcomer": _hanging_newcomer,
}
