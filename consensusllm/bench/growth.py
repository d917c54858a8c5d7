"""Whether a long history costs more than a short one: memory and disk, early and late.

The disk is that of the largest node, at its largest: it goes up with the log and down with each
compaction.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from consensusllm.config import PaxosSettings

from .processes import disk_bytes, usages
from .system import NODES, Networked, Say
from .work import Work

OUTSTANDING = 256
PARTS = 10
SAMPLE_S = 0.2


async def measure(
    system: Networked, directory: Path, puts: int, factor: int, say: Say
) -> dict[str, float]:
    """After ``puts``, and after ``factor`` times as many; ``compaction_mib`` is what the settings
    let the log grow to before it is compacted."""
    settings = PaxosSettings()
    early_disk = await _puts(system, directory, puts)
    early_rss = _rss_mib(system)
    latest_disk = 0.0
    left = puts * (factor - 1)
    for part in range(PARTS):
        say(f"{puts + left * part // PARTS:,} of {puts * factor:,} puts")
        count = left * (part + 1) // PARTS - left * part // PARTS
        latest_disk = max(latest_disk, await _puts(system, directory, count))
    return {
        "early_rss_mib": early_rss,
        "rss_mib": _rss_mib(system),
        "early_disk_mib": early_disk,
        "disk_mib": latest_disk,
        "compaction_mib": (settings.snapshot_every_bytes + settings.log_retain_bytes) / 2**20,
    }


async def _puts(system: Networked, directory: Path, count: int) -> float:
    """Do them, and return the most that the disk of a node held meanwhile, in MiB."""
    loop = asyncio.ensure_future(system.closed_loop(Work("put", OUTSTANDING, count=count)))
    most = 0
    while not loop.done():
        await asyncio.wait([loop], timeout=SAMPLE_S)
        most = max(most, *(disk_bytes(directory / "data" / f"node-{node}") for node in NODES))
    loop.result()
    return most / 2**20


def _rss_mib(system: Networked) -> float:
    nodes = {name: pid for name, pid in system.processes.items() if name.startswith("node-")}
    return max(one.rss_bytes for one in usages(nodes).values()) / 2**20
