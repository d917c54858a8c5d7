"""The commands that change who the members are, and who leads."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable

from async_timeout import timeout

from consensusllm.client import (
    ChangeProgress,
    ChangeRefused,
    OnProgress,
    Status,
    Unavailable,
)
from consensusllm.client.members import LEADERLESS, require_replaceable
from consensusllm.config import split_address
from consensusllm.orchestrator.client import FaultRefused, NoOrchestrator

from ..options import NOBODY
from .documents import tell
from .language import JSON, NODE, NUMBER, WORD, Command, Group, Parameter
from .lexer import Misuse
from .session import CommandFailed, Session

_SHOW_EVERY_S = 1.0
_END_AGAIN_S = 2.0
"""What a process may take to end whose addition was interrupted."""


async def add_node(session: Session, node: int, address: str = "", json: bool = False) -> None:
    await _add(session, node, address, json)
    tell(session.output, json, f"node {node} is a member and votes", added=node)


async def remove_node(session: Session, node: int, json: bool = False) -> None:
    line, ended = await _remove(session, node, json)
    tell(session.output, json, line, removed=node, process_ended=ended)


async def replace_node(
    session: Session, node: int, successor: int, address: str = "", json: bool = False
) -> None:
    if node == successor:
        raise Misuse(f"node {node} cannot replace itself: give the new one another number")
    statuses = (await session.statuses()).values()
    require_replaceable(statuses, node, successor)
    if address or not _votes(statuses, successor):
        await _add(session, successor, address, json)
    if not json:
        session.output.line(f"node {successor} is a member and votes")
    line, ended = await _remove(session, node, json)
    tell(session.output, json, line, added=successor, removed=node, process_ended=ended)


async def transfer_leader(session: Session, node: int, json: bool = False) -> None:
    await _until_done(
        session, json, lambda shown: session.client.transfer_leader(node, on_progress=shown)
    )
    tell(session.output, json, f"node {node} leads", leader=node)


async def _add(session: Session, node: int, address: str, quiet: bool) -> None:
    installed = not address
    await _check(session, node, address or session.address_by_rule(node) or "", installed)
    if installed:
        address = await _install(session, node)
        remedy = ""
    else:
        start = f"consensusllm node {node} --join {address} --config FILE"
        remedy = f": if nobody has started it, `{start}` does"
    begun = False

    async def add(shown: OnProgress) -> None:
        def show(progress: ChangeProgress) -> None:
            nonlocal begun
            begun = begun or progress != LEADERLESS
            shown(progress)

        await session.client.add_node(node, address, on_progress=show)

    try:
        await _until_done(session, quiet, add, remedy)
    except (ChangeRefused, Unavailable):
        if installed and not begun:
            await _end_again(session, node)
        raise
    except asyncio.CancelledError:
        if not installed:
            raise
        what = f"node {node}'s process was started: addNode {node} goes on with it"
        with contextlib.suppress(asyncio.TimeoutError):
            async with timeout(_END_AGAIN_S):
                if not begun and await _end_again(session, node):
                    what = f"node {node} is not added"
        raise asyncio.CancelledError(what) from None
    await session.statuses()


async def _end_again(session: Session, node: int) -> bool:
    """End the process that was started for ``node``, and free its number, where it is no member. Of
    an addition that was begun nobody here knows how it ended: whoever removes the node ends it."""
    answered = any((await session.statuses()).values())
    if not answered or node in session.known.nodes:
        return False
    with contextlib.suppress(CommandFailed, FaultRefused):
        await (await session.faults()).retire_node(node, reusable=True)
        return True
    return False


def _votes(statuses: Iterable[Status | None], node: int) -> bool:
    return any(
        member.node == node and member.voting
        for status in statuses
        if status is not None
        for member in status.members
    )


async def _check(session: Session, node: int, address: str, installed: bool) -> None:
    """Refuse what the leader would refuse, or wait for in vain, before a process is started."""
    if address:
        try:
            split_address(address)
        except ValueError as error:
            raise Misuse(str(error)) from None
    statuses = (await session.statuses()).values()
    if installed and not any(statuses):
        raise CommandFailed(NOBODY)
    if installed and _votes(statuses, node):
        raise CommandFailed(f"node {node} is a member already")
    for status in filter(None, statuses):
        if address == status.orchestrator_address:
            raise CommandFailed(f"{address} is the orchestrator's address: give another one")
        for member in status.members:
            if member.node != node and member.address == address:
                raise CommandFailed(f"node {member.node} has the address {address}")
            if installed and member.node != node and not member.voting:
                raise CommandFailed(
                    f"node {member.node} is joining, and one change is made at a time: wait for "
                    f"it, or removeNode {member.node}"
                )


async def _install(session: Session, node: int) -> str:
    """Have the launcher start the node's process; where it listens."""
    remedy = f"start it yourself and say where it listens: addNode {node} HOST:PORT"
    try:
        faults = await session.faults()
    except CommandFailed as error:
        raise CommandFailed(f"{error}; or {remedy}") from None
    address = session.address_by_rule(node)
    if address is None:
        raise CommandFailed(f"there is no port for node {node} by the base port: {remedy}")
    try:
        await faults.install_node(node, address)
    except NoOrchestrator as error:
        raise CommandFailed(f"node {node} is not started: {error}; or {remedy}") from None
    except FaultRefused as error:
        raise CommandFailed(f"node {node} is not started: {error}") from None
    return address


async def _remove(session: Session, node: int, quiet: bool) -> tuple[str, bool]:
    """What was done, and whether the node's process has ended with it."""
    await _until_done(
        session, quiet, lambda shown: session.client.remove_node(node, on_progress=shown)
    )
    session.known.nodes[:] = [each for each in session.known.nodes if each != node]
    left = f"node {node} is no member any more: end its process"
    try:
        await (await session.faults()).retire_node(node)
    except (CommandFailed, NoOrchestrator):
        return left, False
    except FaultRefused as error:
        return f"{left} ({error})", False
    if (await session.statuses()).get(node) is not None:
        return f"{left} (it answers still: the launcher ended another of that number)", False
    return f"node {node} is no member any more, and its process is ended", True


async def _until_done(
    session: Session,
    quiet: bool,
    change: Callable[[OnProgress], Awaitable[None]],
    unheard: str = "",
) -> None:
    """Show what is waited for, a line a second at most for the same thing, unless ``quiet``;
    ``unheard`` is said of a node that is not heard."""
    shown_at, shown = 0.0, ""

    def show(progress: ChangeProgress) -> None:
        nonlocal shown_at, shown
        what = progress.waits_for.partition(":")[0]
        now = time.monotonic()
        if not quiet and (what != shown or now >= shown_at + _SHOW_EVERY_S):
            shown_at, shown = now, what
            remedy = unheard if what.endswith(" to be heard") else ""
            session.output.line(f"waiting for {progress.waits_for}{remedy}")

    await change(show)


_NEW = Parameter("node", NUMBER, metavar="NODE")
_ADDRESS = Parameter("address", WORD, optional=True, metavar="HOST:PORT")
_ADDRESS_DETAIL = (
    "Without HOST:PORT the launcher starts the node's process, on the base port plus its number. "
    "With it, start the process first: consensusllm node N --join HOST:PORT --config FILE."
)

COMMANDS = (
    Command(
        "addNode",
        Group.CLUSTER,
        "make a new node a member: it learns, then votes",
        add_node,
        (_NEW, _ADDRESS),
        (JSON,),
        detail=f"{_ADDRESS_DETAIL} A number that was removed is never used again.",
        example="addNode 4",
        changes=True,
    ),
    Command(
        "removeNode",
        Group.CLUSTER,
        "make a node no member any more, for ever",
        remove_node,
        (Parameter("node", NODE),),
        (JSON,),
        detail=(
            "A leader hands over first. Refused where the nodes that remain would have no live "
            "majority. A process that the launcher started is ended."
        ),
        example="removeNode 3",
        changes=True,
    ),
    Command(
        "replaceNode",
        Group.CLUSTER,
        "add a new node, then remove an old one",
        replace_node,
        (Parameter("node", NODE), Parameter("successor", NUMBER, metavar="NEW"), _ADDRESS),
        (JSON,),
        detail=_ADDRESS_DETAIL,
        example="replaceNode 3 4",
        changes=True,
    ),
    Command(
        "transferLeader",
        Group.CLUSTER,
        "have the leader hand over to another node",
        transfer_leader,
        (Parameter("node", NODE),),
        (JSON,),
        detail="Nothing is lost, and writes wait for about a round trip.",
        example="transferLeader 2",
        changes=True,
    ),
)
