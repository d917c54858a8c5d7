"""A snapshot: the whole state after one slot as bytes, and back.

Inside a zlib stream there is one line of JSON a record: a head with the format's version and the
owner's extra, the clock, the sessions by last use, the models of each node, the leases of looking
at their servers, the budgets, each conversation with its turns, the keys, and an end with the
number of records, the slot, and the state's hash. Equal states give equal bytes. Slot, sessions and
whatever the owner adds (membership) are thus kept and installed together.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from . import lines
from .fingerprint import MODULUS, digest
from .limits import Limits
from .lines import MalformedLine
from .machine import Machine
from .records import Budget, Head, ProbeLease, RegisteredModel, Turn, TurnId
from .sessions import NAME_BYTES, Session
from .state import FrozenState

_FORMAT = "consensusllm-state"
_VERSION = 7
_CHUNK_BYTES = 256 * 1024
_STEP_BYTES = 16 * 1024  # of records, before they are compressed


class MalformedSnapshot(ValueError):
    """The bytes are not a whole snapshot of this version: fetch it again from another node."""


class OtherVersion(MalformedSnapshot):
    """A snapshot that another release has made: nothing says that it is damaged."""


def encode(frozen: FrozenState) -> Iterator[bytes]:
    """The snapshot's bytes in chunks of 256 KiB, the last one of what remains. Long computing: see
    `Encoding` for how to do it in steps."""
    return filter(None, Encoding(frozen))


class Encoding(Iterator[bytes]):
    """`encode` in steps: each gives the next chunk, or nothing yet after a millisecond or so of
    computing. To be used by one thread at a time, any one.

    ``done`` of ``total`` records are encoded, ``size_bytes`` of them before they are compressed.
    """

    def __init__(self, frozen: FrozenState) -> None:
        tables = (frozen.sessions, frozen.registry, frozen.heads, frozen.turns, frozen.keys)
        self.total = 1 + len(frozen.probe_leases) + len(frozen.budgets) + sum(map(len, tables))
        self.done = self.size_bytes = 0
        self._steps = self._encoded(frozen)

    def __next__(self) -> bytes:
        return next(self._steps)

    def _encoded(self, frozen: FrozenState) -> Iterator[bytes]:
        compressor = zlib.compressobj(level=1)
        pending = bytearray(
            compressor.compress(lines.line(_FORMAT, _VERSION, frozen.extra) + b"\n")
        )
        hashed = size = 0
        for record in _records(frozen):
            self.done += 1
            hashed += digest(record)
            size += len(record)
            self.size_bytes += len(record)
            pending += compressor.compress(record + b"\n")
            while len(pending) >= _CHUNK_BYTES:
                yield bytes(pending[:_CHUNK_BYTES])
                del pending[:_CHUNK_BYTES]
                size = 0
            if size >= _STEP_BYTES:
                yield b""
                size = 0
        end = lines.line("end", self.done, frozen.slot, f"{hashed % MODULUS:032x}")
        pending += compressor.compress(end + b"\n") + compressor.flush()
        while len(pending) > _CHUNK_BYTES:
            yield bytes(pending[:_CHUNK_BYTES])
            del pending[:_CHUNK_BYTES]
        yield bytes(pending)


def _records(frozen: FrozenState) -> Iterator[bytes]:
    yield lines.clock_line(lines.Clock(frozen.time_ms, frozen.attempt_floor, frozen.touches))
    for name, session in frozen.sessions:
        yield lines.session_line(name, session)
    for node in sorted(frozen.registry):
        yield lines.models_line(node, frozen.registry[node])
    for server in sorted(frozen.probe_leases):
        yield lines.lease_line(server, frozen.probe_leases[server])
    for scope in sorted(frozen.budgets):
        yield lines.budget_line(scope, frozen.budgets[scope])
    for conversation in frozen.conversations:
        head = frozen.heads[conversation]
        yield lines.head_line(conversation, head)
        for number in range(1, head.turns + 1):
            turn_id = (conversation, number)
            yield lines.turn_line(turn_id, frozen.turns[turn_id])
    for key in frozen.key_names:
        yield lines.key_line(key, frozen.keys[key])


def restore(chunks: Iterable[bytes], limits: Limits) -> Machine:
    """The machine, with the owner's `extra`. Long computing: run it in a thread.

    Raises MalformedSnapshot on anything that `encode` cannot have made, a single bit included.
    """
    try:
        frozen, state_hash = _decode(_lines(chunks))
    except MalformedLine as error:
        raise MalformedSnapshot(f"not a snapshot: {error}") from None
    machine = Machine(limits, frozen)
    if machine.state_hash() != state_hash:
        raise MalformedSnapshot("not a snapshot: its records do not have the hash that it names")
    return machine


def _lines(chunks: Iterable[bytes]) -> Iterator[list[Any]]:
    """The rows of all lines; what is decompressed at a time is bounded."""
    decompressor = zlib.decompressobj()
    begun: list[bytes] = []
    for chunk in chunks:
        pending = chunk
        while pending:
            try:
                text = decompressor.decompress(pending, 4 * _CHUNK_BYTES)
            except zlib.error as error:
                raise MalformedLine(str(error)) from None
            pending = decompressor.unconsumed_tail
            *whole, rest = text.split(b"\n")
            for line in whole:
                yield lines.parse(b"".join((*begun, line)))
                begun.clear()
            begun.append(rest)
            if decompressor.unused_data:
                raise MalformedLine("something follows its end")
    if not decompressor.eof or any(begun):
        raise MalformedLine("it is cut off")


def _decode(rows: Iterator[list[Any]]) -> tuple[FrozenState, str]:
    first = next(rows, [None])
    if first[:2] != [_FORMAT, _VERSION]:
        if first[:1] == [_FORMAT] and len(first) > 1 and isinstance(first[1], int):
            raise OtherVersion(
                f"it is of version {first[1]}, and this program reads version {_VERSION}; "
                "start the release that wrote it"
            )
        raise MalformedLine(f"it does not begin as version {_VERSION} does")
    (extra,) = lines.fields(first[2:], (dict,))
    clock: lines.Clock | None = None
    sessions: dict[bytes, Session] = {}
    registry: dict[int, tuple[RegisteredModel, ...]] = {}
    leases: dict[str, ProbeLease] = {}
    budgets: dict[str, Budget] = {}
    heads: dict[str, Head] = {}
    turns: dict[TurnId, Turn] = {}
    keys: dict[str, bytes] = {}
    count = 0
    for row in rows:
        kind = row[0]
        if kind == "end":
            break
        count += 1
        if kind == "clock":
            clock = lines.clock(row)
        elif kind == "session":
            name, sessions[name] = lines.session(row)
        elif kind == "models":
            node, registry[node] = lines.models(row)
        elif kind == "lease":
            server, leases[server] = lines.lease(row)
        elif kind == "budget":
            scope, budgets[scope] = lines.budget(row)
        elif kind == "conversation":
            conversation, heads[conversation] = lines.head(row)
        elif kind == "turn":
            turn_id, turns[turn_id] = lines.turn(row)
        elif kind == "key":
            key, keys[key] = lines.key(row)
        else:
            raise MalformedLine("a record is of no known kind")
    else:
        raise MalformedLine("it has no end")
    counted, slot, state_hash = lines.fields(row[1:], (int,), (int,), (str,))
    if next(rows, None) is not None:
        raise MalformedLine("something follows its end")
    if clock is None or counted != count:
        raise MalformedLine("records are missing")
    frozen = FrozenState(
        slot=slot,
        **clock._asdict(),
        sessions=tuple(sessions.items()),
        registry=registry,
        probe_leases=leases,
        budgets=budgets,
        heads=heads,
        turns=turns,
        keys=keys,
        conversations=tuple(heads),
        key_names=tuple(keys),
        extra=extra,
    )
    _check(frozen)
    return frozen, state_hash


def _check(frozen: FrozenState) -> None:
    """The indexes rely on order, on turns without a gap, and on heads that count them rightly."""
    uses = [session.used for _, session in frozen.sessions]
    in_order = all(a < b for a, b in pairwise(uses)) and all(
        a < b for names in (frozen.conversations, frozen.key_names) for a, b in pairwise(names)
    )
    if not in_order:
        raise MalformedLine("records are out of order")
    if len({session[:NAME_BYTES] for session, _ in frozen.sessions}) != len(frozen.sessions):
        raise MalformedLine("two sessions have one name")
    if sum(head.turns for head in frozen.heads.values()) != len(frozen.turns):
        raise MalformedLine("turns are missing")
    open_turns = dict.fromkeys(frozen.heads, 0)
    for (conversation, number), turn in frozen.turns.items():
        head = frozen.heads.get(conversation)
        if head is None or not 1 <= number <= head.turns or not turn.candidates:
            raise MalformedLine("a turn is not of its conversation")
        open_turns[conversation] += not turn.closed
    if any(head.open_turns != open_turns[name] for name, head in frozen.heads.items()):
        raise MalformedLine("open turns are miscounted")
