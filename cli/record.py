"""What a data directory says of its cluster: ``cluster.json``, which the launcher keeps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

RECORD = "cluster.json"


class DataDirError(Exception):
    """One line that names the directory and says what to do."""


@dataclass(frozen=True)
class Record:
    """The cluster that a directory belongs to; ``formed`` once all of its disks had been made.

    ``nodes`` are those that it began with. ``joined`` are others by their address, and ``retired``
    are ids whose processes are never started again.
    """

    cluster_id: str
    nodes: tuple[int, ...]
    formed: bool
    joined: Mapping[int, str] = field(default_factory=dict)
    retired: tuple[int, ...] = ()

    def running(self, nodes: Iterable[int]) -> tuple[int, ...]:
        """The ids whose processes are to run, of ``nodes`` and those that joined."""
        return tuple(sorted({*nodes, *self.joined} - set(self.retired)))

    @property
    def described(self) -> str:
        """Its nodes in words, those of now where they are others than it began with."""
        began, now = listed(self.nodes), listed(self.running(self.nodes))
        return f"of nodes {now}" if now == began else f"of nodes {now}, which began as {began}"


def read_record(data_dir: Path) -> Record | None:
    """What was formed in ``data_dir``, or begun to be. Raises DataDirError."""
    path = data_dir / RECORD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Record(
            str(found["cluster_id"]),
            tuple(map(int, found["nodes"])),
            found["formed"] is True,
            {int(node): str(address) for node, address in found.get("joined", {}).items()},
            tuple(map(int, found.get("retired", ()))),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataDirError(f"{path} cannot be read: use another --data-dir") from None


def listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
