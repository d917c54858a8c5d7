"""The commands that ask and decide: query, retry, choose."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from consensusllm.client import Conflict, Turn

from .language import CONVERSATION, NUMBER, QUESTION, Command, Flag, Group, Parameter
from .session import CommandFailed, Session
from .watch import watch


async def query(session: Session, conversation: str, question: str) -> None:
    turn = await session.client.ask(conversation, question)
    await _follow(session, conversation, turn, ())


async def retry(session: Session, conversation: str, turn: int | None = None) -> None:
    opened = await session.client.retry(conversation, turn)
    await _follow(session, conversation, opened.turn, opened.candidates)


async def choose(
    session: Session, conversation: str, candidate: int, turn: int | None = None
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
    session.output.line(
        f"turn {chosen.turn} of {conversation}: candidate {chosen.candidate} is chosen"
    )


async def cancel(session: Session, conversation: str, turn: int | None = None) -> None:
    await session.client.cancel(conversation, turn)
    which = f"turn {turn}" if turn else "the latest turn"
    session.output.line(f"{which} of {conversation} is cancelled: its models are stopped")


async def _follow(
    session: Session, conversation: str, number: int, candidates: Sequence[int]
) -> None:
    """Show the turn until it is closed, then say what can be done with it. Who stops watching it
    stops the models too, so that nobody pays for what nobody reads."""
    session.output.line((f"turn {number} of {conversation}", "bold"))
    events = session.client.watch(conversation, number, candidates=candidates)
    try:
        turn = await watch(session.output, events, candidates)
    except asyncio.CancelledError:
        with suppress(Conflict):  # it has just closed by itself
            await session.client.cancel(conversation, number)
        session.output.line(
            f"turn {number} of {conversation} is cancelled: view {conversation} shows what there is"
        )
        raise
    _hint(session, conversation, turn)


def _hint(session: Session, conversation: str, turn: Turn) -> None:
    answered = [str(candidate.number) for candidate in turn.candidates if candidate.answered]
    if not answered:
        raise CommandFailed(
            f"no candidate of turn {turn.turn} answered: retry {conversation} asks again"
        )
    session.output.line()
    session.output.line(
        (f"choose {conversation} N keeps an answer: N is ", "dim"), ", ".join(answered)
    )


COMMANDS = (
    Command(
        "query",
        Group.CONVERSATIONS,
        "ask every node's model and watch the answers come",
        query,
        (Parameter("conversation", CONVERSATION), Parameter("question", QUESTION)),
        detail=(
            "The question is the rest of the line exactly as typed. Between double quotes, "
            '\\n, \\t, \\" and \\\\ stand for a newline, a tab, a quote and a backslash. '
            'Between two """ it may go over several lines; at the prompt Alt-Enter also makes a '
            "new line. "
            "Ctrl-C cancels the turn."
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
        (Flag("turn", NUMBER),),
        detail=(
            "The first choice of a turn wins, whoever makes it; a later one is told who won. "
            "Without --turn it is the latest turn."
        ),
        example="choose c1 2",
    ),
    Command(
        "cancel",
        Group.CONVERSATIONS,
        "stop the models that still answer a turn",
        cancel,
        (Parameter("conversation", CONVERSATION),),
        (Flag("turn", NUMBER),),
        detail=(
            "Without --turn it is the latest turn. It is closed: answers that are there stay, and "
            "what the stopped models had written is kept but is no answer. Ctrl-C during query or "
            "retry does the same."
        ),
        example="cancel c1",
    ),
    Command(
        "retry",
        Group.CONVERSATIONS,
        "ask a turn's question again, keeping its answers",
        retry,
        (Parameter("conversation", CONVERSATION),),
        (Flag("turn", NUMBER),),
        detail=(
            "Without --turn it is the latest turn. The new candidates are numbered on. A turn that "
            "has a choice is not asked again."
        ),
        example="retry c1",
    ),
)
