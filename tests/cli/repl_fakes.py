"""A cluster in memory that answers at once, behind the ports that the REPL speaks through.

Questions steer it: one that holds ``all fail`` gets no answer, ``two fails`` none from node 2,
``hold on`` begins an answer and never ends it, ``node dies`` has candidate 1 taken over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from consensusllm.client import (
    AlreadyExists,
    Budget,
    Candidate,
    CandidateDone,
    ChangeProgress,
    ChangeRefused,
    Chosen,
    Conflict,
    Conversation,
    ConversationSummary,
    Delta,
    GenerationOptions,
    MemberStatus,
    ModelStatus,
    NodeCopy,
    NotAnswered,
    NotFound,
    OnProgress,
    Plan,
    Progress,
    StageOpened,
    Status,
    Takeover,
    TemplateRole,
    Templates,
    TemplateStage,
    TemplateSummary,
    Turn,
    TurnClosed,
    TurnOpened,
    Unavailable,
    Verification,
    WatchEvent,
)
from consensusllm.client.export import export
from consensusllm.conversations import TakenOver
from consensusllm.orchestrator.client import FaultList, FaultRefused, TraceEvent

NODES = (1, 2, 3)
ADDRESSES = {node: f"127.0.0.1:{5100 + node}" for node in NODES}


def candidate(number: int, text: str, **fields: Any) -> Candidate:
    known: dict[str, Any] = {"node": number, "model": f"model-{number}", "ended": True}
    known |= {"planned_node": number, "opened_revision": 2, "ended_revision": 3}
    return Candidate(number=number, text=text, **{**known, **fields})


def status(node: int, **fields: Any) -> Status:
    known: dict[str, Any] = {
        "cluster_id": "demo",
        "node": node,
        "incarnation": 1,
        "role": "leading" if node == 2 else "following",
        "leader": 2,
        "ballot_seq_num": 5,
        "ballot_pid": 2,
        "chosen_through": 57,
        "applied_slot": 57,
        "state_hash": "1f2e3d4c5b6a79881f2e3d4c5b6a7988",
        "snapshot_slot": 0,
        "log_first_slot": 1,
        "log_bytes": 4096,
        "members": tuple(
            MemberStatus(other, ADDRESSES[other], True, 57, other != node, True) for other in NODES
        ),
        "models": (ModelStatus(node, "builtin", "extract", "offline", "extract"),),
        "conversations": 1,
        "keys": 0,
        "loop_lag_ms": 0.5,
        "uptime_ms": 3_723_000,
        "version": "0.1.0",
        "transport": "orchestrated",
        "orchestrator_address": "127.0.0.1:5100",
        "pending": 0,
        "elections": 1,
        "loop_lag_max_ms": 7.4,
        "progress": Progress(57, 0, 0, 0, 0),
    }
    return Status(**{**known, **fields})


class FakeFaults:
    """Says back what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.ended: set[int] = set()
        """Whose processes were ended for good."""
        self.injected: list[str] = []
        self.attached = list(NODES)
        self.down: list[int] = []
        self.cut: list[tuple[int, int]] = []
        self.events: list[TraceEvent] = []
        self.refusal = ""

    async def _told(self, *call: Any) -> str:
        if self.refusal:
            raise FaultRefused(self.refusal)
        self.calls.append(call)
        return f"did {call[0]}"

    async def fail_node(self, node: int) -> str:
        return await self._told("fail_node", node)

    async def fix_node(self, node: int) -> str:
        return await self._told("fix_node", node)

    async def install_node(self, node: int, address: str) -> str:
        return await self._told("install_node", node, address)

    async def retire_node(self, node: int, *, reusable: bool = False) -> str:
        done = await self._told("retire_node", node, *["reusable"] * reusable)
        self.ended.add(node)
        return done

    async def fail_link(self, a: int, b: int, one_way: bool = False) -> str:
        return await self._told("fail_link", a, b, one_way)

    async def fix_link(self, a: int, b: int, one_way: bool = False) -> str:
        return await self._told("fix_link", a, b, one_way)

    async def partition(self, groups: Sequence[Sequence[int]]) -> str:
        return await self._told("partition", groups)

    async def heal(self) -> str:
        return await self._told("heal")

    async def delay(self, a: int, b: int, delay_ms: float, jitter_ms: float = 0.0) -> str:
        return await self._told("delay", a, b, delay_ms, jitter_ms)

    async def drop(self, a: int, b: int, percent: float) -> str:
        return await self._told("drop", a, b, percent)

    async def duplicate(self, a: int, b: int, percent: float) -> str:
        return await self._told("duplicate", a, b, percent)

    async def reorder(self, a: int, b: int, percent: float) -> str:
        return await self._told("reorder", a, b, percent)

    async def isolate(self, node: int) -> str:
        return await self._told("isolate", node)

    async def faults(self) -> FaultList:
        if self.refusal:
            raise FaultRefused(self.refusal)
        return FaultList(self.injected, self.attached, self.down, self.cut)

    async def trace(self, kinds: Sequence[str] = ()) -> AsyncGenerator[TraceEvent, None]:
        self.calls.append(("trace", list(kinds)))
        for event in self.events:
            if not kinds or event.kind in kinds:
                yield event


class FakeCluster:
    """Backend and client in one."""

    def __init__(self) -> None:
        self.nodes: Sequence[int] = NODES
        self.calls: list[tuple[Any, ...]] = []
        self.held: dict[str, list[Turn]] = {}
        self.values: dict[str, bytes] = {}
        self.by_node: dict[int, Status | None] = {node: status(node) for node in NODES}
        self.fake_faults: FakeFaults | None = FakeFaults()
        self.limits: dict[str, Budget] = {}
        self.majority = True
        self.copies: tuple[NodeCopy, ...] = ()
        self.refusal = ""
        self.late_refusal = ""
        """Of a change that was under way."""
        self.watching = asyncio.Event()
        self.asked: tuple[int, int, GenerationOptions | None, Plan | None] | None = None
        """How the last question was asked: close_after, deadline_ms, options, plan."""
        self.council = Turn(1, "", ())
        self.known_templates = Templates(
            (
                TemplateSummary(
                    *("debate", "Two argue.", "r1", (TemplateStage("opinions"),)),
                    roles=(TemplateRole("pro", "Be for it."), TemplateRole("con")),
                    own=True,
                ),
                TemplateSummary(
                    *("three-stage", "All answer.", "r2", (TemplateStage("opinions"),))
                ),
            ),
            (),
        )

    @property
    def client(self) -> FakeCluster:
        return self

    async def statuses(self) -> dict[int, Status | None]:
        ended = self.fake_faults.ended if self.fake_faults is not None else ()
        return {node: one for node, one in self.by_node.items() if node not in ended}

    async def faults(self) -> FakeFaults | None:
        return self.fake_faults

    async def create(self, conversation: str, *, system: str = "") -> None:
        self._write("create", conversation, *([system] if system else []))
        if conversation in self.held:
            raise AlreadyExists(f"{conversation!r} exists already: choose another id")
        self.held[conversation] = []

    async def ask(
        self,
        conversation: str,
        question: str,
        *,
        close_after: int = 0,
        deadline_ms: int = 0,
        options: GenerationOptions | None = None,
        plan: Plan | None = None,
    ) -> int:
        self._write("ask", conversation, question)
        self.asked = (close_after, deadline_ms, options, plan)
        turns = self._turns(conversation)
        number = len(turns) + 1
        if plan is not None and plan.council:
            turns.append(replace(self.council, turn=number, question=question))
        else:
            turns.append(Turn(number, question, self._answers(question), asked_revision=1))
        return len(turns)

    async def templates(self) -> Templates:
        self._read("templates", False)
        return self.known_templates

    async def retry(
        self, conversation: str, turn: int | None = None, *, plan: Plan | None = None
    ) -> TurnOpened:
        self._write("retry", conversation, turn)
        self.asked = (0, 0, None, plan)
        index = (turn or len(self._turns(conversation))) - 1
        old = self._turns(conversation)[index]
        fresh = tuple(
            replace(each, number=each.number + len(old.candidates), text=f"again {each.number}")
            for each in self._answers("")
        )
        self._turns(conversation)[index] = replace(
            old, closed=False, candidates=old.candidates + fresh
        )
        return TurnOpened(index + 1, tuple(each.number for each in fresh))

    async def watch(
        self, conversation: str, turn: int, *, candidates: Sequence[int] = (), deadline_ms: int = 0
    ) -> AsyncGenerator[WatchEvent, None]:
        asked_with = [deadline_ms] if deadline_ms else []
        self.calls.append(("watch", conversation, turn, tuple(candidates), *asked_with))
        watched = self._turns(conversation)[turn - 1]
        self.watching.set()
        if "hold on" in watched.question:
            yield Delta(1, 1, 0, "a beginning", 1, "model-1")
            await asyncio.Event().wait()
        if "node dies" in watched.question:
            yield Delta(1, 1, 0, "lost", 1, "model-1")
            yield Takeover(1, 2, 3, 0)
        if watched.council is not None:
            for stage in sorted({each.stage for each in watched.candidates}):
                seats = {
                    each.number: each.seat for each in watched.candidates if each.stage == stage
                }
                yield StageOpened(stage, watched.council, seats)
        # The last first: the order in which they end is not the one in which they are shown.
        for each in reversed(watched.candidates):
            yield Delta(each.number, each.attempt, 0, each.text, each.node, each.model)
            yield CandidateDone(each)
        closed = replace(watched, closed=True)
        self._turns(conversation)[turn - 1] = closed
        yield TurnClosed(closed)

    async def choose(self, conversation: str, candidate: int, turn: int | None = None) -> Chosen:
        self._write("choose", conversation, candidate, turn)
        index = (turn or len(self._turns(conversation))) - 1
        chosen = self._turns(conversation)[index]
        if chosen.choice:
            raise Conflict("a choice stands", turn=index + 1, winner=chosen.choice)
        found = chosen.candidate(candidate)
        if found is None:
            raise NotFound(f"turn {index + 1} has no candidate {candidate}: it has 1 to 3")
        if not found.answered:
            raise NotAnswered(f"candidate {candidate} has not answered: choose another")
        self._turns(conversation)[index] = replace(chosen, choice=candidate)
        return Chosen(index + 1, candidate)

    async def cancel(self, conversation: str, turn: int | None = None) -> None:
        self._write("cancel", conversation, turn)
        index = (turn or len(self._turns(conversation))) - 1
        if self._turns(conversation)[index].closed:
            raise Conflict(f"turn {index + 1} of {conversation} is closed: nothing to do")
        self._turns(conversation)[index] = replace(self._turns(conversation)[index], closed=True)

    async def view(
        self, conversation: str, *, at: int | None = None, stale: bool = False
    ) -> Conversation:
        self._read("view", stale, conversation, *([] if at is None else [at]))
        return Conversation(conversation, at or 7, tuple(self._turns(conversation)))

    async def verify(self, conversation: str) -> Verification:
        self._read("verify", False, conversation)
        found = Conversation(conversation, 7, tuple(self._turns(conversation)))
        return Verification(found, self.copies)

    async def conversations(
        self, *, stale: bool = False, timeout_s: float | None = None
    ) -> list[ConversationSummary]:
        self._read("conversations", stale)
        return [
            ConversationSummary(
                name,
                len(turns),
                sum(not turn.closed for turn in turns),
                turns[-1].question if turns else "",
                1_700_000_000_000,
            )
            for name, turns in sorted(self.held.items())
        ]

    async def fork(self, conversation: str, target: str, at_turn: int | None = None) -> None:
        self._write("fork", conversation, target, at_turn)
        self.held[target] = self._turns(conversation)[:at_turn]

    async def rename(self, conversation: str, target: str) -> None:
        self._write("rename", conversation, target)
        self.held[target] = self._turns(conversation)
        del self.held[conversation]

    async def delete(self, conversation: str) -> None:
        self._write("delete", conversation)
        self._turns(conversation)
        del self.held[conversation]

    async def export_conversation(
        self, conversation: str, *, stale: bool = False
    ) -> dict[str, Any]:
        self._read("export_conversation", stale, conversation)
        return export(Conversation(conversation, 7, tuple(self._turns(conversation))))

    async def import_conversation(
        self, conversation: Conversation, name: str, *, tell: Callable[[int, int], None]
    ) -> None:
        tell(1, 1)
        self._write("import_conversation", conversation, name)
        if name in self.held:
            raise AlreadyExists(f"{name!r} exists already: choose another id")
        self.held[name] = list(conversation.turns)

    async def put(self, key: str, value: bytes) -> None:
        self._write("put", key, value)
        self.values[key] = value

    async def set_budget(self, scope: str, limit: int | None) -> None:
        self._write("set_budget", scope, limit)
        if limit is None:
            del self.limits[scope]
        else:
            self.limits[scope] = Budget(limit, 250_000, 1)

    async def budgets(self) -> dict[str, Budget]:
        return self.limits

    async def get(self, key: str, *, stale: bool = False) -> bytes | None:
        self._read("get", stale, key)
        return self.values.get(key)

    async def add_node(
        self, node: int, address: str, *, on_progress: OnProgress | None = None
    ) -> None:
        await self._change("add_node", node, address, on_progress=on_progress)

    async def remove_node(self, node: int, *, on_progress: OnProgress | None = None) -> None:
        await self._change("remove_node", node, on_progress=on_progress)

    async def transfer_leader(self, node: int, *, on_progress: OnProgress | None = None) -> None:
        await self._change("transfer_leader", node, on_progress=on_progress)

    async def _change(self, *call: Any, on_progress: OnProgress | None) -> None:
        self._write(*call)
        if self.refusal:
            raise ChangeRefused(self.refusal)
        if on_progress is not None:
            on_progress(ChangeProgress("node 4 to be heard", None))
            for behind in (90, 40):
                on_progress(ChangeProgress(f"node 4 to catch up: {behind} slots behind", behind))
        if self.late_refusal:
            raise ChangeRefused(self.late_refusal)

    def address_by_rule(self, node: int) -> str | None:
        return f"127.0.0.1:{5100 + node}"

    def _write(self, *call: Any) -> None:
        self._read(call[0], False, *call[1:])

    def _read(self, name: str, stale: bool, *arguments: Any) -> None:
        self.calls.append((name, *arguments, stale) if stale else (name, *arguments))
        if not (stale or self.majority):
            raise Unavailable("no answer within 10 s: check that a majority runs")

    def _turns(self, conversation: str) -> list[Turn]:
        if conversation not in self.held:
            raise NotFound(f"there is no conversation {conversation!r}: check its id")
        return self.held[conversation]

    def _answers(self, question: str) -> tuple[Candidate, ...]:
        answers = []
        for node in NODES:
            fails = "all fail" in question or ("two fails" in question and node == 2)
            error = "timed out" if fails else ""
            text = "" if fails else f"answer {node}"
            attempt = 2 if "node dies" in question and node == 1 else 1
            answers.append(
                candidate(
                    node,
                    text,
                    error=error,
                    attempt=attempt,
                    planned_node=node if attempt == 1 else 2,
                    takeovers=tuple(TakenOver(n, node, 0) for n in range(2, attempt + 1)),
                )
            )
        return tuple(answers)


def connected(cluster: FakeCluster) -> Any:
    """What stands in for `backend.connect`; it keeps the node that was asked for."""

    @asynccontextmanager
    async def connect(addresses: object, node: int | None) -> AsyncIterator[FakeCluster]:
        cluster.calls.append(("connect", addresses, node))
        yield cluster

    return connect
