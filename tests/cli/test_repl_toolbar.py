"""What the prompt knows beside what is typed: the bottom line, and what Tab offers."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from unittest.mock import AsyncMock

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from consensusllm.client import Unauthenticated, Unavailable
from consensusllm_cli.repl.completion import CommandCompleter
from consensusllm_cli.repl.output import Output
from consensusllm_cli.repl.session import Known, Session
from consensusllm_cli.repl.table import TABLE
from consensusllm_cli.repl.toolbar import Toolbar
from tests.cli.repl_fakes import NODES, FakeCluster, status


def offers(typed: str) -> list[str]:
    known = Known(conversations=["c1", "c2", "paxos"], nodes=[1, 2, 3])
    completer = CommandCompleter(TABLE, known)
    return [each.text for each in completer.get_completions(Document(typed), CompleteEvent())]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("VIE", ["view", "viewall"]),
        ("  failn", ["failNode"]),
        ("view ", ["c1", "c2", "paxos"]),
        ("view p", ["paxos"]),
        ("view p --s", ["--stale"]),
        ("view --stale ", ["c1", "c2", "paxos"]),
        ("view c1 --stale --", ["--at", "--full", "--json"]),
        ("fork c1 ", ["c1", "c2", "paxos"]),
        ("fork --at 3 p", ["paxos"]),
        ("fork --at ", []),
        ("failLink 1 ", ["1", "2", "3"]),
        ("partition 1,2 ", ["1", "2", "3"]),
        ("partition 1,", ["1,1", "1,2", "1,3"]),
        ("help qu", ["query"]),
        ("query c1 what about p", []),
        ("nothing ", []),
        ("viewall ", []),
    ],
)
def test_tab_offers_what_fits_there(typed: str, expected: list[str]) -> None:
    assert offers(typed) == expected


def text(toolbar: Toolbar) -> str:
    return "".join(part[1] for part in toolbar())


@asynccontextmanager
async def refreshing(cluster: FakeCluster) -> AsyncIterator[tuple[Toolbar, Session]]:
    """A toolbar that asks in the background, after its first round."""
    session = Session(cluster, Output(io.StringIO(), io.StringIO(), False), TABLE)
    toolbar = Toolbar(session)
    assert text(toolbar) == " looking for the cluster…"
    drawn = asyncio.Event()
    task = asyncio.create_task(toolbar.refresh(drawn.set))
    await drawn.wait()
    try:
        yield toolbar, session
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(toolbar: Toolbar, condition: Callable[[], bool]) -> None:
    """Wake the toolbar until ``condition`` holds."""
    while not condition():
        toolbar.wake()
        await asyncio.sleep(0)


async def test_the_bottom_line_shows_leader_ballot_commit_and_links() -> None:
    async with refreshing(FakeCluster()) as (toolbar, _):
        assert text(toolbar) == " leader 2 · ballot 5.2 · commit 57 · nodes 1● 2● 3●"


async def test_the_bottom_line_believes_the_highest_ballot() -> None:
    cluster = FakeCluster()
    cluster.by_node[1] = status(1, ballot_seq_num=4, ballot_pid=3, leader=3, chosen_through=60)
    cluster.by_node[3] = None
    async with refreshing(cluster) as (toolbar, _):
        assert text(toolbar) == " leader 2 · ballot 5.2 · commit 60 · nodes 1● 2● 3○"


async def test_the_bottom_line_follows_the_cluster_down_and_up_again() -> None:
    cluster = FakeCluster()
    async with refreshing(cluster) as (toolbar, _):
        cluster.by_node = dict.fromkeys(NODES)
        await until(toolbar, lambda: text(toolbar) == " no node answers · nodes 1○ 2○ 3○")
        cluster.by_node = {node: status(node, leader=0) for node in NODES}
        await until(toolbar, lambda: "leader none" in text(toolbar))


async def test_the_bottom_line_says_that_the_token_is_not_accepted() -> None:
    cluster = FakeCluster()
    async with refreshing(cluster) as (toolbar, _):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster, "statuses", AsyncMock(side_effect=Unauthenticated("who?")))
            await until(toolbar, lambda: text(toolbar) == " the client token is missing or wrong")
        await until(toolbar, lambda: "leader 2" in text(toolbar))


async def test_new_conversations_are_learnt_and_a_failure_to_list_them_ends_nothing() -> None:
    cluster = FakeCluster()
    async with refreshing(cluster) as (toolbar, session):
        cluster.held["fresh"] = []
        await until(toolbar, lambda: session.known.conversations == ["fresh"])

        failed = asyncio.Event()

        async def unavailable(**_: object) -> None:
            failed.set()
            raise Unavailable("no answer within 1 s")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster, "conversations", unavailable)
            await until(toolbar, failed.is_set)
        cluster.held["more"] = []
        await until(toolbar, lambda: session.known.conversations == ["fresh", "more"])
