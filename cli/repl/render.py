"""Owns how conversations and the cluster's status read. Markdown is not interpreted: text is exact.

What a model says is set in, so that none of it can pass for a heading, a ranking or a choice of
ours.
What is long is shortened on a terminal only, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from consensusllm.client import (
    Candidate,
    Conversation,
    ConversationSummary,
    Council,
    Status,
    Turn,
    money,
)

from ..standing import difference
from .findings import council_state, place_of, show_findings, stage_title
from .output import Output, Styled
from .sanitise import one_line

SHORT_LINES_MAX = 20
"""A terminal shows this many lines of a question or an answer unless all of it is asked for."""
TEXT_INDENT = "  "


def show_conversation(output: Output, conversation: Conversation, full: bool) -> None:
    count = len(conversation.turns)
    output.line(
        (conversation.conversation, "bold"),
        f" · {plural(count, 'turn')} · revision {conversation.revision}",
    )
    if conversation.system:
        output.line(("system", "dim"))
        output.block(conversation.system, TEXT_INDENT)
    if not count:
        output.line(f"ask with: query {conversation.conversation} QUESTION")
    for turn in conversation.turns:
        output.line()
        show_turn(output, turn, full)


def show_turn(output: Output, turn: Turn, full: bool) -> None:
    output.line((f"turn {turn.turn}", "bold"), f" · {_turn_state(turn)}")
    question, hidden = _shortened(output, turn.question, full)
    output.block(question, ("> ", "dim"), "bold")
    _say_hidden(output, hidden)
    if turn.council is not None:
        show_council(output, turn, turn.council, full)
        return
    for candidate in turn.candidates:
        output.line()
        show_candidate(output, candidate, chosen=candidate.number == turn.choice, full=full)


def show_council(output: Output, turn: Turn, council: Council, full: bool) -> None:
    """Each stage with what was said in it, what the reviews came to, and what was lacking."""
    stage = 0
    for candidate in turn.candidates:
        if candidate.stage != stage:
            stage = candidate.stage
            output.line()
            output.line((stage_title(council, stage), "bold"))
        output.line()
        chosen = candidate.number == turn.choice
        show_candidate(output, candidate, chosen=chosen, full=full, council=council)
    show_findings(output, turn, council)


def show_candidate(
    output: Output,
    candidate: Candidate,
    chosen: bool,
    full: bool,
    council: Council | None = None,
) -> None:
    """A heading line, then the text, set in."""
    place = place_of(council, candidate) if council is not None else ""
    output.line(*_candidate_heading(candidate, chosen, place))
    if not candidate.text:
        return
    text, hidden = _shortened(output, candidate.text, full)
    output.block(text, TEXT_INDENT)
    _say_hidden(output, hidden)


def _shortened(output: Output, text: str, full: bool) -> tuple[str, int]:
    """What of ``text`` is shown, and how many lines are not."""
    lines = text.split("\n")
    if not output.terminal or full or len(lines) <= SHORT_LINES_MAX:
        return text, 0
    return "\n".join(lines[:SHORT_LINES_MAX]), len(lines) - SHORT_LINES_MAX


def _say_hidden(output: Output, lines: int) -> None:
    if lines > 0:
        output.line((f"… {plural(lines, 'more line')}: view with --full shows all", "dim"))


def show_conversations(output: Output, conversations: Sequence[ConversationSummary]) -> None:
    output.table(
        ["conversation", "turns", "open", "last question", "updated"],
        [
            [
                summary.conversation,
                str(summary.turns),
                str(summary.open_turns),
                f"[degraded] {summary.last_question}"
                if summary.degraded
                else summary.last_question,
                _moment(summary.updated_ms),
            ]
            for summary in conversations
        ],
    )


def ballot(status: Status) -> str:
    """A ballot as people read it: seq_num.pid, or - before the first."""
    return f"{status.ballot_seq_num}.{status.ballot_pid}" if status.ballot_seq_num else "-"


def agreement(statuses: dict[int, Status | None]) -> str:
    """Whether every node has the same state, and if not, who lags, differs or is missing."""
    present = [status for status in statuses.values() if status is not None]
    if not present:
        return "no node answers"
    newest = max(status.applied_slot for status in present)
    level = [status for status in present if status.applied_slot == newest]
    missing = sorted(node for node, status in statuses.items() if status is None)
    late = [status for status in present if status.applied_slot < newest]
    remarks = []
    if differing := difference(present):
        remarks.append(differing)
    remarks += [
        f"node {status.node} lags by {plural(newest - status.applied_slot, 'slot')}"
        for status in late
    ]
    remarks += [
        f"node {status.node} hashes its state still" for status in level if not status.state_hash
    ]
    remarks += [f"node {node} does not answer" for node in missing]
    if not remarks:
        only = f"node {level[0].node} is"
        who = f"all {len(present)} nodes agree" if len(present) > 1 else only
        return f"{who} at slot {newest}: hash {level[0].state_hash[:12]}"
    if not differing:
        who = ", ".join(str(status.node) for status in level)
        remarks.insert(0, f"at slot {newest}: {'nodes' if len(level) > 1 else 'node'} {who}")
    return "; ".join(remarks)


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _turn_state(turn: Turn) -> str:
    if turn.council is not None:
        return council_state(turn, turn.council)
    if turn.choice:
        return f"candidate {turn.choice} is chosen"
    if not turn.closed:
        ended = sum(candidate.ended for candidate in turn.candidates)
        return f"open: {ended} of {len(turn.candidates)} candidates ended"
    return "closed, nothing chosen yet"


def _candidate_heading(candidate: Candidate, chosen: bool, place: str) -> list[Styled]:
    parts: list[Styled] = [
        (f"[{candidate.number}]", "bold green" if chosen else "bold"),
        (f" node {candidate.node}" if candidate.node else " imported", "cyan"),
    ]
    if candidate.model:
        parts.append(f" · {one_line(candidate.model)}")
    if place:
        parts.append((f" · {place}", "magenta"))
    if times := _moves(candidate):
        taken = "taken over" if times == 1 else f"taken over {times} times, last"
        parts.append((f" · {taken} at character {candidate.kept}", "yellow"))
    for each in candidate.takeovers:
        if each.reason:
            parts.append(
                (f" · {each.model} in place of what failed: {one_line(each.reason)}", "yellow")
            )
    if candidate.hedge is not None:
        first = "and was first" if candidate.hedge_won else "as nothing came"
        parts.append((f" · {candidate.hedge.model} was asked too, {first}", "yellow"))
    if chosen:
        parts.append((" · chosen", "bold green"))
    if candidate.error:
        parts.append((f" · failed: {one_line(candidate.error)}", "red"))
    elif not candidate.ended:
        parts.append((" · answering", "yellow"))
    elif cut := cut_short(candidate):
        parts.append((f" · {cut}", "yellow"))
    if candidate.left_out:
        parts.append((f" · {left_out(candidate)}", "yellow"))
    if candidate.ended and (bill := spent(candidate)):
        parts.append((f" · {bill}", "dim"))
    return parts


def _moves(candidate: Candidate) -> int:
    """How often another node took the candidate over since the one that had it was gone. A node
    that begins anew what it has taken over, or another model that is asked in the place of what
    failed or was slow, is no such move."""
    holders = [candidate.planned_node, *(each.node for each in candidate.takeovers)]
    hedge = candidate.hedge.attempt if candidate.hedge is not None and candidate.hedge_won else 0
    return sum(
        before != each.node and not each.reason and each.attempt != hedge
        for before, each in zip(holders, candidate.takeovers, strict=False)
    )


def cut_short(candidate: Candidate) -> str:
    """What ended the answer before its model did; "" where nothing did, or it is not known."""
    reason = candidate.finish_reason
    return "" if reason in ("", "stop") else f"cut short: {one_line(reason)}"


def spent(candidate: Candidate) -> str:
    """What the answer's tokens are, and what its calls cost; "" where neither is known."""
    tokens, usage = candidate.usage.completion_tokens, candidate.usage
    parts = [f"{'about ' * usage.estimated}{plural(tokens, 'token')}"] if tokens else []
    parts += [money(candidate.cost)] if candidate.cost else []
    return " · ".join(parts)


def left_out(candidate: Candidate) -> str:
    """That the model was not sent all of the conversation, and why."""
    turns = plural(candidate.left_out, "earlier turn")
    lacks = "it does" if candidate.left_out == 1 else "they do"
    return f"{turns} left out: {lacks} not fit the model's {candidate.context_tokens:,} tokens"


def _moment(time_ms: int) -> str:
    if time_ms <= 0:
        return "-"
    return datetime.fromtimestamp(time_ms / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
