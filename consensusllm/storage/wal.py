"""Tells a damaged write-ahead log from a torn one, before SQLite opens it.

SQLite ends its log silently at the first frame that does not verify. After a crash in mid-write
that is right: nobody was told of the last transaction. In the middle of the log it would take back
writes that were acknowledged. Each transaction is synced before the next one begins, so an invalid
frame that is followed by a commit of the same generation was valid once, and is damage.

In one case this errs, on the safe side: a power cut that kept the last transaction's commit frame
but lost an earlier frame of it is called damage too. In one it cannot know: damage within the last
frame of the log looks like a tear.

Owns no write. Source: sqlite.org/fileformat2.html, section 4 (The Write-Ahead Log).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from .port import Damaged

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24

_HEADER = struct.Struct(">8I")  # magic, format, page size, checkpoint, salt (2), checksum (2)
_FRAME_HEADER = struct.Struct(">6I")  # page, pages after a commit (else 0), salt (2), checksum (2)
_MAGIC_LITTLE, _MAGIC_BIG = 0x377F0682, 0x377F0683
_FORMAT = 3007000
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class WalScan:
    """What a log holds: ``commits`` are the numbers (from 0) of the valid frames that end a
    transaction, ``frame_bytes`` the length of a frame with its header."""

    frame_bytes: int = 0
    commits: tuple[int, ...] = ()


def scan_wal(path: Path) -> WalScan:
    """Verify the log at ``path``; a missing or empty one is in order, and so is a torn end.

    Raises Damaged where writes would be lost that were acknowledged, OSError if it cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return WalScan()
    with file:
        head = file.read(HEADER_BYTES)
        more = file.read(1)
        if len(head) < HEADER_BYTES or not more:
            return WalScan()  # the header is synced before the first frame is written
        magic, version, page_bytes, _, salt_1, salt_2, *checksum = _HEADER.unpack(head)
        order = {_MAGIC_LITTLE: "<", _MAGIC_BIG: ">"}.get(magic, "")
        sound = order and version == _FORMAT and _is_page_size(page_bytes)
        if not sound or _checksum(order, head[:24], 0, 0) != tuple(checksum):
            raise Damaged(f"{path}: the journal's header does not match its checksum")

        file.seek(HEADER_BYTES)
        frame_bytes = FRAME_HEADER_BYTES + page_bytes
        commits: list[int] = []
        invalid: int | None = None
        running = (checksum[0], checksum[1])
        number = 0
        while len(frame := file.read(frame_bytes)) == frame_bytes:
            page, commit, *salt, sum_1, sum_2 = _FRAME_HEADER.unpack_from(frame)
            same_generation = salt == [salt_1, salt_2]
            if invalid is None:
                running = _checksum(order, frame[:8], *running)
                running = _checksum(order, frame[FRAME_HEADER_BYTES:], *running)
                if page == 0 or not same_generation or running != (sum_1, sum_2):
                    invalid = number
                elif commit:
                    commits.append(number)
            elif same_generation and commit:
                raise Damaged(
                    f"{path}: frame {invalid} of the journal is damaged, and transactions "
                    f"were committed after it"
                )
            number += 1
    return WalScan(frame_bytes, tuple(commits))


def _is_page_size(size: int) -> bool:
    return 512 <= size <= 65536 and size & (size - 1) == 0


def _checksum(order: str, data: bytes, sum_1: int, sum_2: int) -> tuple[int, int]:
    """The format's running checksum over ``data``, a multiple of 8 bytes."""
    for first, second in struct.iter_unpack(f"{order}II", data):
        sum_1 = (sum_1 + first + sum_2) & _MASK
        sum_2 = (sum_2 + second + sum_1) & _MASK
    return sum_1, sum_2
