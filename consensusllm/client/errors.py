"""Everything that a client call can raise, as one small tree.

    ConsensusError
      InvalidRequest    the call itself is wrong: an id's syntax, a bound, a malformed export
      NotFound          no such conversation, turn, candidate or key
      AlreadyExists     the id is taken
      Conflict          another choice, or another value, stands
      NotAnswered       the candidate or conversation is still being answered, or it failed
      TooLarge          over a bound of the replicated state
      OverBudget        a budget does not allow what it could cost
      ChangeRefused     the members or the leader cannot be changed so
      Unauthenticated   the node does not accept the token
      Overloaded        refused before anything was done, until the deadline
      Unavailable       no node, or no majority of them, within the deadline; nothing was changed
        TurnUnread      the question was asked, and its turn cannot be read yet
      OutcomeUnknown    it may have happened or may yet happen once, or never

Each message is one line that says what to do. Programmer errors are not in the tree.
"""

from __future__ import annotations

from consensusllm.conversations.replies import Code, Refused


class ConsensusError(Exception):
    """What every error of the client derives from."""


class InvalidRequest(ConsensusError):
    """The request can never succeed as it is. Nothing was changed."""


class NotFound(ConsensusError):
    """There is no such conversation, turn, candidate or key."""


class AlreadyExists(ConsensusError):
    """The conversation id is taken."""


class Conflict(ConsensusError):
    """Another choice or another value stands.

    For a choice, ``winner`` is the candidate that stands chosen in ``turn`` (both 0 for keys). For
    a key, ``current`` is the value that stands (None: the key is absent).
    """

    def __init__(
        self, message: str, *, turn: int = 0, winner: int = 0, current: bytes | None = None
    ) -> None:
        super().__init__(message)
        self.turn = turn
        self.winner = winner
        self.current = current


class NotAnswered(ConsensusError):
    """The candidate, or the conversation, is still being answered, or the candidate failed."""


class TooLarge(ConsensusError):
    """The command is over a bound of the replicated state. Nothing was changed."""


class OverBudget(ConsensusError):
    """A budget, which the message names, does not allow what the query could cost. Nothing was
    changed."""


class ChangeRefused(ConsensusError):
    """The members or the leader cannot be changed so. Nothing was changed by this call, but a
    node that could not be replaced may have its successor beside it: the message says so."""


class Unauthenticated(ConsensusError):
    """The node does not accept the client's token."""


class Overloaded(ConsensusError):
    """The cluster, or this client, had no room until the deadline. Nothing was changed."""


class Unavailable(ConsensusError):
    """No node, or no majority of them, answered within the deadline. Nothing was changed, unless it
    is a TurnUnread."""


class TurnUnread(Unavailable):
    """The question was asked, as ``turn``, which could not be read to its end within the deadline.
    Its answers are kept: look at it later, instead of asking again."""

    def __init__(self, message: str, *, turn: int) -> None:
        super().__init__(message)
        self.turn = turn


class OutcomeUnknown(ConsensusError):
    """The command was sent and its answer never came: it happened once, will yet, even behind later
    commands of this client, or never will.

    Look at the state before doing it again.
    """


_BY_CODE: dict[Code, type[ConsensusError]] = {
    Code.INVALID: InvalidRequest,
    Code.EXISTS: AlreadyExists,
    Code.NOT_FOUND: NotFound,
    Code.NOT_ANSWERED: NotAnswered,
    Code.TOO_LARGE: TooLarge,
    Code.OVER_BUDGET: OverBudget,
    Code.SESSION_EXPIRED: OutcomeUnknown,
}


def refusal(refused: Refused) -> ConsensusError:
    """The error that a refusal by the state machine is raised as."""
    if refused.code in (Code.CONFLICT, Code.STALE):
        return Conflict(
            refused.message,
            turn=refused.turn,
            winner=refused.winner,
            current=refused.current,
        )
    return _BY_CODE[refused.code](refused.message)
