"""Owns the verdict on a drill: what must hold of what was recorded, whatever the faults were. Pure.

1. The history of every key, every turn's choice and every creation is linearizable; the last
   operations in it are reads of everything, after all has been mended. Some succeeded before.
2. What was acknowledged is there: every append exactly once, every question in the turn that it was
   given, every answer as a reader was told that it ended. What was refused is not there.
3. Every turn is closed, and a council that came to no answer, or missed one of a member, says so.
4. Nodes that have applied the same slot have the same state, in the end and whenever it was seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from consensusllm.client import Candidate, Conversation
from consensusllm.conversations import outcome, shortfalls
from consensusllm.linearizability import History, Operation, Verdict, check

from .history import Counts, Question, count, during_load

CHECK_S = 120.0
LISTED_MAX = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a drill leaves to be judged. ``conversations`` is as they were read in the end, None for
    one that was not there; ``answers`` are candidates as readers were told that they had ended.
    ``whole`` false: the drill did not come to its end, so nothing was read there."""

    operations: Sequence[Operation]
    questions: Sequence[Question] = ()
    conversations: Mapping[str, Conversation | None] = field(default_factory=dict)
    answers: Mapping[tuple[str, int, int], Candidate] = field(default_factory=dict)
    problems: Sequence[str] = ()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Figures:
    """What a drill measured. ``gap_ms`` is the longest time without an answer to a write while a
    client was trying; ``takeovers`` the answers that another node went on with, as readers saw;
    ``degraded`` are so many of the turns that ``councils`` answered."""

    operations: int
    ok: int
    failed: int
    unknown: int
    gap_ms: int
    elections: int
    turns: int
    takeovers: int
    seconds: float
    councils: int = 0
    degraded: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """``problems`` are one line each; there is none where the drill passed. ``skipped`` says why it
    could not be done to its end on this machine; it may have found problems before."""

    drill: str
    seed: int
    problems: tuple[str, ...]
    figures: Figures
    skipped: str = ""

    @property
    def passed(self) -> bool:
        return not self.problems and not self.skipped

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def figures(
    counts: Counts,
    *,
    gap_s: float,
    elections: int,
    turns: int,
    takeovers: int,
    seconds: float,
    councils: int = 0,
    degraded: int = 0,
) -> Figures:
    return Figures(
        counts.operations,
        counts.ok,
        counts.failed,
        counts.unknown,
        round(gap_s * 1000),
        elections,
        turns,
        takeovers,
        round(seconds, 1),
        councils,
        degraded,
    )


def judge(
    evidence: Evidence, clock: Callable[[], float], time_limit_s: float = CHECK_S
) -> tuple[str, ...]:
    """What is wrong, one line each. ``clock`` tells seconds, from any origin."""
    found = [*evidence.problems]
    found += _linearizability(evidence.operations, clock, time_limit_s)
    if evidence.whole:
        found += _success(evidence)
        found += _appends(evidence.operations)
        found += _questions(evidence)
        found += _answers(evidence)
    return tuple(found)


def _linearizability(
    operations: Sequence[Operation], clock: Callable[[], float], time_limit_s: float
) -> list[str]:
    if not operations:
        return ["no operation was recorded, so nothing was checked"]
    report = check(History(tuple(operations)), clock, time_limit_s)
    if report.verdict is Verdict.NOT_LINEARIZABLE:
        return [
            f"not linearizable: no order explains the operations on {report.offending} "
            "(consensusllm check-history draws those that show it)"
        ]
    if report.verdict is Verdict.UNDECIDED:
        return [
            f"undecided: {_listed(report.undecided)} could not be checked within {time_limit_s:g} s"
        ]
    return []


def _success(evidence: Evidence) -> list[str]:
    counts = count(during_load(evidence.operations), evidence.questions)
    if not counts.ok:
        return [f"none of {counts.operations} operations under load succeeded: nothing was shown"]
    return []


def _appends(operations: Sequence[Operation]) -> list[str]:
    """Of each text that is appended to, what the last read of it says."""
    last: dict[str, Operation] = {}
    appends: defaultdict[str, list[Operation]] = defaultdict(list)
    for each in operations:
        if each.op == "append":
            appends[each.key].append(each)
        elif (
            each.op == "get"
            and each.ok
            and (each.key not in last or last[each.key].start < each.start)
        ):
            last[each.key] = each
    problems = []
    for key, tried in appends.items():
        if key not in last:
            problems.append(f"{key} was appended to, and never read in the end")
            continue
        text = last[key].output
        there = Counter(text.split() if isinstance(text, str) else ())
        tokens = [(str(each.value).strip(), each) for each in tried]
        lost = [token for token, each in tokens if each.ok and not there[token]]
        ghosts = [token for token, each in tokens if each.ok is False and there[token]]
        doubles = [token for token, count in there.items() if count > 1]
        if lost:
            problems.append(f"lost: {_listed(lost)}, acknowledged as appended to {key}")
        if ghosts:
            problems.append(f"{_listed(ghosts)} is in {key}, although its append was refused")
        if doubles:
            problems.append(f"{_listed(doubles)} is in {key} more than once")
    return problems


def _questions(evidence: Evidence) -> list[str]:
    problems = []
    places: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for name, conversation in evidence.conversations.items():
        if conversation is None:
            continue
        for turn in conversation.turns:
            places[name, turn.question].append(turn.turn)
            if not turn.closed:
                problems.append(f"turn {turn.turn} of {name} never closed")
            elif turn.council is not None and not shortfalls(turn):
                missed = [each.number for each in turn.candidates if not each.answered]
                if missed or not outcome(turn):
                    problems.append(
                        f"the council of turn {turn.turn} of {name} lacked something (candidates "
                        f"{_listed(map(str, missed))}) and does not say so"
                    )
    for asked in evidence.questions:
        found = places[asked.conversation, asked.text]
        what = f"{asked.text!r} in {asked.conversation}"
        if asked.ok and asked.turn not in found:
            problems.append(f"lost: {what}, acknowledged as turn {asked.turn}")
        if asked.ok is False and found:
            problems.append(f"{what} is turn {found[0]}, although it was refused")
        if len(found) > 1:
            problems.append(f"{what} was asked once, and is in turns {_listed(map(str, found))}")
    return problems


def _answers(evidence: Evidence) -> list[str]:
    problems = []
    for (name, number, candidate), told in evidence.answers.items():
        conversation = evidence.conversations.get(name)
        turns = conversation.turns if conversation else ()
        turn = next((each for each in turns if each.turn == number), None)
        found = turn.candidate(candidate) if turn else None
        if found != told:
            problems.append(
                f"candidate {candidate} of turn {number} of {name} has changed since a reader was "
                "told that it had ended"
            )
    return problems


def _listed(words: Any) -> str:
    found = list(words)
    more = f" and {len(found) - LISTED_MAX} more" if len(found) > LISTED_MAX else ""
    return ", ".join(found[:LISTED_MAX]) + more
