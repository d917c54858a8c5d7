"""How far a replica's long work is: catching up, and snapshots."""

from __future__ import annotations

from dataclasses import dataclass

from consensusllm.conversations import Machine
from consensusllm.paxos import PaxosNode

from .jobs import TakeSnapshot


@dataclass(frozen=True, slots=True)
class Progress:
    """``known_slot`` is the last one that is known to be chosen anywhere: what is missing up to it
    is being caught up. ``records`` is 0 where no snapshot is being taken, and ``bytes`` 0 where
    none comes from a peer."""

    known_slot: int
    records_encoded: int
    records: int
    bytes_received: int
    bytes: int


def progress(paxos: PaxosNode, machine: Machine, taking: TakeSnapshot | None) -> Progress:
    received, size_bytes = paxos.receiving
    return Progress(
        known_slot=max(paxos.known_through, machine.applied_slot),
        records_encoded=taking.encoding.done if taking is not None else 0,
        records=taking.encoding.total if taking is not None else 0,
        bytes_received=received,
        bytes=size_bytes,
    )
