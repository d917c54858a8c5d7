"""One call, tried again until it is answered or its deadline has passed.

It owns the back-off and what each Failure means: where to go next, when, and whether the command
may have been proposed by a try whose answer never came. Sending a command again is safe because it
keeps its session and sequence number (see `session`).
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterator
from functools import partial

from consensusllm.client.errors import (
    ConsensusError,
    InvalidRequest,
    OutcomeUnknown,
    Overloaded,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from consensusllm.client.nodes import Nodes
from consensusllm.client.pipeline import Lost, Pipeline
from consensusllm.wire.generated import client_pb2

PAUSE_FIRST_S = 0.05
PAUSE_MAX_S = 1.0
TRY_S = 3.0
"""What a node gets for one try; it answers by then, if only with a Failure. Each answer that is
late gives the next try twice as long, as it may be the link that takes so long."""
TRY_MIN_S = 0.25
"""With less left before the deadline nothing is tried again: the answer would not come in time."""
GRACE_S = 1.0
"""How much later than that the client stops waiting for it."""


class Deadline:
    """A moment of the event loop's monotonic clock, ``timeout_s`` seconds after it was made."""

    def __init__(self, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise InvalidRequest(f"a timeout of {timeout_s!r} s is not above 0")
        self.timeout_s = timeout_s
        self.now = asyncio.get_running_loop().time
        self.at = self.now() + timeout_s

    def remaining_s(self) -> float:
        return self.at - self.now()

    def bounded_s(self, most_s: float = math.inf) -> float:
        """What remains, but ``most_s`` at most; above 0, as a timeout is."""
        return max(0.001, min(most_s, self.remaining_s()))

    def part(self, parts: int) -> Deadline:
        """For the first of ``parts`` tries in turn: none may use up the time of those after it."""
        return Deadline(self.bounded_s(self.remaining_s() / parts))

    def of_a_try(self, most_s: float = 0.0) -> tuple[int, float]:
        """For one that begins now and takes ``most_s`` at most (0: TRY_S): its request's
        ``timeout_ms``, and when it is given up."""
        now = self.now()
        try_s = min(most_s or TRY_S, 0.8 * max(0.001, self.at - now))
        return max(1, int(1000 * try_s)), min(self.at, now + try_s + GRACE_S)


def pauses(random_: random.Random) -> Iterator[float]:
    """Seconds between tries: doubling from PAUSE_FIRST_S to PAUSE_MAX_S, half of each at random."""
    pause_s = PAUSE_FIRST_S
    while True:
        yield pause_s * random_.uniform(0.5, 1.0)
        pause_s = min(2 * pause_s, PAUSE_MAX_S)


async def pause(pause_s: float, deadline: Deadline) -> None:
    """Sleep, but not past the deadline."""
    await asyncio.sleep(max(0.0, min(pause_s, deadline.remaining_s())))


def unavailable(deadline: Deadline, trouble: str) -> Unavailable:
    """The error for a deadline that passed; ``trouble`` is what the last try met."""
    return Unavailable(
        f"no answer within {deadline.timeout_s:g} s ({trouble or 'no node was reached'}):"
        " check that a majority of the nodes runs, then try again"
    )


class Calls:
    """Sends requests until they are answered, moving between the nodes as they say."""

    def __init__(self, nodes: Nodes, pipeline: Pipeline, random_: random.Random) -> None:
        self._nodes = nodes
        self._pipeline = pipeline
        self._random = random_
        self.trouble = ""  # what the last failed try of any call met, for words to a person

    async def answered(
        self, build: Callable[[], client_pb2.Request], deadline: Deadline, *, changes: bool
    ) -> tuple[client_pb2.Response, bool]:
        """The response, and whether an earlier try may have been proposed as well.

        ``build`` makes the request, anew for each try. ``changes``: it is a command, so that
        OutcomeUnknown is raised once a try may have been proposed. Otherwise the deadline raises
        Unavailable or Overloaded, a node's word InvalidRequest or Unauthenticated, and a request
        that no message has room for TooLarge.
        """
        waits: Iterator[float] | None = None  # nearly every call needs one try
        sent = followed = moved = False
        try_s, of_a_try = TRY_S, deadline.of_a_try
        failure: ConsensusError
        while True:
            asked_s = 0.0
            at_once = False
            try:
                address, response = await self._pipeline.send(build, deadline.at, of_a_try)
            except Lost as lost:
                sent = sent or lost.sent
                if lost.late:
                    try_s *= 2
                    of_a_try = partial(deadline.of_a_try, try_s)
                failure = self._unavailable(deadline, str(lost))
                self._nodes.leave(lost.address)
                if not moved and self._nodes.current != lost.address:
                    moved = at_once = True  # as the first move to another node is
            except (Overloaded, TooLarge, Unauthenticated) as error:
                failure = error
                break
            else:
                if response.WhichOneof("body") != "failure":
                    return response, sent
                refused = response.failure
                said = f"{address}: {refused.message or client_pb2.Failure.Kind.Name(refused.kind)}"
                if refused.kind == client_pb2.Failure.INVALID:
                    failure = InvalidRequest(refused.message)
                    break
                if refused.kind == client_pb2.Failure.OVERLOADED:
                    asked_s = refused.retry_after_ms / 1000
                    sent = sent or refused.may_have_happened
                    failure = Overloaded(f"{said}: send less at once, or try again later")
                else:
                    sent = sent or refused.kind == client_pb2.Failure.UNKNOWN
                    failure = self._unavailable(deadline, said)
                    self._nodes.leave(address, refused.leader_address)
                    if refused.leader_address not in ("", address) and not followed:
                        followed = at_once = True  # as the first hint is followed
            waits = waits or pauses(self._random)
            wait_s = 0.0 if at_once else next(waits)
            spare_s = deadline.remaining_s() - TRY_MIN_S
            if spare_s <= asked_s:
                break
            await asyncio.sleep(min(asked_s + wait_s, spare_s))
        if sent and changes:
            raise OutcomeUnknown(
                f"{failure}; it may or may not have happened, so look before doing it again"
            )
        raise failure

    def _unavailable(self, deadline: Deadline, trouble: str) -> Unavailable:
        self.trouble = trouble
        return unavailable(deadline, trouble)
