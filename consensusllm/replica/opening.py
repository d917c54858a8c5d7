"""How a replica finds its disk at a start: intact, new, or in need of repair by its peers.

A disk that is missing or damaged is replaced by an empty one that may not vote, because the node
may have voted with what is lost (Paxos Made Live, 5.1). A cluster of one has nobody to repair it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import structlog

from consensusllm.conversations import Limits, Machine, MalformedSnapshot, OtherVersion, restore
from consensusllm.paxos.ready import Recovered
from consensusllm.storage.port import Damaged, Disk, NotFormatted, StorageError

from .jobs import snapshot_chunks
from .members import from_extra

log = structlog.get_logger()


class DiskHome(Protocol):
    """Where one node's disk is kept. Every method may raise StorageError."""

    name: str

    def open(self) -> Disk:
        """Raises NotFormatted where there is none, Damaged."""
        ...

    def format(self, *, voting: bool) -> None:
        """Make an empty one, with which another life begins."""
        ...

    def set_aside(self) -> str:
        """Move what is damaged out of the way; its new name."""
        ...


def open_replica(
    home: DiskHome, limits: Limits, *, alone: bool, bootstrap: bool
) -> tuple[Disk, Recovered, Machine]:
    """The disk, what it holds, and the state of its snapshot. ``bootstrap`` lets a node that never
    had data vote at once, which is right only where a new cluster begins; ``alone``: as far as
    is known it has no peers. Raises StorageError."""
    try:
        disk = home.open()
    except NotFormatted as error:
        if alone and not bootstrap:
            raise StorageError(
                f"{home.name}: no data, and the configuration lists no other node to learn it "
                "from: start it with --rejoin if others were added later, or with --bootstrap if "
                "it is a new cluster"
            ) from None
        if not bootstrap or error.data_lost:
            log.warning("no data: the node rejoins, and votes once it has caught up", at=home.name)
        home.format(voting=bootstrap and not error.data_lost)
        disk = home.open()
    except Damaged as error:
        disk = _replace(home, alone, error)
    try:
        return disk, *_load(disk, limits)
    except StorageError as error:
        disk.close()
        if not isinstance(error, Damaged):
            raise
        disk = _replace(home, alone, error)
        return disk, *_load(disk, limits)


def _replace(home: DiskHome, alone: bool, error: Damaged) -> Disk:
    if alone:
        raise Damaged(
            f"{error}; the data is damaged and the configuration lists no other node to repair it "
            "from: start it with --rejoin if others were added later, else bring the directory "
            "back from a copy, or start anew in another one"
        ) from error
    log.error(
        "damaged data is set aside: the node repairs itself from its peers before it votes",
        damage=str(error),
        kept=home.set_aside(),
    )
    home.format(voting=False)
    return home.open()


def _load(disk: Disk, limits: Limits) -> tuple[Recovered, Machine]:
    recovered = disk.load()
    if recovered.snapshot_slot == 0:
        return recovered, Machine(limits)
    try:
        machine = restore(snapshot_chunks(disk, recovered.snapshot_slot), limits)
        membership, since = from_extra(machine.extra)
    except MalformedSnapshot as error:
        kind = StorageError if isinstance(error, OtherVersion) else Damaged
        raise kind(f"the snapshot of slot {recovered.snapshot_slot}: {error}") from None
    if recovered.membership is None or since > recovered.membership_slot:
        recovered = replace(recovered, membership=membership, membership_slot=since)
    return recovered, machine
