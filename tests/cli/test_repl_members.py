"""addNode, removeNode, replaceNode and transferLeader: what is asked of whom, and what is said."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from consensusllm.client import ChangeProgress, OnProgress, Unavailable
from consensusllm.client.members import LEADERLESS
from consensusllm.client.status import MemberStatus
from consensusllm.orchestrator.client import NoOrchestrator
from consensusllm_cli.main import commands
from consensusllm_cli.repl import command as repl_command
from consensusllm_cli.repl.output import Output
from consensusllm_cli.repl.session import Outcome, Session
from consensusllm_cli.repl.table import TABLE
from tests.cli.repl_fakes import FakeCluster, FakeFaults, connected, status


class Run:
    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.out, self.err = io.StringIO(), io.StringIO()
        self.session = Session(self.cluster, Output(self.out, self.err, False), TABLE)

    async def __call__(self, line: str) -> tuple[Outcome, str]:
        outcome = await self.session.run(line)
        return outcome, self.out.getvalue() + self.err.getvalue()

    @property
    def asked(self) -> list[tuple[object, ...]]:
        assert self.cluster.fake_faults is not None
        return [*self.cluster.fake_faults.calls, *self.cluster.calls]


@pytest.fixture
def run() -> Run:
    return Run()


async def test_a_node_is_started_by_its_number_and_added(run: Run) -> None:
    outcome, said = await run("addNode 4")
    assert outcome is Outcome.DONE
    assert run.asked == [
        ("install_node", 4, "127.0.0.1:5104"),
        ("add_node", 4, "127.0.0.1:5104"),
    ]
    assert "waiting for node 4 to be heard\n" in said
    assert "waiting for node 4 to catch up: 90 slots behind" in said
    assert "node 4 is a member and votes" in said


async def test_progress_is_a_line_a_second_at_most(run: Run) -> None:
    _, said = await run("addNode 4")
    assert said.count("waiting for node 4 to catch up") == 1


async def test_a_node_that_was_started_elsewhere_is_only_added(run: Run) -> None:
    _, said = await run("addNode 4 10.0.0.4:5104")
    start = "consensusllm node 4 --join 10.0.0.4:5104 --config FILE"
    assert f"waiting for node 4 to be heard: if nobody has started it, `{start}` does\n" in said
    assert run.asked == [("add_node", 4, "10.0.0.4:5104")]


async def test_a_node_that_the_cluster_refuses_is_ended_again_and_its_number_stays_free(
    run: Run,
) -> None:
    run.cluster.refusal = "node 5 is joining, and one change is made at a time"
    outcome, said = await run("addNode 4")
    assert outcome is Outcome.FAILED
    assert "node 5 is joining" in said
    assert ("retire_node", 4, "reusable") in run.asked


@pytest.mark.parametrize(
    ("heard", "said", "ended"),
    [
        (LEADERLESS, "addNode: node 4 is not added\n", True),
        (
            ChangeProgress("node 4 to be heard", None),
            "addNode: node 4's process was started: addNode 4 goes on with it\n",
            False,
        ),
    ],
)
async def test_an_addition_that_is_interrupted_leaves_no_process_that_nobody_knows_of(
    run: Run, monkeypatch: pytest.MonkeyPatch, heard: ChangeProgress, said: str, ended: bool
) -> None:
    waits = asyncio.Event()

    async def add(node: int, address: str, *, on_progress: OnProgress) -> None:
        on_progress(heard)
        waits.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(run.cluster, "add_node", add)
    adding = asyncio.create_task(run("addNode 4"))
    await waits.wait()
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert run.err.getvalue() == said
    assert (("retire_node", 4, "reusable") in run.asked) == ended


async def test_a_node_that_may_have_been_a_member_is_not_ended_by_a_refusal(run: Run) -> None:
    run.cluster.late_refusal = "node 4 was removed, and its id is never used again: take another"
    outcome, said = await run("addNode 4")
    assert outcome is Outcome.FAILED
    assert "never used again" in said
    assert [call for call in run.asked if call[0] == "retire_node"] == []


async def test_a_refusal_is_told_also_where_the_process_cannot_be_ended(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(self: FakeFaults, node: int, *, reusable: bool = False) -> str:
        raise NoOrchestrator("no orchestrator answers")

    monkeypatch.setattr(FakeFaults, "retire_node", fails)
    run.cluster.refusal = "a cluster has at most 9 nodes"
    _, said = await run("addNode 4")
    assert said == "addNode: a cluster has at most 9 nodes\n"


async def test_without_a_launcher_it_says_what_to_do(run: Run) -> None:
    run.cluster.fake_faults = None
    outcome, said = await run("addNode 4")
    assert outcome is Outcome.FAILED
    assert "addNode 4 HOST:PORT" in said
    assert said.count("\n") == 1


async def test_where_no_orchestrator_answers_it_says_so_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unanswered(self: FakeFaults, node: int, address: str) -> str:
        raise NoOrchestrator("no orchestrator answers")

    monkeypatch.setattr(FakeFaults, "install_node", unanswered)
    outcome, said = await run("addNode 4")
    assert outcome is Outcome.FAILED
    assert "no orchestrator answers; or start it yourself" in said
    assert "addNode 4 HOST:PORT" in said


async def test_a_node_is_removed_before_its_process_is_ended(run: Run) -> None:
    _, said = await run("removeNode 3")
    assert run.asked == [("retire_node", 3), ("remove_node", 3)]
    assert "node 3 is no member any more, and its process is ended" in said


async def test_a_process_that_nobody_can_end_is_left_to_the_operator(run: Run) -> None:
    run.cluster.fake_faults = None
    _, said = await run("removeNode 3")
    assert said.endswith("node 3 is no member any more: end its process\n")


async def test_why_a_launcher_did_not_end_the_process_is_told(run: Run) -> None:
    assert run.cluster.fake_faults is not None
    run.cluster.fake_faults.refusal = "this orchestrator is of cluster 'a', not 'b': correct it"
    outcome, said = await run("removeNode 3")
    assert outcome is Outcome.DONE
    assert said.endswith(
        "node 3 is no member any more: end its process "
        "(this orchestrator is of cluster 'a', not 'b': correct it)\n"
    )


async def test_a_process_that_answers_still_is_not_said_to_be_ended(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def of_another_cluster(self: FakeFaults, node: int, *, reusable: bool = False) -> str:
        return f"node {node}'s process is ended"

    monkeypatch.setattr(FakeFaults, "retire_node", of_another_cluster)
    _, said = await run("removeNode 3")
    assert said.endswith(
        "node 3 is no member any more: end its process "
        "(it answers still: the launcher ended another of that number)\n"
    )
    _, said = await run("removeNode 2 --json")
    assert '"process_ended": false' in said


async def test_a_replacement_is_an_addition_and_a_removal(run: Run) -> None:
    await run("replaceNode 3 4")
    assert run.cluster.calls == [
        ("add_node", 4, "127.0.0.1:5104"),
        ("remove_node", 3),
    ]


async def test_a_replacement_that_got_halfway_is_finished(run: Run) -> None:
    known = status(2)
    come = MemberStatus(6, "127.0.0.1:5106", True, 57, True)
    run.cluster.by_node[2] = replace(known, members=(*known.members, come))
    outcome, said = await run("replaceNode 3 6")
    assert (outcome, run.cluster.calls) == (Outcome.DONE, [("remove_node", 3)])
    assert "node 6 is a member and votes\nwaiting" in said
    run.cluster.calls.clear()
    run.cluster.fake_faults = FakeFaults()
    come = replace(come, voting=False)
    run.cluster.by_node[2] = replace(known, members=(*known.members, come))
    await run("replaceNode 3 6")
    assert run.cluster.calls == [("add_node", 6, "127.0.0.1:5106"), ("remove_node", 3)]


async def test_nobody_replaces_a_node_that_was_removed(run: Run) -> None:
    for node in (1, 2):
        known = status(node, applied_slot=56 + node)
        run.cluster.by_node[node] = replace(known, members=known.members[: 4 - node])
    outcome, said = await run("replaceNode 3 6")
    assert (outcome, run.asked) == (Outcome.FAILED, [])
    assert said == "replaceNode: node 3 is no member: add node 6 instead\n"


async def test_the_leader_is_told_to_hand_over(run: Run) -> None:
    outcome, said = await run("transferLeader 3")
    assert (outcome, run.cluster.calls) == (Outcome.DONE, [("transfer_leader", 3)])
    assert "node 3 leads" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("addNode", "usage"),
        ("addNode four", "is not a number"),
        ("removeNode 9", "'9' is not a node: give one of 1, 2, 3"),
        ("replaceNode 3 3", "cannot replace itself"),
        ("transferLeader 0", "is not a node"),
        ("addNode 4 foo", "'foo' is not HOST:PORT"),
    ],
)
async def test_bad_words_are_misuse_in_one_line(run: Run, line: str, said: str) -> None:
    outcome, shown = await run(line)
    assert outcome is Outcome.MISUSE
    assert said in shown
    assert shown.count("\n") == 1
    assert run.cluster.calls == []


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        (["add-node", "4", "h:1"], ("add_node", 4, "h:1")),
        (["remove-node", "3"], ("remove_node", 3)),
        (["replace-node", "3", "4", "h:1"], ("add_node", 4, "h:1")),
        (["transfer-leader", "2"], ("transfer_leader", 2)),
    ],
)
def test_the_command_line_says_the_same(
    arguments: list[str],
    call: tuple[object, ...],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    cluster = FakeCluster()
    monkeypatch.setattr(repl_command, "connect_to", connected(cluster))
    shown = CliRunner().invoke(commands, arguments, standalone_mode=False)
    assert shown.return_value == 0, shown.output
    assert call in cluster.calls


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("addNode 3", "node 3 is a member already"),
        ("addNode 4 127.0.0.1:5101", "node 1 has the address 127.0.0.1:5101"),
        ("replaceNode 3 4 127.0.0.1:5102", "node 2 has the address 127.0.0.1:5102"),
    ],
)
async def test_what_cannot_be_added_is_refused_before_anything_is_started(
    run: Run, line: str, said: str
) -> None:
    outcome, shown = await run(line)
    assert outcome is Outcome.FAILED
    assert said in shown
    assert run.asked == []


async def test_where_no_node_answers_nothing_is_started(run: Run) -> None:
    run.cluster.by_node = dict.fromkeys(run.cluster.by_node)
    outcome, shown = await run("addNode 4")
    assert outcome is Outcome.FAILED
    assert "no node answers" in shown
    assert run.asked == []


async def test_where_nobody_leads_what_was_started_is_ended_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody(self: FakeCluster, *_: object, **__: object) -> None:
        raise Unavailable("nobody leads")

    monkeypatch.setattr(FakeCluster, "add_node", nobody)
    _, shown = await run("addNode 4")
    assert "nobody leads" in shown
    assert ("retire_node", 4, "reusable") in run.asked


async def test_while_a_node_joins_no_process_of_another_is_started(run: Run) -> None:
    joining = MemberStatus(5, "10.0.0.5:5105", True, 0, True, voting=False)
    known = status(1)
    run.cluster.by_node[1] = replace(known, members=(*known.members, joining))
    outcome, shown = await run("addNode 4")
    assert outcome is Outcome.FAILED
    assert "node 5 is joining" in shown
    assert run.asked == []
