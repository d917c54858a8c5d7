"""Owns the conditions of a measurement: the machine and the versions, without which no figure means
anything."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

from consensusllm import __version__

IN_MEMORY = ("tmpfs", "ramfs")
BUSY_LOAD_PER_CORE = 0.25


def conditions(directory: Path, versions: Mapping[str, str]) -> dict[str, str]:
    """What is so now, by its names; the data is below ``directory``, and ``versions`` are those of
    the other systems."""
    filesystem = _filesystem(directory)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{os.cpu_count()} cores, {_processor()}, {_memory()}",
        "system": f"{platform.system()} {platform.release()}",
        "disk": f"{filesystem}; data in {directory}",
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "event loop": _event_loop(),
        "libraries": ", ".join(f"{name} {_version(name)}" for name in ("grpcio", "protobuf")),
        "consensusllm": __version__,
        **versions,
        "load before": load(),
    }


def warnings(directory: Path) -> list[str]:
    """What spoils the figures from the start, each in one line."""
    found = []
    if _filesystem(directory).startswith(IN_MEMORY):
        found.append(
            f"{directory} is in memory, where a sync costs nothing: give --data-dir on a disk"
        )
    cores = os.cpu_count() or 1
    if os.getloadavg()[0] > BUSY_LOAD_PER_CORE * cores:
        found.append(
            f"the machine is busy (load {os.getloadavg()[0]:.1f} on {cores} cores): "
            "the figures will be noisy, and the ratios are the better guide"
        )
    return found


def load() -> str:
    """The load averages of 1, 5 and 15 minutes."""
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _event_loop() -> str:
    try:
        return f"uvloop {importlib.metadata.version('uvloop')}"
    except importlib.metadata.PackageNotFoundError:
        return "asyncio's own (uvloop is not installed)"


def _processor() -> str:
    return _field("/proc/cpuinfo", "model name") or platform.machine()


def _memory() -> str:
    kibibytes = _field("/proc/meminfo", "MemTotal").split()
    return f"{int(kibibytes[0]) / 2**20:.0f} GiB" if kibibytes else "memory unknown"


def _field(path: str, name: str) -> str:
    with contextlib.suppress(OSError):
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            if line.startswith(name):
                return line.partition(":")[2].strip()
    return ""


def _filesystem(directory: Path) -> str:
    """The type and device of the file system: the longest mount point above ``directory``."""
    best, found = "", "unknown"
    with contextlib.suppress(OSError):
        where = str(directory.resolve())
        for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
            device, point, kind = line.split()[:3]
            inside = where == point or where.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, found = point, f"{kind} on {device}"
    return found
