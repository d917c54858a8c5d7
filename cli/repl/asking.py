"""The commands that ask and decide: query, retry, choose."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TypeVar

from async_timeout import timeout

from consensusllm.client import (
    Conflict,
    ConsensusError,
    GenerationOptions,
    OutcomeUnknown,
    Plan,
    Turn,
    TurnOpened,
)

from .councils import hint, template_of
from .documents import print_json, tell, turn_document
from .language import CONVERSATION, JSON, NUMBER, QUESTION, Command, Flag, Group, Parameter
from .planning import MODEL_FLAGS, QUERY_FLAGS, read_file
from .session import CommandFailed, Session
from .watch import closed, watch

_OPENED_WITHIN_S = 2.0
"""How long one who has pressed Ctrl-C waits to learn which turn is to be cancelled."""

Opened = TypeVar("Opened", int, TurnOpened)


async def query(
    session: Session,
    conversation: str,
    question: str,
    models: tuple[str, ...] = (),
    n: int = 1,
    one: bool = False,
    strategy: str = "",
    council: str | None = None,
    close_after: int = 0,
    deadline: float = 0.0,
    hedge: float | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    seed: int | None = None,
    system: str | None = None,
    persona: str = "",
    domain: str = "",
    file: tuple[str, ...] = (),
    user: str = "",
    json: bool = False,
) -> None:
    template = ""
    if council is not None:
        template, question = await template_of(session, council, question)
    files = [await read_file(each) for each in file]
    deadline_ms = round(1000 * deadline)
    asking = session.client.ask(
        conversation,
        question,
        close_after=close_after,
        deadline_ms=deadline_ms,
        options=GenerationOptions(
            temperature,
            max_tokens,
            seed,
            system,
            hedge_ms=round(1000 * hedge) if hedge is not None else None,
        ),
        plan=Plan(models, n, one, strategy, domain, persona, tuple(files), template, user),
    )
    turn = await _opened(session, conversation, asking)
    await _follow(session, conversation, turn, (), json, deadline_ms=deadline_ms)


async def retry(
    session: Session,
    conversation: str,
    turn: int | None = None,
    models: tuple[str, ...] = (),
    n: int = 1,
    one: bool = False,
    strategy: str = "",
    json: bool = False,
) -> None:
    asking = session.client.retry(conversation, turn, plan=Plan(models, n, one, strategy))
    opened = await _opened(session, conversation, asking)
    await _follow(session, conversation, opened.turn, opened.candidates, json)


async def choose(
    session: Session,
    conversation: str,
    candidate: int,
    turn: int | None = None,
    json: bool = False,
) -> None:
    try:
        chosen = await session.client.choose(conversation, candidate, turn)
    except Conflict as conflict:
        if not conflict.winner:
            raise
        raise CommandFailed(
            f"turn {conflict.turn} of {conversation} already has a winner: "
            f"candidate {conflict.winner}"
        ) from conflict
    line = f"turn {chosen.turn} of {conversation}: candidate {chosen.candidate} is chosen"
    tell(session.output, json, line, conversation=conversation, **asdict(chosen))


async def cancel(
    session: Session, conversation: str, turn: int | None = None, json: bool = False
) -> None:
    await session.client.cancel(conversation, turn)
    which = f"turn {turn}" if turn else "the latest turn"
    line = f"{which} of {conversation} is cancelled: its models are stopped"
    tell(session.output, json, line, conversation=conversation, turn=turn)


async def _opened(
    session: Session, conversation: str, asking: Coroutine[Any, Any, Opened]
) -> Opened:
    """What ``asking`` comes to. Where Ctrl-C comes first the turn may be open already: its number
    is waited for a moment, to cancel it."""
    task = asyncio.ensure_future(asking)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            async with timeout(_OPENED_WITHIN_S):
                opened = await task
        except (OutcomeUnknown, asyncio.TimeoutError, asyncio.CancelledError):
            session.output.error(f"it may have been asked: view {conversation} shows it")
        except ConsensusError as error:
            session.output.error(f"it was not asked: {error}")
        else:
            number = opened if isinstance(opened, int) else opened.turn
            await _stop(session, conversation, number)
        raise


async def _follow(
    session: Session,
    conversation: str,
    number: int,
    candidates: Sequence[int],
    as_json: bool,
    deadline_ms: int = 0,
) -> None:
    """Show the turn until it is closed, then say what can be done with it: the turn is named, as
    somebody else may have asked since. Who stops watching it stops the models too, so that nobody
    pays for what nobody reads.
    """
    events = session.client.watch(
        conversation, number, candidates=candidates, deadline_ms=deadline_ms
    )
    try:
        if as_json:
            turn = await closed(events)
        else:
            session.output.line((f"turn {number} of {conversation}", "bold"))
            turn = await watch(session.output, events, candidates)
    except (asyncio.CancelledError, BrokenPipeError):
        await _stop(session, conversation, number)
        raise
    if as_json:
        print_json(session.output, {"conversation": conversation, **turn_document(turn)})
    if turn.council is not None:
        hint(session.output, conversation, turn, quiet=as_json)
    else:
        _hint(session, conversation, turn, quiet=as_json)


async def _stop(session: Session, conversation: str, number: int) -> None:
    """Cancel a turn that nobody watches any more, and say what became of it."""
    turn = f"turn {number} of {conversation}"
    unsure = (
        f"{turn} may still be answered: view {conversation} shows it, "
        f"cancel {conversation} --turn {number} stops it"
    )
    try:
        with suppress(Conflict):  # it has just closed by itself
            await session.client.cancel(conversation, number)
    except ConsensusError as error:
        session.output.error(f"{unsure}; {error}")
    except asyncio.CancelledError:
        session.output.error(unsure)
        raise
    else:
        with suppress(BrokenPipeError):  # it is why
            session.output.line(f"{turn} is cancelled: view {conversation} shows what there is")


def _hint(session: Session, conversation: str, turn: Turn, quiet: bool) -> None:
    answered = [str(candidate.number) for candidate in turn.candidates if candidate.answered]
    if not answered:
        raise CommandFailed(
            f"no candidate of turn {turn.turn} answered: "
            f"retry {conversation} --turn {turn.turn} asks again"
        )
    if quiet:
        return
    session.output.line()
    session.output.line(
        (f"choose {conversation} N --turn {turn.turn} keeps an answer: N is ", "dim"),
        ", ".join(answered),
    )


COMMANDS = (
    Command(
        "query",
        Group.CONVERSATIONS,
        "ask every node's model and watch the answers come",
        query,
        (Parameter("conversation", CONVERSATION), Parameter("question", QUESTION)),
        QUERY_FLAGS,
        detail=(
            "The question is the rest of the line exactly as typed. Between double quotes, "
            '\\n, \\t, \\" and \\\\ stand for a newline, a tab, a quote and a backslash. '
            'Between two """ it may go over several lines; at the prompt Alt-Enter also makes a '
            "new line, and lines that are pasted are one text unless each is a command by itself. "
            "Flags come before the question; one that begins with two dashes itself goes "
            "behind a lone --. Ctrl-C cancels the turn. With --council the models answer, review "
            "each other and come to one answer, as the template says: --council=NAME, or NAME as "
            "the first word of the question; three-stage where neither is."
        ),
        example="query c1 What is Paxos?",
    ),
    Command(
        "choose",
        Group.CONVERSATIONS,
        "make a candidate the turn's answer, for good",
        choose,
        (
            Parameter("conversation", CONVERSATION),
            Parameter("candidate", NUMBER, metavar="CANDIDATE"),
        ),
        (Flag("turn", NUMBER), JSON),
        detail=(
            "The first choice of a turn wins, whoever makes it; a later one is told who won. "
            "Without --turn it is the latest turn, whoever asked it."
        ),
        example="choose c1 2 --turn 1",
        changes=True,
    ),
    Command(
        "cancel",
        Group.CONVERSATIONS,
        "stop the models that still answer a turn",
        cancel,
        (Parameter("conversation", CONVERSATION),),
        (Flag("turn", NUMBER), JSON),
        detail=(
            "Without --turn it is the latest turn. It is closed: answers that are there stay, and "
            "what the stopped models had written is kept but is no answer. Ctrl-C during query or "
            "retry does the same."
        ),
        example="cancel c1",
        changes=True,
    ),
    Command(
        "retry",
        Group.CONVERSATIONS,
        "ask a turn's question again, keeping its answers",
        retry,
        (Parameter("conversation", CONVERSATION),),
        (
            Flag("turn", NUMBER, "the turn; else the latest"),
            *MODEL_FLAGS,
            JSON,
        ),
        detail=("The new candidates are numbered on. A turn that has a choice is not asked again."),
        example="retry c1",
    ),
)
