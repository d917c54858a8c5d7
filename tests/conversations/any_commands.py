"""Any command, log and conversation, for the tests of what holds for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st
from imported import TEMPORARY, imported_turn

from consensusllm.conversations import (
    Choose,
    CloseStage,
    CloseTurn,
    CompareAndSwap,
    ConveneCouncil,
    Council,
    CreateConversation,
    Delete,
    DeleteKey,
    Fork,
    GenerationOptions,
    HedgeCandidate,
    ImportTurn,
    Limits,
    Machine,
    Member,
    OpenSession,
    Operation,
    PlannedCandidate,
    ProbedModel,
    Put,
    ReassignCandidate,
    RecordCandidate,
    RecordCheckpoint,
    RecordProbe,
    Rename,
    Reply,
    RetryTurn,
    ServedModel,
    ServeModels,
    SessionCommand,
    SessionOpened,
    SetBudget,
    Stage,
    StageKind,
    SubmitQuery,
    Turn,
    TurnId,
    Usage,
)

LIMITS = Limits(
    question_bytes=8,
    system_bytes=8,
    text_bytes=8,
    value_bytes=4,
    key_characters=3,
    candidates_per_turn=4,
    turns_per_conversation=4,
    conversations=3,
    keys=3,
    sessions=3,
    replies_per_session=30,
    reply_bytes_per_session=12,
)

# A small world, so that commands meet; a few values that are out of bounds.
ids = st.sampled_from(["c1", "c1", "c1", "c2", "c2", "c3", "c4", "bad id"])
numbers = st.integers(1, 3)
turns = st.sampled_from([0, 1, 1, 1, 2, 2, 3])
attempts = st.integers(1, 3)
texts = st.sampled_from(["", "a", "ab\n", "né\x1b[", "\U0001f600", "far too long"])
keys = st.sampled_from(["", "k", "l", "é", "mm", "long"])
values = st.sampled_from([b"", b"v", b"\xff\x00", b"long!"])
plans = st.lists(st.builds(PlannedCandidate, numbers, st.integers(0, 3)), max_size=3).map(tuple)
plans = st.one_of(st.just((PlannedCandidate(1, 1), PlannedCandidate(2, 2))), plans)
usages = st.builds(Usage, st.none() | numbers, st.none() | numbers)
options = st.builds(
    GenerationOptions,
    st.none() | st.floats(0, 3),
    st.none() | st.integers(0, 2),
    st.none() | st.integers(-5, 5),
    st.none() | texts,
    st.none() | texts,
    st.none() | st.sampled_from([0, 5]),
)
answers = st.lists(st.sampled_from(["", "a", "né", "far too long"]), max_size=2)
imported = st.builds(
    lambda number, question, texts, choice: imported_turn(
        number, *texts, question=question, choice=choice
    ),
    numbers,
    texts,
    answers,
    st.integers(0, 2),
)
errors = st.sampled_from(["", "", "", "failed"])
names = st.sampled_from(["a", "a", "b", "", "no name"])
served = st.builds(
    ServedModel,
    *(names, st.just("p"), texts),
    completion_price=st.sampled_from([0, 1, 2_500_000]),
    server=st.sampled_from(["", "s"]),
)
users = st.sampled_from(["", "u"])
scopes = st.sampled_from(["cluster", "conversation:c1", "user:u", "nobody"])
deadlines = st.sampled_from([1, 100, 0])
offsets = st.sampled_from([0, 0, 1, 2])

councils = st.builds(
    Council,
    st.just("t"),
    st.just("r"),
    st.sampled_from([0, 7, -1]),
    st.just((Member(1), Member(2, role="judge"))),
    st.lists(
        st.builds(
            Stage,
            st.sampled_from(StageKind),
            st.sampled_from([(1, 2), (2,), (), (3,)]),
            st.integers(0, 1),
            deadlines,
        ),
        max_size=2,
    ).map(lambda rest: (Stage(StageKind.OPINIONS, (1, 2)), *rest)),
)

conversation_operations: st.SearchStrategy[Operation] = st.one_of(
    st.builds(CreateConversation, ids, texts),
    st.builds(SubmitQuery, ids, texts, plans, st.integers(0, 2), deadlines, options, users),
    st.builds(SubmitQuery, ids, st.just("q"), plans),
    st.builds(ConveneCouncil, ids, texts, councils, options),
    st.builds(CloseStage, ids, turns, numbers, texts),
    st.builds(RetryTurn, ids, turns, plans, deadlines),
    st.builds(RecordCheckpoint, ids, turns, numbers, attempts, offsets, texts),
    st.builds(
        RecordCandidate,
        *(ids, turns, numbers, attempts, texts, texts, texts, usages, errors),
        served_as=names,
    ),
    st.builds(RecordCandidate, ids, turns, numbers, st.just(1), st.just("x"), texts, texts),
    st.builds(ReassignCandidate, ids, turns, numbers, attempts, numbers, offsets),
    st.builds(HedgeCandidate, ids, turns, numbers, attempts, numbers, names),
    st.builds(HedgeCandidate, *map(st.just, ("c1", 1, 1, 1, 1, "m2"))),
    st.builds(
        ReassignCandidate,
        *(ids, turns, numbers, attempts, st.just(1), offsets, st.just("m2")),
        usage=usages,
        hedged=st.booleans(),
        hedge_usage=usages,
    ),
    st.builds(CloseTurn, ids, turns, texts, st.sampled_from([0, 0, 1, 2])),
    st.builds(Choose, ids, turns, numbers),
    st.builds(Fork, ids, ids, turns),
    st.builds(Rename, ids, ids),
    st.builds(Delete, ids),
    st.builds(ImportTurn, st.sampled_from([TEMPORARY] * 4 + ["c1"]), imported),
    st.builds(CreateConversation, st.just(TEMPORARY)),
    st.builds(Rename, st.just(TEMPORARY), ids, st.sampled_from((0, 1)), st.sampled_from((0, 2))),
)
operations: st.SearchStrategy[Operation] = st.one_of(
    conversation_operations,
    conversation_operations,
    st.builds(SetBudget, scopes, st.sampled_from([None, 0, 500, 10**6, 10**9])),
    st.builds(ServeModels, st.integers(0, 3), st.lists(served, max_size=2).map(tuple)),
    st.builds(
        RecordProbe,
        *(numbers, st.sampled_from(["s", "s", "t"])),
        st.lists(
            st.builds(ProbedModel, texts, st.none() | st.booleans(), errors, st.integers(0, 1)),
            max_size=2,
        ).map(tuple),
    ),
    st.builds(Put, keys, values),
    st.builds(CompareAndSwap, keys, st.none() | values, st.none() | values),
    st.builds(DeleteKey, keys),
)
sessions = st.sampled_from([b"a" * 16, b"a" * 16, b"b" * 16, b"c" * 16, b"d" * 16])  # see `played`
openings = st.sampled_from([OpenSession(), OpenSession(), OpenSession(numbered=False)])
commands: st.SearchStrategy[SessionCommand | None] = st.one_of(
    st.builds(SessionCommand, sessions, st.integers(0, 12), st.integers(0, 6), operations),
    *[st.builds(SessionCommand, sessions, st.integers(1, 999), st.integers(0, 6), operations)] * 3,
    st.builds(SessionCommand, sessions, st.just(0), st.integers(0, 3), openings),
    st.none(),
)
slots = st.tuples(st.integers(0, 5000), st.lists(commands, max_size=8))
COUNCIL = Council(
    "three",
    "r",
    7,
    (Member(1), Member(2)),
    (Stage(StageKind.OPINIONS, (1, 2)), Stage(StageKind.SYNTHESIS, (1, 2))),
)
BEGINNING: list[Operation] = [
    CreateConversation("c1"),
    CreateConversation("c2"),
    SubmitQuery("c1", "one", (PlannedCandidate(1, 1, "m", ("m2",)), PlannedCandidate(2, 2))),
    SubmitQuery("c1", "two", (PlannedCandidate(1, 1),), 1),
    ConveneCouncil("c2", "three", COUNCIL),
    Put("k", b"v"),
]
OPENING: list[tuple[int, list[SessionCommand | None]]] = [
    (7, [SessionCommand(name * 16, 0, 0, OpenSession()) for name in (b"a", b"b")]),
    (7, [SessionCommand(b"a" * 16, 1000 + i, 0, each) for i, each in enumerate(BEGINNING)]),
]
logs = st.lists(slots, max_size=15).map(lambda log: [*OPENING, *log])
operation_lists = st.lists(conversation_operations, min_size=5, max_size=40).map(
    lambda rest: [*BEGINNING, *rest]
)

Log = Sequence[tuple[int, Sequence[SessionCommand | None]]]


def play(machine: Machine, log: Log) -> list[list[Reply]]:
    """Apply ``log``; its commands name sessions, and carry what the machine knows these by."""
    return [machine.apply(machine.applied_slot + 1, *played(machine, slot)) for slot in log]


def played(
    machine: Machine, slot: tuple[int, Sequence[SessionCommand | None]]
) -> tuple[int, list[SessionCommand | None]]:
    """What clients send that were told which sessions they have before the slot. In the slot they
    may be evicted, or opened anew: then theirs is one of before."""
    known = {session[:16]: session for session, _ in machine.freeze().sessions}

    def sent(command: SessionCommand | None) -> SessionCommand | None:
        if command is None or isinstance(command.operation, OpenSession):
            return command
        return command._replace(session=known.get(command.session, command.session))

    return slot[0], [sent(command) for command in slot[1]]


@dataclass
class Client:
    """One session that acknowledges everything at once."""

    machine: Machine = field(default_factory=lambda: Machine(replace(LIMITS, sessions=9)))
    sequence: int = -1
    session: bytes = b"x" * 16

    def __post_init__(self) -> None:
        opened = self.do(OpenSession())
        assert isinstance(opened, SessionOpened)
        self.session = opened.session

    def do(self, operation: Operation) -> Reply:
        self.sequence += 1
        command = SessionCommand(self.session, self.sequence, self.sequence, operation)
        slot = self.machine.applied_slot + 1
        return self.machine.apply(slot, slot, [command])[0]

    def turns(self) -> dict[TurnId, Turn]:
        return dict(self.machine.freeze().turns)


def content(machine: Machine) -> tuple[Any, ...]:
    frozen = machine.freeze()
    models = frozen.registry, frozen.budgets
    return frozen.heads, frozen.turns, frozen.keys, *models, frozen.attempt_floor
