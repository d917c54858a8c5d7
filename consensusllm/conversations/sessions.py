"""The session table: what makes a command happen at most once however often it arrives.

A session's commands may arrive repeated and in any order. Each number is applied once and its reply
kept until the client says, by `acknowledged`, that it has finished with it (Raft thesis, 6.3). The
table is bounded; which session has to go is a function of the log alone: the one that has gone
without a command the longest.

The client names its session, and the table adds a number that no other opening has. A late copy of
an OpenSession thus never brings back a session that is gone: it opens another one, which the late
commands of the old one are none of. Sessions of logs of before are known by their name alone.

What is refused stays refused: where a reply has no room the session ends, so that no late copy of
the command finds room later.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from .commands import OpenSession, SessionCommand
from .limits import Limits
from .replies import Code, Done, Refused, Reply, SessionOpened

DONE = Done()

NAME_BYTES = 16
SESSION_BYTES = NAME_BYTES + 8
"""Of what SessionOpened gives: the name, and the opening's number, big-endian."""

HELD = "unacknowledged replies of the session hold"
"""How a refusal begins whose command met a session without room. It is over under its number; sent
in another session it may find room."""

_EXPIRED = Refused(
    Code.SESSION_EXPIRED,
    "the session is not known, or was dropped because it was unused or had too many unacknowledged "
    "replies: open a new one",
)
_FINISHED = Refused(
    Code.STALE, "the command's number is already acknowledged: send it under a new number"
)
_MISNUMBERED = Refused(
    Code.INVALID, "number 0 is for opening the session: number commands from 1 on"
)


class Session:
    """One client's numbers and replies.

    ``used`` orders sessions by their last command (no two are equal). ``replies`` has what was
    answered from ``acknowledged`` on, ``held_bytes`` is the size of the values inside.
    """

    __slots__ = ("acknowledged", "held_bytes", "replies", "used")

    def __init__(self, used: int, acknowledged: int, replies: dict[int, Reply]) -> None:
        self.used = used
        self.acknowledged = acknowledged
        self.replies = replies
        self.held_bytes = sum(map(_held_bytes, replies.values()))

    def copy(self) -> Session:
        copied = Session(self.used, self.acknowledged, {})
        copied.replies, copied.held_bytes = self.replies.copy(), self.held_bytes
        return copied

    def remember(self, sequence: int, reply: Reply) -> None:
        self.replies[sequence] = reply
        if reply is not DONE:
            self.held_bytes += _held_bytes(reply)

    def acknowledge(self, acknowledged: int) -> None:
        """Forget the replies to numbers below ``acknowledged``."""
        replies = self.replies
        finished: Iterable[int] = range(self.acknowledged, acknowledged)
        if acknowledged - self.acknowledged > len(replies):
            finished = [number for number in replies if number < acknowledged]
        self.acknowledged = acknowledged
        for number in finished:
            reply = replies.pop(number, DONE)
            if reply is not DONE:
                self.held_bytes -= _held_bytes(reply)


def _held_bytes(reply: Reply) -> int:
    return len(reply.current) if isinstance(reply, Refused) and reply.current else 0


class Sessions:
    """All sessions by what their commands carry: ``table`` has the longest unused first, ``marked``
    is told of every change. ``touches`` counts uses, and so numbers what is opened."""

    __slots__ = ("_limits", "_marked", "_named", "table", "touches")

    def __init__(
        self,
        limits: Limits,
        table: OrderedDict[bytes, Session],
        marked: set[bytes],
        touches: int,
    ) -> None:
        self._limits = limits
        self._marked = marked
        self._named = {session[:NAME_BYTES]: session for session in table}
        self.table = table
        self.touches = touches

    def admit(self, command: SessionCommand) -> Session | Reply:
        """The session in which to apply ``command`` and remember the reply, or the reply itself
        where there is nothing to apply: it was applied before, or may not be."""
        sequence = command.sequence
        if sequence == 0:
            return self._open(command)
        session = self.table.get(command.session)
        if session is None:
            return _EXPIRED
        self._touch(command.session, session)
        acknowledged = command.acknowledged
        if sequence < acknowledged or sequence < session.acknowledged:
            return _FINISHED
        if acknowledged > session.acknowledged:
            session.acknowledge(acknowledged)
        replies = session.replies
        reply = replies.get(sequence)
        if reply is not None:
            return reply
        limits = self._limits
        if len(replies) >= limits.replies_per_session:
            return self._overfull(command.session, len(replies))
        if session.held_bytes >= limits.reply_bytes_per_session:
            refusal = Refused(
                Code.TOO_LARGE,
                f"{HELD} {session.held_bytes} bytes: "
                "acknowledge them, then send the command under a new number",
            )
            if len(command.session) == SESSION_BYTES:  # logs of before had it forgotten
                session.remember(sequence, refusal)
            return refusal
        return session

    def _overfull(self, key: bytes, replies: int) -> Reply:
        """There is no room to remember that the command was refused: end the session, but for one
        of before, of which the log has it go on."""
        if len(key) == NAME_BYTES:
            return Refused(
                Code.TOO_LARGE,
                f"{replies} replies of the session are not acknowledged: acknowledge them, "
                "then send the command again",
            )
        self._drop(key)
        return Refused(
            Code.SESSION_EXPIRED,
            f"the session has ended, since {replies} of its replies are not acknowledged: open a "
            "new one, and acknowledge what is answered",
        )

    def _open(self, command: SessionCommand) -> Reply:
        if not isinstance(command.operation, OpenSession):
            return _MISNUMBERED
        name, numbered = command.session, command.operation.numbered
        key = self._named.get(name)
        if key is None:
            while len(self.table) >= self._limits.sessions:
                self._drop(next(iter(self.table)))
            key = name + (self.touches + 1).to_bytes(8, "big") if numbered else name
            session = self.table[key] = Session(0, command.acknowledged, {})
            self._named[name] = key
        else:
            session = self.table[key]
            if command.acknowledged > session.acknowledged:
                session.acknowledge(command.acknowledged)
        self._touch(key, session)
        return SessionOpened(key) if numbered else DONE

    def _drop(self, key: bytes) -> None:
        del self.table[key]
        del self._named[key[:NAME_BYTES]]
        self._marked.add(key)

    def _touch(self, key: bytes, session: Session) -> None:
        self.touches = session.used = self.touches + 1
        self.table.move_to_end(key)
        self._marked.add(key)
