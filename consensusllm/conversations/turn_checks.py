"""What rules of turns look up and check before they change anything. All raise Refusal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from .commands import (
    GenerationOptions,
    HedgeCandidate,
    ReassignCandidate,
    RecordCandidate,
    RecordCheckpoint,
)
from .limits import Limits
from .records import Candidate, Head, Turn
from .refusal import Refusal, check_size, named
from .registry_rules import FALLBACKS_MAX
from .replies import Code
from .state import State

_NUMBER_MAX = 65_535

Attempted: TypeAlias = RecordCheckpoint | RecordCandidate | ReassignCandidate | HedgeCandidate


def held(state: State, command: Attempted) -> tuple[Turn, Candidate]:
    """The open candidate that ``command``'s attempt holds."""
    turn, candidate = open_candidate(state, command)
    if candidate.attempt != command.attempt:
        raise Refusal(
            Code.STALE,
            f"{name_of(turn, candidate)} belongs to attempt {candidate.attempt} of node "
            f"{candidate.node}: drop attempt {command.attempt}",
        )
    return turn, candidate


def open_candidate(state: State, command: Attempted) -> tuple[Turn, Candidate]:
    number = command.turn
    if number < 1:  # 0 does not stand for the latest here
        raise Refusal(
            Code.NOT_FOUND, f"no turn {number} of {named(command.conversation)}: name one"
        )
    turn = find_turn(state, command.conversation, number)
    candidate = find_candidate(command.conversation, turn, command.candidate)
    if candidate.ended:
        raise Refusal(
            Code.STALE,
            f"{name_of(turn, candidate)} has ended: what it says stands",
        )
    return turn, candidate


def check_options(options: GenerationOptions, limits: Limits) -> None:
    if options.temperature is not None and not 0 <= options.temperature <= 2:
        raise Refusal(Code.INVALID, f"a temperature of {options.temperature}: use 0.0 to 2.0")
    if options.max_tokens is not None and options.max_tokens < 1:
        raise Refusal(Code.INVALID, "max_tokens is 0: use 1 or more")
    if options.hedge_ms is not None and not 1 <= options.hedge_ms <= limits.deadline_ms:
        raise Refusal(
            Code.INVALID, f"a hedge after {options.hedge_ms} ms: use 1 to {limits.deadline_ms}"
        )
    if options.system is not None:
        check_size("the system prompt", options.system, limits.question_bytes)
    if options.role is not None:
        check_size("the role", options.role, limits.question_bytes)


def find_conversation(state: State, conversation: str, remedy: str = "check its id") -> Head:
    head = state.heads.get(conversation)
    if head is None:
        raise Refusal(Code.NOT_FOUND, f"there is no conversation {named(conversation)}: {remedy}")
    return head


def find_turn(state: State, conversation: str, number: int) -> Turn:
    """Turn ``number`` of a conversation; 0 is the latest."""
    latest = find_conversation(state, conversation).turns
    if not latest:
        raise Refusal(Code.NOT_FOUND, f"{conversation} has no turns: query it first")
    turn = state.turns.get((conversation, number or latest))
    if turn is None:
        raise Refusal(Code.NOT_FOUND, f"no turn {number} of {conversation}: its latest is {latest}")
    return turn


def next_turn(conversation: str, head: Head, limits: Limits) -> int:
    """The number that the next turn has."""
    if head.turns >= limits.turns_per_conversation:
        raise Refusal(
            Code.TOO_LARGE,
            f"{conversation} has {head.turns} turns, the limit: go on in a new conversation",
        )
    return head.turns + 1


def check_query(question: str, options: GenerationOptions, limits: Limits) -> None:
    """What is asked, and how."""
    if not question:
        raise Refusal(Code.INVALID, "the question is empty: say what to ask")
    check_size("the question", question, limits.question_bytes)
    check_options(options, limits)


def check_deadline(deadline_ms: int, limits: Limits) -> None:
    if not 1 <= deadline_ms <= limits.deadline_ms:
        raise Refusal(
            Code.INVALID, f"a deadline of {deadline_ms} ms: use 1 to {limits.deadline_ms}"
        )


def check_late(conversation: str, turn: Turn, time_ms: int) -> None:
    """STALE unless the turn's deadline has passed: who saw that meant a turn of before."""
    if time_ms <= turn.deadline_ms:
        raise Refusal(
            Code.STALE,
            f"turn {turn.turn} of {conversation} has time until its deadline: nothing to do",
        )


def check_numbers(numbers: Iterable[int], limits: Limits, present: int = 0) -> tuple[int, ...]:
    """The candidates' numbers in order: some, distinct, positive, and not too many with those that
    are ``present`` already."""
    ordered = tuple(sorted(numbers))
    if not ordered:
        raise Refusal(Code.INVALID, "no candidate is planned: name at least one")
    if ordered[0] < 1 or ordered[-1] > _NUMBER_MAX or len(set(ordered)) < len(ordered):
        raise Refusal(
            Code.INVALID,
            f"candidates are not numbered well: use distinct numbers from 1 to {_NUMBER_MAX}",
        )
    if present + len(ordered) > limits.candidates_per_turn:
        raise Refusal(
            Code.TOO_LARGE,
            f"the turn would have {present + len(ordered)} candidates, "
            f"over the limit of {limits.candidates_per_turn}: ask fewer",
        )
    return ordered


def check_fallbacks(whose: str, fallbacks: tuple[str, ...], limits: Limits) -> None:
    if len(fallbacks) > FALLBACKS_MAX:
        raise Refusal(Code.TOO_LARGE, f"{whose} has over {FALLBACKS_MAX} fallbacks: name fewer")
    for name in fallbacks:
        check_size(f"{whose}'s fallback", name, limits.name_bytes)


def find_candidate(conversation: str, turn: Turn, number: int) -> Candidate:
    candidate = turn.candidate(number)
    if candidate is None:
        there = ", ".join(str(each.number) for each in turn.candidates)
        raise Refusal(
            Code.NOT_FOUND,
            f"no candidate {number} in turn {turn.turn} of {conversation}: it has {there}",
        )
    return candidate


def check_node(number: int, node: int) -> None:
    if node < 1:
        raise Refusal(Code.INVALID, f"candidate {number} is planned for node {node}: use 1 or more")


def check_unchosen(conversation: str, turn: Turn) -> None:
    if turn.choice:
        raise Refusal(
            Code.CONFLICT,
            f"turn {turn.turn} of {conversation} was already chosen: candidate {turn.choice} won",
            turn=turn.turn,
            winner=turn.choice,
        )


def name_of(turn: Turn, candidate: Candidate) -> str:
    return f"candidate {candidate.number} of turn {turn.turn}"
