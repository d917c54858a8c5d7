"""Owns what is seen of a turn while it is answered.

On a terminal the candidates' texts grow side by side, or one below the other where it is narrow,
and give way to the finished answers. Elsewhere each answer is printed when it is whole, in the
order of the numbers, so that the same turn always prints the same.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from consensusllm.client import (
    Candidate,
    CandidateDone,
    Council,
    Delta,
    StageOpened,
    Takeover,
    Turn,
    TurnClosed,
    WatchEvent,
    estimated_tokens,
)

from ..terminal import undisturbed
from .findings import foreseen, seat_title, show_findings, stage_title
from .output import Output, styled
from .render import cut_short, show_candidate, show_council, spent
from .sanitise import one_line

COLUMN_WIDTH_MIN = 30
_FRAME_WIDTH = 4
_FRAME_HEIGHT = 2
_REFRESHES_PER_SECOND = 8
_SPEED_AFTER_S = 0.5


class View(Protocol):
    """Shows the events of a turn; a context manager so that a live region is always taken down."""

    def __enter__(self) -> View: ...
    def __exit__(self, *_: object) -> None: ...
    def show(self, event: WatchEvent) -> None: ...


async def watch(
    output: Output, events: AsyncGenerator[WatchEvent, None], numbers: Sequence[int] = ()
) -> Turn:
    """Show the candidates ``numbers`` (none: all) until the turn is closed; return it closed.

    A cancelled watch leaves what was shown whole.
    """
    view: View = LiveView(output, numbers) if output.terminal else WholeView(output, numbers)
    with undisturbed() if output.terminal else nullcontext(), view:
        turn = await closed(events, view.show)
    if output.terminal and turn.council is not None:
        show_council(output, turn, turn.council, full=False)
    elif output.terminal:
        for candidate in turn.candidates:
            if not numbers or candidate.number in numbers:
                output.line()
                show_candidate(output, candidate, chosen=False, full=False)
    return turn


async def closed(
    events: AsyncGenerator[WatchEvent, None],
    show: Callable[[WatchEvent], None] = lambda event: None,
) -> Turn:
    """The turn once it is closed; ``show`` is given every event."""
    async with aclosing(events) as stream:
        async for event in stream:
            show(event)
            if isinstance(event, TurnClosed):
                return event.turn
    raise AssertionError("a watch ends with TurnClosed or raises")


class WholeView:
    """Prints each candidate once, when it and all with lower numbers have ended.

    Numbers may have gaps, which only the closed turn tells; those behind one wait for it.
    """

    def __init__(self, output: Output, numbers: Sequence[int]) -> None:
        self._output = output
        self._numbers = frozenset(numbers)
        self._next = min(numbers, default=1)
        self._ended: dict[int, Candidate] = {}
        self._council: Council | None = None
        self._stage = 0

    def __enter__(self) -> WholeView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: WatchEvent) -> None:
        if isinstance(event, StageOpened):
            if self._council is None:
                for each in foreseen(event.council):
                    self._output.line((each, "yellow"))
            self._council = event.council
        elif isinstance(event, CandidateDone):
            self._keep(event.candidate)
            while self._next in self._ended:
                self._print(self._next)
        elif isinstance(event, TurnClosed):
            self._council = event.turn.council
            for candidate in event.turn.candidates:
                self._keep(candidate)
            for number in sorted(self._ended):
                self._print(number)
            if event.turn.council is not None:
                show_findings(self._output, event.turn, event.turn.council)

    def _keep(self, candidate: Candidate) -> None:
        wanted = not self._numbers or candidate.number in self._numbers
        if wanted and candidate.number >= self._next:
            self._ended[candidate.number] = candidate

    def _print(self, number: int) -> None:
        candidate, council = self._ended.pop(number), self._council
        if council is not None and candidate.stage != self._stage:
            self._stage = candidate.stage
            self._output.line()
            self._output.line(stage_title(council, self._stage))
        self._output.line()
        show_candidate(self._output, candidate, chosen=False, full=True, council=council)
        self._next = number + 1


@dataclass(slots=True)
class Column:
    """What is known of one candidate while it is answered."""

    number: int
    node: int = 0
    model: str = ""
    attempt: int = 0
    text: str = ""
    state: str = "waiting"
    place: str = ""
    began_s: float = 0.0
    behind: int = 0  # characters that were there when it began

    @property
    def title(self) -> str:
        parts = [str(self.number)]
        parts += [self.place] if self.place else []
        parts += [f"node {self.node}"] if self.node else []
        parts += [one_line(self.model)] if self.model else []
        return " · ".join(parts)

    def show(self, event: Delta | Takeover | Candidate, now_s: float) -> None:
        if event.attempt < self.attempt:
            return
        if isinstance(event, Takeover):
            self.text = self.text[: event.offset]
            self.state = f"taken over by node {event.node}"
            self.began_s = 0.0
        elif isinstance(event, Delta):
            self.model = event.model or self.model
            self.text = self.text[: event.offset] + event.text
            if not self.began_s:
                self.began_s, self.behind = now_s, len(self.text)
            self.state = "answering"
        else:
            self.model, self.text = event.model or self.model, event.text
            tokens = event.usage.completion_tokens or 0
            ended = [cut_short(event) or "done", *filter(None, [spent(event)])]
            done = [*ended, *self._speed(tokens, "", now_s)]
            self.state = f"failed: {event.error}" if event.error else " · ".join(done)
        self.node, self.attempt = event.node or self.node, event.attempt

    def told(self, now_s: float) -> str:
        """How it stands, in a line."""
        if self.state != "answering":
            return self.state
        tokens = estimated_tokens([self.text[self.behind :]])
        return " · ".join([self.state, *self._speed(tokens, "about ", now_s)])

    def _speed(self, tokens: int, about: str, now_s: float) -> list[str]:
        """As it is read here, once that has gone on for long enough to tell."""
        reading_s = now_s - self.began_s
        if not self.began_s or not tokens or reading_s < _SPEED_AFTER_S:
            return []
        return [f"{about}{tokens / reading_s:.0f} tokens/s"]


class LiveView:
    """A region of the terminal that is drawn anew several times a second."""

    def __init__(
        self,
        output: Output,
        numbers: Sequence[int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console: Console = output.console
        self._clock = clock
        self._numbers = frozenset(numbers)
        self._columns = {number: Column(number) for number in numbers}
        self._title = ""
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
        )

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, event: WatchEvent) -> None:
        if isinstance(event, TurnClosed):
            return
        if isinstance(event, StageOpened):
            self._open_stage(event)
            return
        seen = event.candidate if isinstance(event, CandidateDone) else event
        number = seen.number if isinstance(seen, Candidate) else seen.candidate
        if self._numbers and number not in self._numbers:
            return
        columns = self._columns
        if number not in columns and self._title:
            return  # of a stage that is over
        if number not in columns:
            columns = dict(sorted({**columns, number: Column(number)}.items()))
        columns[number].show(seen, self._clock())
        # Replaced as a whole, because another thread draws.
        self._columns = columns

    def _open_stage(self, event: StageOpened) -> None:
        """Show the candidates of this stage only: there is no room for all."""
        if not self._title:
            for each in foreseen(event.council):
                self._console.print(styled((each, "yellow")))
        title = stage_title(event.council, event.stage)
        shown = self._columns if title == self._title else {}
        opened = {
            number: Column(number, place=seat_title(event.council, event.stage, seat))
            for number, seat in sorted(event.seats.items())
        }
        self._title, self._columns = title, {**shown, **opened}

    def _draw(self) -> Table | Group:
        drawn = self._draw_columns()
        return Group(Text(self._title, style="bold"), drawn) if self._title else drawn

    def _draw_columns(self) -> Table | Group:
        width, height = self._console.size
        height -= bool(self._title)
        columns = list(self._columns.values())
        count = max(1, len(columns))
        if width // count >= COLUMN_WIDTH_MIN:
            lines = max(1, height - _FRAME_HEIGHT - 1)
            panels = self._panels(columns, width // count - _FRAME_WIDTH, lines)
            grid = Table.grid(expand=True)
            for _ in panels:
                grid.add_column(ratio=1)
            grid.add_row(*panels)
            return grid
        lines = max(1, (height - 1) // count - _FRAME_HEIGHT)
        return Group(*self._panels(columns, width - _FRAME_WIDTH, lines))

    def _panels(self, columns: Sequence[Column], width: int, lines_max: int) -> list[Panel]:
        """Equally high frames with the last lines of each text; no more of it is looked at."""
        width = max(1, width)
        bodies = [
            styled(column.text[-width * lines_max :]).wrap(self._console, width)[-lines_max:]
            for column in columns
        ]
        height = max((len(body) for body in bodies), default=0) + _FRAME_HEIGHT
        return [
            Panel(
                Text("\n").join(body),
                title=Text(column.title, style="bold"),
                subtitle=Text(one_line(column.told(self._clock())), style="dim"),
                height=max(height, _FRAME_HEIGHT + 1),
            )
            for column, body in zip(columns, bodies, strict=True)
        ]
