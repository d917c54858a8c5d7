"""A conversation as Markdown, for people, and back as far as that says.

    # c1
    ## Turn 1
    > What is Paxos?
    ### Candidate 1: node 2, `flash` (chosen)
    > A protocol.
    *Tokens: 12 of the prompt, 3 of the answer.*

Questions, answers and system prompts are quoted, so that none of them can pass for a heading or a
note of ours; otherwise they stand as they came, without what moves a terminal. What is read back
are those, the models, tokens, failures and the choice. How a candidate came about, reviews, costs
and links are in JSON only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from consensusllm.client import Candidate, Conversation, InvalidRequest, Turn, Usage
from consensusllm.client.foreign import NO_ANSWER
from consensusllm.client.imports import STILL_OPEN
from consensusllm.conversations import StageKind, shortfalls
from consensusllm.conversations.tally import described

from .findings import council_state, place_of
from .render import left_out, plural
from .sanitise import one_line, sanitise

UNFINISHED = "Not finished."
_REVIEW = "review: "
_TITLE = re.compile(r"# (\S+)")
_TURN = re.compile(r"## Turn ([0-9]{1,9})")
_CANDIDATE = re.compile(
    r"### Candidate ([0-9]{1,9}): (?:node [0-9]+|imported)"
    r"(?:, `(?P<model>[^`]*)`)?(?P<place>, .*?)?(?P<chosen> \(chosen\))?"
)
_TOKENS = re.compile(r"Tokens: (\?|[0-9]{1,12}) of the prompt, (\?|[0-9]{1,12}) of the answer\.")
_FAILED, _ENDED_BY = "Failed: ", "Ended by: "


def to_markdown(conversation: Conversation) -> str:
    """The conversation to read or publish."""
    parts = [f"# {conversation.conversation}\n"]
    parts += [_quoted(conversation.system) + "\n"] if conversation.system else []
    for turn in conversation.turns:
        parts.append(f"## Turn {turn.turn}\n\n{_quoted(turn.question)}\n")
        if turn.council is not None:
            parts.append(f"*{council_state(turn, turn.council)}*\n")
            lacked = [f"- {described(turn.council, each)}" for each in shortfalls(turn)]
            parts += ["\n".join([*lacked, ""])] if lacked else []
        for candidate in turn.candidates:
            said = [_quoted(candidate.text)] if candidate.text else []
            heading = _heading(turn, candidate)
            parts.append("\n\n".join([heading, *said, *_notes(candidate)]) + "\n")
    if not conversation.turns:
        parts.append(f"*{plural(0, 'turn')}.*\n")
    return "\n".join(parts)


def _heading(turn: Turn, candidate: Candidate) -> str:
    heading = f"### Candidate {candidate.number}: "
    heading += f"node {candidate.node}" if candidate.node else "imported"
    model = one_line(candidate.model).replace("`", "'")
    heading += f", `{model}`" if model else ""
    if turn.council is not None:
        is_review = turn.council.stage(candidate.stage).kind is StageKind.REVIEW
        heading += f", {_REVIEW * is_review}{place_of(turn.council, candidate)}"
    return heading + " (chosen)" * (candidate.number == turn.choice)


def _notes(candidate: Candidate) -> list[str]:
    """What is to be known of a candidate beside its text."""
    notes = [
        f"Attempt {each.attempt}, of node {each.node}, went on at character {each.kept}."
        for each in candidate.takeovers
    ]
    if candidate.hedge is not None:
        first = "and was first" if candidate.hedge_won else "as nothing came"
        notes.append(f"{candidate.hedge.model} was asked too, {first}.")
    if candidate.error:
        notes.append(f"{_FAILED}{candidate.error}")
    elif not candidate.ended:
        notes.append(UNFINISHED)
    elif candidate.finish_reason not in ("", "stop"):
        notes.append(f"{_ENDED_BY}{candidate.finish_reason}.")
    if candidate.left_out:
        notes.append(f"{left_out(candidate)}.")
    counts = (candidate.usage.prompt_tokens, candidate.usage.completion_tokens)
    if counts != (None, None):
        prompt, answer = ("?" if count is None else count for count in counts)
        notes.append(f"Tokens: {prompt} of the prompt, {answer} of the answer.")
    return [f"*{one_line(note)}*" for note in notes]


def _quoted(text: str) -> str:
    """A line more than ``text`` has where it ends with the end of one. What moves a terminal goes
    first: some of it ends a line here, and none of what was said."""
    lines = sanitise(text).splitlines(keepends=True)
    if lines and _said(lines[-1]) != lines[-1]:
        lines.append("")
    return "".join(f"> {line}" if _said(line) else f">{line}" for line in lines)


def _said(line: str) -> str:
    """``line`` without its end."""
    return line.splitlines()[0] if line else ""


# Reading ----------------------------------------------------------------------------------------


def from_markdown(text: str) -> Conversation:
    """What `to_markdown` made, as far as it says. Raises InvalidRequest, naming the line."""
    lines = _Lines(text)
    title = lines.take(_TITLE)
    if title is None:
        raise lines.wrong("# and the conversation's id")
    system = lines.quote()
    lines.notes()
    turns: list[Turn] = []
    while (heading := lines.take(_TURN)) is not None:
        number = len(turns) + 1
        if int(heading[1]) != number:
            raise lines.wrong(f"turn {number}", at=lines.heading)
        turns.append(_turn(lines, number))
    lines.end()
    return Conversation(title[1], len(turns) + 1, tuple(turns), system=system)


def _turn(lines: _Lines, number: int) -> Turn:
    revision = number + 1
    question = lines.quote()
    if not question:
        raise lines.wrong("a question behind >")
    lines.notes()
    candidates: list[Candidate] = []
    choice = 0
    while (heading := lines.take(_CANDIDATE)) is not None:
        if candidates and int(heading[1]) <= candidates[-1].number:
            raise lines.wrong("candidates in the order of their numbers", at=lines.heading)
        read = _candidate(lines, heading, revision)
        if (heading["place"] or "").startswith(f", {_REVIEW}"):
            continue  # it answers nothing, and its council is not known any more
        candidates.append(read)
        if heading["chosen"]:
            if choice or read.error:
                raise lines.wrong("one answer that is chosen", at=lines.heading)
            choice = read.number
    if not candidates:
        raise lines.wrong("### Candidate and its number")
    return Turn(
        turn=number,
        question=question,
        candidates=tuple(candidates),
        choice=choice,
        closed=True,
        asked_revision=number,
        choice_revision=revision if choice else 0,
    )


def _candidate(lines: _Lines, heading: re.Match[str], revision: int) -> Candidate:
    text = lines.quote()
    read = Candidate(
        number=int(heading[1]),
        node=0,
        model=heading["model"] or "",
        ended=True,
        text=text,
        error="" if text else NO_ANSWER,
        finish_reason="stop" if text else "",
        planned_model=heading["model"] or "",
        opened_revision=revision,
        ended_revision=revision,
    )
    for note in lines.notes():
        if note == UNFINISHED:
            read = replace(read, error=STILL_OPEN, finish_reason="")
        elif note.startswith(_FAILED):
            read = replace(read, error=note.removeprefix(_FAILED), finish_reason="")
        elif note.startswith(_ENDED_BY):
            read = replace(read, finish_reason=note.removeprefix(_ENDED_BY).removesuffix("."))
        elif (counts := _TOKENS.fullmatch(note)) is not None:
            asked, answered = (None if each == "?" else int(each) for each in counts.groups())
            read = replace(read, usage=Usage(asked, answered))
    return read


class _Lines:
    """The lines of a file, and the next one's ``place``, from 0. Blank ones between are nothing."""

    def __init__(self, text: str) -> None:
        self._lines: Sequence[str] = text.splitlines(keepends=True)
        self.place = 0
        self.heading = 0  # the place of the last one
        self._skip_blanks()

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The next line, if it is one of ``pattern``."""
        match = pattern.fullmatch(self._next.strip())
        if match is not None:
            self.heading = self.place
            self._advance()
        return match

    def quote(self) -> str:
        """The quoted text that comes next, or ""."""
        said = []
        while self._next.startswith(">"):
            said.append(self._next.removeprefix(">").removeprefix(" "))
            self.place += 1
        self._skip_blanks()
        return "".join([*said[:-1], *map(_said, said[-1:])])

    def notes(self) -> Iterator[str]:
        """The notes that come next. A line of a list is one too, of what a council lacked."""
        found = []
        while self._next.startswith(("*", "- ")):
            found.append(self._next.strip().removeprefix("*").removesuffix("*"))
            self._advance()
        return iter(found)

    def end(self) -> None:
        if self.place < len(self._lines):
            raise self.wrong("a heading, a quoted text or a note")

    def wrong(self, wanted: str, at: int | None = None) -> InvalidRequest:
        number = (self.place if at is None else at) + 1
        return InvalidRequest(f"line {number}: not what export --markdown writes: want {wanted}")

    @property
    def _next(self) -> str:
        return self._lines[self.place] if self.place < len(self._lines) else ""

    def _advance(self) -> None:
        self.place += 1
        self._skip_blanks()

    def _skip_blanks(self) -> None:
        while self.place < len(self._lines) and not self._lines[self.place].strip():
            self.place += 1
