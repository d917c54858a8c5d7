"""The rules of turns: ask, record what is answered, close, choose, retry.

A turn is open or closed. It opens with a query, and again with a retry; it closes when its last
candidate ends, after ``close_after`` answers, or by CloseTurn. A candidate is open until it ends,
with an answer or an error; then it never changes again. While it is open it belongs to one attempt:
who records under another one is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .answers import is_answer
from .budget_rules import called, reserved, settle, share_of
from .commands import (
    Choose,
    CloseTurn,
    PlannedCandidate,
    ReassignCandidate,
    RecordCandidate,
    RecordCheckpoint,
    RetryTurn,
    SubmitQuery,
    Usage,
)
from .council_steps import Moment, advanced, with_ranking
from .limits import Limits
from .records import Candidate, Retried, TakenOver, Turn
from .refusal import Refusal, check_size
from .registry_rules import Call, count_call
from .replies import Chosen, Code, Reply, TurnOpened
from .sessions import DONE
from .state import State
from .stopped_calls import carried, count_stopped, count_stopped_hedge, settle_closed
from .turn_checks import (
    check_deadline,
    check_fallbacks,
    check_late,
    check_node,
    check_numbers,
    check_query,
    check_unchosen,
    find_candidate,
    find_conversation,
    find_turn,
    held,
    name_of,
    next_turn,
    open_candidate,
)


class TurnRules:
    """Applies one operation at a time; a rule raises Refusal before it has changed anything."""

    def __init__(self, state: State, limits: Limits) -> None:
        self._state = state
        self._limits = limits

    def handlers(self) -> Mapping[type, Callable[[Any], Reply]]:
        """What applies each kind of operation."""
        return {
            SubmitQuery: self._submit,
            RetryTurn: self._retry,
            RecordCheckpoint: self._record_checkpoint,
            RecordCandidate: self._record_candidate,
            ReassignCandidate: self._reassign,
            CloseTurn: self._close,
            Choose: self._choose,
        }

    def opened(self, query: SubmitQuery) -> Turn:
        """The turn that ``query`` opens if it is the next to be applied, before any budget is asked
        for it. Raises Refusal."""
        head = find_conversation(self._state, query.conversation, "create it first")
        number = next_turn(query.conversation, head, self._limits)
        check_query(query.question, query.options, self._limits)
        if query.close_after < 0:
            raise Refusal(Code.INVALID, "close_after is negative: use 0 for all candidates")
        options = query.options
        if options.system is None and head.system:
            options = replace(options, system=head.system)
        candidates = self._planned(query.plan, head.revision + 1, after=0, present=0)
        check_size("the user", query.user, self._limits.name_bytes)
        return Turn(
            turn=number,
            question=query.question,
            candidates=candidates,
            opened_ms=self._state.time_ms,
            deadline_ms=self._deadline(query.deadline_ms),
            close_after=query.close_after,
            asked_revision=head.revision,
            options=options,
            user=query.user,
        )

    def _submit(self, query: SubmitQuery) -> Reply:
        turn = self.opened(query)
        opened = tuple(each.number for each in turn.candidates)
        turn = reserved(self._state, query.conversation, turn, opened)
        self._state.write_turn(query.conversation, turn)
        return TurnOpened(turn.turn, opened)

    def _retry(self, retry: RetryTurn) -> Reply:
        """A turn that is asked again waits for every candidate: ``close_after`` counted the first
        ones, and may have been reached already."""
        turn = find_turn(self._state, retry.conversation, retry.turn)
        check_unchosen(retry.conversation, turn)
        if turn.council is not None:
            raise Refusal(
                Code.INVALID,
                f"a council answered turn {turn.turn} of {retry.conversation}: convene another one",
            )
        revision = self._state.next_revision(retry.conversation)
        candidates = self._planned(
            retry.plan, revision, after=turn.candidates[-1].number, present=len(turn.candidates)
        )
        retried = Retried(revision, self._state.time_ms, turn.deadline_ms, turn.close_after)
        deadline_ms = self._deadline(retry.deadline_ms)
        if not turn.closed:  # what is still being answered keeps its time
            deadline_ms = max(turn.deadline_ms, deadline_ms)
        turn = replace(
            turn,
            candidates=turn.candidates + candidates,
            closed=False,
            close_after=0,
            deadline_ms=deadline_ms,
            retries=(*turn.retries, retried),
        )
        opened = [each.number for each in candidates]
        turn = reserved(self._state, retry.conversation, turn, opened)
        self._state.write_turn(retry.conversation, turn)
        return TurnOpened(turn.turn, tuple(each.number for each in candidates))

    def _record_checkpoint(self, checkpoint: RecordCheckpoint) -> Reply:
        turn, candidate = held(self._state, checkpoint)
        if checkpoint.offset != len(candidate.text):
            raise Refusal(
                Code.STALE,
                f"{name_of(turn, candidate)} is recorded up to {len(candidate.text)}, "
                f"not {checkpoint.offset}: go on from there",
            )
        if not checkpoint.text:
            raise Refusal(Code.INVALID, "a checkpoint adds no text: leave it out")
        text = candidate.text + checkpoint.text
        check_size("the text", text, self._limits.text_bytes)
        self._state.write_turn(
            checkpoint.conversation, turn.with_candidate(replace(candidate, text=text))
        )
        return DONE

    def _record_candidate(self, record: RecordCandidate) -> Reply:
        turn, candidate = held(self._state, record)
        check_size("the text", record.text, self._limits.text_bytes)
        check_size("the error", record.error, self._limits.text_bytes)
        check_size("the model", record.model, self._limits.name_bytes)
        check_size("the finish reason", record.finish_reason, self._limits.name_bytes)
        revision = self._state.next_revision(record.conversation)
        check_size("the provider", record.provider, self._limits.name_bytes)
        check_size("the prompt's hash", record.prompt_hash, self._limits.name_bytes)
        check_size("the name", record.served_as, self._limits.name_bytes)
        if not 0 <= record.left_out < turn.turn:
            raise Refusal(
                Code.INVALID,
                f"{record.left_out} turns cannot be left out: {turn.turn - 1} come before turn "
                f"{turn.turn}",
            )
        failed = bool(record.error)
        call = Call(candidate.node, record.served_as, record.usage, failed, record.speed)
        cost = count_call(self._state, call)
        cost += self._count_hedge(record.conversation, turn, candidate, record.hedge_usage)
        if candidate.budgets:
            known = not record.prompt_hash or _is_known(record.usage)
            known = known and (candidate.hedged is None or _is_known(record.hedge_usage))
            cost = settle(self._state, candidate, cost if known else None)
        ended = replace(
            candidate,
            ended=True,
            ended_revision=revision,
            text=record.text,
            error=record.error,
            model=record.model or candidate.model,
            finish_reason=record.finish_reason,
            usage=record.usage,
            provider=record.provider,
            prompt_hash=record.prompt_hash,
            cost=candidate.cost + cost,
            reserved=0,
            budgets=(),
            left_out=record.left_out,
            context_tokens=record.context_tokens,
        )
        turn = turn.with_candidate(with_ranking(turn, ended))
        self._end(record.conversation, turn, revision)
        return DONE

    def _reassign(self, reassign: ReassignCandidate) -> Reply:
        turn, candidate = open_candidate(self._state, reassign)
        if reassign.attempt != candidate.attempt + 1:
            raise Refusal(
                Code.STALE,
                f"{name_of(turn, candidate)} is at attempt {candidate.attempt}: "
                f"only attempt {candidate.attempt + 1} may follow",
            )
        if not 0 <= reassign.keep <= len(candidate.text):
            raise Refusal(
                Code.STALE,
                f"{name_of(turn, candidate)} is recorded up to {len(candidate.text)}: "
                f"{reassign.keep} characters cannot be kept",
            )
        hedge = candidate.hedge_waits
        place = (reassign.node, reassign.model)
        goes_on = hedge is not None and place == (hedge.node, hedge.model)
        if reassign.hedged and not goes_on:
            raise Refusal(
                Code.STALE, f"{name_of(turn, candidate)} has text, or no such hedge: drop the call"
            )
        check_node(candidate.number, reassign.node)
        check_size("the model", reassign.model, self._limits.name_bytes)
        check_size("the name", reassign.served_as, self._limits.name_bytes)
        check_size("the reason", reassign.reason, self._limits.text_bytes)
        of = (reassign.conversation, turn, candidate)
        cost = 0
        if reassign.hedged:
            slow = called(self._state, candidate)
            name = slow.name if slow is not None else ""
            cost = count_call(self._state, Call(candidate.node, name, reassign.usage, beaten=True))
        elif reassign.reason:
            call = Call(candidate.node, reassign.served_as, reassign.usage, failed=True)
            cost = count_call(self._state, call)
        elif not _is_known(reassign.usage):  # of a node that is gone
            counted = count_stopped(self._state, *of, failed=False)
            cost = counted.cost - candidate.cost
        known = _is_known(reassign.usage)
        if not goes_on:
            cost += self._count_hedge(*of, reassign.hedge_usage)
            known = known and (candidate.hedged is None or _is_known(reassign.hedge_usage))
        kept: int | None = None  # of a hedge that goes on: it is paid when it ends
        if candidate.budgets:
            if hedge is not None and goes_on:
                kept = share_of(self._state, *of, hedge)
            if kept is not None and known:  # by a price that has risen it could be all of it
                kept = min(kept, max(0, candidate.reserved - cost))
            cost = settle(self._state, candidate, cost if known else None, kept or 0)
        revision = self._state.next_revision(reassign.conversation)
        taken_over = TakenOver(
            reassign.attempt,
            reassign.node,
            reassign.keep,
            revision,
            reassign.model,
            reassign.reason,
        )
        moved = replace(
            candidate,
            node=reassign.node,
            model=reassign.model or candidate.model,
            cost=candidate.cost + cost,
            attempt=reassign.attempt,
            text=candidate.text[: reassign.keep],
            takeovers=(*candidate.takeovers, taken_over),
            reserved=kept or 0,
            budgets=() if kept is None else candidate.budgets,
        )
        turn = turn.with_candidate(moved)
        if kept is not None:
            self._state.write_turn(reassign.conversation, turn)
            return DONE
        try:
            turn = reserved(self._state, reassign.conversation, turn, [moved.number])
        except Refusal as refusal:
            error = f"not asked again: {refusal.reply.message}"
            ended = replace(moved, ended=True, ended_revision=revision, text="", error=error)
            self._end(reassign.conversation, turn.with_candidate(ended), revision)
        else:
            self._state.write_turn(reassign.conversation, turn)
        return DONE

    def _close(self, close: CloseTurn) -> Reply:
        turn = find_turn(self._state, close.conversation, close.turn)
        if turn.closed:
            raise Refusal(
                Code.STALE, f"turn {turn.turn} of {close.conversation} is closed: nothing to do"
            )
        if close.last_candidate not in (0, turn.candidates[-1].number):
            raise Refusal(
                Code.STALE,
                f"turn {turn.turn} of {close.conversation} was asked again: nothing to do",
            )
        if not close.reason:
            raise Refusal(Code.INVALID, "no reason is given: say why the turn is closed")
        check_size("the reason", close.reason, self._limits.text_bytes)
        if close.last_candidate:
            check_late(close.conversation, turn, self._state.time_ms)
        revision = self._state.next_revision(close.conversation)
        after = turn.closed_because(close.reason, revision)
        after = settle_closed(self._state, close.conversation, turn, after)
        self._state.write_turn(close.conversation, after)
        return DONE

    def _choose(self, choose: Choose) -> Reply:
        turn = find_turn(self._state, choose.conversation, choose.turn)
        check_unchosen(choose.conversation, turn)
        candidate = find_candidate(choose.conversation, turn, choose.candidate)
        if not is_answer(turn, candidate):
            raise Refusal(
                Code.INVALID,
                f"{name_of(turn, candidate)} is a review: choose an answer or the synthesis",
            )
        if not candidate.answered:
            remedy = "choose another one, or retry" if candidate.ended else "wait for it"
            state = "failed" if candidate.ended else "is still being answered"
            raise Refusal(
                Code.NOT_ANSWERED,
                f"{name_of(turn, candidate)} {state}: {remedy}",
            )
        revision = self._state.next_revision(choose.conversation)
        self._state.write_turn(
            choose.conversation,
            replace(turn, choice=candidate.number, choice_revision=revision),
        )
        return Chosen(turn.turn, candidate.number)

    def _count_hedge(
        self, conversation: str, turn: Turn, candidate: Candidate, usage: Usage
    ) -> int:
        """What the candidate's hedge cost that is not asked any more, where there is one."""
        hedge = candidate.hedged
        if hedge is None:
            return 0
        if not _is_known(usage):
            return count_stopped_hedge(self._state, conversation, turn, candidate, failed=False)
        return count_call(self._state, Call(hedge.node, hedge.model, usage, beaten=True))

    def _end(self, conversation: str, turn: Turn, revision: int) -> None:
        """Write ``turn``, one of whose candidates has just ended."""

        def go_on(turn: Turn) -> Turn:
            return self._settled(turn, revision)

        after = carried(self._state, conversation, turn, go_on(turn), go_on, revision)
        self._state.write_turn(conversation, after)

    # What the rules have in common ------------------------------------------------------------

    def _planned(
        self, plan: tuple[PlannedCandidate, ...], revision: int, after: int, present: int
    ) -> tuple[Candidate, ...]:
        """Candidates that open at ``revision``, numbered on from ``after``, of a turn that has
        ``present`` ones."""
        check_numbers((each.number for each in plan), self._limits, present)
        for each in plan:
            check_node(each.number, each.node)
            check_size(f"candidate {each.number}'s model", each.model, self._limits.name_bytes)
            check_fallbacks(f"candidate {each.number}", each.fallbacks, self._limits)
        attempt = self._state.attempt_floor + 1
        return tuple(
            Candidate(
                number=after + each.number,
                node=each.node,
                model=each.model,
                attempt=attempt,
                planned_node=each.node,
                planned_model=each.model,
                opened_revision=revision,
                fallbacks=each.fallbacks,
            )
            for each in sorted(plan, key=lambda each: each.number)
        )

    def _settled(self, turn: Turn, revision: int) -> Turn:
        """``turn``, closed at ``revision`` where enough of its candidates have ended, or gone on to
        what its council does next."""
        if turn.council is not None:
            state = self._state
            return advanced(turn, Moment(state.time_ms, revision, state.attempt_floor + 1))
        answers = sum(each.answered for each in turn.candidates)
        if turn.close_after and answers >= turn.close_after:
            reason = f"not waited for: the turn closed after {answers} answers"
            return turn.closed_because(reason, revision)
        if all(each.ended for each in turn.candidates):
            return replace(turn, closed=True)
        return turn

    def _deadline(self, deadline_ms: int) -> int:
        check_deadline(deadline_ms, self._limits)
        return self._state.time_ms + deadline_ms


def _is_known(usage: Usage) -> bool:
    return usage.prompt_tokens is not None
