"""What becomes of a request that the state machine does not answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FailureKind(Enum):
    """Whether the command may have happened decides what the client may do next."""

    OVERLOADED = "overloaded"  # not proposed by this try: send it again later
    NO_QUORUM = "no_quorum"  # never reached a leader with a majority in time
    UNKNOWN = "unknown"  # proposed, but not seen applied in time: send the same command again
    STOPPED = "stopped"  # this node ends: ask another one


@dataclass(frozen=True, slots=True)
class Failure:
    """``message`` is one line for a person; ``leader`` is whom to ask (None: not known).

    ``may_have_happened``: an earlier try, or a copy of it, may have been proposed.
    ``retry_after_ms``: when another try makes sense, where that can be told.
    """

    kind: FailureKind
    message: str
    leader: int | None = None
    may_have_happened: bool = False
    retry_after_ms: int = 0


STOPPED = Failure(FailureKind.STOPPED, "this node is stopping: ask another one")
