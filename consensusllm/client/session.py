"""A session with the cluster: each command happens at most once, however often it is sent.

The cluster remembers the replies of a session by sequence number (Raft thesis, 6.3), so a command
is sent again, to any node, with the number that it had. ``acknowledged`` is the lowest number that
is not finished. A call that was cancelled or whose deadline passed counts as finished: its number
is never sent again, and the state machine refuses every number below the ``acknowledged`` of a
command that it has applied. A copy that is still under way may be applied until then: before the
client's next command has been, or where older commands are still waited for, before the next one
after these have ended. Commands in between may thus be answered first, and be followed by it.

The cluster keeps the replies from ``acknowledged`` on, up to a bound. Where one command is held up
and many later ones have finished, the later ones go on in a fresh session; so do those that are
refused because replies fill it, which is final under their numbers. Nothing acknowledges more in
the one that was left: a copy of what was given up there may be applied whenever it arrives, until
the cluster forgets that session.

A cluster that has forgotten the session (it forgets those that were idle longest) says so; then a
fresh one is opened. A command that was sent once and then meets this raises OutcomeUnknown.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from functools import partial

from consensusllm.client.calls import Calls, Deadline, unavailable
from consensusllm.client.errors import (
    InvalidRequest,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
    refusal,
)
from consensusllm.conversations.commands import OpenSession, Operation, SessionCommand
from consensusllm.conversations.replies import Code, Refused, Reply, SessionOpened
from consensusllm.conversations.sessions import HELD, NAME_BYTES
from consensusllm.wire.commands import encode_command, reply_from_proto
from consensusllm.wire.errors import MalformedMessage
from consensusllm.wire.generated import client_pb2

NUMBERS_MAX = 3072
"""How far a session's numbers go on from the lowest that is not finished, those of calls that wait
for room included; well below the replies that the cluster keeps of one."""

_OTHER_VERSION = "install the version that the nodes run"


class Numbers:
    """One session and the sequence numbers that are in use. ``session`` is what its commands carry:
    b"" until the cluster has opened the session of this ``name``."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.session = b""
        self._next = 1
        self._lowest = 1
        self._live: set[int] = set()

    def take(self) -> int:
        sequence = self._next
        self._next += 1
        self._live.add(sequence)
        return sequence

    def finish(self, sequence: int) -> None:
        self._live.remove(sequence)

    @property
    def acknowledged(self) -> int:
        """The lowest number that is not finished, or the next one where none is in use."""
        while self._lowest < self._next and self._lowest not in self._live:
            self._lowest += 1
        return self._lowest

    @property
    def full(self) -> bool:
        """Whether the cluster may have to remember as much as it is to, because of an old one."""
        return self._next - self.acknowledged >= NUMBERS_MAX


class Session:
    """Numbers the commands of one client; opened by the first of them."""

    def __init__(self, calls: Calls, timeout_s: float) -> None:
        self._calls = calls
        self._timeout_s = timeout_s
        self._numbers = Numbers(os.urandom(NAME_BYTES))
        self._opening: asyncio.Task[None] | None = None

    def command(self, operation: Operation, deadline: Deadline) -> Coroutine[None, None, Reply]:
        """The state machine's reply; a refusal is raised (see `errors`)."""

        def request(numbers: Numbers, sequence: int) -> client_pb2.Request:
            command = SessionCommand(numbers.session, sequence, numbers.acknowledged, operation)
            return client_pb2.Request(command=encode_command(command))

        return self._numbered(request, deadline)

    def ask(self, ask: client_pb2.Ask, deadline: Deadline) -> Coroutine[None, None, Reply]:
        """As `command`, for a query that the node completes with a plan."""

        def request(numbers: Numbers, sequence: int) -> client_pb2.Request:
            ask.session = numbers.session
            ask.sequence = sequence
            ask.acknowledged = numbers.acknowledged
            return client_pb2.Request(ask=ask)

        return self._numbered(request, deadline)

    async def close(self) -> None:
        """Stop opening. The cluster forgets the session in its own time."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)

    async def _numbered(
        self, request: Callable[[Numbers, int], client_pb2.Request], deadline: Deadline
    ) -> Reply:
        while True:
            numbers = self._numbers
            while not numbers.session or numbers.full:  # others may have come before
                numbers = await self._opened(deadline)
            sequence = numbers.take()
            try:
                response, sent_before = await self._calls.answered(
                    partial(request, numbers, sequence), deadline, changes=True
                )
            finally:
                numbers.finish(sequence)
            try:
                reply = reply_from_proto(response.reply)
            except MalformedMessage as error:
                raise OutcomeUnknown(f"{error}: {_OTHER_VERSION}") from None
            if not isinstance(reply, Refused):
                return reply
            full = reply.code is Code.TOO_LARGE and reply.message.startswith(HELD)
            if not (full or reply.code is Code.SESSION_EXPIRED):
                raise refusal(reply)
            if self._numbers is numbers:
                self._renew()
            if sent_before and not full:
                raise OutcomeUnknown(
                    "the cluster has forgotten this client's session while the command was sent"
                    " again: look whether it happened before doing it again"
                )

    def _renew(self) -> None:
        self._numbers = Numbers(os.urandom(NAME_BYTES))

    async def _opened(self, deadline: Deadline) -> Numbers:
        """The session, once the cluster knows it. All who wait share one attempt to open it."""
        if self._numbers.full:
            self._renew()
        joined = self._opening is not None  # one whose deadline may be earlier than this call's
        while not self._numbers.session:
            if self._opening is None:
                patience = Deadline(max(self._timeout_s, deadline.remaining_s()))
                self._opening = asyncio.create_task(self._open(self._numbers, patience))
                self._opening.add_done_callback(self._open_ended)
            opening = self._opening
            await asyncio.wait({opening}, timeout=max(0.0, deadline.remaining_s()))
            if opening.cancelled():
                raise RuntimeError("the client is closed")
            if opening.done():
                try:
                    opening.result()
                except (Unavailable, Overloaded):
                    if not joined:
                        raise
                    joined = False
            elif deadline.remaining_s() <= 0:
                raise unavailable(deadline, self._calls.trouble)
        return self._numbers

    def _open_ended(self, opening: asyncio.Task[None]) -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # those who still wait raise it; there may be none left

    async def _open(self, numbers: Numbers, deadline: Deadline) -> None:
        command = encode_command(SessionCommand(numbers.name, 0, 0, OpenSession()))
        response, _ = await self._calls.answered(
            lambda: client_pb2.Request(command=command), deadline, changes=False
        )
        try:
            reply = reply_from_proto(response.reply)
        except MalformedMessage as error:
            raise InvalidRequest(f"{error}: {_OTHER_VERSION}") from None
        if isinstance(reply, Refused):
            raise refusal(reply)
        if not isinstance(reply, SessionOpened):
            raise InvalidRequest(f"the nodes number no sessions: {_OTHER_VERSION}")
        numbers.session = reply.session
