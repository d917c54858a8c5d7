"""Calls that end without a word of what they used: their turn closed, or their node is gone.

Nobody knows what such a call came to, so it is estimated from what is recorded: what its model was
to read, and the text up to the last checkpoint. Nor does anybody know whether it had begun; it
counts as if it had. Where a budget is concerned an estimate is not enough: there the call is
charged as reserved.

Running into the deadline is the model's failure. That a call was not waited for, or lost its node,
says nothing of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .asking import asked
from .budget_rules import called, reserved, settle
from .context_window import TooLong
from .records import Candidate, Turn
from .refusal import Refusal
from .registry_rules import Call, count_call
from .state import State


def count_stopped(
    state: State, conversation: str, turn: Turn, candidate: Candidate, *, failed: bool
) -> Candidate:
    """``candidate``, which is open, with what is known of its current call, that one counted under
    its model, and its cost added. What it has reserved is not settled."""
    served = called(state, candidate)
    if served is None:
        return candidate
    try:
        what = asked(turn, candidate, served, lambda number: state.turns[conversation, number])
    except TooLong:  # so it was not asked
        return candidate
    kept = candidate.text[: candidate.kept]
    usage = what.usage(kept, candidate.text[len(kept) :])
    call = Call(candidate.node, served.name, usage, failed=failed, beaten=not failed)
    return replace(
        candidate,
        model=served.model,
        provider=served.provider,
        prompt_hash=what.hash,
        usage=usage,
        cost=candidate.cost + count_call(state, call),
        left_out=what.left_out,
        context_tokens=what.context_tokens,
    )


def count_stopped_hedge(
    state: State, conversation: str, turn: Turn, candidate: Candidate, *, failed: bool
) -> int:
    """Count the call of the hedge of ``candidate`` that has not taken over, where there is one;
    what it cost."""
    hedge = candidate.hedged
    if hedge is None:
        return 0
    other = replace(candidate, node=hedge.node, model=hedge.model, text="", takeovers=(), cost=0)
    return count_stopped(state, conversation, turn, other, failed=failed).cost


def settle_closed(state: State, conversation: str, before: Turn, after: Turn) -> Turn:
    """``after`` with what the calls came to of the candidates that were open in ``before`` and
    ended without a word of them."""
    failed = state.time_ms > before.deadline_ms
    for each in before.candidates:
        ended = after.candidate(each.number)
        assert ended is not None, "candidates stay"
        if each.ended or not ended.ended:
            continue
        counted = count_stopped(state, conversation, before, each, failed=failed)
        cost = counted.cost + count_stopped_hedge(state, conversation, before, each, failed=failed)
        if each.budgets:
            cost = each.cost + settle(state, each, None)
        after = after.with_candidate(
            replace(
                ended,
                model=counted.model,
                provider=counted.provider,
                prompt_hash=counted.prompt_hash,
                usage=counted.usage,
                cost=cost,
                left_out=counted.left_out,
                context_tokens=counted.context_tokens,
            )
        )
    return after


def carried(
    state: State,
    conversation: str,
    before: Turn,
    after: Turn,
    go_on: Callable[[Turn], Turn],
    revision: int,
) -> Turn:
    """``after``, which follows ``before`` at ``revision``: what has ended is settled, and what a
    council has opened holds its reservations. Where no budget allows those they end with that as
    their error, and the turn ``go_on``es without them."""
    after = settle_closed(state, conversation, before, after)
    opened = [each.number for each in after.candidates if before.candidate(each.number) is None]
    try:
        return reserved(state, conversation, after, opened) if opened else after
    except Refusal as refusal:
        stopped = after.with_open_ended(f"not asked: {refusal.reply.message}", revision)
        return carried(state, conversation, stopped, go_on(stopped), go_on, revision)
