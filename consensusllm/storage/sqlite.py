"""SqliteDisk: a replica's log, hard state and snapshots in one SQLite file.

WAL journal and synchronous=FULL: a transaction is one sync of the journal, and it is durable when
COMMIT returns (sqlite.org/wal.html, section 2.2). Checkpoints are ours and not SQLite's, which
would hide their errors. After any error of SQLite's on the way to the disk the object refuses every
later write: what a failed sync left behind is unknown (Rebello et al., ATC 2020). As it closes,
SQLite still writes to the database what it had acknowledged, and deletes the journal once that is
synced; Python before 3.12 cannot keep it from that.

Refuses to take a damaged file for a good one: `load` verifies every row, page and digest. What is
dropped (compacted entries, older snapshots) is deleted a bounded step a write. Opened by
`identity.open_disk`, which also holds the lock on the directory.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from consensusllm.paxos.ballot import Ballot
from consensusllm.paxos.batch import Batch
from consensusllm.paxos.messages import Entry
from consensusllm.paxos.ready import Persist, Recovered

from .hard_state import HardState, merge, newly_chosen, recover
from .port import Damaged, DiskFailed, InUse, SnapshotInfo
from .rows import Head, Row, add_crcs, sealed, verify, verify_only

CHECKPOINT_BYTES = 4 << 20
"""About how much journal is written before it is copied back into the database."""

JOURNAL_KEPT_BYTES = 16 << 20
"""A journal that a large transaction made longer is cut back to this."""

RECLAIM_ROWS = 4096
RECLAIM_BYTES = 16 << 20
RECLAIM_PAGES = 256
"""At most so much is deleted, and given back to the disk, by one write; one row at least."""

SPARE_PAGES = 1024
"""Free pages that the file keeps for reuse; it may also keep as many as are in use."""

_UNREADABLE = (
    *("unable to open", "disk I/O error", "database or disk is full", "locking protocol"),
    *("attempt to write a readonly database", "access permission denied"),
)
"""How SQLite says that the system would not let it, whatever the file holds."""

_PAGE_BYTES = 4096
_TRANSACTION_BYTES = 16 << 10  # what a transaction adds to the journal beyond its payload, roughly

_PRAGMAS = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",
    "PRAGMA wal_autocheckpoint = 0",
    f"PRAGMA journal_size_limit = {JOURNAL_KEPT_BYTES}",
    "PRAGMA cell_size_check = ON",
    "PRAGMA secure_delete = OFF",
    "PRAGMA temp_store = MEMORY",
)


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the database at ``path``, to be used by one thread at a time."""
    database = sqlite3.connect(path, timeout=0.2, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            database.execute(pragma).fetchall()
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns SQLite's errors while ``path`` is read into Damaged, InUse where it is locked, or
    DiskFailed where it cannot be read: all nodes of a machine may then fail alike, and are as good
    as before once it can be."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # a message may quote rotten text
        if "locked" in str(error):
            raise InUse(f"{path}: another process has it open; stop that one first") from error
        if isinstance(error, sqlite3.OperationalError) and str(error).startswith(_UNREADABLE):
            raise DiskFailed(
                f"{path}: {_one_line(error)}: see that the disk works, may be written and has "
                "room for files, and that more may be open; then start the node again"
            ) from error
        raise Damaged(f"{path}: {_one_line(error)}") from error


class SqliteDisk:
    """The Disk of production. ``release`` is called once, when the disk is closed."""

    def __init__(
        self, path: Path, database: sqlite3.Connection, release: Callable[[], None]
    ) -> None:
        self._path = path
        self._database = database
        self._release = release
        self._head: Head | None = None
        self._snapshot: SnapshotInfo | None = None
        self._staged = (0, 0)
        self._verified: SnapshotInfo | None = None  # what is staged is all of it
        self._last_slot = 0  # no row of the log is above it
        self._held_through = 0  # every slot up to it has been in the log, or is chosen
        self._garbage = True  # rows or pages may be left to give back
        self._journal_bytes = self._size_of("-wal")
        self._failed = False
        self._closed = False

    def load(self) -> Recovered:
        where = str(self._path)
        with reading(self._path):
            faults = self._database.execute("PRAGMA integrity_check(1)").fetchall()
            if faults != [("ok",)]:
                raise Damaged(f"{where}: {_one_line(faults[0][0])}")
            head = Head.decode(
                verify_only("head", self._database.execute("SELECT * FROM head").fetchall(), where)
            )
            snapshot = self._verify_snapshot(head.published) if head.published else None
            staged = self._verify_snapshot(head.staged) if head.staged else None
            entries = self._verify_log(head)
        recovered = recover(head.state, entries, snapshot.slot if snapshot else 0, where)
        # What was read may be in the system's cache only, after a sync that failed: write it again.
        with self._final_errors():
            self._checkpoint("TRUNCATE")
        self._head = head
        self._snapshot = snapshot
        self._staged = (staged.slot, staged.size_bytes) if staged else (0, 0)
        self._last_slot = entries[-1].slot if entries else 0
        self._held_through = head.state.chosen_through
        return recovered

    def write(self, changes: Sequence[Persist]) -> None:
        head = self._writable()
        state, entries = merge(head.state, changes)
        if state == head.state and not entries:
            return
        covered = self._snapshot.slot if self._snapshot else 0
        assert state.compacted_through <= covered, "only what a snapshot covers is compacted"
        with self._transaction(sum(entry.batch.size_bytes for entry in entries.values())):
            head = self._apply(head, state, entries)
        self._head = head

    def stage_snapshot(self, slot: int, offset: int, data: bytes) -> None:
        """See the port. Offset 0 begins anew whatever was staged. Any other offset must go on where
        the staged bytes of ``slot`` end: a repeat, or one that would leave a hole, is ignored."""
        assert slot >= 1, "slots are numbered from 1"
        assert offset >= 0, "an offset is a number of bytes"
        head = self._writable()
        if offset > 0 and (slot, offset) != self._staged:
            return
        with self._transaction(len(data)):
            if offset == 0:
                head = self._without_staged(head)
                generation = head.generations + 1
                head = replace(head, generations=generation, staged=generation)
            row = sealed("snapshot", head.staged, slot, offset + len(data), data=b"")
            self._database.execute("INSERT OR REPLACE INTO snapshot VALUES (?,?,?,?,?)", row)
            if data:
                chunk = sealed("chunk", head.staged, offset, data=data)
                self._database.execute("INSERT INTO chunk VALUES (?,?,?,?)", chunk)
            head = self._finish(head)
        self._head = head
        self._staged = (slot, offset + len(data))
        self._verified = None

    def staged(self) -> tuple[int, int]:
        return self._staged

    def verify_staged(self, info: SnapshotInfo) -> None:
        head = self._writable()
        try:
            self._verify_staged(head, info)
        except Damaged:
            with self._transaction(0):
                head = self._finish(self._without_staged(head))
            self._head = head
            self._staged = (0, 0)
            raise
        self._verified = info

    def read_staged(self, offset: int, size_bytes: int) -> bytes:
        slot, held_bytes = self._staged
        return self._read(self._loaded().staged, slot, offset, min(offset + size_bytes, held_bytes))

    def publish_snapshot(self, info: SnapshotInfo, changes: Persist) -> None:
        """See the port. A snapshot of a slot that is not above the current one's is dropped and the
        current one stays; ``changes`` are applied all the same."""
        newer = self._snapshot is None or info.slot > self._snapshot.slot
        if newer and self._verified != info:
            self.verify_staged(info)
        head = self._writable()
        state, entries = merge(head.state, [changes])
        covered = max(info.slot, self._snapshot.slot if self._snapshot else 0)
        assert state.compacted_through <= covered, "only what a snapshot covers is compacted"
        with self._transaction(sum(entry.batch.size_bytes for entry in entries.values())):
            if newer:
                row = sealed("snapshot", head.staged, info.slot, info.size_bytes, data=info.digest)
                self._database.execute("INSERT OR REPLACE INTO snapshot VALUES (?,?,?,?,?)", row)
                self._database.execute(
                    "DELETE FROM snapshot WHERE generation = ?", (head.published,)
                )
                head = replace(head, published=head.staged, staged=0)
                self._garbage = True
            else:
                head = self._without_staged(head)
            head = self._apply(head, state, entries)
        self._head = head
        self._staged = (0, 0)
        self._verified = None
        if newer:
            self._snapshot = info

    def snapshot(self) -> SnapshotInfo | None:
        return self._snapshot

    def read_snapshot(self, slot: int, offset: int, size_bytes: int) -> bytes:
        head = self._loaded()
        if self._snapshot is None or slot != self._snapshot.slot:
            raise KeyError(slot)
        end = min(offset + size_bytes, self._snapshot.size_bytes)
        return self._read(head.published, slot, offset, end)

    def size_bytes(self) -> int:
        return sum(self._size_of(suffix) for suffix in ("", "-wal", "-shm"))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._failed = True
            try:
                self._database.close()
            finally:
                self._release()

    # Reading and verifying --------------------------------------------------------------------

    def _loaded(self) -> Head:
        assert self._head is not None, "load comes before anything else"
        return self._head

    def _writable(self) -> Head:
        if self._failed:
            raise DiskFailed(f"{self._path}: closed, or failed before; start the node again")
        return self._loaded()

    def _verify_log(self, head: Head) -> list[Entry]:
        entries = []
        total = 0
        for row in self._database.execute("SELECT * FROM log ORDER BY slot"):
            verify("log", row, f"{self._path}: the log entry of slot {row[0]}")
            slot, seq_num, pid, crc, payload = row
            total = add_crcs(total, crc)
            entries.append(Entry(slot, Ballot(seq_num, pid), Batch(payload)))
        if (len(entries), total) != (head.entry_count, head.entry_sum):
            raise Damaged(
                f"{self._path}: the log holds {len(entries)} entries that are not the "
                f"{head.entry_count} that were written"
            )
        return entries

    def _verify_snapshot(self, generation: int) -> SnapshotInfo:
        """What the snapshot row says, once the chunks bear it out; a staged one has no digest."""
        rows = self._database.execute("SELECT * FROM snapshot WHERE generation = ?", (generation,))
        row = verify_only("snapshot", rows.fetchall(), str(self._path))
        _, slot, size_bytes, _, digest = row
        self._verify_chunks(generation, SnapshotInfo(slot, size_bytes, digest))
        return SnapshotInfo(slot, size_bytes, digest)

    def _verify_staged(self, head: Head, info: SnapshotInfo) -> None:
        """Raises Damaged unless what is staged is all of ``info``."""
        if self._staged != (info.slot, info.size_bytes):
            slot, size_bytes = self._staged
            raise Damaged(
                f"{self._path}: {size_bytes} bytes of a snapshot of slot {slot} are staged, "
                f"not the {info.size_bytes} bytes of slot {info.slot}"
            )
        with reading(self._path):
            self._verify_chunks(head.staged, info)

    def _verify_chunks(self, generation: int, info: SnapshotInfo) -> None:
        digest = hashlib.blake2b(digest_size=32)
        size = 0
        for _, data in self._chunks(generation, 0, info.size_bytes):
            digest.update(data)
            size += len(data)
        if size != info.size_bytes or info.digest not in (b"", digest.digest()):
            raise Damaged(
                f"{self._path}: the snapshot of slot {info.slot} does not match its digest"
            )

    def _read(self, generation: int, slot: int, offset: int, end: int) -> bytes:
        parts = []
        with reading(self._path):
            for start, data in self._chunks(generation, offset, end):
                parts.append(data[max(offset - start, 0) : max(end - start, 0)])
        found = b"".join(parts)
        if len(found) != max(end - offset, 0):
            raise Damaged(f"{self._path}: a part of the snapshot of slot {slot} is missing")
        return found

    def _chunks(self, generation: int, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
        """``(start, data)`` of the chunks that hold ``[offset, end)``, each one verified."""
        rows = self._database.execute(
            "SELECT generation, offset, crc, data FROM chunk"
            " WHERE generation = :generation AND offset < :end AND offset >= (SELECT max(offset)"
            " FROM chunk WHERE generation = :generation AND offset <= :offset) ORDER BY offset",
            {"generation": generation, "offset": offset, "end": end},
        )
        due: int | None = None
        # A traceback would keep the SELECT open, and so the table locked and the file in use.
        with closing(rows):
            for row in rows:
                verify("chunk", row, f"{self._path}: a chunk of a snapshot")
                _, start, _, data = row
                if due is not None and start != due:
                    raise Damaged(f"{self._path}: a chunk of a snapshot is missing")
                due = start + len(data)
                yield start, data

    def _size_of(self, suffix: str) -> int:
        try:
            return self._path.with_name(self._path.name + suffix).stat().st_size
        except FileNotFoundError:
            return 0

    # Writing ----------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self, payload_bytes: int) -> Iterator[None]:
        """Everything inside is one transaction and one sync. An error is final."""
        with self._final_errors():
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
            self._journal_bytes += _TRANSACTION_BYTES + payload_bytes
            if self._journal_bytes > CHECKPOINT_BYTES:
                self._checkpoint("PASSIVE")

    def _checkpoint(self, mode: str) -> None:
        """Copy the journal back. SQLite's own automatic checkpoint ignores errors; this one raises
        them."""
        self._database.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        self._journal_bytes = 0

    @contextmanager
    def _final_errors(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._failed = True
            if not isinstance(error, sqlite3.Error):
                raise
            if "is full" in str(error):
                reason = "the disk is full; free some space, then start the node again"
            else:
                reason = f"{_one_line(error)}; check the disk, then start the node again"
            raise DiskFailed(f"{self._path}: {reason}") from error

    def _apply(self, head: Head, state: HardState, entries: dict[int, Entry]) -> Head:
        count, total = head.entry_count, head.entry_sum
        rows: list[Row] = []
        for slot, entry in entries.items():
            ballot = entry.ballot
            row = sealed("log", slot, ballot.seq_num, ballot.pid, data=entry.batch.payload)
            rows.append(row)
            replaced = self._crc_of(slot)
            count += replaced is None
            total = add_crcs(total, row[3] - (replaced or 0))
            self._last_slot = max(self._last_slot, slot)
            if slot == self._held_through + 1:
                self._held_through = slot
        if rows:
            self._database.executemany("INSERT OR REPLACE INTO log VALUES (?,?,?,?,?)", rows)
        self._check_chosen(newly_chosen(head.state, state))
        if state.compacted_through > head.state.compacted_through:
            self._garbage = True
        return self._finish(
            Head(state, count, total, head.generations, head.published, head.staged)
        )

    def _check_chosen(self, chosen: range) -> None:
        """The log must hold every slot that is called chosen. Slots mostly come in order, and are
        not counted then."""
        if chosen and chosen.stop - 1 > self._held_through:
            held = self._database.execute(
                "SELECT count(*) FROM log WHERE slot >= ? AND slot < ?", (chosen.start, chosen.stop)
            ).fetchone()[0]
            assert held == len(chosen), f"the log does not hold all of the chosen slots {chosen}"
            self._held_through = chosen.stop - 1

    def _crc_of(self, slot: int) -> int | None:
        if slot > self._last_slot:
            return None
        row = self._database.execute("SELECT crc FROM log WHERE slot = ?", (slot,)).fetchone()
        return None if row is None else int(row[0])

    def _finish(self, head: Head) -> Head:
        """The end of every transaction: give something back, then say which rows count."""
        if self._garbage:
            head = self._reclaim(head)
        self._database.execute(
            "UPDATE head SET (incarnation, voting, promised_seq_num, promised_pid, chosen_through,"
            " compacted_through, entry_count, entry_sum, generations, published, staged, crc,"
            " lists) = (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            head.encode(),
        )
        return head

    def _without_staged(self, head: Head) -> Head:
        self._database.execute("DELETE FROM snapshot WHERE generation = ?", (head.staged,))
        self._garbage = True
        return replace(head, staged=0)

    def _reclaim(self, head: Head) -> Head:
        """Delete one bounded step of what no longer counts, and return pages to the disk."""
        compacted = self._database.execute(
            "SELECT slot, length(payload), crc FROM log WHERE slot <= ? ORDER BY slot",
            (head.state.compacted_through,),
        )
        entries = _bounded(compacted)
        if entries:
            self._database.execute("DELETE FROM log WHERE slot <= ?", (entries[-1][0],))
        unused = self._database.execute(
            "SELECT rowid, length(data) FROM chunk WHERE generation NOT IN (?, ?)",
            (head.published, head.staged),
        )
        chunks = _bounded(unused)
        self._database.executemany(
            "DELETE FROM chunk WHERE rowid = ?", [(row[0],) for row in chunks]
        )
        free = self._database.execute("PRAGMA freelist_count").fetchone()[0]
        pages = self._database.execute("PRAGMA page_count").fetchone()[0]
        spare = max(SPARE_PAGES, pages // 2)
        if free > spare:
            # The sqlite3 module takes one step of this statement, and a step frees one page.
            for _ in range(min(free - spare, RECLAIM_PAGES)):
                self._database.execute("PRAGMA incremental_vacuum(1)")
            self._journal_bytes += min(free - spare, RECLAIM_PAGES) * _PAGE_BYTES
        self._journal_bytes += sum(row[1] for row in (*entries, *chunks))
        self._garbage = bool(entries or chunks or free > spare)
        return replace(
            head,
            entry_count=head.entry_count - len(entries),
            entry_sum=add_crcs(head.entry_sum, -sum(row[2] for row in entries)),
        )


def _one_line(message: object) -> str:
    """What SQLite says, which may quote rot, as one line that is safe to show."""
    printable = (char if char.isprintable() else " " for char in str(message))
    return " ".join("".join(printable).split())


def _bounded(rows: sqlite3.Cursor) -> list[Row]:
    """The first rows, up to the bound of one write; the second column is a row's size in bytes."""
    size = 0
    found: list[Row] = []
    with closing(rows):
        for row in rows:
            size += row[1]
            if len(found) == RECLAIM_ROWS or (found and size > RECLAIM_BYTES):
                break
            found.append(row)
    return found
