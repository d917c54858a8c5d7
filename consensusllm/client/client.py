"""The client: conversations, keys and status of a cluster, as plain calls.

It owns nothing but the order of things; the stream, the tries, the session and the watching are
modules of their own. It refuses what can never succeed before anything is sent; the cluster checks
again. Every call has a deadline, ``timeout_s`` seconds from its start (None: the client's own), and
raises the errors of `errors`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from types import TracebackType
from typing import TypeVar

from consensusllm.client import checks
from consensusllm.client.budgets import BudgetCalls
from consensusllm.client.calls import Calls, Deadline
from consensusllm.client.councils import COUNCIL_TIMEOUT_S, CouncilCalls
from consensusllm.client.errors import (
    ConsensusError,
    InvalidRequest,
    NotFound,
    TurnUnread,
    Unavailable,
)
from consensusllm.client.history import HistoryCalls
from consensusllm.client.keys import KeyCalls
from consensusllm.client.members import MemberCalls
from consensusllm.client.nodes import Nodes
from consensusllm.client.pipeline import Pipeline
from consensusllm.client.plan import Plan
from consensusllm.client.session import Session
from consensusllm.client.status import Status, node_status
from consensusllm.client.watch import TurnClosed, WatchEvent, require_asked, watch
from consensusllm.conversations.commands import (
    Choose,
    CloseTurn,
    CreateConversation,
    Delete,
    Fork,
    GenerationOptions,
    Rename,
)
from consensusllm.conversations.history import at_revision
from consensusllm.conversations.records import Conversation, ConversationSummary, Turn
from consensusllm.conversations.replies import Chosen, TurnOpened
from consensusllm.wire.generated import client_pb2
from consensusllm.wire.records import conversation_from_proto, summary_from_proto

ANSWER_TIMEOUT_S = 300.0
"""How long a reader waits for a turn to close, unless the call says otherwise."""

CANCEL_S = 2.0
"""How long whoever leaves a stream waits for its turn to be cancelled."""

CANCELLED = "cancelled"
"""The error of a candidate that somebody did not want to wait for."""

_Expected = TypeVar("_Expected")


class Client(BudgetCalls, HistoryCalls, KeyCalls, MemberCalls, CouncilCalls):
    """A client of the cluster at ``addresses``; use it as an asynchronous context manager.

    ``addresses`` are some or all of the nodes, ``host:port`` each. The client follows the nodes'
    hints to the leader, moves on from a node that is of no use, and learns of the others' addresses
    from any; ``pinned`` keeps it to its one address, but for changes of members and of the leader,
    which only the leader makes. ``timeout_s`` is the deadline of calls that
    name none. Concurrent calls are safe and share one stream.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        token: str | None = None,
        timeout_s: float = 10.0,
        pinned: bool = False,
    ) -> None:
        self._timeout_s = timeout_s
        self._random = random.Random()
        self._pinned_to = partial(Client, token=token, timeout_s=timeout_s, pinned=True)
        self._nodes = Nodes(addresses, token=token, pinned=pinned)
        self._pipeline = Pipeline(self._nodes)
        self._calls = Calls(self._nodes, self._pipeline, self._random)
        self._session = Session(self._calls, timeout_s)
        self._leaving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the stream and the connections. The client cannot be used afterwards."""
        for leaving in self._leaving:
            leaving.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await self._session.close()
        await self._pipeline.close()
        await self._nodes.close()

    @property
    def address(self) -> str:
        """The node that calls go to now."""
        return self._nodes.current

    # Conversations --------------------------------------------------------------------------

    async def create(
        self, conversation: str, *, system: str = "", timeout_s: float | None = None
    ) -> None:
        """Make an empty conversation, with a ``system`` prompt for its queries. Raises
        AlreadyExists."""
        command = CreateConversation(
            checks.conversation_id(conversation), checks.text(system, "the system prompt")
        )
        await self._command(command, timeout_s)

    async def rename(
        self, conversation: str, target: str, *, timeout_s: float | None = None
    ) -> None:
        """Give the conversation the id ``target``. Raises NotFound, AlreadyExists."""
        await self._command(
            Rename(checks.conversation_id(conversation), checks.conversation_id(target)), timeout_s
        )

    async def delete(self, conversation: str, *, timeout_s: float | None = None) -> None:
        """Remove the conversation with all its turns. Raises NotFound."""
        await self._command(Delete(checks.conversation_id(conversation)), timeout_s)

    async def fork(
        self,
        conversation: str,
        target: str,
        at_turn: int | None = None,
        *,
        timeout_s: float | None = None,
    ) -> None:
        """Copy the conversation, up to and including ``at_turn`` (None: all of it), to ``target``.

        Raises NotFound, AlreadyExists."""
        command = Fork(
            checks.conversation_id(conversation),
            checks.conversation_id(target),
            checks.number(at_turn, "turn"),
        )
        await self._command(command, timeout_s)

    async def view(
        self,
        conversation: str,
        *,
        at: int | None = None,
        stale: bool = False,
        timeout_s: float | None = None,
    ) -> Conversation:
        """The conversation as it is now; ``stale``: as the node has it, without asking the others.

        ``at`` is a revision, 1 to that of the conversation: as it was then, but for the text of
        candidates that were still open, which is left out. Raises NotFound, and InvalidRequest for
        a revision that there is not."""
        read = client_pb2.Read(stale=stale, conversation=checks.conversation_id(conversation))
        reply = await self._read(read, timeout_s)
        if reply.not_found:
            raise NotFound(f"there is no conversation {conversation!r}: check its id")
        found = conversation_from_proto(reply.conversation)
        if at is None:
            return found
        if isinstance(at, bool) or not isinstance(at, int) or not 1 <= at <= found.revision:
            raise InvalidRequest(
                f"{conversation} has no revision {at!r:.40}: it has 1 to {found.revision}"
            )
        return at_revision(found, at)

    async def conversations(
        self,
        *,
        after: str = "",
        limit: int = 0,
        stale: bool = False,
        timeout_s: float | None = None,
    ) -> list[ConversationSummary]:
        """Summaries in the order of the ids, those after ``after``; ``limit`` 0 is all.

        Each page is as of its own moment."""
        found: list[ConversationSummary] = []
        after, limit = checks.text(after, "an id"), checks.number(limit, "limit")
        while True:
            wanted = client_pb2.ListConversations(after=after, limit=limit and limit - len(found))
            reply = await self._read(client_pb2.Read(stale=stale, list=wanted), timeout_s)
            page = [summary_from_proto(each) for each in reply.list.conversations]
            found += page
            if not (page and reply.list.more) or 0 < limit <= len(found):
                return found
            after = page[-1].conversation

    # Questions and answers ------------------------------------------------------------------

    async def query(
        self,
        conversation: str,
        question: str,
        *,
        wait: bool = True,
        close_after: int = 0,
        deadline_ms: int = 0,
        options: GenerationOptions | None = None,
        plan: Plan | None = None,
        timeout_s: float | None = None,
    ) -> Turn:
        """Ask, and return the turn once it has closed (not ``wait``: at once, as it is then).

        ``plan`` says who is to answer, and with which files (None: every node's default model).
        ``close_after`` answers close it (0: all), or ``deadline_ms`` (0: the cluster's default).
        ``timeout_s`` is for the whole, by default long enough for slow models. Where it passes once
        the question was asked, TurnUnread is raised and the answers are kept: see `view`.
        """
        council = bool(plan and plan.council)
        deadline = Deadline(self._answer_timeout_s(deadline_ms, timeout_s, council))
        ask = _question(conversation, question, close_after, deadline_ms, options, plan)
        turn = await self._ask(ask, deadline)
        if not wait:
            return await self._asked(conversation, turn, ask.question, deadline)
        watched = self._watch(conversation, turn, (), deadline, ask.question)
        async with aclosing(watched) as events:
            async for event in events:
                if isinstance(event, TurnClosed):
                    return event.turn
        raise AssertionError("a watch ends with TurnClosed or raises")

    async def ask(
        self,
        conversation: str,
        question: str,
        *,
        close_after: int = 0,
        deadline_ms: int = 0,
        options: GenerationOptions | None = None,
        plan: Plan | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Submit the question and return the number of its turn, without waiting for answers."""
        ask = _question(conversation, question, close_after, deadline_ms, options, plan)
        return await self._ask(ask, self._deadline(timeout_s))

    async def stream(
        self,
        conversation: str,
        question: str,
        *,
        close_after: int = 0,
        deadline_ms: int = 0,
        options: GenerationOptions | None = None,
        plan: Plan | None = None,
        timeout_s: float | None = None,
        cancel: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Ask, and yield the answers as they are written: Delta, Takeover, CandidateDone, and
        TurnClosed as the last. Arguments are those of `query`. With ``cancel`` the turn is
        cancelled where the generator is closed, or its task cancelled, before that; an error, as
        at the deadline, leaves it open."""
        council = bool(plan and plan.council)
        deadline = Deadline(self._answer_timeout_s(deadline_ms, timeout_s, council))
        ask = _question(conversation, question, close_after, deadline_ms, options, plan)
        asked = asyncio.ensure_future(self._ask(ask, deadline))
        event: WatchEvent | None = None
        try:
            turn = await (asyncio.shield(asked) if cancel else asked)
            watched = self._watch(conversation, turn, (), deadline, ask.question)
            async with aclosing(watched) as events:
                async for event in events:
                    yield event
        except (GeneratorExit, asyncio.CancelledError):
            if cancel and not isinstance(event, TurnClosed):
                await self._leave(conversation, asked)
            raise

    async def watch(
        self,
        conversation: str,
        turn: int,
        *,
        candidates: Sequence[int] = (),
        deadline_ms: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield the events of a turn from its beginning; see `stream`.

        ``candidates`` are numbers that the turn must have: those that `retry` added, so that a node
        which has not seen them yet is not taken for one that has seen the turn close.
        ``deadline_ms`` is the one that the turn was asked with. ``timeout_s`` is by default long
        enough for a council, which the turn may be.
        """
        deadline = Deadline(self._answer_timeout_s(deadline_ms, timeout_s, council=True))
        number = checks.number(turn, "turn")
        async with aclosing(
            self._watch(checks.conversation_id(conversation), number, candidates, deadline)
        ) as events:
            async for event in events:
                yield event

    async def retry(
        self,
        conversation: str,
        turn: int | None = None,
        *,
        deadline_ms: int = 0,
        plan: Plan | None = None,
        timeout_s: float | None = None,
    ) -> TurnOpened:
        """Ask the question of ``turn`` (None: the latest) again; nothing is overwritten. Of
        ``plan`` only who is to answer counts.

        Returns the turn's number and those of its new candidates, to be given to `watch`.
        Raises NotFound, Conflict (it has a choice)."""
        ask = client_pb2.Ask(
            conversation=checks.conversation_id(conversation),
            retry=True,
            turn=checks.number(turn, "turn"),
            deadline_ms=checks.number(deadline_ms, "deadline_ms"),
        )
        (plan or Plan()).choose_models(ask)
        return _expect(TurnOpened, await self._session.ask(ask, self._deadline(timeout_s)))

    async def choose(
        self,
        conversation: str,
        candidate: int,
        turn: int | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Chosen:
        """Make ``candidate`` the answer of ``turn`` (None: the latest), once and for all.

        Raises Conflict (``.winner`` stands chosen), NotAnswered, NotFound."""
        command = Choose(
            checks.conversation_id(conversation),
            checks.number(turn, "turn"),
            checks.number(candidate, "candidate"),
        )
        return _expect(Chosen, await self._command(command, timeout_s))

    async def cancel(
        self, conversation: str, turn: int | None = None, *, timeout_s: float | None = None
    ) -> None:
        """Close ``turn`` (None: the latest) without waiting for more: models that still write are
        stopped, and the text that is recorded of them is kept, but is no answer.

        Raises NotFound, and Conflict where the turn is closed already."""
        command = CloseTurn(
            checks.conversation_id(conversation), checks.number(turn, "turn"), CANCELLED
        )
        await self._command(command, timeout_s)

    # Status ---------------------------------------------------------------------------------

    async def status(self, address: str | None = None, *, timeout_s: float | None = None) -> Status:
        """What the node at ``address`` says of itself (None: the current one, or else the first
        other one that answers). Raises Unavailable."""
        deadline = self._deadline(timeout_s)
        if address is not None:
            return await node_status(self._nodes, address, deadline)
        address = self._nodes.current
        for left in range(len(self._nodes.known), 0, -1):
            try:
                return await node_status(self._nodes, address, deadline.part(left))
            except Unavailable as error:
                failure = error
            address = self._nodes.following(address)
        raise failure

    async def statuses(
        self, *, timeout_s: float | None = None
    ) -> dict[str, Status | ConsensusError]:
        """What each of the addresses says of itself, at once; for one that does not, its error."""
        deadline = self._deadline(timeout_s)

        async def one(address: str) -> Status | ConsensusError:
            try:
                return await node_status(self._nodes, address, deadline)
            except ConsensusError as error:
                return error

        answers = await asyncio.gather(*map(one, self._nodes.addresses))
        return dict(zip(self._nodes.addresses, answers, strict=True))

    # What the calls share -------------------------------------------------------------------

    def _answer_timeout_s(self, deadline_ms: int, timeout_s: float | None, council: bool) -> float:
        if timeout_s is not None:
            return timeout_s
        usual_s = COUNCIL_TIMEOUT_S if council else ANSWER_TIMEOUT_S
        return max(usual_s, deadline_ms / 1000 + self._timeout_s)

    async def _ask(self, ask: client_pb2.Ask, deadline: Deadline) -> int:
        submit = Deadline(deadline.bounded_s(self._timeout_s))
        return _expect(TurnOpened, await self._session.ask(ask, submit)).turn

    async def _leave(self, conversation: str, asked: asyncio.Task[int]) -> None:
        """Have the turn cancelled as soon as its number comes; wait for that for CANCEL_S."""

        async def cancel() -> None:
            with suppress(ConsensusError):  # it may have closed, or nobody can be told
                await self.cancel(conversation, await asked)

        leaving = asyncio.create_task(cancel())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        await asyncio.wait({leaving}, timeout=CANCEL_S)

    async def _asked(self, conversation: str, turn: int, question: str, deadline: Deadline) -> Turn:
        """The turn that was opened, as it is now. Raises TurnUnread."""
        try:
            found = await self._turn(conversation, turn, deadline)
            require_asked(conversation, found, question)
            return found
        except ConsensusError as error:
            why = self._calls.trouble if isinstance(error, Unavailable) else error
            raise TurnUnread(
                f"turn {turn} of {conversation} was asked, and cannot be read yet ({why}): look at"
                " it later, instead of asking again",
                turn=turn,
            ) from error

    async def _turn(self, conversation: str, turn: int, deadline: Deadline) -> Turn:
        timeout_s = deadline.bounded_s(self._timeout_s)
        for each in (await self.view(conversation, timeout_s=timeout_s)).turns:
            if each.turn == turn:
                return each
        raise NotFound(f"{conversation!r} has no turn {turn}: view it to see those it has")

    def _watch(
        self,
        conversation: str,
        turn: int,
        candidates: Sequence[int],
        deadline: Deadline,
        question: str = "",
    ) -> AsyncGenerator[WatchEvent, None]:
        async def confirm() -> None:
            require_asked(conversation, await self._turn(conversation, turn, deadline), question)

        return watch(
            self._nodes, conversation, turn, candidates, deadline, self._random, confirm, question
        )


def _question(
    conversation: str,
    question: str,
    close_after: int,
    deadline_ms: int,
    options: GenerationOptions | None,
    plan: Plan | None,
) -> client_pb2.Ask:
    plan = plan or Plan()
    ask = client_pb2.Ask(
        conversation=checks.conversation_id(conversation),
        question=checks.question(plan.with_files(question)),
        close_after=checks.number(close_after, "close_after"),
        deadline_ms=checks.number(deadline_ms, "deadline_ms"),
        options=checks.options(options or GenerationOptions()),
    )
    plan.choose_models(ask)
    ask.domain = checks.text(plan.domain, "a domain")
    ask.persona = checks.text(plan.persona, "a persona")
    ask.user = checks.text(plan.user, "a user")
    ask.council = checks.text(plan.council, "a template's name")
    return ask


def _expect(kind: type[_Expected], reply: object) -> _Expected:
    assert isinstance(reply, kind), f"the cluster answered {reply!r}"
    return reply
